"""What weights know: words, and requests as in their training.

  emma-sample examples
  emma-sample examples --checkpoint runs/mine --count 5

Colours, shapes, places and both languages of the embedded world, where that is
what was trained on; and of each source a few prompts, instructions or questions
of every kind, read from it.
"""

import argparse
from collections.abc import Mapping
import itertools
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.sample import weights


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample examples`."""
  parser = common.add_subcommand(
    commands, "examples", __doc__.split("\n")[0], __doc__, run
  )
  weights.add_checkpoint(parser)
  parser.add_argument(
    "--count", type=int, default=2, help="of each kind (default: 2)"
  )


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints; 0, or UserError."""
  common.refuse_overrides("emma-sample examples", overrides)
  if args.count < 1:
    raise common.UserError(f"--count {args.count} must be at least 1.")
  from emma_jax.build import prompts
  from emma_jax.build import session as build_session

  config = build_session.config_of(args.checkpoint)
  worlds = [
    str(spec).split(":")[1]
    for spec in config["data"]["sources"].values()
    if str(spec).startswith("world:")
  ]
  if worlds:
    _vocabulary(any("two" in task for task in worlds))
  shown: dict[tuple[str, str], list[str]] = {}
  for record in itertools.islice(prompts.records(config, 400), 4000):
    task, texts = prompts.texts_of(record)
    kinds = getattr(record, "kinds", ()) or (getattr(record, "kind", ""),)
    for kind, text in zip(itertools.chain(kinds, itertools.repeat("")), texts):
      found = shown.setdefault((task, kind), [])
      if len(found) < args.count and text.strip() and text not in found:
        found.append(text)
  for task, of_task in itertools.groupby(sorted(shown), lambda key: key[0]):
    print(f"\n{_HEADS[task]}")
    for key in of_task:
      for text in shown[key]:
        print(f"  {key[1]:20}{_short(text)}")
  return 0


_HEADS = {
  "drawing": "emma-sample draw --prompt ... --out FILE",
  "editing": "emma-sample edit --image ... --instruction ... --out FILE",
  "understanding": "emma-sample ask --image ... --question ...",
}


def _vocabulary(two: bool) -> None:
  """The world's words in both languages."""
  from emma_jax.world.language import LANGUAGES

  print("It was trained on the embedded world: up to four things on a ground.")
  for language in LANGUAGES:
    print()
    for table in ("colours", "shapes", "sizes", "places", "backgrounds"):
      words = dict.fromkeys(getattr(language, table).values())
      print(f"  {table:13}{', '.join(words)}")
  if two:
    print("\n  Edits of two pictures: the first and the second picture.")


def _short(text: str) -> str:
  return text if len(text) <= 100 else f"{text[:97]}..."
