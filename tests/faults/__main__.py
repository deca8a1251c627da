"""Runs the campaigns and prints a table of each; 1 where a case failed."""

import argparse
import pathlib
import random
import sys
import tempfile
import time
import traceback

# Before the forks: what each of them would import.
import orbax.checkpoint  # noqa: F401
import tensorboardX  # noqa: F401

import tests.faults
from tests.faults import clock, damage, full, kills, peers, runs, two

CAMPAIGNS = (kills, damage, full, two, clock, peers)


def main() -> int:
  """See the package."""
  parser = argparse.ArgumentParser(
    prog="tests.faults",
    description=tests.faults.__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--short", action="store_true", help="a few of each")
  parser.add_argument("--seed", type=int, default=0)
  names = [c.NAME for c in CAMPAIGNS]
  parser.add_argument("--only", default=",".join(names), help="[all]")
  args = parser.parse_args()
  only = args.only.split(",")
  if set(only) - set(names):
    parser.error(f"--only {args.only}: choose from {','.join(names)}.")
  failed = 0
  with tempfile.TemporaryDirectory(prefix="faults_") as folder:
    root = pathlib.Path(folder)
    calm = runs.Run(root / "calm")
    if calm.finish():
      print(calm.said())
      return 1
    for campaign in CAMPAIGNS:
      if campaign.NAME in only:
        failed += shown(campaign, root, calm, args)
  print(f"{failed} failed" if failed else "all as it must be")
  return int(failed > 0)


def shown(campaign, root: pathlib.Path, calm: runs.Run, args) -> int:
  """Prints a campaign's table as it comes; how many cases failed."""
  print(f"\n{campaign.NAME}: {campaign.__doc__.splitlines()[0]}", flush=True)
  print("| case | outcome | |\n|---|---|---|", flush=True)
  chance, begun = random.Random(args.seed), time.monotonic()
  count = failed = 0
  try:
    for row in campaign.cases(root, calm, chance, args.short):
      count, failed = count + 1, failed + (not row.good)
      verdict = "ok" if row.good else "FAILED"
      print(f"| {row.case} | {row.outcome} | {verdict} |", flush=True)
  except Exception:  # the other campaigns go on
    traceback.print_exc()
    failed += 1
  seconds = time.monotonic() - begun
  print(f"{count} cases, {failed} failed, {seconds:.0f} s", flush=True)
  return failed


if __name__ == "__main__":
  sys.exit(main())
