"""WebDataset tar files: consecutive members of one key are one row.

`000123.jpg`, `000123.txt` and `000123.json` make

  {"__key__": "000123", "image": bytes, "caption": text, ...}

where the JSON's own keys come last and win. What stands between the key and the
last dot names a picture or a text: `000123.source.png` is the key "source".
"""

from collections.abc import Iterator
import json
import os
import tarfile
from typing import Any

from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord

_PICTURES = (
  "jpg",
  "jpeg",
  "png",
  "webp",
  "gif",
  "bmp",
  "tif",
  "tiff",
  "avif",
  "jp2",
  "ppm",
)
_TEXTS = {"txt": "caption", "text": "caption", "caption": "caption"}


def read(path: str) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
  """(where, row or BadRecord) of each key, in the order of the file."""
  row: dict[str, Any] = {}
  bad = ""
  try:
    with tarfile.open(path, "r|*") as tar:  # a stream: nothing is held
      for member in tar:
        if not member.isfile():
          continue
        folder, base = os.path.split(member.name)
        name, _, kind = base.partition(".")
        key = os.path.join(folder, name)
        if row and row["__key__"] != key:
          yield _row(path, row, bad)
          row, bad = {}, ""
        row["__key__"] = key
        bad = bad or _add(row, kind.lower(), member, tar)
  except (tarfile.TarError, OSError, EOFError) as error:
    # What came before is whole; what was being read may not be.
    if row:
      bad = bad or "the archive breaks off here"
    yield _row(path, row or {"__key__": "?"}, bad or f"no tar: {error}")
    return
  if row:
    yield _row(path, row, bad)


def _row(
  path: str, row: dict[str, Any], bad: str
) -> tuple[str, dict[str, Any] | BadRecord]:
  where = f"{path}:{row['__key__']}"
  if bad:
    return where, BadRecord(where, bad)
  row.setdefault("id", row["__key__"])
  return where, row


def _add(
  row: dict[str, Any], kind: str, member: tarfile.TarInfo, tar: tarfile.TarFile
) -> str:
  """Puts a member into the row; returns what is wrong with it."""
  if member.size > images.MAX_BYTES:
    return f"{member.name} has more than {images.MAX_BYTES} bytes"
  name, _, last = kind.rpartition(".")
  if last not in (*_PICTURES, *_TEXTS, "json"):
    return ""  # .npy, .cls and the like
  file = tar.extractfile(member)
  data = file.read() if file else b""
  if last in _PICTURES:
    row[name or "image"] = data
    return ""
  try:
    text = data.decode("utf-8-sig")
    if last in _TEXTS:
      row.setdefault(name or _TEXTS[last], text.strip())
    else:
      value = json.loads(text)
      if not isinstance(value, dict):
        return f"{member.name} is a {type(value).__name__}, not an object"
      row |= value
  except (ValueError, RecursionError) as error:
    return f"{member.name}: {error}"
  return ""
