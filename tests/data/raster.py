"""Picture files put together by hand, byte by byte, from samples.

Samples are whole numbers (Y, X, C) of `bits` each. Nothing here asks the
library that is tested, so what a file shows can be worked out on paper.
"""

from collections.abc import Sequence
import struct
import zlib

import numpy as np


def packed(samples_YXC: np.ndarray, bits: int, order: str = "<") -> bytes:
  """Rows of samples, each row filled up to a byte, the highest bits first."""
  if bits in (8, 16, 32):
    kind = {8: "u1", 16: "u2", 32: "u4"}[bits]
    wide = samples_YXC.astype(np.int64) & (2**bits - 1)
    return wide.astype(f"{order}{kind}").tobytes()
  rows = samples_YXC.reshape(len(samples_YXC), -1)
  places = np.arange(bits - 1, -1, -1)
  ones = (rows[..., None] >> places & 1).astype(np.uint8)
  return np.packbits(ones.reshape(len(rows), -1), axis=1).tobytes()


def png(
  samples_YXC: np.ndarray, bits: int, colour: int, *chunks: bytes
) -> bytes:
  """`colour`: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
  y, x, _ = samples_YXC.shape
  head = struct.pack(">IIBBBBB", x, y, bits, colour, 0, 0, 0)
  data = packed(samples_YXC, bits, ">")
  line = len(data) // y
  rows = b"".join(b"\0" + data[i * line :][:line] for i in range(y))
  return b"".join(
    [
      b"\x89PNG\r\n\x1a\n",
      chunk(b"IHDR", head),
      *chunks,
      chunk(b"IDAT", zlib.compress(rows)),
      chunk(b"IEND", b""),
    ]
  )


def chunk(name: bytes, data: bytes) -> bytes:
  crc = zlib.crc32(name + data)
  return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def tiff(
  samples_YXC: np.ndarray,
  bits: int,
  photometric: int,
  *,
  order: str = "<",
  extra: Sequence[int] = (),
  signed: int = 1,
  fill: int = 1,
  planar: int = 1,
  compressed: bool = False,
  more: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
  """One strip, or one of each sample with `planar=2`.

  Args:
    samples_YXC: numbers of `bits` bits.
    bits: of a sample.
    photometric: 0 grey, 0 is white; 1 grey; 2 RGB; 3 palette; 5 CMYK; 6 YCbCr;
      8 LAB.
    order: "<" or ">": of the bytes.
    extra: of each sample beyond the colours: 0 unspecified, 1 alpha that is
      multiplied in, 2 alpha.
    signed: 1 unsigned, 2 signed, 3 float.
    fill: 2: the lowest bit of a byte is the leftmost pixel.
    compressed: by zlib.
    more: (tag, 3 for short or 4 for long, values).
  """
  y, x, c = samples_YXC.shape
  layers = [samples_YXC]
  if planar == 2:
    layers = [samples_YXC[..., i : i + 1] for i in range(c)]
  strips = [packed(layer, bits, order) for layer in layers]
  if compressed:
    strips = [zlib.compress(strip) for strip in strips]
  if fill == 2:
    turned = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
    strips = [strip.translate(turned) for strip in strips]
  tags = {
    256: (4, [x]),
    257: (4, [y]),
    258: (3, [bits] * c),
    259: (3, [8 if compressed else 1]),
    262: (3, [photometric]),
    266: (3, [fill]),
    277: (3, [c]),
    278: (4, [y]),
    279: (4, [len(strip) for strip in strips]),
    284: (3, [planar]),
    339: (3, [signed] * c),
  }
  if extra:
    tags[338] = (3, list(extra))
  for tag, kind, values in more:
    tags[tag] = (kind, list(values))
  # The pixels stand first, then what does not fit into the directory.
  at, places = 8, []
  for strip in strips:
    places.append(at)
    at += len(strip)
  tags[273] = (4, places)
  at += at % 2
  body = b"".join(strips).ljust(at - 8, b"\0")
  entries = b""
  for tag, (kind, values) in sorted(tags.items()):
    data = struct.pack(
      f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values
    )
    if len(data) > 4:
      place = struct.pack(f"{order}I", 8 + len(body))
      body += data
    else:
      place = data.ljust(4, b"\0")
    entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
  magic = b"II*\0" if order == "<" else b"MM\0*"
  head = magic + struct.pack(f"{order}I", 8 + len(body))
  count = struct.pack(f"{order}H", len(tags))
  return head + body + count + entries + b"\0\0\0\0"


def gif(
  size: tuple[int, int],
  palette: Sequence[tuple[int, int, int]],
  frames: Sequence[tuple[tuple[int, int, int, int], int]],
  clear: int | None = None,
) -> bytes:
  """Frames of one palette's entry each.

  Args:
    size: (x, y) of the canvas.
    palette: two or four colours.
    frames: ((left, top, x, y), number of the colour).
    clear: the transparent entry.
  """
  depth = {2: 0, 4: 1}[len(palette)]
  out = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80 | depth, 0, 0)
  out += bytes(v for colour in palette for v in colour)
  for (left, top, x, y), entry in frames:
    flag = 0 if clear is None else 1
    out += b"\x21\xf9\x04" + struct.pack("<BHBB", flag, 0, clear or 0, 0)
    out += b"\x2c" + struct.pack("<HHHHB", left, top, x, y, 0)
    out += b"\x02" + _lzw([entry] * (x * y)) + b"\0"
  return out + b"\x3b"


def _lzw(values: Sequence[int]) -> bytes:
  """Codes of three bits, never longer: the table is cleared in time."""
  codes = []
  for i, value in enumerate(values):
    if i % 2 == 0:
      codes.append(4)
    codes.append(value)
  codes.append(5)
  number, length = 0, 0
  for code in codes:
    number |= code << length
    length += 3
  data = number.to_bytes((length + 7) // 8, "little")
  blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
  return b"".join(bytes([len(block)]) + block for block in blocks)


def bmp(
  samples_YXC: np.ndarray, bits: int, palette: Sequence[Sequence[int]] = ()
) -> bytes:
  """Of a palette (1, 4, 8 bits), or BGR (24), or BGR and a spare byte (32)."""
  y, x, _ = samples_YXC.shape
  depth = bits if palette else 8
  line = lambda row: packed(row[None], depth)
  rows = [line(row) for row in samples_YXC[::-1]]
  data = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows)
  table = b"".join(bytes([b, g, r, 0]) for r, g, b in palette)
  start = 54 + len(table)
  head = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
  info = struct.pack(
    "<IiiHHIIiiII", 40, x, y, 1, bits, 0, len(data), 0, 0, len(palette), 0
  )
  return head + info + table + data


def webp_frame(
  picture: bytes,
  canvas: tuple[int, int],
  place: tuple[int, int],
  has_alpha: bool,
) -> bytes:
  """An animation of one frame, a file of 2 x 2, at an even place (x, y)."""
  chunk = lambda name, data: name + struct.pack("<I", len(data)) + data
  three = lambda value: struct.pack("<I", value)[:3]
  head = bytes([2 | (16 if has_alpha else 0), 0, 0, 0])
  head += three(canvas[0] - 1) + three(canvas[1] - 1)
  frame = three(place[0] // 2) + three(place[1] // 2) + three(1) + three(1)
  frame += three(100) + b"\0" + picture[12:]
  body = b"WEBP" + chunk(b"VP8X", head)
  body += chunk(b"ANIM", b"\0" * 6) + chunk(b"ANMF", frame)
  return b"RIFF" + struct.pack("<I", len(body)) + body
