"""emma-data synth-text: pictures with rendered words, and prompts that quote.

  emma-data synth-text --count 100000 --out data/words --sizes 1024x1024

Fonts are the system's (fontconfig) or those of --fonts. A text's box is in the
record's provenance, in pixels. The same seed, sizes, phrases and fonts make the
same pictures.
"""

import argparse
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data synth-text`."""
  parser = commands.add_parser(
    "synth-text",
    help="draw pictures with rendered words",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  writing.add_output(parser)
  add = parser.add_argument
  add("--count", type=int, required=True, help="pictures")
  add("--seed", type=int, default=0)
  add(
    "--sizes",
    default="1024x1024",
    metavar="HEIGHTxWIDTH,...",
    help="drawn evenly (default: %(default)s)",
  )
  add(
    "--languages",
    default="en",
    metavar="LANGUAGE,...",
    help="of the words, en or zh; prompts are English (default: %(default)s, "
    "as the paper's drawings are)",
  )
  add(
    "--phrases",
    action="append",
    default=[],
    metavar="LANGUAGE=FILE",
    help="a text per line (default: some fifty of our own)",
  )
  add(
    "--fonts",
    action="append",
    default=[],
    metavar="DIR",
    help="folders of .ttf, .otf, .ttc",
  )
  add("--max-texts", type=int, default=3, help="in a picture")
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the drawings of words as records; 0, or UserError."""
  from emma_jax.data.curation import text_pictures
  from emma_jax.data.ingest import job

  common.refuse_overrides("synth-text", overrides)
  if args.count < 1:
    raise common.UserError(f"--count {args.count}: at least 1.")
  try:
    maker = text_pictures.TextPictures(
      base=writing.recipe(args, form="index"),
      seed=args.seed,
      sizes=_sizes(args.sizes),
      languages=tuple(args.languages.split(",")),
      phrases=_phrases(args.phrases),
      folders=tuple(args.fonts),
      max_texts=args.max_texts,
    )
    writing.write(args, maker, [f"range:{args.count}"])
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  return 0


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
  try:
    pairs = [tuple(map(int, one.split("x"))) for one in text.split(",")]
    return tuple((height, width) for height, width in pairs)
  except ValueError as error:
    raise common.UserError(
      f"--sizes {text}: expected HEIGHTxWIDTH, such as 1024x1024."
    ) from error


def _phrases(pairs: list[str]) -> dict[str, tuple[str, ...]]:
  out = {}
  for pair in pairs:
    language, _, path = pair.partition("=")
    out[language] = lines_of(f"--phrases {language}", path)
  return out


def lines_of(flag: str, path: str) -> tuple[str, ...]:
  """The lines of a file of texts; UserError where it has none."""
  try:
    with open(path, encoding="utf-8-sig") as file:
      lines = tuple(filter(None, (line.strip() for line in file)))
  except (OSError, UnicodeDecodeError) as error:
    raise common.UserError(f"{flag} {path}: {error}") from error
  if not lines:
    raise common.UserError(f"{flag} {path}: the file has no lines.")
  return lines
