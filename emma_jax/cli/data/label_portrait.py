"""emma-data label-portrait: notes which pictures are portraits.

  emma-data label-portrait data/large --out data/labelled --answers ask ...
  emma-data filter data/labelled --out data/portraits --noted portrait=portrait

An answer is {"portrait": true}, of a file or asked; "portrait" or "general" is
noted in the provenance under "portrait".
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data label-portrait`."""
  parser = commands.add_parser(
    "label-portrait",
    help="note which pictures are portraits",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  parser.add_argument(
    "--answers", required=True, metavar="FILE|ask", help="true or false"
  )
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the records with their label noted; 0, or UserError."""
  from emma_jax.data.curation import captions

  common.refuse_overrides("label-portrait", overrides)
  maker = captions.Label(
    base=writing.recipe(args),
    name="portrait",
    answers=constructing.optional(args, "portrait", args.answers),
    missing=args.missing,
  )
  writing.write(args, maker, reading.files(args.inputs))
  return 0
