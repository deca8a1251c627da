"""Flags and files of the commands that make pictures."""

import argparse
from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common, devices

# Suffix -> Pillow's format and options.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
  ".png": ("PNG", {}),
  ".jpg": ("JPEG", {"quality": 95}),
  ".jpeg": ("JPEG", {"quality": 95}),
  ".webp": ("WEBP", {"lossless": True}),
}


def add_arguments(sub: argparse.ArgumentParser) -> None:
  """Adds `--out` and how the ODE is solved."""
  sub.add_argument(
    "--out",
    required=True,
    type=pathlib.Path,
    metavar="PATH",
    help=f"a file ({', '.join(FORMATS)}), or a folder for 000.png, ...",
  )
  sub.add_argument("--steps", type=int, help="evaluations of the model")
  sub.add_argument(
    "--shift",
    type=ranges.SHIFT.number,
    help="above 1 spends more steps near the noise",
  )


def check(args: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
  """Raises SampleError for numbers of `add_arguments` that cannot be."""
  from emma_jax.sampling import context

  steps = defaults["steps"] if args.steps is None else args.steps
  context.checked_steps(steps)


def files(out: pathlib.Path, count: int) -> list[pathlib.Path]:
  """Where `count` pictures go; checked before anything is computed."""
  many = out.is_dir() or not out.suffix
  _check_place(out, out if many else out.parent)
  if many:
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


def _check_place(out: pathlib.Path, folder: pathlib.Path) -> None:
  """Raises UserError for a folder that cannot be made, or written into."""
  place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
  if not place.is_dir():
    raise common.UserError(f"--out {out}: {place} is no folder.")
  if not os.access(place, os.W_OK | os.X_OK):
    raise common.UserError(f"--out {out}: {place} cannot be written.")


def save(
  files: Sequence[pathlib.Path], pictures: Sequence[Any], texts: Sequence[str]
) -> int:
  """Writes and names the pictures, in the first process; 0, or UserError."""
  from PIL import Image

  if not devices.is_first():
    return 0
  for file, picture_YXC, text in zip(files, pictures, texts):
    kind, options = FORMATS[file.suffix.lower()]
    try:
      file.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(picture_YXC).save(file, kind, **options)
    except OSError as error:
      raise common.UserError(f"--out {file}: {error}.") from error
    print(f"{file}  {text}")
  return 0
