"""Plants bugs and shows which tests notice; see __init__.py."""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import signal
import sys

from tests.mutation import child, plants, run, tree


def main(argv: Sequence[str] | None = None) -> int:
  args = _parser().parse_args(argv)
  every = plants.load()
  try:
    chosen = plants.chosen(every, args.room, args.only)
    for plant in chosen:
      plant.apply((tree.REPO / plant.path).read_text(encoding="utf-8"))
  except (plants.PlantError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  # An ordinary exit, which ends what runs.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  child.prepare(tree.REPO / ".cache" / "jax")
  kept = run.Kept(args.out)
  done = len(kept.of(chosen))

  def tell(result: run.Result) -> None:
    nonlocal done
    done += result.room != run.BASELINE
    print(
      f"{done}/{len(chosen)} {result.room} {result.id}: {result.outcome} "
      f"{result.by} ({result.seconds:.0f} s)",
      flush=True,
    )

  try:
    run.run(
      chosen,
      kept,
      jobs=args.jobs,
      limit=args.timeout,
      revision=args.tests,
      tell=tell,
      log=args.log,
    )
  except run.Void as error:
    print(f"error: the result is void. {error}", file=sys.stderr)
    return 2
  results = kept.of(chosen)
  print(table(results))
  for result in results:
    if not result.killed:
      what = next(p.what for p in chosen if p.id == result.id)
      print(f"{result.outcome}: {result.room} {result.id}: {what}")
  if any(r.outcome == "error" for r in results):
    return 2
  return int(not all(r.killed for r in results))


def table(results: Sequence[run.Result]) -> str:
  """Plants, killed and not, by room."""
  lines = [
    f"{'room':<12}{'mutants':>8}{'killed':>8}{'left':>6}{'score':>8}"
    f"{'slowest':>9}"
  ]
  rooms = list(dict.fromkeys(r.room for r in results))
  for room in [*rooms, "all"]:
    mine = [r for r in results if room in (r.room, "all")]
    if not mine:
      continue
    killed = sum(r.killed for r in mine)
    lines.append(
      f"{room:<12}{len(mine):>8}{killed:>8}{len(mine) - killed:>6}"
      f"{killed / len(mine):>8.1%}"
      f"{max(r.seconds for r in mine):>7.0f} s"
    )
  return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m tests.mutation", description=__doc__
  )
  add = parser.add_argument
  add("--room", nargs="*", default=[], help="rooms: names of plants/*.toml")
  add("--only", nargs="*", default=[], metavar="ID", help="plants")
  add("--tests", metavar="REV", help="tests/ and setup.cfg of a git revision")
  add("--jobs", type=int, default=2, help="at a time [2]")
  add(
    "--timeout",
    type=float,
    default=120.0,
    metavar="S",
    help="of a plant, of processor time [120]",
  )
  add(
    "--out",
    type=Path,
    metavar="FILE",
    help="JSON lines; what is in it is not run again",
  )
  add("--log", type=Path, metavar="DIR", help="what pytest printed")
  return parser


if __name__ == "__main__":
  code = main()
  sys.stdout.flush()
  os._exit(code)  # libraries' threads have nothing left to say
