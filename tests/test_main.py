"""`python -m emma_jax` lists every command, and starts it by its name."""

from pathlib import Path
import subprocess
import sys
import tomllib

import emma_jax
from emma_jax import __main__ as main

REPO = Path(__file__).resolve().parent.parent


def test_every_console_script_is_listed_with_what_it_is_for(capsys):
  project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
  names = {name.removeprefix("emma-") for name in project["scripts"]}
  assert main.commands().keys() == names
  assert all(text.endswith(".") for text in main.commands().values())
  assert main.main([]) == 0
  listed = capsys.readouterr().out
  for name, text in main.commands().items():
    assert f"emma-{name}" in listed and text in listed


def test_versions_and_mistakes(capsys):
  assert main.main(["--version"]) == 0
  assert capsys.readouterr().out.strip() == emma_jax.__version__
  assert main.main(["paint"]) == 2
  assert "no command paint" in capsys.readouterr().err


def test_a_command_starts_by_its_name():
  told = subprocess.run(
    [sys.executable, "-m", "emma_jax", "sample", "show-settings", "none.png"],
    cwd=REPO,
    capture_output=True,
    text=True,
  )
  assert told.returncode == 2 and "none.png" in told.stderr
