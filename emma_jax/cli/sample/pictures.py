"""Flags and files of the commands that make pictures."""

import argparse
from collections.abc import Mapping, Sequence
import os
import pathlib
import re
from typing import Any

from emma_jax import __version__, ranges, seeds
from emma_jax.cli import common, devices

# Suffix -> Pillow's format and options.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
  ".png": ("PNG", {}),
  ".jpg": ("JPEG", {"quality": 95}),
  ".jpeg": ("JPEG", {"quality": 95}),
  ".webp": ("WEBP", {"lossless": True}),
}
# Pixels of a side that a format has room for.
_SIDES = {"JPEG": 65_500, "WEBP": 16_383}
# Of `--seeds`; more are better asked for in parts.
_MOST_SEEDS = 10_000
_SHOWN = 100  # characters of a prompt, beside the file that it made


def add_arguments(sub: argparse.ArgumentParser) -> None:
  """Adds `--out`, how the ODE is solved, and what becomes of the pictures."""
  sub.add_argument(
    "--out",
    required=True,
    type=common.path,
    metavar="PATH",
    help=f"a file ({', '.join(FORMATS)}), or a folder for 000.png, ...",
  )
  sub.add_argument("--steps", type=int, help="evaluations of the model")
  sub.add_argument(
    "--shift",
    type=ranges.SHIFT.number,
    help="above 1 spends more steps near the noise",
  )
  sub.add_argument(
    "--seeds",
    type=_seeds,
    metavar="FROM:TO",
    help="each request once for each seed, 0:8 or 1,5,9; as --seed would",
  )
  sub.add_argument(
    "--grid",
    action="store_true",
    help="all pictures as one, a row for each request",
  )
  sub.add_argument(
    "--scale", type=int, default=1, help="each pixel N x N large (default: 1)"
  )
  sub.add_argument(
    "--no_metadata",
    action="store_true",
    help="PNGs without text chunks of prompt, seed, checkpoint and settings",
  )


def _seeds(text: str) -> list[int]:
  """ "0:3" -> [0, 1, 2]; "1,5" -> [1, 5]."""
  try:
    if match := re.fullmatch(r"(\d+):(\d+)", text):
      start, stop = int(match[1]), int(match[2])
      if stop - start > _MOST_SEEDS:
        raise ValueError(f"{stop - start} seeds are more than {_MOST_SEEDS}")
      found = list(range(start, stop))
    else:
      found = [int(part) for part in text.split(",")]
    if not found:
      raise ValueError("no seed is in it")
    return [seeds.checked(seed) for seed in found]
  except ValueError as error:
    raise argparse.ArgumentTypeError(
      f"{text[:40]!r} are no seeds ({error}); write 0:8 for 0 to 7, or 1,5,9"
    ) from error


def repeated(args: argparse.Namespace, requests: Sequence[Any]) -> list[Any]:
  """Each request once for each of `--seeds`."""
  times = len(args.seeds) if args.seeds else 1
  return [one for one in requests for _ in range(times)]


