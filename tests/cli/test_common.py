"""Mistakes get a short message with the value and the remedy, no trace."""

import argparse
import doctest

import pytest

from emma_jax.cli import common
from tests.goldens import configs

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


def test_all_configs_are_listed_with_their_first_lines(capsys):
  parser = argparse.ArgumentParser()
  common.add_config_arguments(parser)
  parser.add_argument("--workdir", required=True)  # not needed for the list
  with pytest.raises(SystemExit) as end:
    parser.parse_args(["--config", "list"])
  assert end.value.code == 0
  lines = capsys.readouterr().out.splitlines()
  known = {name.partition(":")[0] for name in configs.names()}
  assert {line.split()[0] for line in lines} == known
  (tiny,) = [line for line in lines if line.startswith("tiny ")]
  assert tiny.endswith(
    "A tiny EMMA in the embedded world, through all the paper's stages."
  )


def test_an_unknown_variant_names_those_there_are():
  with pytest.raises(common.UserError, match="No variant 'x'.*'token_fusion'"):
    common.load_config("tiny:x")


def test_docstrings():
  assert doctest.testmod(common).failed == 0


def test_overrides_take_the_type_of_what_they_replace(path):
  c = common.load_config(
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
  with pytest.raises(common.UserError) as error:
    common.load_config(path, {key: value})
  assert all(word in str(error.value) for word in words), str(error.value)
  assert "\n" not in str(error.value)


def test_bad_files(tmp_path, monkeypatch):
  configs = tmp_path / "configs"
  configs.mkdir()
  (configs / "alignment.py").write_text(CONFIG)
  (configs / "child.py").write_text(
    "from configs import alignment\nget_config = alignment.get_config\n"
  )
  monkeypatch.setattr(common, "_CONFIGS", configs)
  monkeypatch.setattr(common, "_ROOT", tmp_path)
  assert common.load_config("alignment").seed == 0
  with pytest.raises(common.UserError, match="mean alignment.*child"):
    common.load_config("alignmemt")
  for text, words in [
    ("x = 1", "no function get_config"),
    ("def get_config(): return {}", "returned dict"),
    ("def get_config(): return 1 / 0", "ZeroDivisionError.*bad.py:1"),
    ("def (", "SyntaxError.*bad.py, line 1"),
    ("import nothing_here", "nothing_here"),
  ]:
    (configs / "bad.py").write_text(text)
    with pytest.raises(common.UserError, match=words):
      common.load_config(str(configs / "bad.py"))


def test_arguments():
  parser = argparse.ArgumentParser()
  common.add_config_arguments(parser)
  parser.add_argument("--workdir")
  args, overrides = common.parse_arguments(
    parser,
    [
      "--config",
      "a.py",
      "--config.x.y",
      "(1, 2)",
      "--workdir",
      "w",
      "--config.z=a=b",
    ],
  )
  assert args.config == "a.py" and args.workdir == "w"
  assert overrides == {"x.y": "(1, 2)", "z": "a=b"}
  with pytest.raises(common.UserError, match="--config.x=VALUE"):
    common.parse_overrides(["--config.x", "--workdir"])


class ConfigMistake(ValueError):
  pass


@pytest.mark.parametrize("error", [common.UserError, ConfigMistake])
def test_run_hides_the_trace_unless_asked(error, capsys, monkeypatch):
  monkeypatch.delenv("EMMA_DEBUG", raising=False)

  def main(argv):
    assert argv == ["x"]
    raise error("no such thing; try another")

  assert common.run(main, ["x"], (ConfigMistake,)) == 2
  assert capsys.readouterr().err == "error: no such thing; try another\n"
  assert common.run(main, ["x", "--debug"], (ConfigMistake,)) == 2
  assert "Traceback" in capsys.readouterr().err
  monkeypatch.setenv("EMMA_DEBUG", "1")
  assert common.run(main, ["x"], (ConfigMistake,)) == 2
  assert "Traceback" in capsys.readouterr().err


def test_run_lets_bugs_through_and_returns_codes():
  with pytest.raises(ValueError):
    common.run(lambda argv: int("x"), [])
  assert common.run(lambda argv: None, []) == 0
  assert common.run(lambda argv: 3, []) == 3

  def interrupted(argv):
    raise KeyboardInterrupt

  assert common.run(interrupted, []) == 130


def test_compilation_cache(tmp_path, monkeypatch):
  import jax

  before = jax.config.jax_compilation_cache_dir
  try:
    monkeypatch.setenv("EMMA_CACHE", str(tmp_path / "cache"))
    common.use_compilation_cache()
    wanted = str(tmp_path / "cache" / "xla")
    assert jax.config.jax_compilation_cache_dir == wanted
    (tmp_path / "file").write_text("")
    common.use_compilation_cache(tmp_path / "file" / "x")
    assert jax.config.jax_compilation_cache_dir == wanted
  finally:
    jax.config.update("jax_compilation_cache_dir", before)
