"""Private copies of the checkout, in which bugs are planted."""

from collections.abc import Iterator
import contextlib
import itertools
import os
from pathlib import Path
import shutil
import subprocess
import tarfile

from tests.mutation.plants import Plant

REPO = Path(__file__).resolve().parent.parent.parent
# A second of its own for every changed file: Python takes a compiled module for
# current if the source's time and length are the noted ones.
_TIMES = itertools.count(1_000_000_000)


def copy(target: Path, revision: str | None = None, repo: Path = REPO) -> None:
  """Copies the working tree as git sees it, without what is ignored.

  Args:
    target: a folder that is made.
    revision: take tests/ and setup.cfg from it instead.
  """
  listed = _git(
    repo, "ls-files", "-z", "--cached", "--others", "--exclude-standard"
  ).split(b"\0")
  for name in (os.fsdecode(n) for n in listed if n):
    source = repo / name
    if source.is_file() and not (revision and _is_test(name)):
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(source, target / name)
  if revision:
    archive = target / "tests.tar"
    archive.write_bytes(
      _git(repo, "archive", "--format=tar", revision, "tests", "setup.cfg")
    )
    with tarfile.open(archive) as file:
      file.extractall(target, filter="data")
    archive.unlink()


def _is_test(name: str) -> bool:
  return name == "setup.cfg" or name.startswith("tests/")


def _git(repo: Path, *command: str) -> bytes:
  return subprocess.run(
    ["git", *command], cwd=repo, check=True, stdout=subprocess.PIPE
  ).stdout


@contextlib.contextmanager
def planted(tree: Path, plant: Plant) -> Iterator[None]:
  """The tree with a bug; as it was afterwards."""
  path = tree / plant.path
  before, status = path.read_text(encoding="utf-8"), path.stat()
  path.write_text(plant.apply(before), encoding="utf-8")
  time = next(_TIMES)
  os.utime(path, (time, time))
  try:
    yield
  finally:
    path.write_text(before, encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
