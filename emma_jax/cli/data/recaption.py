"""emma-data recaption: captions written anew by a model.

  emma-data recaption data/laion --out data/captioned --answers ask \\
      --url http://localhost:8000/v1 --model Qwen/Qwen3-VL-30B-A3B-Instruct

An answer is {"caption": "..."}, of a file or asked. The caption that was there
before is noted as caption_before. --as-questions asks nothing: it writes each
caption as the answer to "Describe the picture." or the like.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data recaption`."""
  parser = commands.add_parser(
    "recaption",
    help="write captions anew, or as questions",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  add = parser.add_argument
  add("--answers", metavar="FILE|ask", help="captions")
  add("--as-questions", action="store_true", help="instead: as they are now")
  add("--any-language", action="store_true", help="not English alone")
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the captioned drawings, or questions; 0, or UserError."""
  from emma_jax.data.curation import captions

  common.refuse_overrides("recaption", overrides)
  if bool(args.answers) == args.as_questions:
    raise common.UserError("recaption needs --answers or --as-questions.")
  maker: Any = captions.AsQuestions(base=writing.recipe(args))
  if args.answers:
    maker = captions.Recaption(
      base=writing.recipe(args),
      answers=constructing.optional(args, "caption", args.answers),
      english=not args.any_language,
      missing=args.missing,
    )
  writing.write(args, maker, reading.files(args.inputs))
  return 0
