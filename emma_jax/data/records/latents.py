"""Latents of a data set's pictures, made before training.

  DIR/latents-5f0c0d6ab1c2/    DIR is the data set
    settings.json            what they were made for; its hash names the folder
    part-00003.array_record  an element for each record of the shard
    part-00003.json          written last: counts, checksum, weights

An element, numbers little endian:

  b"EML1"   4 bytes
  dtype     1 byte: 0 float32, 1 float16, 2 bfloat16
  channels  2 bytes
  n         2 bytes: pictures of the record
  grids     n times 2 + 2 bytes: rows and columns of cells of 32x32 pixels;
            (0, 0) is a picture that could not be encoded
  values    of each picture in turn, row-major, channel fastest
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import glob
import hashlib
import json
import os
import struct
from typing import Any

from array_record.python import array_record_data_source, array_record_module
import jax
import numpy as np

from emma_jax import files
from emma_jax.data.pictures.framing import Framing, Role
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.records import card as card_lib
from emma_jax.data.records import schema
from emma_jax.data.records.shard import OPTIONS, Stretch
from emma_jax.structs import (
  GEN_TASKS,
  Drawing,
  Record,
  Understanding,
  WithLatent,
)

MAGIC = b"EML1"
DTYPES = ("float32", "float16", "bfloat16")
_HEAD = struct.Struct("<4sBHH")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What latents depend on besides the pictures and the weights.

  Args:
    framing: what the pictures go through, by their role.
    autoencoder: hash of its config.
    dtype: of the computation.
  """

  framing: Framing
  autoencoder: str
  dtype: str

  def of(self, card: card_lib.Card) -> dict[str, str]:
    """Those that matter for a data set's records, in words."""
    out = {"autoencoder": self.autoencoder, "dtype": self.dtype}
    tasks = set(card.tasks)
    if "understanding" in tasks:
      out["understanding"] = self._sizes("und")
    if tasks & set(GEN_TASKS):
      out["generation"] = self._sizes("target")
    return out

  def _sizes(self, role: Role) -> str:
    if self.framing.of(role).native or not self.framing.buckets:
      return _words(self.framing.of(role))
    return " or ".join(
      _words(self.framing.sized(y, x).of(role)) for y, x in self.framing.sizes
    )


def _words(preprocess: Preprocess) -> str:
  p = preprocess
  size = f"{p.height}x{p.width}"
  if p.fit != "pad":
    size += f", {p.fit}"
  if p.native:
    size = f"native, {p.min_tokens} to {p.max_tokens} tokens"
  return f"{size} ({p.fingerprint()[:8]})"


