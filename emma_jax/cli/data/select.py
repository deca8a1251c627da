"""emma-data select: the best records of every task or kind, as many of each.

  emma-data select data/sft --out data/qt --score quality=scores.jsonl \\
      --by data_source --count 500 --counts understanding/ai2d=2000

A group is a task, or with --by a value of the records' provenance within a
task. groups.json in the new folder tells how many there were and were chosen.
A score that is asked of a model is asked in a first pass, by one request a
process: for many records let `filter --score` ask and note it before.
"""

import argparse
import json
import os
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data select`."""
  parser = commands.add_parser(
    "select",
    help="the best records of every kind",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--score", required=True, metavar="NAME=FILE|noted|ask")
  add("--count", type=int, required=True, help="records of each group")
  add(
    "--by",
    default="",
    metavar="KEY",
    help="of the provenance, such as data_source (default: a task is a group)",
  )
  add(
    "--counts",
    action="append",
    default=[],
    metavar="GROUP=N",
    help="another number for a group, such as understanding/ai2d=2000",
  )
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the best records of each group, prints counts; 0, or UserError."""
  from emma_jax.data.curation import selection
  from emma_jax.data.ingest import job

  common.refuse_overrides("select", overrides)
  counts = constructing.numbers("--counts", args.counts)
  try:
    maker = selection.Select(
      base=writing.recipe(args),
      score=constructing.score(args, "score", args.score),
      count=args.count,
      by=args.by,
      counts={k: int(n) for k, n in counts.items()},
      missing=args.missing,
    )
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  if writing.write(args, maker, reading.files(args.inputs)) is None:
    return 0
  with open(os.path.join(args.out, selection.REPORT), encoding="utf-8") as file:
    for group, numbers in json.load(file).items():
      print(f"{numbers['chosen']:8d} of {numbers['records']:8d}  {group}")
  return 0
