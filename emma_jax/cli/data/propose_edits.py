"""emma-data propose-edits: instructions for pictures, to be carried out.

  emma-data propose-edits data/pictures --out data/proposed --answers ask ...
  emma-data propose-edits data/signs --out data/texts --text --answers ask ...
  emma-data apply-edits data/proposed --out data/edited --url ... --model ...
  emma-data edit-pairs data/edited --out data/pairs --judge ask ...

An answer is {"instruction": "...", "reverse": "..."}; with --text it is the
words that OCR reads, {"texts": ["SALE"]}, of which one is replaced by others of
its length, or removed (--answers local: the extra `scorers` reads). Both are
noted in the provenance of the drawings.
"""

import argparse
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data propose-edits`."""
  parser = commands.add_parser(
    "propose-edits",
    help="note an editing instruction for every picture",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--answers", required=True, metavar="FILE|ask|local")
  add("--text", action="store_true", help="edits of the words in the picture")
  add(
    "--remove",
    type=ranges.SHARE.number,
    default=0.3,
    help="share of texts that are removed, not replaced (default: %(default)s)",
  )
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the drawings with instructions noted; 0, or UserError."""
  from emma_jax.data.curation import proposals
  from emma_jax.data.ingest import job

  common.refuse_overrides("propose-edits", overrides)
  more = {"base": writing.recipe(args), "missing": args.missing}
  kind = "read" if args.text else "instruction"
  more["answers"] = constructing.optional(args, kind, args.answers)
  try:
    maker: Any = (
      proposals.ProposeText(remove=args.remove, **more)
      if args.text
      else proposals.Propose(**more)
    )
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  writing.write(args, maker, reading.files(args.inputs))
  return 0
