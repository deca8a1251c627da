"""emma-data edit-pairs: edits checked, and turned around.

  emma-data edit-pairs proposals.jsonl --out data/pairs --reversals ask \\
      --judge ask --min-judge 7 --ocr read.jsonl --face faces.jsonl

Input: records of editing, or rows {"source": "a.png", "instruction": "add a
hat", "target": "b.png"}, with "reverse_instruction" where it is known. What is
not given is turned around by rules (add, remove, replace, change from ... to
..., texts in quotes), then by --reversals. An answer is of a file or asked of a
model: judge and face {"score": 7}, ocr {"source": [...], "target": [...]},
reversals {"instruction": "..."}; reverse pairs have the id ID-reversed. With
--ocr local and --face local the models of the extra `scorers` answer.
"""

import argparse
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data edit-pairs`."""
  parser = commands.add_parser(
    "edit-pairs",
    help="check edits, and add their reverse",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--no-reverse", action="store_true", help="only check")
  add("--reversals", metavar="FILE|ask", help="instructions turned around")
  add("--judge", metavar="FILE|noted|ask", help="does the result follow?")
  add(
    "--min-judge",
    type=ranges.FINITE.number,
    default=7.0,
    help="(default: %(default)s)",
  )
  add(
    "--ocr", metavar="FILE|ask|local", help="reads the pictures of text edits"
  )
  add(
    "--face", metavar="FILE|noted|ask|local", help="are the persons the same?"
  )
  add(
    "--min-face",
    type=ranges.Range(-1, 1).number,
    default=0.6,
    help="(default: %(default)s)",
  )
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the edits that pass, and their reverse; 0, or UserError."""
  from emma_jax.data.curation import edits

  common.refuse_overrides("edit-pairs", overrides)
  rule = lambda kind, value, low: (
    value and constructing.score(args, kind, f"{kind}={value}", low)
  )
  writing.write(
    args,
    edits.EditPairs(
      base=writing.recipe(args),
      reverse=not args.no_reverse,
      reversals=constructing.optional(args, "reverse", args.reversals),
      judge=rule("judge", args.judge, args.min_judge),
      ocr=constructing.optional(args, "ocr", args.ocr),
      face=rule("face", args.face, args.min_face),
      missing=args.missing,
    ),
    reading.files(args.inputs),
  )
  return 0
