"""The short form of the fault campaigns; `python -m tests.faults` is the long
one."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_a_run_survives_a_few_of_each_fault():
  """In a process of its own: trainers are forked before JAX has devices."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.faults", "--short"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=1200,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  for name in ("kills", "damage", "full", "two", "clock"):
    assert f"\n{name}: " in done.stdout
  assert "FAILED" not in done.stdout
  assert done.stdout.endswith("all as it must be\n")
