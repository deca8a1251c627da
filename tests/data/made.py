"""Small records and files for the tests of data sets."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.data.records import card, schema, shard
from emma_jax.data.records.lengths import Measure
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.structs import STEM_SCIENCE, Drawing, Editing, Understanding

TOKENIZER = TinyTokenizer(["red", "blue"])


def picture(colour: Any = "red", y: int = 20, x: int = 30, kind="PNG") -> bytes:
  out = io.BytesIO()
  Image.new("RGB", (x, y), colour).save(out, kind)
  return out.getvalue()


def noise(y: int = 64, x: int = 64, kind: str = "PNG", **options) -> bytes:
  """A picture that does not compress, so that damage hits pixels."""
  pixels = np.random.default_rng(0).integers(0, 256, (y, x, 3), np.uint8)
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, kind, **options)
  return out.getvalue()


def samples() -> list[schema.Stored]:
  """One of each task, with everything a record can have."""
  a, b = picture("red"), picture("blue", 8, 9, "JPEG")
  talk = (("<image>red?\n<image>", "nö 红"), ("b?", "y"))
  return [
    schema.Stored(
      record=Understanding(
        pictures=(a, b), turns=talk, stem=STEM_SCIENCE, id="u"
      ),
      provenance={"dataset": "made", "row": "a.jsonl:1", "score": 0.5},
    ),
    schema.Stored(
      record=Understanding(pictures=(), turns=(("red", "blue"),), id="t")
    ),
    schema.Stored(record=Drawing(prompt="red", picture=a, id="d"), weight=2),
    schema.Stored(
      record=Editing(sources=(a,), instruction="do", target=b, id="e")
    ),
  ]


def tasks_in_turn(count: int = 6, texts: str = "") -> list[schema.Stored]:
  """Understanding, drawing and editing in turn; questions and prompts end in
  `texts`."""
  a, b = noise(40, 64), picture("blue", 50, 30)
  out = []
  for i in range(count):
    turn = (f"what?{texts}", f"red {i}")
    record = [
      Understanding(pictures=(a,), turns=(turn,), id=f"{i}"),
      Drawing(prompt=f"blue {i}{texts}", picture=b, id=f"{i}"),
      Editing(sources=(a,), instruction=f"do {i}", target=b, id=f"{i}"),
    ][i % 3]
    out.append(schema.Stored(record=record))
  return out


def encoded(pixels_YXC: np.ndarray) -> bytes:
  out = io.BytesIO()
  Image.fromarray(pixels_YXC).save(out, "PNG")
  return out.getvalue()


def dataset(
  folder: Path,
  stored: list[schema.Stored],
  shards: int = 1,
  measure: Measure | None = None,
) -> Path:
  """A folder as `emma-data convert` writes it; counts as TOKENIZER does."""
  folder.mkdir()
  made, measure = [], measure or Measure.of(TOKENIZER)
  for i in range(shards):
    writer = shard.ShardWriter(folder, f"part-{i:05d}", measure)
    for one in stored[i::shards]:
      sizes = [Image.open(io.BytesIO(p)).size[::-1] for p in one.pictures]
      writer.add(one, sizes)
    made.append(writer.finish())
  card.Card(
    name="made",
    shards=tuple(filter(None, made)),
    tokenizer=measure.to_sample.tokenizer.fingerprint(),
    weighted=any(one.weight != 1 for one in stored),
    rejected=0,
    provenance={},
  ).save(folder)
  return folder


def jsonl(path: Path, *rows: Any) -> Path:
  """Rows as lines; texts and bytes as they are."""
  lines = [
    row
    if isinstance(row, bytes)
    else (row if isinstance(row, str) else json.dumps(row)).encode()
    for row in rows
  ]
  path.write_bytes(b"\n".join(lines) + b"\n")
  return path


# EXIF's orientations: how a picture stored as ABC over DEF is to be shown (the
# standard's table of where row 0 and column 0 are, drawn by hand).
UPRIGHT = {
  1: ("ABC", "DEF"),
  2: ("CBA", "FED"),
  3: ("FED", "CBA"),
  4: ("DEF", "ABC"),
  5: ("AD", "BE", "CF"),
  6: ("DA", "EB", "FC"),
  7: ("FC", "EB", "DA"),
  8: ("CF", "BE", "AD"),
}
_LETTERS = {
  "A": (250, 0, 0),
  "B": (0, 250, 0),
  "C": (0, 0, 250),
  "D": (250, 250, 0),
  "E": (0, 250, 250),
  "F": (120, 120, 120),
}


def oriented(orientation: int, kind: str, side: int = 32) -> bytes:
  """ABC over DEF in squares of that many pixels, with an EXIF block."""
  exif, out = Image.Exif(), io.BytesIO()
  exif[0x0112] = orientation
  pixels = np.array([[_LETTERS[c] for c in row] for row in UPRIGHT[1]])
  pixels = pixels.astype(np.uint8).repeat(side, 0).repeat(side, 1)
  options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
  Image.fromarray(pixels).save(out, kind, exif=exif, **options)
  return out.getvalue()


def letters(pixels_YXC: np.ndarray, side: int) -> tuple[str, ...]:
  """What `oriented` is read as, by the middles of its squares."""
  middles = pixels_YXC[side // 2 :: side, side // 2 :: side].astype(int)
  nearest = lambda pixel: min(
    _LETTERS, key=lambda c: np.abs(pixel - _LETTERS[c]).sum()
  )
  return tuple("".join(map(nearest, row)) for row in middles)
