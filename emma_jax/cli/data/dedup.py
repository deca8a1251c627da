"""emma-data dedup: leaves out what is there already, over several data sets.

  emma-data dedup data/laion data/cc12m --out data/unique --perceptual phash

Of duplicates the first stays, in the order of the inputs (--keep-which largest:
the one with most pixels). duplicates.jsonl in the new folder lists every record
that is left out, with the one it equals and the bits between them.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data dedup`."""
  parser = commands.add_parser(
    "dedup",
    help="leave out duplicates, exact and near",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add(
    "--exact",
    default="pixels",
    choices=("bytes", "pixels"),
    help="what equal pictures have in common (default: %(default)s)",
  )
  add(
    "--perceptual",
    default="dhash",
    choices=("dhash", "phash", "none"),
    help="hash by which near pictures are found (default: %(default)s)",
  )
  add(
    "--radius",
    type=int,
    default=3,
    help="bits of 64 that may differ (default: %(default)s)",
  )
  add(
    "--text",
    default="auto",
    choices=("auto", "always", "never"),
    help="must the texts be equal, too? auto: of questions (default)",
  )
  add(
    "--keep-which", dest="which", default="first", choices=("first", "largest")
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the records that are no duplicates; 0, or UserError."""
  from emma_jax.data.curation import duplicates

  common.refuse_overrides("dedup", overrides)
  if not 0 <= args.radius < 32:
    raise common.UserError(f"--radius {args.radius}: 0 to 31 bits of 64.")
  kind = "" if args.perceptual == "none" else args.perceptual
  writing.write(
    args,
    duplicates.Dedup(
      base=writing.recipe(args),
      exact=args.exact,
      perceptual=kind,
      radius=args.radius,
      text=args.text,
      keep=args.which,
    ),
    reading.files(args.inputs),
  )
  return 0
