"""Changes to the code that a page shows, and a copy of the tree with them.

In a page, a fenced block `diff` is a unified diff of files that are there, and

  New: `path/of/a/file.py`

followed by a fenced block `python` is a file that is not. Both are applied as
they stand: a line of context that the code has no longer is an error.

  python -m tests.docs.changes docs/pages/add_task.md

writes today's line numbers into a page's diffs, or says which no longer fit.
"""

import difflib
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile

from tests.docs.pages import REPO

_DIFF = re.compile(r"^```diff\n(.*?)^```\n", re.M | re.S)
_NEW = re.compile(
  r"^New: `([^`\n]+)`[^\n]*\n+```python\n(.*?)^```\n", re.M | re.S
)
# What a change, and the tests that it brings, may need.
TREE = ("configs", "docs", "emma_jax", "launch", "tests")
FILES = ("README.md", "pyproject.toml", "setup.cfg")
CONTEXT = 1  # lines around a change: a page shows no more than it must


def diffs(text: str) -> list[str]:
  """A page's unified diffs, in order."""
  return _DIFF.findall(text)


def added(text: str) -> dict[str, str]:
  """Path -> content of the files that a page adds."""
  return dict(_NEW.findall(text))


def changed(text: str) -> list[str]:
  """Paths of the files that a page's diffs change, in order."""
  found = re.findall(r"^\+\+\+ b/(\S+)$", "".join(diffs(text)), re.M)
  return list(dict.fromkeys(found))


def copy_tree(folder: Path) -> None:
  """The tree as it stands, without what is made from it."""
  ignore = shutil.ignore_patterns("__pycache__", ".*")
  for name in TREE:
    shutil.copytree(REPO / name, folder / name, ignore=ignore)
  for name in FILES:
    shutil.copy(REPO / name, folder / name)


def apply(text: str, folder: Path) -> None:
  """Makes a page's changes in a copy of the tree.

  Raises:
    ValueError: a file that is there already, or a diff that does not fit.
  """
  for name, content in added(text).items():
    if (folder / name).exists():
      raise ValueError(f"{name} is there already; a page cannot add it.")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, "utf-8")
  for diff in diffs(text):
    _apply(diff, folder)


def _apply(diff: str, folder: Path) -> None:
  """Where its lines are now, but every line of context must be there."""
  done = subprocess.run(
    ["git", "apply", "--whitespace=error-all", "-"],
    input=diff,
    cwd=folder,
    # Inside of a checkout git would take paths from its top.
    env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise ValueError(f"A diff no longer fits:\n{diff}\n{done.stderr}")


def refreshed(text: str) -> str:
  """The page with the numbers of today's lines in its diffs.

  Raises:
    ValueError: a diff whose lines are there no longer.
  """

  def anew(match: re.Match) -> str:
    with tempfile.TemporaryDirectory() as name:
      folder = Path(name)
      paths = changed(match[0])
      for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / path, folder / path)
      _apply(match[1], folder)
      found = "".join(between(REPO, folder, path) for path in paths)
    return f"```diff\n{found}```\n"

  return _DIFF.sub(anew, text)


def between(old: Path, new: Path, path: str) -> str:
  """The unified diff of one file of two trees."""
  lines = ((r / path).read_text("utf-8").splitlines(True) for r in (old, new))
  found = difflib.unified_diff(*lines, f"a/{path}", f"b/{path}", n=CONTEXT)
  # An empty line of context has no space at its end, which editors take away.
  return "".join("\n" if line == " \n" else line for line in found)


if __name__ == "__main__":
  for _name in sys.argv[1:]:
    _page = Path(_name)
    _page.write_text(refreshed(_page.read_text("utf-8")), "utf-8")
    print(f"{_name}: its diffs fit again")
