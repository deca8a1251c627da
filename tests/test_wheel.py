"""What is installed from the wheel, away from the checkout, is all there."""

import os
from pathlib import Path
import subprocess
import sys
import tomllib

import pytest

from emma_jax.pages import render

REPO = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())


def test_every_folder_with_code_is_a_package_of_the_wheel():
  rooms = {p.parent.relative_to(REPO) for p in REPO.glob("emma_jax/**/*.py")}
  named = PROJECT["tool"]["setuptools"]["packages"]
  assert sorted(".".join(room.parts) for room in rooms) == sorted(
    name for name in named if not name.startswith("emma_jax.configs")
  )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
  """A folder with the wheel's content, and nothing of the checkout."""
  pytest.importorskip("build", reason="needs the extra dev")
  root = tmp_path_factory.mktemp("wheel")
  source = root / "source"
  source.mkdir()
  for name in ("README.md", "LICENSE", "pyproject.toml", "setup.cfg"):
    (source / name).write_bytes((REPO / name).read_bytes())
  for name in ("emma_jax", "configs"):
    (source / name).symlink_to(REPO / name)
  build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
  run(*build, "--outdir", str(root), cwd=source)
  (wheel,) = root.glob("*.whl")
  target = root / "installed"
  run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(target), cwd=root)
  return target


def run(*command: str, cwd: Path, **environment: str) -> str:
  done = subprocess.run(
    command,
    cwd=cwd,
    capture_output=True,
    text=True,
    env=os.environ | environment,
    check=False,
  )
  assert not done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
  return done.stdout


@pytest.mark.slow
def test_every_command_runs_and_finds_its_config(installed, tmp_path):
  scripts = PROJECT["project"]["scripts"].values()
  modules = sorted(target.partition(":")[0] for target in scripts)
  program = f"""
import importlib, emma_jax
from emma_jax.build import config_file
assert emma_jax.__file__.startswith({str(installed)!r}), emma_jax.__file__
for name in {modules}:
  try:
    importlib.import_module(name).main(["--help"])
  except SystemExit as end:
    assert not end.code
for name in (
  "data/laion", "tiny", "tiny:no_experts", "emma_4b:stage1,v5e-256", "files",
  "benchmarks/smoke"
):
  print(config_file.load(name).name)
"""
  path = {"PYTHONPATH": str(installed)}
  out = run(sys.executable, "-c", program, cwd=tmp_path, **path)
  assert out.splitlines()[-6:] == [
    "laion",
    "tiny",
    "no_experts",
    "emma_4b_stage1",
    "files",
    "smoke",
  ]
  listed = run(
    sys.executable,
    *("-m", "emma_jax.cli.train", "--config", "list"),
    cwd=tmp_path,
    **path,
  )
  assert "world_autoencoder" in listed
  # The shipped weights are there too, what pages are made from, what judges are
  # asked, and a rehearsal's files.
  templates = sorted(p.name for p in render.TEMPLATES.iterdir())
  smoke = REPO / "emma_jax" / "benchmarks" / "smoke" / "files"
  rehearsal = sorted(str(p.relative_to(smoke)) for p in smoke.rglob("*"))
  program = f"""
import pathlib
from emma_jax.benchmarks.data import folder
from emma_jax.benchmarks.scoring import imgedit, prompt_texts, viescore
from emma_jax.checkpoints import locate
from emma_jax.pages import render
assert prompt_texts.read("mmvet_judge").startswith("Compare")
assert viescore.prompt_sha256()["PQ_len"] == 1184
assert "paint it" in imgedit.judge_prompt("adjust", "paint it")
smoke = pathlib.Path(folder.located("package:smoke/files"))
found = sorted(str(p.relative_to(smoke)) for p in smoke.rglob("*"))
assert found == {rehearsal}, found
assert all(map(locate.installed, locate.SHIPPED))
assert sorted(p.name for p in render.TEMPLATES.iterdir()) == {templates}
copies = dict(compared=0, copies=0, groups=0, between=0, sheet=None)
page = render.render("statistics.html.j2", sets=[], copies=copies)
assert page.count("<style>") == 1
"""
  run(sys.executable, "-c", program, cwd=tmp_path, **path)
