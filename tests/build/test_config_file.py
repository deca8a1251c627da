"""Config files are found and run, and overridden by values of their types."""

import doctest

import pytest

from emma_jax.build import config_file
from emma_jax.build.sections import ConfigError

pytestmark = pytest.mark.smoke

CONFIG = """
import ml_collections
def get_config():
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.name = "run"
  c.optimizer = ml_collections.ConfigDict(dict(
      learning_rate=1e-3, warmup_steps=10, betas=(0.9, 0.99), nesterov=False))
  c.limit = None
  c.scale = ml_collections.config_dict.placeholder(float)
  return c
"""


@pytest.fixture
def path(tmp_path) -> str:
  file = tmp_path / "tiny.py"
  file.write_text(CONFIG)
  return str(file)


def test_an_unknown_variant_names_those_there_are():
  with pytest.raises(ConfigError, match="No variant 'x'.*'token_fusion'"):
    config_file.load("tiny:x")


def test_docstrings():
  assert doctest.testmod(config_file).failed == 0


def test_overrides_take_the_type_of_what_they_replace(path):
  c = config_file.load(
    path,
    {
      "seed": "3",
      "name": "5",
      "optimizer.learning_rate": "1",
      "optimizer.betas": "[0.8, 0.9]",
      "optimizer.nesterov": "True",
      "limit": "7",
      "scale": "2",
    },
  )
  assert c.seed == 3 and c.name == "5"
  rate = c.optimizer.learning_rate
  assert rate == 1.0 and isinstance(rate, float)
  assert c.optimizer.betas == (0.8, 0.9) and c.optimizer.nesterov is True
  assert c.limit == 7 and c.scale == 2.0
  assert c.is_locked


@pytest.mark.parametrize(
  "key, value, words",
  [
    ("sead", "1", ["Did you mean seed?", "optimizer"]),
    (
      "optimizer.lerning_rate",
      "1",
      ["Did you mean optimizer.learning_rate?", "warmup_steps"],
    ),
    ("learning_rate", "1", ["Did you mean optimizer.learning_rate?"]),
    ("optimiser.learning_rate", "1", ["Did you mean optimizer?"]),
    ("seed", "1.5", ["seed=1.5", "a whole number such as 0"]),
    ("optimizer.learning_rate", "fast", ["a number such as 0.001"]),
    ("optimizer.nesterov", "1", ["true or false"]),
    ("optimizer.betas", "0.9", ["a tuple such as (0.9, 0.99)"]),
    ("optimizer.betas", "(0.9", ["a tuple"]),
    ("optimizer", "1", ["is a section", "optimizer.learning_rate"]),
    ("seed.x", "1", ["seed is a value"]),
  ],
)
def test_bad_overrides(path, key, value, words):
  with pytest.raises(ConfigError) as error:
    config_file.load(path, {key: value})
  assert all(word in str(error.value) for word in words), str(error.value)
  assert "\n" not in str(error.value)


def test_bad_files(tmp_path, monkeypatch):
  configs = tmp_path / "configs"
  configs.mkdir()
  (configs / "alignment.py").write_text(CONFIG)
  (configs / "child.py").write_text(
    "from configs import alignment\nget_config = alignment.get_config\n"
  )
  monkeypatch.setattr(config_file, "_CONFIGS", configs)
  monkeypatch.setattr(config_file, "_ROOT", tmp_path)
  assert config_file.load("alignment").seed == 0
  with pytest.raises(ConfigError, match="mean alignment.*child"):
    config_file.load("alignmemt")
  for text, words in [
    ("x = 1", "no function get_config"),
    ("def get_config(): return {}", "returned dict"),
    ("def get_config(): return 1 / 0", "ZeroDivisionError.*bad.py:1"),
    ("def (", "SyntaxError.*bad.py, line 1"),
    ("import nothing_here", "nothing_here"),
  ]:
    (configs / "bad.py").write_text(text)
    with pytest.raises(ConfigError, match=words):
      config_file.load(str(configs / "bad.py"))
