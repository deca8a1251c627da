"""Draws a picture for each prompt, all of them at once.

  emma-sample draw --prompt "two triangles" --out triangles.png
  emma-sample draw --prompt "a red star" --seeds 0:8 --grid --scale 2 \\
      --out stars.png
  emma-sample draw --prompt "a bell" --size 64x128 --steps 20 --seed 3 \\
      --out bell.webp --checkpoint runs/emoji
"""

import argparse
from collections.abc import Mapping
import re
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.sample import pictures, weights

# Pictures of a prompt. All results are kept until the last one is made.
_MAX_COUNT = 10_000


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample draw`."""
  parser = weights.add_parser(commands, "draw", __doc__)
  parser.add_argument(
    "--prompt",
    action="append",
    required=True,
    help="what to draw, at most 20000 characters; may be given several times",
  )
  parser.add_argument(
    "--count", type=int, default=1, help="pictures per prompt (default: 1)"
  )
  parser.add_argument(
    "--size",
    type=_size,
    metavar="HxW",
    help="rows x columns of pixels (default: as trained)",
  )
  parser.add_argument(
    "--guidance",
    type=ranges.GUIDANCE.number,
    help="how much the prompt counts; 1: no guidance",
  )
  pictures.add_arguments(parser)
  parser.set_defaults(run=run)


def _size(text: str) -> tuple[int, int]:
  """ "64x96" -> (64, 96)."""
  match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
  if not match:
    raise argparse.ArgumentTypeError(
      f"{text!r} is no size; write rows x columns, such as 96x96"
    )
  return int(match[1]), int(match[2])


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Draws and saves; 0, or UserError."""
  if not 1 <= args.count <= _MAX_COUNT:
    raise common.UserError(
      f"--count {args.count} must be in 1..{_MAX_COUNT}; more of a prompt are "
      "other pictures with another --seed."
    )
  weights.check_length("--prompt", args.prompt)
  if args.seeds and args.count > 1:
    raise common.UserError("--seeds and --count both say how many; give one.")
  # Here: the help needs no sampler.
  from emma_jax.sampling.canvases import drawings

  prompts = [p for p in args.prompt for _ in range(args.count)]
  prompts = pictures.repeated(args, prompts)
  files = pictures.files(args, len(prompts))

  def check(requests: Any, defaults: Mapping[str, Any]) -> None:
    size = args.size or requests.size
    drawings(requests, args.prompt, args.size, 1.0)
    requests.check_results(size, len(prompts))
    pictures.check(args, defaults, [size] * len(prompts))

  found = weights.session(args, overrides, check)
  weights.note_prompts(args, found, "drawing", args.prompt)
  made = found.draw(
    prompts,
    size=args.size,
    steps=args.steps,
    shift=args.shift,
    guidance=args.guidance,
    **pictures.noise(args, len(prompts)),
  )
  guidance = found.defaults["text_guidance"]
  about = pictures.about(
    args,
    overrides,
    found,
    prompts,
    guidance=guidance if args.guidance is None else args.guidance,
    size=list(args.size or found.requests.size),
  )
  return pictures.save(args, files, made, prompts, about)
