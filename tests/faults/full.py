"""A disk that gets full in the middle of a save: at 20 points of it.

A tmpfs of its own; as a save begins, a file takes what is free but for a part
of a checkpoint. It needs the right to mount; where that is missing the files'
size is limited in place of the disk's (RLIMIT_FSIZE), which fails like a quota.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import pathlib
import random
import resource
import shutil
import subprocess

from emma_jax.exits import Exit
from tests.faults import runs

NAME = "full"
POINTS, SHORT = 20, 1
_SIZE = 16 * 2**20
_WORDS = ("no space is left on the disk", "the file is larger than the limit")


def cases(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, short: bool
) -> Iterator[runs.Row]:
  """Full from a point of the second save on; then made room, and resumed."""
  del chance
  newest = calm.newest()
  size = sum(p.stat().st_size for p in newest.rglob("*") if p.is_file())
  for i in range(POINTS // 3, POINTS // 3 + SHORT) if short else range(POINTS):
    yield at_point(root, calm, i, size)


def at_point(root: pathlib.Path, calm: runs.Run, i: int, size: int) -> runs.Row:
  """Room is left for i / POINTS of a checkpoint of `size` bytes."""
  with disk(root / f"disk_{i}") as mounted:
    run = runs.Run(root / f"disk_{i}" / "run", root / f"disk_{i}.txt")
    left = size * i // POINTS
    code = run.finish(before=fill(left) if mounted else limit(left))
    (run.folder.parent / "fill").unlink(missing_ok=True)
    said = run.said()
    lines = said.splitlines()
    failed = [x for x in lines if "The save of step" in x]
    # The log of steps may be the first that does not fit.
    told = "Traceback" not in said and any(w in said for w in _WORDS)
    how = "disk" if mounted else "limit"
    row = runs.resumed(run, calm, f"{how} with {left} bytes", f"exit {code}")
    fitted = code == 0 and left > size // 2  # checkpoints may be smaller
    return row._replace(
      good=row.good and (fitted or (code == Exit.STORAGE and told)),
      outcome=f"{row.outcome}; {len(failed)} failed saves, "
      f"{len(lines)} lines in all"
      + ("" if told or fitted else f": {lines[-3:]}"),
    )


def fill(left: int) -> Callable:
  """As the save of a later step begins, all but `left` bytes are taken."""

  def act(count: int, event: runs.Event) -> None:
    del count
    if event.name == "os.mkdir" and event.path.startswith("checkpoints/8."):
      place = pathlib.Path(root[0]).parent
      if not (place / "fill").exists():
        free = shutil.disk_usage(place).free
        with open(place / "fill", "wb") as file:
          file.write(b"\0" * max(0, free - left))

  root: list[str] = []

  def plant(folder: pathlib.Path) -> None:
    root.append(str(folder))
    runs.on_events(act)(folder)

  return plant


def limit(left: int) -> Callable:
  """No file may be larger, from the save on."""

  def act(count: int, event: runs.Event) -> None:
    del count
    if event.name == "os.mkdir" and event.path.startswith("checkpoints/8."):
      resource.setrlimit(resource.RLIMIT_FSIZE, (left // 8, -1))

  return runs.on_events(act)


@contextlib.contextmanager
def disk(folder: pathlib.Path) -> Iterator[bool]:
  """A small disk at a folder; False where it may not be mounted."""
  folder.mkdir()
  done = (
    os.geteuid() == 0
    and not subprocess.run(
      ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(folder)],
      capture_output=True,
      check=False,
    ).returncode
  )
  try:
    yield done
  finally:
    if done:
      subprocess.run(["umount", "-l", str(folder)], check=True)
