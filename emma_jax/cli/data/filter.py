"""emma-data filter: keeps records whose pictures and scores are in range.

  emma-data filter data/laion --out data/laion_1k --min-side 1024 \\
      --max-aspect 3 --score aesthetic=scores.jsonl --min aesthetic=5.5

Every picture of a record must pass. A score is of a file with the records' ids
(JSON lines or Parquet: id, score), noted by an earlier command, or asked of a
model (NAME=ask). It is noted in the record's provenance.
"""

import argparse
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data filter`."""
  parser = commands.add_parser(
    "filter",
    help="keep records by resolution, aspect ratio and scores",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--tasks", default="", metavar="TASK,...", help="keep these alone")
  add("--min-side", type=int, default=0, help="pixels of the shorter side")
  add("--max-side", type=int, help="pixels of the longer side")
  add("--min-pixels", type=int, default=0, help="of a picture")
  add(
    "--max-aspect",
    type=ranges.Range(1, 1e6).number,
    help="longer side over shorter side",
  )
  add(
    "--noted",
    action="append",
    default=[],
    metavar="KEY=VALUE",
    help="keep records with this value in their provenance",
  )
  add("--stem", default="", choices=("", "stem", "general"), help="label")
  add(
    "--score",
    action="append",
    default=[],
    metavar="NAME=FILE|noted|ask",
    help="may be given several times",
  )
  add("--min", action="append", default=[], metavar="NAME=NUMBER")
  add("--max", action="append", default=[], metavar="NAME=NUMBER")
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the records that pass all rules; 0, or UserError."""
  from emma_jax.data.curation import filters

  common.refuse_overrides("filter", overrides)
  low = constructing.numbers("--min", args.min)
  high = constructing.numbers("--max", args.max)
  names = [s.partition("=")[0] for s in args.score]
  for name in [*low, *high]:
    if name not in names:
      raise common.UserError(
        f"--min or --max {name}: there is no --score {name}=..."
      )
  rules = tuple(
    constructing.score(args, "score", text, low.get(n), high.get(n))
    for n, text in zip(names, args.score)
  )
  writing.write(
    args,
    filters.Filter(
      base=writing.recipe(args),
      tasks=tuple(filter(None, args.tasks.split(","))),
      min_side=args.min_side,
      max_side=args.max_side,
      min_pixels=args.min_pixels,
      max_aspect=args.max_aspect,
      noted=dict(_pair(text) for text in args.noted),
      stem=args.stem,
      scores=rules,
      missing=args.missing,
    ),
    reading.files(args.inputs),
  )
  return 0


def _pair(text: str) -> tuple[str, str]:
  key, equals, value = text.partition("=")
  if not (key and equals):
    raise common.UserError(f"--noted {text}: expected KEY=VALUE.")
  return key, value
