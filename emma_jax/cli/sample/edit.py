"""Edits pictures; a result has exactly its (first) picture's size.

  emma-sample edit --image in.jpg --instruction "remove the ball" --out out.png
  emma-sample edit --image a.png --image b.png --instruction "make it red" \\
      --text-guidance 5 --image-guidance 2 --out red/
  emma-sample edit --image cat.png beach.png --out both.png \\
      --instruction "place the cat of the first picture on the second"

Every --image is an edit, of one picture or of several. Either as many
instructions as edits, or one of them for all of the other.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.sample import pictures, weights


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample edit`."""
  parser = weights.add_parser(commands, "edit", __doc__)
  parser.add_argument(
    "--image",
    action="append",
    nargs="+",
    required=True,
    metavar="FILE",
    help="picture to edit, or all those that one edit is made of; may be given "
    "several times, for an edit each",
  )
  parser.add_argument(
    "--instruction",
    action="append",
    required=True,
    help="what to change; may be given several times",
  )
  parser.add_argument(
    "--text-guidance",
    type=ranges.GUIDANCE.number,
    help="how much the instruction counts",
  )
  parser.add_argument(
    "--image-guidance",
    type=ranges.GUIDANCE.number,
    help="how much the picture counts; 1 for both: no guidance",
  )
  pictures.add_arguments(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Edits and saves; 0, or UserError."""
  sources, instructions = args.image, args.instruction
  count = max(len(sources), len(instructions))
  sources, instructions = (
    x * count if len(x) == 1 else x for x in (sources, instructions)
  )
  if len(sources) != len(instructions):
    raise common.UserError(
      f"{len(sources)} --image and {len(instructions)} instructions: give "
      "equally many, or one of either. Pictures of one edit follow one --image."
    )
  # Here: the help needs no sampler.
  from emma_jax.data.pictures.images import measure_picture
  from emma_jax.sampling.canvases import edits

  for one in sources:
    weights.check_pictures(one)
  weights.check_words("--instruction", instructions)
  weights.check_length("--instruction", instructions)
  asked = sources, instructions
  sources, instructions = (pictures.repeated(args, x) for x in asked)
  files = pictures.files(args, len(sources))
  guidance: dict[str, float] = {}
  prepared: list[Any] = []  # once: pictures may be large

  def check(requests: Any, defaults: Mapping[str, Any]) -> None:
    for kind in ("text", "image"):
      given = getattr(args, key := f"{kind}_guidance")
      guidance[key] = defaults[f"edit_{key}"] if given is None else given
    made = edits(requests, asked[0], asked[1], **guidance)
    prepared[:] = pictures.repeated(args, made)
    size = lambda file: measure_picture(file, file, requests.max_pixels)
    sizes = pictures.repeated(args, [size(first) for first, *_ in asked[0]])
    requests.check_kept([(one, 1) for one in sizes])
    pictures.check(args, defaults, sizes)

  found = weights.session(args, overrides, check)
  weights.note_prompts(args, found, "editing", args.instruction)
  made = found.paint(
    prepared,
    steps=args.steps,
    shift=args.shift,
    **pictures.noise(args, len(sources)),
  )
  about = pictures.about(
    args, overrides, found, instructions, images=sources, **guidance
  )
  return pictures.save(args, files, made, instructions, about)
