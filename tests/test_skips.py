"""A skip that is not on the list fails a run of everything."""

import os
import subprocess
import sys

import pytest

from tests import skips

SOME = """
import pytest
def test_runs(): pass
def test_torch(): pytest.skip("could not import 'torch'")
def test_gpu(): pytest.skip("needs a GPU")
"""


def test_lists_are_compared_by_test_and_reason():
  lines = (
    skips.Allowed("a.py", "no GPU", "why"),
    skips.Allowed("b.py", ".*", "why"),
  )
  left = skips.unlisted(
    [
      ("tests/a.py::t", "no GPU"),
      ("tests/a.py::u", "no torch"),
      ("tests/b.py::t", "no torch"),
      ("tests/c.py::t", "no GPU"),
    ],
    lines,
  )
  assert left == [("tests/a.py::u", "no torch"), ("tests/c.py::t", "no GPU")]


@pytest.mark.parametrize("what, workers, code", [("all", "1", 1), ("", "0", 0)])
def test_a_run_of_everything_fails_for_what_is_not_listed(
  tmp_path, repo, what, workers, code
):
  (tmp_path / "test_some.py").write_text(SOME)
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "pytest",
      "-p",
      "tests.skips",
      "-n",
      workers,
      "-c",
      os.devnull,
      "--rootdir",
      tmp_path,
      tmp_path,
    ],
    cwd=repo,
    capture_output=True,
    text=True,
    env=os.environ | {skips.EVERYTHING: what, "PYTHONPATH": str(repo)},
  )
  assert done.returncode == code, done.stdout
  assert ("not on the list" in done.stdout) == bool(code)
  assert "test_gpu" not in done.stdout
