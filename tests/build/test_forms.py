"""Whatever is given for a key of a config is used, or refused by its name."""

import doctest
from typing import Any

import ml_collections
import pytest

from emma_jax.build import config_file, forms, keys
from emma_jax.build import run as build_run
from emma_jax.build.sections import ConfigError
from tests.build.test_bounds import CONFIGS

# Slips of the hand, by the type of the key: too little, too much, unfinished.
SLIPS: dict[type, tuple[str, ...]] = {
  int: ("0", "-1", "3", "7"),
  float: ("0", "-1.0", "1e6"),
  str: ("", "x", "None"),
  bool: ("true", "false"),
  tuple: (
    *("()", "(1,)", "('x',)", "((1,2),)", "((),)", "({},)", "((96, 96.5),)"),
    *("(('x',),)", "(('(', 'x'),)", "(('.*', None),)", "(('.*', '2'),)"),
    *("((0.0, 1),)", "((0.0, {'drawing': 'x'}),)", "((0.0, {}, 1),)"),
  ),
}


def leaves(node: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
  """Dotted key -> value, tables whole."""
  if not isinstance(node, ml_collections.ConfigDict):
    return {".".join(path): node}
  return {k: v for n in node for k, v in leaves(node[n], (*path, n)).items()}


def test_docstrings():
  assert doctest.testmod(keys).failed == 0


def test_every_table_has_a_form_and_every_form_a_table():
  used = set()
  for name in CONFIGS:
    for key, value in leaves(config_file.load(name)).items():
      if isinstance(value, (list, tuple)):
        path = tuple(key.split("."))
        found = [p for p in forms.FORMS if keys.matches(p, path)]
        assert len(found) == 1, key
        used |= set(found)
  assert used == set(forms.FORMS)


@pytest.mark.parametrize(
  "key, text, words",
  [
    ("data.buckets", "(96, 96)", "96 is not a tuple of 2; give .HEIGHT"),
    ("data.buckets", "((96, 96.5),)", "96.5 is no whole number"),
    ("stages.3_quality.load", "(('.*', 3),)", "3 is no text"),
    ("stages.3_quality.policy", "(('(', 'train'),)", "no regular expression"),
    ("stages.3_quality.lr_multipliers", "(('.*', '2'),)", "'2' is no number"),
    ("stages.3_quality.mixture", "((0.0, {'drawing': '2'}),)", "'2' is no num"),
    ("stages.3_quality.mixture", "(('x',),)", "not a tuple of 2; give .START"),
    ("train.sample_prompts", "[1, 2]", "1 is no text"),
  ],
)
def test_a_table_that_is_none_is_refused_with_its_form(key, text, words):
  with pytest.raises(ConfigError, match=f"config.{key}=.*: .*{words}"):
    config_file.load("tiny", {key: text})


@pytest.fixture(scope="module")
def small() -> ml_collections.ConfigDict:
  """Of two stages that have every key."""
  config = config_file.load("smoke")
  with config.unlocked():
    for name in set(config.stages) - {"2_finetuning", "3_quality"}:
      del config.stages[name]
  return config


def test_no_slip_in_any_key_is_a_bug_of_ours(small):
  """By enumeration: a run is built, or ConfigError says what is wrong."""
  asked = 0
  for key, value in leaves(small).items():
    if key.startswith("stages.3_quality."):
      continue  # as the other
    for text in SLIPS[type(value)]:
      try:
        config = config_file.changed(small, {key: text})
        build_run.run(config, data=False)
      except ConfigError as error:
        assert "config" in str(error) and "\n" not in str(error), key
      except Exception as error:
        raise AssertionError(f"--config.{key}={text}") from error
      asked += 1
  assert asked > 400
