"""The system's fonts, and whether they really have a text's glyphs."""

from collections.abc import Iterable, Sequence
import functools
import os
import shutil
import subprocess

from PIL import ImageFont

from emma_jax.data.ingest.job import ConversionError

# Language -> characters that every font of it must have, and what to install.
LANGUAGES = {
  "en": ("ABCXYZabcxyz0189.,!?&", "fonts-dejavu-core"),
  "zh": ("的一是在人有我他这中", "fonts-noto-cjk or fonts-wqy-zenhei"),
}
_SUFFIXES = (".ttf", ".otf", ".ttc")
# Stands for what no font has: a noncharacter of Unicode.
_NOTHING = "\U0010fffe"


def find(language: str, folders: Sequence[str] = ()) -> tuple[str, ...]:
  """Font files of a language: in folders, or fontconfig's.

  Raises ConversionError, which says what to install, where there is none.
  """
  sample, package = LANGUAGES[language]
  files = _in(folders) if folders else _listed(language)
  found = tuple(path for path in sorted(set(files)) if covers(path, sample))
  if not found:
    place = f"in {', '.join(folders)}" if folders else "on this system"
    raise ConversionError(
      f"No font {place} has the characters {sample!r} of the language "
      f"{language!r}. Install one (Debian, Ubuntu: apt-get install "
      f"{package}), or name a folder of .ttf, .otf, .ttc files: --fonts DIR."
    )
  return found


def _in(folders: Iterable[str]) -> list[str]:
  out = []
  for folder in folders:
    if not os.path.isdir(folder):
      raise ConversionError(f"--fonts {folder}: no such folder.")
    for base, _, names in os.walk(folder):
      out += [
        os.path.join(base, n) for n in names if n.lower().endswith(_SUFFIXES)
      ]
  return out


def _listed(language: str) -> list[str]:
  if shutil.which("fc-list") is None:
    raise ConversionError(
      "fc-list is not installed, which lists the system's fonts. Install "
      "fontconfig, or name folders of fonts: --fonts DIR."
    )
  output = subprocess.run(
    ["fc-list", f":lang={language}", "file"],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  files = [line.rstrip().removesuffix(":") for line in output.splitlines()]
  return [f for f in files if f.lower().endswith(_SUFFIXES)]


@functools.lru_cache(maxsize=256)
def load(path: str, size: int) -> ImageFont.FreeTypeFont:
  """The first face of a file. Basic layout: what is drawn is what was measured,
  whether or not the installed Pillow has Raqm."""
  return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def ink(face: ImageFont.FreeTypeFont, text: str) -> tuple[int, int, int, int]:
  """Left, top, right, bottom of the pixels that a text at (0, 0) colours;
  Pillow's own box ends where the next letter would begin."""
  mask, (x, y) = face.getmask2(text, mode="L")
  a, b, c, d = mask.getbbox() or (0, 0, 0, 0)
  return x + a, y + b, x + c, y + d


def covers(path: str, text: str) -> bool:
  """Whether no character of the text would be drawn as an empty box."""
  try:
    return all(_has(path, c) for c in set(text) if not c.isspace())
  except OSError:  # no font, or one that FreeType does not read
    return False


@functools.lru_cache(maxsize=65536)
def _has(path: str, character: str) -> bool:
  """A missing glyph looks like that of a character which no font has."""
  return _shape(path, character) not in ((), _shape(path, _NOTHING))


@functools.lru_cache(maxsize=65536)
def _shape(path: str, character: str) -> tuple:
  """The character's pixels; () where it has none."""
  mask, offset = load(path, 32).getmask2(character, mode="1")
  if mask.getbbox() is None:
    return ()
  return mask.size, offset, bytes(mask)
