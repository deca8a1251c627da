"""Pictures, lines and records that break loaders, and what becomes of each.

python -m tests.data.hostile             prints the outcomes, with reasons
python -m tests.data.hostile --markdown  emma_jax/data/outcomes.md
"""

import dataclasses
import io
import json
import os
from pathlib import Path
import struct
import sys
import tempfile
from unittest import mock
import zlib

import numpy as np
from PIL import Image

from tests.data import made, mode_cases

USED = "used"


@dataclasses.dataclass(frozen=True)
class Case:
  """`outcome`: USED, or what the reason of the rejection says (a part of it).

  `value`: bytes of a picture (in `picture`), a line of JSON lines, or a record
  on disk. `size`: (y, x) and `pixel`: RGB in the middle, of a picture used.
  """

  name: str
  value: bytes
  outcome: str = USED
  size: tuple[int, int] | None = None
  pixel: tuple[int, int, int] | None = None


# ----------------------------------------------------------------- pictures


def _save(image: Image.Image, kind: str, **options) -> bytes:
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


def _new(mode: str, colour, size=(30, 20)) -> Image.Image:
  return Image.new(mode, size, colour)


def _chunk(name: bytes, data: bytes) -> bytes:
  crc = zlib.crc32(name + data)
  return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def _png(x: int, y: int, depth: int, colour: int, data: bytes, *more) -> bytes:
  """A PNG put together by hand, with `more` chunks before the pixels."""
  head = struct.pack(">IIBBBBB", x, y, depth, colour, 0, 0, 0)
  body = _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
  first = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head)
  return first + b"".join(more) + body


def _exif(orientation: int) -> Image.Exif:
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


def _jpeg_of_size(x: int, y: int) -> bytes:
  """A small JPEG whose header claims another size."""
  data = bytearray(made.noise(kind="JPEG"))
  at = data.find(b"\xff\xc0") + 5
  data[at : at + 4] = struct.pack(">HH", y, x)
  return bytes(data)


def _palette(**options) -> bytes:
  image = _new("P", 1)
  image.putpalette([0, 0, 0, 10, 200, 30])
  return _save(image, "PNG", **options)


def _tiff_loop() -> bytes:
  """Two directories of which each names the other as the next."""
  data = bytearray(_save(_new("L", 9), "TIFF"))
  (first,) = struct.unpack_from("<I", data, 4)
  (entries,) = struct.unpack_from("<H", data, first)
  struct.pack_into("<I", data, first + 2 + 12 * entries, first)
  return bytes(data)


def _broken_exif() -> bytes:
  good = _save(_new("RGB", "red"), "JPEG")
  block = b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"
  return (
    good[:2]
    + b"\xff\xe1"
    + struct.pack(">H", len(block) + 2)
    + block
    + (good[2:])
  )


def _frames(kind: str, **options) -> bytes:
  red, blue = _new("RGB", "red"), _new("RGB", "blue")
  return _save(red, kind, save_all=True, append_images=[blue], **options)


