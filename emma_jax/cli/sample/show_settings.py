"""Shows how a picture was made, from the text chunks of its PNG file.

emma-sample show-settings star.png
emma-sample show-settings stars/*.png
"""

import argparse
from collections.abc import Mapping
import json
import pathlib
import shlex
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample show-settings`."""
  parser = common.add_subcommand(
    commands, "show-settings", __doc__.split("\n")[0], __doc__, run
  )
  parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE")


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints; 0, or UserError for a file that says nothing."""
  common.refuse_overrides("emma-sample show-settings", overrides)
  from emma_jax.api import pictures

  for file in args.files:
    try:
      found = pictures.settings(file)
    except OSError as error:
      raise common.UserError(f"{file}: {error}.") from error
    if not found:
      raise common.UserError(
        f"{file} says nothing of how it was made: it is no PNG of emma-sample, "
        "or was made with --no_metadata."
      )
    print(file)
    for key, value in found.items():
      if key == "settings" and isinstance(value, dict):
        for name, one in value.items():
          print(
            f"  {name:15}{one if isinstance(one, str) else json.dumps(one)}"
          )
      else:
        print(
          f"  {key:15}{value if isinstance(value, str) else json.dumps(value)}"
        )
    if again := _again(found):
      print(f"  again: {again}")
  return 0


# Settings that are flags of the command that makes the picture again.
_FLAGS = (
  *("steps", "shift", "guidance", "text_guidance", "image_guidance"),
  "dtype",
)


def _again(found: Mapping[str, Any]) -> str | None:
  """The command that makes a single picture again."""
  settings = found.get("settings")
  if not isinstance(settings, dict):
    return None
  command = settings.get("command")
  if command not in ("draw", "edit") or "seed" not in found:
    return None
  words = ["emma-sample", command, "--checkpoint", str(found["checkpoint"])]
  if command == "draw":
    words += ["--prompt", found["prompt"]]
    words += ["--size", "x".join(map(str, settings.get("size", ())))]
  else:
    images = settings.get("images", ())
    images = [images] if isinstance(images, str) else images
    words += ["--image", *map(str, images)]
    words += ["--instruction", found["instruction"]]
  words += ["--seed", str(found["seed"])]
  for key in _FLAGS:
    if key in settings:
      words += [f"--{key.replace('_', '-')}", str(settings[key])]
  if place := settings.get("place"):
    return f"{shlex.join(words)}, as picture {place} (from 0) of a request"
  return f"{shlex.join(words)} --out AGAIN.png"