def folder_of(folder: str, settings: Mapping[str, str]) -> str:
  """Where the latents of a data set lie that were made for these settings."""
  text = json.dumps(settings, sort_keys=True)
  name = hashlib.sha256(text.encode()).hexdigest()[:12]
  return os.path.join(folder, f"latents-{name}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """The content of part-00003.json."""

  records: int
  records_sha256: str  # of the shard whose pictures they are
  pictures: int
  missing: int  # pictures that could not be encoded
  bytes: int
  sha256: str
  weights: str  # fingerprint of the autoencoder's
  dtype: str  # of the stored values

  @classmethod
  def load(cls, path: str) -> "Part | None":
    """None where there is none; ValueError for a file that is not one."""
    if not os.path.isfile(path):
      return None
    try:
      with open(path, encoding="utf-8") as file:
        return cls(**json.load(file))
    except (ValueError, TypeError) as error:
      raise ValueError(f"{path} is not right: {error}.") from error


def marker(folder: str, shard: card_lib.Shard) -> str:
  """part-00003.json"""
  return os.path.join(folder, os.path.splitext(shard.file)[0] + ".json")


def write_part(
  folder: str, shard: card_lib.Shard, elements: Iterable[bytes], **fields: Any
) -> Part:
  """Writes a part, whole or not at all; `fields` are further ones of `Part`."""
  path = os.path.join(folder, shard.file)
  temporary = f"{path}.tmp"
  writer = array_record_module.ArrayRecordWriter(temporary, OPTIONS)
  for element in elements:
    writer.write(element)
  writer.close()
  files.replace(temporary, path)
  part = Part(
    records=shard.records,
    records_sha256=shard.sha256,
    bytes=os.path.getsize(path),
    sha256=card_lib.sha256(path),
    **fields,
  )
  files.write_text(marker(folder, shard), json.dumps(dataclasses.asdict(part)))
  return part


# --------------------------------------------------------------- elements


def encode(pictures: Sequence[np.ndarray | None], dtype: str) -> bytes:
  """Latents (h, w, C) of a record's pictures -> bytes.

  >>> decode(encode([np.ones((1, 2, 3)), None], "float16"))[0].shape
  (1, 2, 3)
  """
  channels = max((p.shape[2] for p in pictures if p is not None), default=0)
  grids = [(0, 0) if p is None else p.shape[:2] for p in pictures]
  kind = jax.numpy.dtype(dtype)
  values = [
    np.ascontiguousarray(p, kind).tobytes() for p in pictures if p is not None
  ]
  head = _HEAD.pack(MAGIC, DTYPES.index(dtype), channels, len(pictures))
  return b"".join([head, np.array(grids, "<u2").tobytes(), *values])


def decode(data: bytes, where: str = "") -> list[np.ndarray | None]:
  """What `encode` was given, as float32; BadRecord for anything else."""
  try:
    magic, code, channels, count = _HEAD.unpack_from(data)
    if magic != MAGIC:
      raise ValueError(f"it begins with {magic!r}")
    kind = jax.numpy.dtype(DTYPES[code])
    grids = np.frombuffer(data, "<u2", 2 * count, _HEAD.size).reshape(-1, 2)
    flat = np.frombuffer(data, np.uint8, offset=_HEAD.size + 4 * count)
    sizes = grids.astype(np.int64).prod(axis=1) * channels
    values = np.split(flat.view(kind), np.cumsum(sizes))
    if values.pop().size:
      raise ValueError("bytes are left over")
    return [
      v.astype(np.float32).reshape(h, w, channels) if v.size else None
      for (h, w), v in zip(grids.tolist(), values)
    ]
  except (struct.error, ValueError, IndexError) as error:
    raise BadRecord(where, f"no latents: {error}") from error


def attach(
  record: Record, latents: Sequence[np.ndarray | None], where: str
) -> Record:
  """The record with each picture beside its latents."""
  made = [latent for latent in latents if latent is not None]
  if len(made) < len(latents):
    raise BadRecord(where, "a picture could not be encoded to latents")
  pictures = schema.pictures_of(record)
  if len(pictures) != len(made):
    raise BadRecord(where, f"latents of {len(latents)} pictures")
  both = tuple(map(WithLatent, pictures, made))
  if isinstance(record, Understanding):
    return dataclasses.replace(record, pictures=both)
  if isinstance(record, Drawing):
    return dataclasses.replace(record, picture=both[0])
  return dataclasses.replace(record, sources=both[:-1], target=both[-1])


# ---------------------------------------------------------------- reading


class StoredLatents:
  """`stored(row, where)`: latents of a record's pictures, (h, w, C) float32.

  Opening reads the small files alone. `weights` is the fingerprint of the
  autoencoder that made them.

  Raises:
    ValueError: none for these settings, or not of all shards, or of other
      records, or by several autoencoders; the message has the command.
  """

  def __init__(self, folder: str, card: card_lib.Card, settings: Settings):
    wanted = settings.of(card)
    self.folder = folder_of(folder, wanted)
    command = f"`emma-data encode-latents {folder} --config C --weights W`"
    if not os.path.isdir(self.folder):
      raise ValueError(
        f"{folder} has no latents for {_described(wanted)}"
        f"{_others(folder)}; make them with {command}, or set "
        "config.data.latents=step."
      )
    parts = {s.file: Part.load(marker(self.folder, s)) for s in card.shards}
    missing = [file for file, part in parts.items() if part is None]
    if missing:
      raise ValueError(
        f"{self.folder} lacks the latents of {len(missing)} of {len(parts)} "
        f"shards, such as {missing[0]}; go on with {command}."
      )
    found = {file: part for file, part in parts.items() if part is not None}
    for shard in card.shards:
      self._check(shard, found[shard.file], command)
    makers = {part.weights for part in found.values()}
    if len(makers) > 1:
      raise ValueError(
        f"{self.folder} holds latents of {len(makers)} autoencoders; remove "
        f"it and make them again with {command}."
      )
    self.weights = makers.pop()
    self._data = array_record_data_source.ArrayRecordDataSource(
      [
        Stretch(os.path.join(self.folder, s.file), 0, s.records, s.records)
        for s in card.shards
      ]
    )

  def _check(self, shard: card_lib.Shard, part: Part, command: str) -> None:
    path = os.path.join(self.folder, shard.file)
    size = os.path.getsize(path) if os.path.isfile(path) else None
    wrong = ""
    if part.records_sha256 != shard.sha256:
      wrong = "belongs to other records than are there now"
    elif size != part.bytes:
      wrong = f"has {size} bytes instead of {part.bytes}"
    if wrong:
      raise ValueError(
        f"{path} {wrong}; remove {self.folder} and make it again with "
        f"{command}."
      )

  def stored(self, row: int, where: str) -> list[np.ndarray | None]:
    """(h, w, C) float32 of each picture, or None; BadRecord if unreadable."""
    try:
      data = self._data[row]
    except Exception as error:  # the reader raises RuntimeError, IndexError...
      reason = str(error).splitlines()[:1]
      raise BadRecord(where, f"latents cannot be read: {reason}") from error
    return decode(data, where)


def damaged(folder: str) -> Iterator[tuple[str, str]]:
  """(file, reason) of latents beside a data set that are not as written."""
  for path in sorted(glob.glob(f"{glob.escape(folder)}/latents-*/part-*.json")):
    file = f"{path.removesuffix('.json')}.array_record"
    try:
      part = Part.load(path)
      if part and card_lib.sha256(file) != part.sha256:
        yield file, f"the checksum is not that of {os.path.basename(path)}"
    except (OSError, ValueError) as error:
      yield file, f"cannot be read: {error}"


def _described(settings: Mapping[str, str]) -> str:
  return ", ".join(f"{key} {value}" for key, value in sorted(settings.items()))


def _others(folder: str) -> str:
  """What there are latents for instead."""
  found = []
  for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name, "settings.json")
    if name.startswith("latents-") and os.path.isfile(path):
      with open(path, encoding="utf-8") as file:
        found.append(_described(json.load(file)))
  return f" (there are some for {'; '.join(found)})" if found else ""
