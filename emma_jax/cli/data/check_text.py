"""emma-data check-text: keeps pictures whose words can be read.

  emma-data check-text data/generated --out data/read --answers ask \\
      --url http://localhost:8000/v1 --model Qwen/Qwen3-VL-8B-Instruct

An answer is {"texts": ["OPEN", ...]}, all that is read in the picture, of a
file, asked, or local (the extra `scorers` reads). All texts of the provenance
must be among them; case, widths and punctuation do not count.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data check-text`."""
  parser = commands.add_parser(
    "check-text",
    help="keep pictures whose words can be read",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--answers", required=True, metavar="FILE|ask|local", help="what is read")
  add(
    "--max-extra",
    type=int,
    metavar="WORDS",
    help="beside the wanted ones (default: any number)",
  )
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the drawings that can be read; 0, or UserError."""
  from emma_jax.data.curation import generated_text

  common.refuse_overrides("check-text", overrides)
  maker = generated_text.CheckText(
    base=writing.recipe(args),
    answers=constructing.optional(args, "read", args.answers),
    max_extra=args.max_extra,
    missing=args.missing,
  )
  writing.write(args, maker, reading.files(args.inputs))
  return 0
