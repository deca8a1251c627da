"""Puts runs side by side on one page: emma-report A B ...

  emma-report runs/a runs/b --out comparison.html
  emma-report runs/a runs/a/evaluation runs/b/evaluation

A, B: working directories of trainings, finished or not, and --out folders of
emma-evaluate. The page has the scores with their intervals, each run's
difference to the first one tested on the samples that both have, all curves
over one axis, the keys of the configs that differ, and the pictures of the same
prompts. Nothing is computed anew; no accelerator is taken. The same as
`python -m emma_jax.cli.report`.
"""

import argparse
import sys

from emma_jax.cli import common


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-report",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "runs",
    nargs="+",
    type=common.path,
    metavar="RUN",
    help="working directory of a training, or folder of an evaluation; the "
    "first one is what the others are compared with",
  )
  parser.add_argument(
    "--out",
    type=common.path,
    default="comparison.html",
    metavar="FILE.html",
    help="the page (default: %(default)s)",
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )
  return parser


def _main(argv: list[str]) -> int:
  args = _parser().parse_args(argv)
  from emma_jax.evals import comparison, runs, table

  try:
    found = runs.read(args.runs)
  except runs.NoRun as error:
    raise common.UserError(str(error)) from error
  width = max(len(run.name) for run in found)
  for run in found:
    scores = table.summary(run.scores) if run.scores else ""
    print(f"{run.name:{width}}  {scores or 'no scores'}")
  comparison.write(args.out, found)
  print(f"Report: {args.out}")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv)


def entry() -> None:
  """The console script."""
  sys.exit(main())


if __name__ == "__main__":
  entry()
