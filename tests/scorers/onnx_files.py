"""ONNX files of a few nodes, written as protocol buffers by hand.

The numbers are those of onnx.proto (onnx/onnx, Apache-2.0): no package is
needed that writes them.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {np.dtype("float32"): 1, np.dtype("int32"): 6, np.dtype("int64"): 7}


def _varint(value: int) -> bytes:
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
  return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
  data = value.encode() if isinstance(value, str) else value
  return _varint(field << 3 | 2) + _varint(len(data)) + data


def node(
  kind: str, inputs: Sequence[str], output: str, **attributes: Any
) -> bytes:
  """A node; attributes are whole numbers or lists of them."""
  out = b"".join(_bytes(1, name) for name in inputs)
  out += _bytes(2, output) + _bytes(4, kind)
  for name, value in attributes.items():
    if isinstance(value, int):
      own = _number(3, value) + _number(20, 2)
    else:
      own = b"".join(_number(8, v) for v in value) + _number(20, 7)
    out += _bytes(5, _bytes(1, name) + own)
  return _bytes(1, out)


def constant(name: str, value: np.ndarray) -> bytes:
  out = b"".join(_number(1, size) for size in value.shape)
  out += _number(2, _TYPES[value.dtype]) + _bytes(8, name)
  return _bytes(5, out + _bytes(9, value.tobytes()))


def _port(field: int, name: str, kind: str, shape: Sequence[Any]) -> bytes:
  sizes = b"".join(
    _bytes(1, _number(1, s) if isinstance(s, int) else _bytes(2, s))
    for s in shape
  )
  tensor = _number(1, _TYPES[np.dtype(kind)]) + _bytes(2, sizes)
  return _bytes(field, _bytes(1, name) + _bytes(2, _bytes(1, tensor)))


Ports = Mapping[str, tuple[str, Sequence[Any]]]


def write(
  path: Path,
  parts: Sequence[bytes],
  inputs: Ports,
  outputs: Ports,
  settings: Mapping[str, Any] | None = None,
) -> str:
  """A model of opset 13, and its settings beside it; returns its path."""
  graph = b"".join(parts) + _bytes(2, "g")
  graph += b"".join(_port(11, n, *port) for n, port in inputs.items())
  graph += b"".join(_port(12, n, *port) for n, port in outputs.items())
  model = _number(1, 8) + _bytes(7, graph)
  path.write_bytes(model + _bytes(8, _bytes(1, "") + _number(2, 13)))
  if settings is not None:
    path.with_suffix(".json").write_text(json.dumps(settings))
  return str(path)


PICTURE: Ports = {"pixel_values": ("float32", (1, 3, "height", "width"))}


def mean_colour(path: Path, **settings: Any) -> str:
  """An encoder of pictures whose vector is the mean colour."""
  defaults = {"size": 4, "crop": 4, "resample": "bilinear"}
  level = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
  return write(
    path,
    [
      node(
        "ReduceMean", ["pixel_values"], "image_embeds", axes=[2, 3], keepdims=0
      )
    ],
    PICTURE,
    {"image_embeds": ("float32", (1, 3))},
    {**defaults, **level, **settings},
  )


def summed_words(path: Path, table_VD: np.ndarray, **settings: Any) -> str:
  """An encoder of texts whose vector is the sum of its tokens' rows."""
  return write(
    path,
    [
      constant("table", table_VD.astype(np.float32)),
      node("Gather", ["table", "input_ids"], "rows", axis=0),
      node("ReduceMean", ["rows"], "text_embeds", axes=[1], keepdims=0),
    ],
    {"input_ids": ("int64", (1, "length"))},
    {"text_embeds": ("float32", (1, table_VD.shape[1]))},
    {"length": 8, "pad": 0, **settings},
  )


def fixed_detector(
  path: Path, found: Mapping[str, np.ndarray], **settings: Any
) -> str:
  """A detector that finds the same in every picture."""
  defaults = {
    "classes": ["cat", "dining_table"],
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
    "boxes": "pixels",
  }
  kinds = {
    n: ("float32" if v.dtype.kind == "f" else "int64") for n, v in found.items()
  }
  return write(
    path,
    [
      part
      for name, value in found.items()
      for part in (
        constant(f"of_{name}", value.astype(kinds[name])),
        node("Identity", [f"of_{name}"], name),
      )
    ],
    PICTURE,
    {n: (kinds[n], v.shape) for n, v in found.items()},
    {**defaults, **settings},
  )
