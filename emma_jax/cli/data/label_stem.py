"""emma-data label-stem: labels questions STEM or general.

  emma-data label-stem data/onevision --out data/labelled --rules stem.json
  emma-data label-stem data/finevision --out data/labelled --answers ask \\
      --url http://localhost:8000/v1 --model Qwen/Qwen3-VL-8B-Instruct

The first rule that holds gives the label: [{"label": "stem", "field":
"data_source", "matches": "ai2d|geometry"}, {"label": "general", "field":
"text", "matches": "."}]. A field is a key of the provenance, "text" or "id".
Without --rules they are --reading's, for parts of LLaVA-OneVision and
FineVision; it also words the prompt. figure: a bar chart is general, as the
paper's Figure 2 routes one; summary: charts are STEM. Where no rule holds,
--answers ({"stem": true}) tells. Only questions are written.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data label-stem`."""
  parser = commands.add_parser(
    "label-stem",
    help="label questions STEM or general",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--rules", metavar="FILE", help="JSON list of rules")
  add(
    "--reading",
    default="figure",
    choices=("figure", "summary"),
    help="of the paper: is a chart general or STEM? (default: %(default)s)",
  )
  add("--answers", metavar="FILE|ask", help="where no rule holds")
  add("--relabel", action="store_true", help="also questions that have a label")
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the labelled questions, prints their counts; 0, or UserError."""
  from emma_jax.data.curation import selection, stem_labels
  from emma_jax.data.ingest import job
  from emma_jax.data.records.source import RecordsSource

  common.refuse_overrides("label-stem", overrides)
  try:
    rules = (
      selection.read_rules(args.rules)
      if args.rules
      else stem_labels.READINGS[args.reading].rules
    )
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  card = writing.write(
    args,
    selection.LabelStem(
      base=writing.recipe(args),
      rules=rules,
      answers=constructing.optional(args, "stem", args.answers),
      missing=args.missing,
      relabel=args.relabel,
    ),
    reading.files(args.inputs),
  )
  if card is None:
    return 0
  labels = selection.labels_of(RecordsSource(args.out).lengths)
  print(", ".join(f"{n} {label}" for label, n in labels.items()))
  return 0
