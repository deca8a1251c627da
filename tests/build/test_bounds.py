"""Every number of every config is asked for its range when it is read."""

import doctest
import math
from typing import Any

import pytest

from configs import stages as stage_configs
from emma_jax.build import bounds, config_file, keys, sections
from emma_jax.build import run as build_run
from emma_jax.build.sections import ConfigError

# Together they have every key there is.
CONFIGS = ("tiny", "files_autoencoder", "emma_4b")


def numbers(node: Any, path: tuple = ()) -> dict[tuple[str, ...], Any]:
  """Path -> number, also within tables."""
  if isinstance(node, dict):
    items = list(node.items())
  elif isinstance(node, list):
    items = [(str(i), x) for i, x in enumerate(node)]
  else:
    real = isinstance(node, int | float) and not isinstance(node, bool)
    return {path: node} if real else {}
  return {k: v for n, x in items for k, v in numbers(x, (*path, n)).items()}


@pytest.fixture(scope="module")
def configs() -> dict[str, dict]:
  return {name: sections.plain(config_file.load(name)) for name in CONFIGS}


def changed(config: dict, path: tuple[str, ...], value: Any) -> dict:
  """A copy with another value at a path."""
  out = sections.plain(config)
  node = out
  for name in path[:-1]:
    node = node[int(name)] if isinstance(node, list) else node[name]
  last = path[-1]
  node[int(last) if isinstance(node, list) else last] = value
  return out


def test_docstrings():
  assert doctest.testmod(bounds).failed == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_no_number_of_a_config_may_be_nan_or_infinite(name, configs):
  """By enumeration; the message names the key."""
  found = numbers(configs[name])
  assert len(found) > 100
  for path in found:
    for value in (math.nan, math.inf, -math.inf):
      with pytest.raises(ConfigError) as error:
        bounds.check(changed(configs[name], path, value))
      assert f"config.{'.'.join(path)}={value} " in str(error.value)


def test_every_float_has_a_range_of_its_own_and_every_range_a_key(configs):
  paths = {p: v for c in configs.values() for p, v in numbers(c).items()}
  used = set()
  for path, value in paths.items():
    found = [p for p in bounds.BOUNDS if keys.matches(p, path)]
    assert found or not isinstance(value, float), ".".join(path)
    used |= set(found)
  assert used == set(bounds.BOUNDS)


def test_no_count_of_a_config_may_be_negative(configs):
  """By enumeration: it is refused before anything is opened. Of the mesh -1 is
  all devices that are left."""
  config = configs["tiny"]
  shown = {
    (path[0], "*", *path[2:]) if path[0] == "stages" else path: path
    for path, value in numbers(config).items()
    if isinstance(value, int) and path[0] != "mesh"
  }
  assert len(shown) > 80
  taken = []
  for path in shown.values():
    try:
      build_run.run(changed(config, path, -1), data=False)
      taken.append(".".join(path))
    except ValueError:
      continue
  assert not taken


ABSURD = {
  "stages.1_pretraining.learning_rate": ("1e20", "-1e-4"),
  "stages.1_pretraining.ema_decay": ("1.5", "-0.1"),
  "stages.1_pretraining.final_ratio": ("2", "-1"),
  "stages.1_pretraining.shift": ("0", "1e9"),
  "stages.1_pretraining.time_std": ("0", "-1"),
  "stages.1_pretraining.text_weight": ("-1", "1e12"),
  "stages.1_pretraining.steps": (str(2**31),),
  "stages.1_pretraining.lr_multipliers": (
    "(('.*', 1e999),)",
    "(('.*', -1.0),)",
  ),
  "optimizer.b1": ("1", "-0.5"),
  "optimizer.b2": ("1.0", "2"),
  "optimizer.eps": ("0", "-1e-8"),
  "optimizer.clip_norm": ("-1", "1e30"),
  "optimizer.weight_decay": ("-0.1", "1e9"),
  "data.text_dropout": ("-0.1", "1.1"),
  "sample.text_guidance": ("-1", "1e6"),
  "sample.shift": ("0", "-3"),
  "train.spike_threshold": ("0", "1e9"),
  "train.log_every": (str(10**30),),
}


@pytest.mark.parametrize("key", ABSURD)
def test_absurd_values_are_refused_when_the_config_is_read(key):
  for text in ABSURD[key]:
    with pytest.raises(ConfigError, match=f"config.{key}.*is not a"):
      config_file.load("tiny", {key: text})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "1e999"])
def test_a_rate_that_is_no_number_is_refused_by_name(text):
  key = "stages.1_pretraining.learning_rate"
  with pytest.raises(ConfigError, match=rf"config.{key}=-?(nan|inf) is not a"):
    config_file.load("tiny", {key: text})
  config = config_file.load("tiny")
  with pytest.raises(ConfigError, match="learning_rate"):
    config_file.changed(config.to_dict(), {key: text})


def test_a_config_made_in_python_is_asked_too():
  config = config_file.load("tiny")
  config.stages["1_pretraining"] = stage_configs.stage(
    "1_pretraining", learning_rate=math.nan
  )
  with pytest.raises(ConfigError, match="learning_rate=nan"):
    build_run.run(config, data=False)