def pictures() -> list[Case]:
  """Files that are called pictures."""
  jpeg, png = made.noise(kind="JPEG"), made.noise()
  webp = made.noise(kind="WEBP", lossless=True)
  gif = made.noise(kind="GIF")
  crc = bytearray(png)
  crc[20] ^= 1
  garbage = bytearray(png)
  garbage[200:260] = b"\xee" * 60
  white = b"".join(b"\0" + b"\xff" * 1251 for _ in range(10_001))
  text_bomb = _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 80_000_000))
  deep = b"".join(b"\0" + struct.pack(">3H", 65535, 0, 32896) for _ in range(2))
  inside = dict(size=(20, 30))
  red = dict(inside, pixel=(255, 0, 0))
  return [
    Case("zero bytes", b"", "zero bytes"),
    Case("one byte", b"\xff", "cannot read"),
    Case("random bytes", np.random.default_rng(1).bytes(5000), "cannot read"),
    Case("a web page as .png", b"<!doctype html><html>404", "cannot read"),
    Case(
      "a Git LFS pointer",
      b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
      "a Git LFS pointer",
    ),
    Case("HEIC as .png", b"\0\0\0\x18ftypheic" + bytes(99), "it is HEIC"),
    Case("zeros", bytes(5000), "zeros, as of"),
    Case("PDF", b"%PDF-1.7\n" + b" " * 500, "cannot read"),
    Case("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "cannot read"),
    Case(
      "EPS, which starts a program", _save(_new("RGB", 0), "EPS"), "cannot read"
    ),
    Case("ICO", _save(_new("RGB", 0, (32, 32)), "ICO"), "cannot read"),
    Case("JPEG cut in half", jpeg[: len(jpeg) // 2], "truncated"),
    Case(
      "progressive JPEG cut in half",
      (p := made.noise(kind="JPEG", progressive=True))[: len(p) // 2],
      "truncated",
    ),
    Case("JPEG without pixels", jpeg[:100], "cannot read"),
    Case("PNG cut in half", png[: len(png) // 2], "cannot read"),
    Case("WebP cut in half", webp[: len(webp) // 2], "cannot read"),
    Case("GIF cut in half", gif[: len(gif) // 2], "cannot read"),
    Case("PNG with a wrong checksum", bytes(crc), "cannot read"),
    Case("PNG with garbage for pixels", bytes(garbage), "cannot read"),
    Case(
      "bomb: 10,001 x 10,001 in 13 kB",
      _png(10_001, 10_001, 1, 0, white),
      "exceeds 64000000 pixels",
    ),
    Case(
      "bomb: PNG of 2 billion x 2 billion",
      _png(2**31 - 1, 2**31 - 1, 8, 2, b""),
      "cannot read",
    ),
    Case(
      "bomb: JPEG of 65,500 x 65,500",
      _jpeg_of_size(65_500, 65_500),
      "cannot read",
    ),
    Case(
      "bomb: 80 MB of text in a PNG",
      _png(2, 2, 8, 0, b"\0aa\0aa", text_bomb),
      "cannot read",
    ),
    Case("TIFF whose directories form a ring", _tiff_loop(), **inside),
    Case(
      "16 bit grey PNG",
      _save(_new("I;16", 128 * 257), "PNG"),
      pixel=(128, 128, 128),
      **inside,
    ),
    Case(
      "16 bit RGB PNG",
      _png(1, 2, 16, 2, deep),
      size=(2, 1),
      pixel=(255, 0, 128),
    ),
    Case(
      "CMYK JPEG",
      _save(_new("CMYK", (0, 255, 255, 0)), "JPEG"),
      pixel=(254, 0, 0),
      **inside,
    ),
    Case("palette", _palette(), pixel=(10, 200, 30), **inside),
    Case(
      "palette with transparency",
      _palette(transparency=1),
      pixel=(255, 255, 255),
      **inside,
    ),
    Case(
      "alpha, all clear",
      _save(_new("RGBA", (255, 0, 0, 0)), "PNG"),
      pixel=(255, 255, 255),
      **inside,
    ),
    Case(
      "alpha, a fifth red",
      _save(_new("RGBA", (255, 0, 0, 51)), "WEBP", lossless=True),
      pixel=(255, 204, 204),
      **inside,
    ),
    Case(
      "grey with alpha",
      _save(_new("LA", (0, 128)), "PNG"),
      pixel=(127, 127, 127),
      **inside,
    ),
    Case(
      "black and white",
      _save(_new("1", 1), "PNG"),
      pixel=(255, 255, 255),
      **inside,
    ),
    Case(
      "EXIF: to be turned by 90 degrees",
      _save(_new("RGB", "red"), "PNG", exif=_exif(6)),
      size=(30, 20),
      pixel=(255, 0, 0),
    ),
    Case(
      "EXIF: to be mirrored and turned",
      _save(_new("RGB", "red"), "PNG", exif=_exif(7)),
      size=(30, 20),
    ),
    Case(
      "EXIF: orientation 99",
      _save(_new("RGB", "red"), "PNG", exif=_exif(99)),
      **red,
    ),
    Case("EXIF: a broken block", _broken_exif(), **inside),
    Case("animated GIF", _frames("GIF"), **red),
    Case("animated WebP", _frames("WEBP", lossless=True), **red),
    Case("animated PNG", _frames("PNG"), **red),
    Case("TIFF of two pages", _frames("TIFF"), **red),
    Case("JPEG called .png", _save(_new("RGB", "red"), "JPEG"), **inside),
    Case("JPEG with 5 kB behind its end", jpeg + b"x" * 5000, size=(64, 64)),
    Case("1 x 1", _save(_new("RGB", "red", (1, 1)), "PNG"), size=(1, 1)),
    Case("1 : 100", _save(_new("RGB", "red", (400, 4)), "PNG"), size=(4, 400)),
    Case("1 : 101", _save(_new("RGB", "red", (404, 4)), "PNG"), "absurd"),
    Case("1 x 60,000", _save(_new("L", 9, (1, 60_000)), "PNG"), "absurd"),
    *_modes(),
  ]


def _modes() -> list[Case]:
  """Every mode and depth that Pillow opens."""
  shown = [*mode_cases.tiffs(), *mode_cases.pngs(), *mode_cases.others()]
  return [
    Case(name, data, words or USED, pixel=pixel)
    for name, data, words, pixel in shown
  ]


# -------------------------------------------------------------------- lines


def lines() -> list[Case]:
  """Lines of a file of captions, beside a good picture good.png."""
  line = lambda **row: json.dumps(row).encode()
  good = dict(image="good.png", caption="red")
  nested = b"[" * 200_000
  return [
    Case("no JSON", b'{"image": "good.png", "cap', "no JSON"),
    Case("a list", b'["good.png", "red"]', "list instead of"),
    Case("invalid UTF-8", line(**good)[:-2] + b'\xff\xfe"}', "no JSON"),
    Case("200,000 brackets", nested, "no JSON"),
    Case("NUL bytes", b"\0" * 100, "no JSON"),
    Case("no caption", line(image="good.png"), "'caption' is missing"),
    Case("caption null", line(image="good.png", caption=None), "is None"),
    Case("caption of blanks", line(image="good.png", caption=" \n"), "empty"),
    Case(
      "half a character",
      b'{"image": "good.png", "caption": "\\ud83d"}',
      "not Unicode",
    ),
    Case(
      "a caption in UTF-16 without its mark",
      line(image="good.png", caption="a\0 \0c\0a\0t\0"),
      "has zero bytes",
    ),
    Case(
      "picture that is not there",
      line(image="no.png", caption="red"),
      "no such picture",
    ),
    Case("picture is a folder", line(image=".", caption="red"), "no such"),
    Case("picture is a pipe", line(image="pipe", caption="red"), "no such"),
    Case(
      "picture is a device", line(image="/dev/zero", caption="red"), "no such"
    ),
    Case("NUL in the path", line(image="a\0b", caption="red"), "no such"),
    Case("picture is a number", line(image=5, caption="red"), "image is 5"),
    Case(
      "marks of the layout as text",
      line(**good | {"caption": "<|im_end|><|vision_start|>"}),
    ),
    Case(
      "Chinese, emoji, right to left",
      line(**good | {"caption": "红色 🙂 עברית"}),
    ),
    Case("byte order mark", b"\xef\xbb\xbf" + line(**good)),
    Case(
      "unknown keys, one twice",
      b'{"a": 1, "caption": "x", "caption": "red", "image": "good.png"}',
    ),
    Case(
      "200 kB of caption",
      line(**good | {"caption": "red " * 50_000}),
      "raise layout.und_tokens",
    ),
  ]


# ------------------------------------------------------------------ records


def records() -> list[Case]:
  """Bytes in an ArrayRecord file."""
  from emma_jax.data.records import schema

  def record(header, tail: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sI", b"EMR1", len(text)) + text + tail

  picture = made.picture()
  drawing = dict(task="drawing", prompt="red", pictures=[len(picture)])
  talk = dict(task="understanding", pictures=[len(picture)])
  good = schema.encode(made.samples()[2])
  return [
    Case("a good record", good),
    Case("no bytes", b"", "too few"),
    Case("another format", b"\x0a\x05image" + picture, "begins with"),
    Case("a later version", b"EMR2" + good[4:], "begins with b'EMR2'"),
    Case("cut short", good[:-10], "bytes of pictures"),
    Case(
      "header longer than the record",
      struct.pack("<4sI", b"EMR1", 2**32 - 1) + good[8:],
      "a header of",
    ),
    Case("header of invalid UTF-8", record(b"\xff" * 20), "no JSON"),
    Case("header of 200,000 brackets", record(b"[" * 200_000), "no JSON"),
    Case(
      "unknown task", record({**drawing, "task": "sing"}, picture), "unknown"
    ),
    Case(
      "an edit with one picture",
      record({**drawing, "task": "editing"}, picture),
      "1 pictures",
    ),
    Case(
      "negative length",
      record({**drawing, "pictures": [-1]}, picture),
      "not lengths",
    ),
    Case(
      "weight NaN",
      record({**drawing, "weight": float("nan")}, picture),
      "weight",
    ),
    Case(
      "two marks, one picture",
      record({**talk, "turns": [["<image><image>?", "a"]]}, picture),
      "2 <image> marks for 1",
    ),
    Case(
      "empty answer",
      record({**talk, "turns": [["q", ""]]}, picture),
      "answer 0 is empty",
    ),
    Case(
      "turns that are no pairs",
      record({**talk, "turns": [["q", "a", "r"]]}, picture),
      "types",
    ),
    Case(
      "picture cut in half",
      record({**drawing, "pictures": [200]}, made.noise()[:200]),
      "cannot read",
    ),
  ]


# -------------------------------------------------------------------- files


def write_pictures(folder: Path, cases: list[Case]) -> Path:
  """A file of captions in which line i names the picture of case i."""
  rows = []
  for i, case in enumerate(cases):
    (folder / f"{i}.png").write_bytes(case.value)
    rows.append({"image": f"{i}.png", "caption": case.name})
  return made.jsonl(folder / "pictures.jsonl", *rows)


def write_lines(folder: Path, cases: list[Case]) -> Path:
  (folder / "good.png").write_bytes(made.picture())
  os.mkfifo(folder / "pipe")
  # The first line tells the format, so it must be a good one.
  good = {"image": "good.png", "caption": "red"}
  return made.jsonl(folder / "lines.jsonl", *(c.value for c in cases), good)


def write_records(folder: Path, cases: list[Case]) -> Path:
  """A folder of records that no `encode` would have written."""
  from emma_jax.data.records import shard

  values = iter([case.value for case in cases])
  with mock.patch.object(shard.schema, "encode", side_effect=values):
    return made.dataset(folder / "set", [made.samples()[3]] * len(cases))


def table(rows: list[tuple[str, ...]]) -> str:
  """(kind, case, validate's reason, training's reason, words) as text."""
  wide = max(len(row[1]) for row in rows)
  return "\n".join(
    f"{k:8} {n:{wide}}  {validated}"
    + ("" if trained == validated else f" | training: {trained}")
    for k, n, validated, trained, _ in rows
  )


def markdown(rows: list[tuple[str, ...]]) -> str:
  """The same without what differs between versions of libraries."""
  verdict = lambda reason: USED if reason == USED else "rejected"
  lines = [
    f"| {kind} | {name} | {verdict(validated)} | {verdict(trained)} | "
    f"{'' if words == USED else words} |"
    for kind, name, validated, trained, words in rows
  ]
  return (
    "\n".join(
      [
        "# What becomes of bad input",
        "",
        "Each case is a test. `validate` and training use the same code; only "
        "what a run's",
        "layout decides is training's alone. Made by "
        "`python -m tests.data.hostile --markdown`.",
        "",
        "| kind | input | validate | training | the reason says |",
        "|---|---|---|---|---|",
        *lines,
      ]
    )
    + "\n"
  )


def main(argv: list[str]) -> None:
  from tests.data import test_hostile  # which imports this

  with tempfile.TemporaryDirectory() as folder:
    rows = test_hostile.outcomes(Path(folder))
  as_page = argv == ["--markdown"]
  sys.stdout.write(markdown(rows) if as_page else f"{table(rows)}\n")


if __name__ == "__main__":
  main(sys.argv[1:])
