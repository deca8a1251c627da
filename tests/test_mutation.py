"""Laws of the mutation run: its plants apply, its verdicts are right."""

import ast
import collections
import os
from pathlib import Path
import subprocess
import sys

import pytest

from tests.mutation import plants, run, tree

ROOMS = {
  "models",
  "flow",
  "losses",
  "optimizer",
  "sampling",
  "training",
  "data",
  "convert",
  "evals",
  "world",
  "sharding",
  "planner",
}
PLANTS = plants.load()


def test_there_are_enough_of_every_room():
  assert len(PLANTS) >= 200
  assert {p.room for p in PLANTS} >= ROOMS


def test_ids_are_unique():
  twice = collections.Counter(p.id for p in PLANTS) - collections.Counter(
    {p.id for p in PLANTS}
  )
  assert not twice


@pytest.mark.parametrize("room", sorted({p.room for p in PLANTS}))
def test_plants_apply_and_still_are_python(repo, room):
  for plant in (p for p in PLANTS if p.room == room):
    text = (repo / plant.path).read_text(encoding="utf-8")
    ast.parse(plant.apply(text), plant.id)
    assert plant.what.endswith("."), plant.id


def test_every_plant_has_tests_and_lists_only_what_exists(repo):
  for plant in PLANTS:
    assert any(plants.tests_of(plant, repo)), plant.id
    assert all((repo / name).exists() for name in plant.tests), plant.id


def test_mirrored_files_come_first(repo):
  by_id = {p.id: p for p in PLANTS}
  mirrored, _, listed = plants.tests_of(by_id["flash-delta-dropped"], repo)
  assert "tests/models/test_flash.py" in mirrored
  sizes = [(repo / name).stat().st_size for name in mirrored]
  assert sizes == sorted(sizes)
  assert not set(mirrored) & set(listed)


def plant(**changes) -> plants.Plant:
  fields = dict(
    id="toy",
    room="toys",
    path="emma_jax/toy.py",
    what="A toy.",
    old="a + b",
    new="a - b",
    tests=(),
  )
  return plants.Plant(**fields | changes)


@pytest.mark.parametrize("text", ["nothing", "a + b, a + b"])
def test_a_plant_that_does_not_apply_is_refused(text):
  with pytest.raises(plants.PlantError, match="not once"):
    plant().apply(text)
  with pytest.raises(plants.PlantError, match="nothing"):
    plant(new="a + b").apply("a + b")


TOY = """
def add(a, b):
  return a + b


def double(a):
  return 2 * a
"""
TEST = """
from emma_jax import toy


def test_add():
  assert toy.add(1, 2) == 3


def test_double_ends():
  toy.double(1)
"""
# The runner as a program of its own, as it forks.
PROGRAM = """
import pathlib, sys
from tests.mutation import child, plants, run

repo = pathlib.Path(sys.argv[1])
toy = lambda id, old, new: plants.Plant(
    id=id, room="toys", path="emma_jax/toy.py", what="", old=old, new=new,
    tests=())
child.LIBRARIES = ("pytest",)
child.prepare(repo / "cache")
todo = [
    toy("killed", "a + b", "a - b"),
    toy("survived", "2 * a", "3 * a"),
    toy("unimportable", "2 * a", "2 * a\\n\\nraise OSError"),
]
slow = [toy("slow", "2 * a", "__import__('time').sleep(99)")]
kept = run.Kept(repo / "out.jsonl")
try:
  for some, limit in ((todo, 60.0), (slow, 0.5)):
    run.run(some, kept, jobs=2, limit=limit, revision=None, repo=repo,
            tell=lambda r: None)
except run.Void as error:
  print(error)
for r in kept.of(todo + slow):
  print(r.id, r.outcome, r.by)
"""


def toy_repo(folder: Path, test: str = TEST) -> Path:
  for name, text in {
    "emma_jax/__init__.py": "",
    "emma_jax/toy.py": TOY,
    "tests/test_toy.py": test,
    "setup.cfg": "[tool:pytest]\npythonpath = .\n",
  }.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
  for command in (["init", "-q"], ["add", "."]):
    subprocess.run(["git", *command], cwd=folder, check=True)
  return folder


def executed(folder: Path) -> list[str]:
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, str(folder)],
    cwd=tree.REPO,
    # No plugin of a library is waited for.
    env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert not done.returncode, done.stderr
  return done.stdout.splitlines()


def test_verdicts_and_the_checkout_is_not_touched(tmp_path):
  repo = toy_repo(tmp_path)
  assert executed(repo) == [
    "killed killed tests/test_toy.py::test_add",
    "survived survived ",
    "unimportable killed tests/test_toy.py",
    "slow timeout ",
  ]
  assert (repo / "emma_jax/toy.py").read_text() == TOY
  lines = (repo / "out.jsonl").read_text().splitlines()
  assert len(lines) == 5  # and of the test file without a bug
  # Cut off in the middle of a line, it goes on with what is missing.
  (repo / "out.jsonl").write_text("\n".join([*lines[:-1], lines[-1][:20]]))
  assert len(executed(repo)) == 4


def test_a_suite_that_fails_by_itself_is_void(tmp_path):
  out = executed(toy_repo(tmp_path, TEST.replace("== 3", "== 4")))
  assert len(out) == 1 and "fails without a bug" in out[0]


def test_slow_tests_are_not_taken_for_kills():
  fields = dict(id="a", room="b", by="", seconds=9.0, limit=9.0)
  of = lambda **more: run.Result(**fields | more).killed
  assert of(outcome="timeout", clean=4.0)
  assert not of(outcome="timeout", clean=5.0)
  assert not of(outcome="survived") and not of(outcome="error")
