"""emma-data convert: public formats to a folder of records.

  emma-data convert my_pictures --out data/mine    # a.png + a.txt, and so on
  emma-data convert captions.csv --images photos --out data/mine

Inputs are folders of pictures with texts beside them (a.png and a.txt, .caption
or .json; Hugging Face's imagefolder with metadata.csv, .jsonl or .parquet;
source/, target/ and *.txt for edits), zips of such folders, tables (.csv, .tsv,
.jsonl, .json, .parquet), .tar, tfds:NAME:SPLIT or python:MODULE:FUNCTION; their
format is found out by the columns. Folders of records are joined to one. The
same command again goes on after an interruption, whatever kind it was.
"""

import argparse
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data convert`."""
  from emma_jax.data.ingest import part

  parser = commands.add_parser(
    "convert",
    help="public formats to a folder of records",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  parser.add_argument(
    "--stem",
    default="unknown",
    choices=reading.STEM,
    help="label of understanding rows without one",
  )
  parser.add_argument(
    "--weight",
    type=ranges.Range(0, 1000).number,
    default=1.0,
    help="of rows without one: times shown in an epoch",
  )
  parser.add_argument(
    "--max-sources",
    type=int,
    default=part.MAX_SOURCES,
    metavar="N",
    help="leave out edits with more source pictures (default: %(default)s)",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the folder of records; 0, or UserError."""
  from emma_jax.data.records import schema

  common.refuse_overrides("convert", overrides)
  if args.max_sources < 1:
    raise common.UserError(
      f"--max-sources {args.max_sources} must be at least 1: an edit has a "
      "source."
    )
  if not 0 <= args.weight <= schema.MAX_WEIGHT:
    raise common.UserError(
      f"--weight {args.weight} must be in 0..{schema.MAX_WEIGHT}."
    )
  recipe = writing.recipe(
    args,
    stem=reading.STEM[args.stem],
    weight=args.weight,
    max_sources=args.max_sources,
  )
  writing.write(args, recipe, reading.files(args.inputs))
  return 0
