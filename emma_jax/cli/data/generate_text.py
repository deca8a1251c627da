"""emma-data generate-text: pictures with words in scenes, by a generator.

  emma-data generate-text --count 50000 --out data/generated \\
      --url http://localhost:8002/v1 --model Qwen/Qwen-Image
  emma-data check-text data/generated --out data/read --answers ask ...

Asked is /images/generations with prompts that quote the words; these are noted
in the provenance, where check-text looks for what OCR must read. The same seed
and phrases give the same prompts. synth-text draws with fonts.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import calls, constructing, synth_text, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data generate-text`."""
  parser = commands.add_parser(
    "generate-text",
    help="pictures with words by a generator",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  writing.add_output(parser)
  add = parser.add_argument
  add("--count", type=int, required=True, help="pictures")
  add("--seed", type=int, default=0)
  add("--phrases", metavar="FILE", help="a text per line (default: our own)")
  add("--max-texts", type=int, default=2, help="in a picture")
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the drawings; 0, or UserError."""
  from emma_jax.data.curation import generated_text
  from emma_jax.data.ingest import job

  common.refuse_overrides("generate-text", overrides)
  if args.count < 1:
    raise common.UserError(f"--count {args.count}: at least 1.")
  more = {}
  if args.phrases:
    more["phrases"] = synth_text.lines_of("--phrases", args.phrases)
  try:
    maker = generated_text.GenerateText(
      base=writing.recipe(args, form="index"),
      painter=calls.painter(args, "draw"),
      seed=args.seed,
      max_texts=args.max_texts,
      missing=args.missing,
      **more,
    )
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  writing.write(args, maker, [f"range:{args.count}"])
  return 0