def noise(args: argparse.Namespace, count: int) -> dict[str, Any]:
  """Seed and streams of `Session.paint` for `count` requests with seeds."""
  if not args.seeds:
    return {"seed": args.seed}
  # What `--seed S` alone would give: the first place under each seed.
  each = args.seeds * (count // len(args.seeds))
  return {"seed": each, "streams": [0] * count}


def check_steps(args: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
  """Raises SampleError for a number of steps that cannot be."""
  from emma_jax.sampling import context

  steps = defaults["steps"] if args.steps is None else args.steps
  context.checked_steps(steps)


def check(
  args: argparse.Namespace,
  defaults: Mapping[str, Any],
  sizes: Sequence[tuple[int, int]],
) -> None:
  """Raises SampleError for what could not be made, or not be written.

  Before anything is computed, as it would be lost. `sizes`: (rows, columns) of
  each result.
  """
  from emma_jax.api import pictures

  check_steps(args, defaults)
  for height, width in dict.fromkeys(sizes):
    pictures.check_scale(height, width, args.scale)
  made = [(y * args.scale, x * args.scale) for y, x in sizes]
  if args.grid:
    made = [pictures.grid_size(made, _columns(args, len(sizes)))]
  kind, _ = FORMATS.get(args.out.suffix.lower(), FORMATS[".png"])
  for height, width in dict.fromkeys(made):
    if max(height, width) > _SIDES.get(kind, max(height, width)):
      raise common.UserError(
        f"--out {args.out}: a {kind} of {height}x{width} cannot be, its sides "
        f"have at most {_SIDES[kind]} pixels; name a .png."
      )


def files(args: argparse.Namespace, count: int) -> list[pathlib.Path]:
  """Where `count` pictures go; checked before anything is computed."""
  out = args.out
  if args.scale < 1:
    raise common.UserError(f"--scale {args.scale} must be at least 1.")
  if args.grid:
    count = 1
  many = out.is_dir() or not out.suffix
  check_place(out, out if many else out.parent)
  if many:
    if args.grid:
      return [out / "grid.png"]
    return [out / f"{i:03d}.png" for i in range(count)]
  if out.suffix.lower() not in FORMATS:
    raise common.UserError(
      f"--out {out}: unknown picture format {out.suffix}; use "
      f"{', '.join(FORMATS)}, or a folder."
    )
  if count > 1:
    raise common.UserError(
      f"--out {out} is one file for {count} pictures; name a folder, or put "
      "them into one picture with --grid."
    )
  return [out]


def check_place(out: pathlib.Path, folder: pathlib.Path) -> None:
  """Raises UserError for a folder that cannot be made, or written into."""
  place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
  if not place.is_dir():
    raise common.UserError(f"--out {out}: {place} is no folder.")
  if not os.access(place, os.W_OK | os.X_OK):
    raise common.UserError(f"--out {out}: {place} cannot be written.")


def about(
  args: argparse.Namespace,
  overrides: Mapping[str, str],
  found: Any,
  texts: Sequence[str],
  **more: Any,
) -> list[dict[str, Any]]:
  """What each picture's file says of it; see `api.pictures.KEYS`.

  Args:
    args, overrides: of the command.
    found: the session.
    texts: prompts or instructions, one for each picture.
    more: settings of the command beside those of `add_arguments`.
  """
  defaults = found.defaults
  common_to_all = {
    "command": args.command,
    "step": found.step,
    "steps": defaults["steps"] if args.steps is None else args.steps,
    "shift": defaults["shift"] if args.shift is None else args.shift,
    "dtype": args.dtype,
    "emma_jax": __version__,
    **({"scale": args.scale} if args.scale > 1 else {}),
    **({"config": dict(overrides)} if overrides else {}),
    **more,
  }
  key = "prompt" if args.command == "draw" else "instruction"
  how = noise(args, len(texts))
  out = []
  for i, text in enumerate(texts):
    seed = how["seed"][i] if args.seeds else args.seed
    place = 0 if args.seeds else i
    settings = common_to_all | {"place": place}
    if "images" in more:
      settings["images"] = more["images"][i]
    out.append(
      {key: text, "seed": seed, "checkpoint": found.name, "settings": settings}
    )
  return out


def save(
  args: argparse.Namespace,
  files: Sequence[pathlib.Path],
  made: Sequence[Any],
  texts: Sequence[str],
  about: Sequence[Mapping[str, Any]],
) -> int:
  """Writes and names the pictures, in the first process; 0, or UserError."""
  from PIL import Image

  from emma_jax import files as whole
  from emma_jax.api import pictures

  if not devices.is_first():
    return 0
  images = [pictures.scaled(Image.fromarray(x), args.scale) for x in made]
  if args.grid:
    columns = _columns(args, len(texts))
    images, about = [pictures.grid(images, columns)], [_of_grid(about, columns)]
    texts = [f"{len(texts)} pictures, {columns} a row"]
  for file, image, text, told in zip(files, images, texts, about):
    kind, options = FORMATS[file.suffix.lower()]
    try:
      file.parent.mkdir(parents=True, exist_ok=True)
      if kind == "PNG":
        pictures.save_png(file, image, {} if args.no_metadata else told)
      else:
        with whole.atomic_write(file) as opened:
          image.save(opened, kind, **options)
    except OSError as error:
      raise common.UserError(f"--out {file}: {error}.") from error
    print(f"{file}  {_short(text)}")
  return 0


def _short(text: str) -> str:
  """In one line."""
  line = " ".join(text.split())
  return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def _columns(args: argparse.Namespace, count: int) -> int:
  """Of a grid: a row for each request; of one each, nearly a square."""
  each = len(args.seeds) if args.seeds else getattr(args, "count", 1)
  if each > 1:
    return each
  return max(1, round(count**0.5 + 0.49))  # nearly a square


def _of_grid(
  about: Sequence[Mapping[str, Any]], columns: int
) -> dict[str, Any]:
  key = next(k for k in ("prompt", "instruction") if k in about[0])
  settings = dict(about[0]["settings"]) | {"columns": columns}
  del settings["place"]
  return {
    "prompts": [one[key] for one in about],
    "seeds": [one["seed"] for one in about],
    "checkpoint": about[0]["checkpoint"],
    "settings": settings,
  }
