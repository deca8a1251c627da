"""emma-data dedup: leaves out what is there already, over several data sets.

  emma-data dedup data/laion data/cc12m --out data/unique --perceptual phash
  emma-data dedup --measure data/laion

Pictures are duplicates where their hashes are near and their thumbnails look
the same; records only where they also say the same (--text). Of duplicates the
first stays, in the order of the inputs (--keep-which largest: the one with most
pixels). duplicates.jsonl in the new folder lists every record that is left out,
with the one it equals and the bits between them.

--measure makes pairs of the set's own pictures, near-copies and others that are
none (recoloured, moved, of another text), and prints how many of each kind
count as duplicates. It takes any source: a folder, jsonl:FILE, or
world:drawing:val of the embedded world.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import reading, validate, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data dedup`."""
  parser = commands.add_parser(
    "dedup",
    help="leave out duplicates, exact and near",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser, required=False)
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
    default="always",
    choices=("always", "questions", "never"),
    help="which texts must be equal, too: all (default), or those of questions "
    "alone, or none",
  )
  add(
    "--measure",
    action="store_true",
    help="print how well duplicates are told on pairs made of the data",
  )
  add(
    "--records",
    type=int,
    default=200,
    metavar="N",
    help="of --measure: the first N are made pairs of (default: %(default)s)",
  )
  add(
    "--keep-which", dest="which", default="first", choices=("first", "largest")
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the records that are no duplicates; 0, or UserError."""
  from emma_jax.data.curation import duplicates
  from emma_jax.data.ingest import job

  common.refuse_overrides("dedup", overrides)
  if not args.measure and args.out is None:
    raise common.UserError("dedup needs --out DIR, or --measure.")
  kind = "" if args.perceptual == "none" else args.perceptual
  try:
    dedup = duplicates.Dedup(
      base=_base(args),
      exact=args.exact,
      perceptual=kind,
      radius=args.radius,
      text=args.text,
      keep=args.which,
    )
  except job.ConversionError as error:
    raise common.UserError(f"--{error}") from error
  if args.measure:
    return _measure(args, dedup)
  writing.write(args, dedup, reading.files(args.inputs))
  return 0


def _base(args: argparse.Namespace) -> Any:
  from emma_jax.data.ingest import part
  from emma_jax.data.text import tokenizer

  if args.measure:  # of records, whose tokens nobody counts
    return part.Recipe(form="records", tokenizer=tokenizer.TinyTokenizer(()))
  return writing.recipe(args)


def _measure(args: argparse.Namespace, dedup: Any) -> int:
  """Prints the table of each input; 0, or UserError."""
  from emma_jax.data.curation import made_pairs

  if args.records < 2:
    raise common.UserError(f"--records {args.records}: two at least.")
  for data in args.inputs:
    try:
      found, bad = made_pairs.first(validate.spec_of(data), args.records)
    except (OSError, ValueError) as error:
      raise common.UserError(f"{data}: {error}") from error
    if len(found) < 2:
      raise common.UserError(
        f"{data}: {len(found)} sound records with pictures; two are needed."
      )
    note = f", {bad} broken left out" if bad else ""
    print(f"{data}: {len(found)} records{note}")
    measured = made_pairs.measure(found, dedup)
    print(*made_pairs.table(measured, args.radius), sep="\n")
  return 0
