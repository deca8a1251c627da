"""Draws, edits and answers with the shipped weights or those of a training.

  emma-sample draw --prompt "a red circle" --out circle.png
  emma-sample draw --prompt "a cat" --prompt "a dog" --count 4 --out pets/
  emma-sample edit --image circle.png --instruction "make it blue" --out b.png
  emma-sample ask --image circle.png --question "What colour is the circle?"

The same as `python -m emma_jax.cli.sample`. `emma-sample draw --help` shows
the options of draw. Without --checkpoint the shipped reference model samples.
"""

import argparse
from collections.abc import Mapping, Sequence
import pathlib
import re
import sys
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common

# Suffix -> Pillow's format and options.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
  ".png": ("PNG", {}),
  ".jpg": ("JPEG", {"quality": 95}),
  ".jpeg": ("JPEG", {"quality": 95}),
  ".webp": ("WEBP", {"lossless": True}),
}

_DRAW = """Draws a picture for each prompt, all of them at once.

  emma-sample draw --prompt "two green triangles" --out triangles.png
  emma-sample draw --prompt "a bell" --size 64x128 --steps 20 --seed 3 \\
      --out bell.webp --checkpoint runs/emoji
"""
_EDIT = """Edits pictures; a result has exactly its (first) picture's size.

  emma-sample edit --image in.jpg --instruction "remove the ball" --out out.png
  emma-sample edit --image a.png --image b.png --instruction "make it red" \\
      --text-guidance 5 --image-guidance 2 --out red/
  emma-sample edit --image cat.png beach.png --out both.png \\
      --instruction "place the cat of the first picture on the second"

Every --image is an edit, of one picture or of several. Either as many
instructions as edits, or one of them for all of the other.
"""
_ASK = """Asks about pictures; every further question remembers what was said.

  emma-sample ask --image scene.png --question "How many circles are there?"
  emma-sample ask --image scene.png --question "What is left of the star?" \\
      --question "Which colour does it have?" --temperature 0.7 --top-p 0.9

Prints an answer per question, each on its line.
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-sample",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest="command", required=True)

  def add(name: str, text: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(
      name,
      help=text.split("\n")[0],
      description=text,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument(
      "--checkpoint",
      default="reference",
      metavar="SOURCE",
      help="working directory of a training, a .safetensors file, or "
      "reference (default: the shipped model)",
    )
    sub.add_argument("--seed", type=int, default=0, help="default: 0")
    sub.add_argument(
      "--debug", action="store_true", help="show stack traces of errors"
    )
    sub.epilog = (
      "--config.sample.KEY=VALUE changes a default of the weights' "
      "config, such as --config.sample.averaged=false."
    )
    return sub

  draw = add("draw", _DRAW)
  draw.add_argument(
    "--prompt",
    action="append",
    required=True,
    help="what to draw; may be given several times",
  )
  draw.add_argument(
    "--count", type=int, default=1, help="pictures per prompt (default: 1)"
  )
  draw.add_argument(
    "--size",
    type=_size,
    metavar="HxW",
    help="rows x columns of pixels (default: as trained)",
  )
  draw.add_argument(
    "--guidance", type=float, help="how much the prompt counts; 1: no guidance"
  )
  edit = add("edit", _EDIT)
  edit.add_argument(
    "--image",
    action="append",
    nargs="+",
    required=True,
    metavar="FILE",
    help="picture to edit, or all those that one edit is made of; may be given "
    "several times, for an edit each",
  )
  edit.add_argument(
    "--instruction",
    action="append",
    required=True,
    help="what to change; may be given several times",
  )
  edit.add_argument(
    "--text-guidance", type=float, help="how much the instruction counts"
  )
  edit.add_argument(
    "--image-guidance",
    type=float,
    help="how much the picture counts; 1 for both: no guidance",
  )
  for sub in (draw, edit):
    sub.add_argument(
      "--out",
      required=True,
      type=pathlib.Path,
      metavar="PATH",
      help=f"a file ({', '.join(FORMATS)}), or a folder for 000.png, ...",
    )
    sub.add_argument("--steps", type=int, help="evaluations of the model")
    sub.add_argument(
      "--shift", type=float, help="above 1 spends more steps near the noise"
    )
  ask = add("ask", _ASK)
  ask.add_argument(
    "--image",
    action="append",
    default=[],
    metavar="FILE",
    help="a picture; may be given several times, or not at all",
  )
  ask.add_argument(
    "--question",
    action="append",
    required=True,
    help="may be given several times: the turns of a talk",
  )
  ask.add_argument("--max-tokens", type=int, help="longest answer")
  ask.add_argument(
    "--temperature",
    type=float,
    default=0.0,
    help="0 (default) takes the likeliest token",
  )
  ask.add_argument(
    "--top-p",
    type=float,
    default=1.0,
    help="share of the probability drawn from (default: 1)",
  )
  return parser


def _size(text: str) -> tuple[int, int]:
  """ "64x96" -> (64, 96)."""
  match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
  if not match:
    raise argparse.ArgumentTypeError(
      f"{text!r} is no size; write rows x columns, such as 96x96"
    )
  return int(match[1]), int(match[2])


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  run = {"draw": _draw, "edit": _edit, "ask": _ask}[args.command]
  return run(args, overrides)


def _draw(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  if args.count < 1:
    raise common.UserError(f"--count {args.count} must be at least 1.")
  prompts = [p for p in args.prompt for _ in range(args.count)]
  files = _files(args.out, len(prompts))
  pictures = _session(args, overrides).draw(
    prompts,
    size=args.size,
    steps=args.steps,
    shift=args.shift,
    guidance=args.guidance,
    seed=args.seed,
  )
  return _save(files, pictures, prompts)


def _edit(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
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
  for pictures in sources:
    _check_pictures(pictures)
  _check_words("--instruction", instructions)
  files = _files(args.out, count)
  pictures = _session(args, overrides).edit(
    sources,
    instructions,
    steps=args.steps,
    shift=args.shift,
    text_guidance=args.text_guidance,
    image_guidance=args.image_guidance,
    seed=args.seed,
  )
  return _save(files, pictures, instructions)


def _ask(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  _check_pictures(args.image)
  _check_words("--question", args.question)
  (answers,) = _session(args, overrides).ask(
    [args.image],
    [args.question],
    max_tokens=args.max_tokens,
    temperature=args.temperature,
    top_p=args.top_p,
    seed=args.seed,
  )
  for answer in answers:
    print(answer)
  return 0


def _check_pictures(files: Sequence[str]) -> None:
  for file in files:
    if not pathlib.Path(file).is_file():
      raise common.UserError(f"--image {file}: there is no such file.")


def _check_words(flag: str, texts: Sequence[str]) -> None:
  """An empty prompt draws without guidance; other empty text is a slip."""
  if not all(text.strip() for text in texts):
    raise common.UserError(f"{flag} is empty; say something.")


def _session(args: argparse.Namespace, overrides: Mapping[str, str]):
  """The weights, said aloud where they were not asked for."""
  common.use_compilation_cache()
  # After the arguments: a mistake in them should not wait for JAX.
  from emma_jax.build import session as build_session

  for key in overrides:
    if key.split(".")[0] not in ("sample", "data"):
      raise common.UserError(
        f"--config.{key}: the weights decide this; only keys of sample and "
        "data can be changed when sampling."
      )
  session = build_session.load(
    args.checkpoint,
    change=lambda config: config_file.changed(config, overrides),
  )
  print(
    f"Sampling with {session.name}, trained for {session.step} steps.",
    file=sys.stderr,
  )
  return session


def _files(out: pathlib.Path, count: int) -> list[pathlib.Path]:
  """Where `count` pictures go; checked before anything is computed."""
  if out.is_dir() or not out.suffix:
    return [out / f"{i:03d}.png" for i in range(count)]
  if out.suffix.lower() not in FORMATS:
    raise common.UserError(
      f"--out {out}: unknown picture format {out.suffix}; use "
      f"{', '.join(FORMATS)}, or a folder."
    )
  if count > 1:
    raise common.UserError(
      f"--out {out} is one file for {count} pictures; name a folder."
    )
  return [out]


def _save(files: Sequence[pathlib.Path], pictures, texts: Sequence[str]) -> int:
  from PIL import Image

  for file, picture_YXC, text in zip(files, pictures, texts):
    kind, options = FORMATS[file.suffix.lower()]
    try:
      file.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(picture_YXC).save(file, kind, **options)
    except OSError as error:
      raise common.UserError(f"--out {file}: {error}.") from error
    print(f"{file}  {text}")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax.build import sections
  from emma_jax.checkpoints.integrity import CheckpointError
  from emma_jax.data.pictures import images
  from emma_jax.sampling.context import SampleError

  return (
    sections.ConfigError,
    images.BadRecord,
    SampleError,
    CheckpointError,
    FileNotFoundError,
  )


def entry() -> None:
  """The console script."""
  sys.exit(main())


if __name__ == "__main__":
  entry()
