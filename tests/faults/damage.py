"""Every file of the newest checkpoint in turn: bits flipped, cut, removed."""

from collections.abc import Iterator
import pathlib
import random

from emma_jax.exits import Exit
from tests.faults import runs

NAME = "damage"
KINDS = ("flipped", "cut", "removed")


def cases(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, short: bool
) -> Iterator[runs.Row]:
  """A finished run goes on from a damaged checkpoint."""
  newest = calm.newest()
  files = sorted(p for p in newest.rglob("*") if p.is_file())
  pairs = [(p.relative_to(calm.folder), kind) for p in files for kind in KINDS]
  if short:
    pairs = chance.sample(pairs, 2)
  for i, (path, kind) in enumerate(pairs):
    run = calm.copy(f"damaged_{i}")
    spoil(run.folder / path, kind)
    name = f"{path.relative_to('checkpoints')} {kind}"
    before = len(run.said())
    row = runs.resumed(run, calm, name, "started")
    said = run.said()[before:]
    yield row._replace(
      outcome=row.outcome
      + (", went back a step" if "went back" in said else ", not needed")
    )
  yield all_damaged(root, calm)


def spoil(path: pathlib.Path, kind: str) -> None:
  """Damages a file."""
  data = bytearray(path.read_bytes())
  if kind == "removed":
    path.unlink()
  elif kind == "cut":
    path.write_bytes(data[: len(data) // 2])
  else:
    for i in range(0, len(data), 64):
      data[i] ^= 1
    path.write_bytes(data)


def all_damaged(root: pathlib.Path, calm: runs.Run) -> runs.Row:
  """No sound step is left: a refusal, and nothing is changed."""
  run = calm.copy("all_damaged")
  for step in run.steps():
    spoil(run.folder / "checkpoints" / str(step) / "meta" / "metadata", "cut")
  log, code = run.logged(), run.finish()
  good = code == Exit.DATA and run.logged() == log
  return runs.Row("all steps damaged", f"exit {code}, log kept", good)
