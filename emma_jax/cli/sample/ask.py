"""Asks about pictures; every further question remembers what was said.

  emma-sample ask --image scene.png --question "How many circles are there?"
  emma-sample ask --image scene.png --question "What is left of the star?" \\
      --question "Which colour does it have?" --temperature 0.7 --top-p 0.9

Prints an answer per question, each on its line.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax import ranges
from emma_jax.cli import devices
from emma_jax.cli.sample import weights


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample ask`."""
  parser = weights.add_parser(commands, "ask", __doc__)
  parser.add_argument(
    "--image",
    action="append",
    default=[],
    metavar="FILE",
    help="a picture; may be given several times, or not at all",
  )
  parser.add_argument(
    "--question",
    action="append",
    required=True,
    help="may be given several times: the turns of a talk",
  )
  parser.add_argument("--max-tokens", type=int, help="longest answer")
  parser.add_argument(
    "--temperature",
    type=ranges.TEMPERATURE.number,
    default=0.0,
    help="0 (default) takes the likeliest token",
  )
  parser.add_argument(
    "--top-p",
    type=ranges.TOP_P.number,
    default=1.0,
    help="share of the probability drawn from (default: 1)",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Asks and prints; 0, or UserError."""
  weights.check_pictures(args.image)
  weights.check_words("--question", args.question)
  # Here: the help needs no sampler.
  from emma_jax.sampling import answers as asked
  from emma_jax.sampling import context

  def check(requests: Any, defaults: Mapping[str, Any]) -> None:
    limit = defaults["max_tokens"]
    if args.max_tokens is not None:
      limit = args.max_tokens
    context.answer_options(
      limit, requests.max_context, args.temperature, args.top_p
    )
    asked.check(requests, [args.image], [args.question])

  found = weights.session(args, overrides, check)
  weights.note_prompts(args, found, "understanding", args.question)
  (answers,) = found.ask(
    [args.image],
    [args.question],
    max_tokens=args.max_tokens,
    temperature=args.temperature,
    top_p=args.top_p,
    seed=args.seed,
  )
  for answer in answers if devices.is_first() else ():
    print(answer)
  return 0
