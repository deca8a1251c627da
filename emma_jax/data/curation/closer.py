"""A closer look at some records of data sets: words, near-copies, cropping.

So many records, spread evenly, are read with their pictures; `statistics`
counts all of them from their lengths alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import re
from typing import Any

import numpy as np

from emma_jax.data.curation import base, duplicates, hashes, thumbnails
from emma_jax.data.curation.statistics import binned
from emma_jax.data.pictures import images
from emma_jax.data.pictures.framing import Framing, Role
from emma_jax.data.pictures.images import BadRecord
from emma_jax.structs import Drawing, Editing, RawPicture, Record, WithLatent

# A word: letters and digits of one, or one Chinese character.
_WORD = re.compile(r"[^\W_\u4e00-\u9fff]+|[\u4e00-\u9fff]")
_LENGTHS = [1, 2, 4, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024]
# Words and texts that are named.
_NAMED, _REPEATED = 20, 8
# Bits of a hash that may differ, as `Dedup` has it by default.
_RADIUS = 3
# Upper ends of shares of a picture's area.
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
# Ways an enlargement is called, and up to which factor.
_SCALES = ((0.5, "below half"), (1.0, "smaller"), (1.5, "up to 1.5x"))


def spread(source: Any, most: int) -> Iterator[tuple[int, Record]]:
  """(number, record) of at most so many, first and last among them; what cannot
  be read is left out."""
  count = min(most, len(source))
  last = max(count - 1, 1)
  for i in range(count):
    index = i * (len(source) - 1) // last
    try:
      yield index, source[index]
    except BadRecord:
      continue


# ------------------------------------------------------------------- words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
  """What is said in records.

  texts, distinct: prompts, instructions, questions and answers of a record
  count as one text. lengths: records by number of words. everywhere: words of
  more than half of the records, and of how many. common: the most frequent
  others. repeated: texts that several records have.
  """

  texts: int
  distinct: int
  vocabulary: int
  lengths: dict[str, int]
  everywhere: dict[str, int]
  common: dict[str, int]
  repeated: list[tuple[str, int]]


def words(records: Sequence[Record]) -> Words:
  """Of some records, by how many of them have a word."""
  texts = [" / ".join(base.texts_of(record)) for record in records]
  split = [
    _WORD.findall(text.lower().replace("<image>", " ")) for text in texts
  ]
  having = Counter(word for one in split for word in set(one))
  ranked = sorted(having.items(), key=lambda item: (-item[1], item[0]))
  half = len(records) / 2
  often = [(word, n) for word, n in ranked if n > half]
  others = [(word, n) for word, n in ranked if n <= half]
  counts = Counter(texts)
  return Words(
    texts=len(texts),
    distinct=len(counts),
    vocabulary=len(having),
    lengths=binned(np.array([len(one) for one in split]), _LENGTHS),
    everywhere=dict(often[:_NAMED]),
    common=dict(others[:_NAMED]),
    repeated=[(t, n) for t, n in counts.most_common(_REPEATED) if n > 1],
  )


# ------------------------------------------------------------- near-copies


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
  """What is kept of a picture to compare it: of `hashes`, `thumbnails`."""

  exact: int
  words: tuple[int, int] | None
  thumb: np.ndarray


def see(picture_YXC: np.ndarray) -> Seen:
  """Of uint8 RGB."""
  digest = hashlib.blake2b(str(picture_YXC.shape).encode(), digest_size=8)
  digest.update(np.ascontiguousarray(picture_YXC).tobytes())
  return Seen(
    int.from_bytes(digest.digest(), "little"),
    hashes.words(picture_YXC, "dhash"),
    thumbnails.thumbnail(picture_YXC),
  )


def near_copies(seen: Sequence[Seen]) -> list[list[int]]:
  """Places of pictures that show the same, whatever is said of them: groups of
  two and more, the largest first."""
  if not seen:
    return []
  signatures = [
    duplicates.Signature(one.exact, 0, list(one.words or ()), [one.thumb])
    for one in seen
  ]
  columns = duplicates.columns(signatures)
  thumbs = columns.pop("thumbs")
  kept_by, _ = duplicates.duplicates(
    **columns,
    rank=np.arange(len(seen)),
    radius=_RADIUS,
    look=lambda rows: thumbs[rows][:, None],
  )
  groups: dict[int, list[int]] = {}
  for place, keeper in enumerate(kept_by.tolist()):
    groups.setdefault(keeper, []).append(place)
  several = [group for group in groups.values() if len(group) > 1]
  return sorted(several, key=lambda group: (-len(group), group[0]))


# ---------------------------------------------------------------- cropping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Framed:
  """What framing does to a picture: its bucket, (y, x), the share of its area
  that is cropped, and by which factor its sides grow."""

  size: tuple[int, int]
  bucket: tuple[int, int]
  cropped: float
  scale: float
  refused: bool


def framed(framing: Framing, role: Role, y: int, x: int) -> Framed:
  """Of a picture of y x x pixels."""
  fit = framing.nearest(y, x).of(role)
  placed = fit.place(y, x)
  top, left, bottom, right = placed.box
  lost = fit.cropped(y, x)
  return Framed(
    size=(y, x),
    bucket=placed.full,
    cropped=lost,
    scale=max(
      placed.content[0] / (bottom - top), placed.content[1] / (right - left)
    ),
    refused=lost > fit.max_crop,
  )


def to_generate(record: Record) -> Iterator[tuple[Role, RawPicture]]:
  """The pictures of a record that are drawn, or edited, with their roles."""
  found: list[tuple[Role, RawPicture | None]] = []
  if isinstance(record, Drawing):
    found = [("target", record.picture)]
  elif isinstance(record, Editing):
    found = [("ref", source) for source in record.sources]
    found.append(("target", record.target))
  for role, raw in found:
    if isinstance(raw, WithLatent):
      raw = raw.picture
    if raw is not None:
      yield role, raw


def buckets(found: Sequence[Framed]) -> dict[str, int]:
  """Pictures by bucket, width x height, the most frequent first."""
  counts = Counter(one.bucket for one in found)
  return {f"{x}x{y}": n for (y, x), n in counts.most_common()}


def crops(found: Sequence[Framed]) -> dict[str, int]:
  """Pictures by the share of their area that is cropped."""
  names = ["nothing", *(f"up to {s:.0%}" for s in _SHARES), "more", "refused"]
  counts = dict.fromkeys(names, 0)
  for one in found:
    if one.refused:
      counts["refused"] += 1
    elif one.cropped <= 0:
      counts["nothing"] += 1
    else:
      place = int(np.searchsorted(_SHARES, one.cropped))
      counts[names[1 + place]] += 1
  return {name: n for name, n in counts.items() if n}


def scales(found: Sequence[Framed]) -> dict[str, int]:
  """Pictures by what becomes of their sides."""
  counts = dict.fromkeys(["kept", *(n for _, n in _SCALES), "above 1.5x"], 0)
  for one in found:
    name = next((n for end, n in _SCALES if one.scale < end), "above 1.5x")
    counts["kept" if abs(one.scale - 1) < 1e-6 else name] += 1
  return {name: n for name, n in counts.items() if n}


def pixels(raw: RawPicture, where: str) -> np.ndarray | None:
  """uint8 RGB; None where it cannot be read, which `statistics` counts."""
  try:
    return images.load_picture(raw, where)
  except BadRecord:
    return None
