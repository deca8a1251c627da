"""The pages "add a ..." say what the code takes: each is applied to a copy of
the tree, and the tests that it brings pass there."""

import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

from tests.docs import changes
from tests.docs.pages import REPO

PAGES = REPO / "docs" / "pages"


def made(page: str, folder: Path) -> list[str]:
  """Applies a page to a copy of the tree; returns the tests it adds."""
  text = (PAGES / f"{page}.md").read_text("utf-8")
  changes.copy_tree(folder)
  changes.apply(text, folder)
  return [name for name in changes.added(text) if name.startswith("tests/")]


def passes(folder: Path, tests: list[str]) -> None:
  """Runs tests of a copy of the tree, which is imported in place of this."""
  assert tests
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-n", "0", "-x", *tests],
    cwd=folder,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      # Of programs that run once: compiled in a third of the time.
      "XLA_FLAGS": "--xla_backend_optimization_level=0",
      "PYTHONPATH": str(folder),
      "EMMA_TESTS": "",
    },
    capture_output=True,
    text=True,
    timeout=1200,
    check=False,
  )
  assert not done.returncode, done.stdout[-5000:] + done.stderr[-2000:]
  assert re.search(r"\d+ passed", done.stdout), done.stdout


@pytest.mark.slow
def test_add_a_task(tmp_path):
  """Segmentation: stored, trained and scored under its own name."""
  passes(tmp_path, made("add_task", tmp_path))


@pytest.mark.slow
def test_add_an_expert(tmp_path):
  """A third expert: it alone moves, and old routes give what they gave."""
  passes(tmp_path, made("add_expert", tmp_path))


@pytest.mark.slow
def test_add_another_autoencoder(tmp_path):
  """A patch autoencoder: trained, measured, and inside of an EMMA."""
  passes(tmp_path, made("add_autoencoder", tmp_path))


@pytest.mark.slow
def test_add_a_chip(tmp_path):
  """An H20: named, flagged, and a step compiled for it."""
  passes(tmp_path, made("add_chip", tmp_path))


LISTED = sorted(p.stem for p in PAGES.glob("add_*.md"))


@pytest.mark.parametrize("page", LISTED)
def test_a_page_lists_the_files_that_it_changes(page):
  """In its table, those of its blocks, and no others."""
  text = (PAGES / f"{page}.md").read_text("utf-8")
  rows = re.findall(r"^\| (`[^|]*) \|", text, re.M)
  listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
  assert sorted(listed) == sorted(
    [*changes.changed(text), *changes.added(text)]
  )


def test_every_page_is_executed_by_a_test():
  source = Path(__file__).read_text("utf-8")
  assert len(LISTED) == 4
  assert set(re.findall(r'made\("(\w+)"', source)) == set(LISTED)


# ------------------------------------------------------------------ the tool

DIFF = "--- a/x.py\n+++ b/x.py\n@@ -2,2 +2,3 @@\n a\n+b\n c\n"
PAGE = f"text\n```diff\n{DIFF}```\n\nNew: `y.py`, why\n\n```python\n1\n```\n"


def test_blocks_are_found():
  assert changes.diffs(PAGE) == [DIFF]
  assert changes.added(PAGE) == {"y.py": "1\n"}
  assert changes.changed(PAGE) == ["x.py"]


def test_blocks_are_applied_as_they_stand(tmp_path):
  (tmp_path / "x.py").write_text("0\n0\na\nc\n0\n")  # lower by a line
  changes.apply(PAGE, tmp_path)
  assert (tmp_path / "x.py").read_text() == "0\n0\na\nb\nc\n0\n"
  assert (tmp_path / "y.py").read_text() == "1\n"
  with pytest.raises(ValueError, match="there already"):
    changes.apply(PAGE, tmp_path)


def test_a_line_that_is_not_there_any_more_is_an_error(tmp_path):
  (tmp_path / "x.py").write_text("0\na\nC\n")
  with pytest.raises(ValueError, match="no longer fits"):
    changes.apply(PAGE, tmp_path)


def test_numbers_of_lines_are_refreshed(tmp_path, monkeypatch):
  monkeypatch.setattr(changes, "REPO", tmp_path)
  (tmp_path / "x.py").write_text("0\n0\n\na\nc\n0\n")
  fits = changes.refreshed(PAGE)
  assert fits == PAGE.replace("@@ -2,2 +2,3 @@", "@@ -4,2 +4,3 @@")
  (tmp_path / "x.py").write_text("0\na\nC\n")
  with pytest.raises(ValueError, match="no longer fits"):
    changes.refreshed(PAGE)
