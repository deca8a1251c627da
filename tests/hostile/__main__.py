"""Runs the cases and prints a table of each kind; 1 where one failed."""

import argparse
from collections.abc import Callable, Iterator
import pathlib
import random
import sys
import tempfile

# Before the forks: what each of them would import.
import jax  # noqa: F401
import jaxlib  # noqa: F401
import pyarrow.parquet  # noqa: F401

import tests.hostile
from tests.hostile import asked, files, measured, weights

Cases = Callable[[pathlib.Path], Iterator[measured.Case]]
KINDS: dict[str, tuple[Cases, ...]] = {
  "pictures": (files.pictures,),
  "lines": (files.lines,),
  "records": (files.records,),
  "archives": (files.archives,),
  "weights": (weights.folders, weights.files),
  "configs": (asked.configs,),
  "requests": (asked.requests,),
}
SHORT = 2  # of each kind


def main() -> int:
  """See the package."""
  parser = argparse.ArgumentParser(
    prog="tests.hostile",
    description=tests.hostile.__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--short", action="store_true", help="a few of each")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--only", default=",".join(KINDS), help="[all]")
  args = parser.parse_args()
  only = args.only.split(",")
  if set(only) - set(KINDS):
    parser.error(f"--only {args.only}: choose from {','.join(KINDS)}.")
  count = failed = 0
  with tempfile.TemporaryDirectory(prefix="hostile_") as folder:
    root = pathlib.Path(folder)
    print(
      f"A process that does nothing takes {measured.baseline(root):.0f} MB; "
      f"none may take more than {measured.MEMORY} MB, nor more than "
      f"{measured.SECONDS:.0f} s of the processor.",
      flush=True,
    )
    for kind in only:
      found = [shown(kind, one, root, args) for one in KINDS[kind]]
      count += sum(n for n, _ in found)
      failed += sum(n for _, n in found)
  print(f"\n{count} inputs, {failed or 'none'} not as stated")
  return int(failed > 0)


def shown(
  kind: str, cases: Cases, root: pathlib.Path, args: argparse.Namespace
) -> tuple[int, int]:
  """Prints the cases of a kind as they come; how many, and how many failed."""
  folder = root / f"{kind}_{cases.__name__}"
  folder.mkdir()
  found = measured.made(cases, folder)
  if args.short:
    chance = random.Random(args.seed)
    found = chance.sample(found, min(SHORT, len(found)))
  print(f"\n{kind}: {(cases.__doc__ or '').strip()}")
  print("| input | exit | s | wall | MB | says | |")
  print("|---|---|---|---|---|---|---|", flush=True)
  failed, most = 0, measured.Outcome(0, "", 0, 0, 0)
  for case in found:
    came = measured.run(case, folder)
    faults = came.faults(case)
    failed += bool(faults)
    most = most._replace(
      seconds=max(most.seconds, came.seconds), peak=max(most.peak, came.peak)
    )
    print(
      f"| {case.name} | {came.code} | {came.seconds:.1f} | {came.wall:.1f} | "
      f"{came.peak:.0f} | {came.sentence()[:150]} | "
      f"{'FAILED: ' + '; '.join(faults) if faults else 'ok'} |",
      flush=True,
    )
  print(
    f"{len(found)} inputs, {failed} failed; at most {most.seconds:.1f} s, "
    f"{most.peak:.0f} MB",
    flush=True,
  )
  return len(found), failed


if __name__ == "__main__":
  sys.exit(main())
