"""The short form of the hostile inputs; `python -m tests.hostile` is the long
one."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_a_few_of_each_kind_end_as_stated():
  """In a process of its own: commands are forked before JAX has devices."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.hostile", "--short"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  for kind in (
    *("pictures", "lines", "records", "archives"),
    *("weights", "configs", "requests"),
  ):
    assert f"\n{kind}: " in done.stdout
  assert done.stdout.endswith("inputs, none not as stated\n")
