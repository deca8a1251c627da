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
import unicodedata

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample show-settings`."""
  parser = common.add_subcommand(
    commands, "show-settings", __doc__.split("\n")[0], __doc__, run
  )
  parser.add_argument("files", nargs="+", type=common.path, metavar="FILE")


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints; 0, or UserError for a file that says nothing."""
  common.refuse_overrides("emma-sample show-settings", overrides)
  wrong = []
  for file in args.files:
    try:
      _show(file)
    except common.UserError as error:
      wrong.append(str(error))  # the others are shown
  if wrong:
    raise common.UserError("\n".join(wrong))
  return 0


def _show(file: pathlib.Path) -> None:
  """Prints what one file says; UserError for one that says nothing."""
  from emma_jax.api import pictures

  try:
    found = pictures.settings(file)
    others = [] if found else sorted(pictures.text_chunks(file))
  except OSError as error:
    raise common.UserError(f"{file}: {error}.") from error
  if not found:
    names = ", ".join(others[:5])
    raise common.UserError(
      f"{file} says nothing of how it was made: it is no PNG of emma-sample, "
      "or was made with --no_metadata."
      + (f" Its text ({names[:100]}) is another program's." if others else "")
    )
  print(file)
  more = found.pop("settings")
  for name, value in (found | more).items():
    text = value if isinstance(value, str) else json.dumps(value)
    # A line that begins anew could be taken for another setting.
    print(f"  {name:15}{text}".replace("\n", f"\n{'':17}"))
  if again := _again(found, more):
    print(f"  again: {again}")


# Settings that are flags of the command that makes the picture again.
_FLAGS = (
  *("steps", "shift", "guidance", "text_guidance", "image_guidance"),
  *("dtype", "scale"),
)


def _again(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
  """The command that makes a single picture again; None: it is not told."""
  key = {"draw": "prompt", "edit": "instruction"}.get(
    str(settings.get("command"))
  )
  size, images = settings.get("size"), settings.get("images")
  images = [images] if isinstance(images, str) else images
  needed = size if key == "prompt" else images
  if (
    key is None
    or key not in found
    or not isinstance(needed, list)
    or not needed
  ):
    return None
  if not {"seed", "checkpoint"} <= found.keys():
    return None
  words = ["emma-sample", str(settings["command"])]
  words += _flag("--checkpoint", found["checkpoint"])
  told = _flag(f"--{key}", found[key])
  if key == "prompt":
    words += [*told, *_flag("--size", "x".join(map(str, needed)))]
  else:
    words += ["--image", *map(str, needed), *told]
  words += _flag("--seed", found["seed"])
  for name in _FLAGS:
    if name in settings:
      words += _flag(f"--{name.replace('_', '-')}", settings[name])
  changed = settings.get("config", {})
  if isinstance(changed, dict):
    words += [f"--config.{name}={value}" for name, value in changed.items()]
  said = " ".join(map(_quoted, words))
  if place := settings.get("place"):
    return f"{said}, as picture {place} (from 0) of a request"
  return f"{said} --out AGAIN.png"


def _flag(name: str, value: Any) -> list[str]:
  """A flag and its value, which may begin as a flag does."""
  text = str(value)
  return [f"{name}={text}"] if text.startswith("-") else [name, text]


# Control characters, halves of characters, ends of lines.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")


def _quoted(word: str) -> str:
  """Of a shell, in one line: newlines and the like are escapes.

  >>> _quoted("a b"), _quoted("a\\nb's")
  ("'a b'", "$'a\\\\nb\\\\'s'")
  """
  unsafe = [c for c in word if unicodedata.category(c) in _UNSAFE]
  if not unsafe:
    return shlex.quote(word)
  word = word.replace("\\", "\\\\").replace("'", "\\'")
  for c in unsafe:
    code = ord(c)
    escape = f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}"
    word = word.replace(c, "\\n" if c == "\n" else escape)
  return f"$'{word}'"
