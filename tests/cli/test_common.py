"""Mistakes get a short message with the value and the remedy, no trace."""

import argparse
import doctest
import os

import pytest

from emma_jax import files
from emma_jax.cli import common
from emma_jax.exits import Exit
from tests.goldens import configs


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


def test_a_folder_where_a_file_is_to_be(tmp_path, capsys):
  """Whatever command writes there: a line that names it, and no trace."""
  folder = tmp_path / "folder"
  folder.mkdir()
  write = lambda argv: files.write_text(argv[0], "x")
  assert common.run(write, [str(folder)]) == Exit.MISTAKE
  assert f"error: {folder} is a folder; name a file." in capsys.readouterr().err
  assert not list(tmp_path.glob("*.tmp"))
  make = lambda argv: os.makedirs(argv[0])
  (tmp_path / "file").write_text("x")
  assert common.run(make, [str(tmp_path / "file" / "x")]) == Exit.MISTAKE
  assert "file/x lies in a file." in capsys.readouterr().err


def test_docstrings():
  assert doctest.testmod(common).failed == 0


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


def test_the_home_folder_is_meant_behind_an_equals_sign_too(monkeypatch):
  """Shells leave it to the command, which would make a folder `~`."""
  monkeypatch.setenv("HOME", "/home/me")
  seen: list[str] = []
  given = ["--out=~/a b", "--out=~", "--prompt=~ a", "x=~/a", "--a=b=~/c"]
  assert common.run(seen.extend, [*given, "--config=~/c.py:x"]) == 0
  home = ["--out=/home/me/a b", "--out=/home/me", *given[2:]]
  assert seen == [*home, "--config=/home/me/c.py:x"]


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
