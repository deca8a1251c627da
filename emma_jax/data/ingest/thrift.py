"""Headers of Parquet's pages: the one thing that pyarrow does not tell.

Structs in Thrift's compact protocol, as numbers of fields and their values.
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 1, 2, 3, 7, 8
_INTEGERS = (4, 5, 6)
_LIST, _SET, _STRUCT = 9, 10, 12
# Parquet's headers nest a struct or two.
_MAX_DEPTH = 8


class Short(ValueError):
  """The bytes end within the struct."""


class _Reader:
  def __init__(self, data: bytes):
    self.data, self.at = data, 0

  def byte(self) -> int:
    if self.at >= len(self.data):
      raise Short()
    self.at += 1
    return self.data[self.at - 1]

  def varint(self) -> int:
    value = shift = 0
    while shift < 70:
      byte = self.byte()
      value |= (byte & 127) << shift
      if byte < 128:
        return value
      shift += 7
    raise ValueError("a number of more than ten bytes")

  def integer(self) -> int:
    value = self.varint()
    return (value >> 1) ^ -(value & 1)

  def skip(self, count: int) -> None:
    self.at += count
    if self.at > len(self.data):
      raise Short()

  def value(self, kind: int, depth: int) -> Any:
    """Texts and lists are passed over: None."""
    if kind in (_TRUE, _FALSE):
      return kind == _TRUE
    if kind in _INTEGERS:
      return self.integer()
    if kind == _STRUCT:
      return self.struct(depth + 1)
    if kind in (_LIST, _SET):
      head = self.byte()
      count = head >> 4 if head >> 4 < 15 else self.varint()
      for _ in range(count):
        # A flag in a list is a byte, outside it is part of the field's kind.
        inner = _BYTE if head & 15 in (_TRUE, _FALSE) else head & 15
        self.value(inner, depth + 1)
    elif kind == _BINARY:
      self.skip(self.varint())
    elif kind in (_BYTE, _DOUBLE):
      self.skip(1 if kind == _BYTE else 8)
    else:
      raise ValueError(f"a field of the kind {kind}")
    return None

  def struct(self, depth: int) -> dict[int, Any]:
    if depth > _MAX_DEPTH:
      raise ValueError(f"structs nested more than {_MAX_DEPTH} deep")
    fields: dict[int, Any] = {}
    number = 0
    while head := self.byte():
      step = head >> 4
      number = number + step if step else self.integer()
      fields[number] = self.value(head & 15, depth)
    return fields


def read(data: bytes) -> tuple[dict[int, Any], int]:
  """(a struct's fields, its length in bytes).

  >>> read(bytes([0x15, 4, 0x15, 200, 1, 0]))
  ({1: 2, 2: 100}, 6)

  Raises:
    Short: the struct goes on behind the data.
    ValueError: no such struct.
  """
  reader = _Reader(data)
  fields = reader.struct(0)
  return fields, reader.at
