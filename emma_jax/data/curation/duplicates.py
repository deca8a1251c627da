"""Leaves out records that are there already, in any of the data sets.

One pass over all pictures takes signatures; all of them together (some 50 bytes
a record) decide who stays; the second pass writes those. Hashes find who may be
a duplicate, and thumbnails, which stay on the disk, decide (thumbnails.py). A
record goes if it is a duplicate of one that *stays*, so chains of small changes
do not drift. Of duplicates the first stays, or the largest.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any, Literal, NamedTuple

import numpy as np

from emma_jax import files
from emma_jax.data.curation import hashes, thumbnails
from emma_jax.data.curation.base import Construction, hash64, pixels
from emma_jax.data.ingest import containers
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, FirstPass, Skipped, Tick
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Understanding

_DROPPED = "dropped.npz"
REPORT = "duplicates.jsonl"
# File names that are no UTF-8 have surrogates in them.
_CODEC = ("utf-8", "surrogatepass")
# (rows) -> thumbnails (rows, pictures, SIDE, SIDE, 3), uint8.
Look = Callable[[np.ndarray], np.ndarray]
_CHOICES = {
  "exact": ("bytes", "pixels"),
  "perceptual": ("", *hashes.KINDS),
  "text": ("always", "questions", "never"),
  "keep": ("first", "largest"),
}


class Signature(NamedTuple):
  """What is compared of a record.

  Args:
    exact: equal ones are duplicates.
    group: records of different groups never are.
    words: of all pictures (hashes.words); [] where one of them has none, or
      near pictures are not looked for.
    thumbs: of all pictures, where there are words.
  """

  exact: int
  group: int
  words: list[int]
  thumbs: list[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dedup(Construction):
  """Writes the records that are no duplicates.

  Args:
    exact: pictures are equal by their encoded bytes, or by their pixels.
    perceptual: one of hashes.KINDS, to also find near pictures; "" does not.
    radius: bits that may differ, over all pictures of a record.
    text: which records must also say the same, letter by letter, to be
      duplicates: "always" all; "questions" those of questions and answers (one
      picture may have many), but not captions and instructions; "never" only
      those that are nothing but text.
    keep: which one of the duplicates.
    plan: what `ready` found.
  """

  exact: Literal["bytes", "pixels"] = "pixels"
  perceptual: str = "dhash"
  radius: int = 3
  text: Literal["always", "questions", "never"] = "always"
  keep: Literal["first", "largest"] = "first"
  plan: str = dataclasses.field(default="", repr=False)

  def __post_init__(self):
    for name, known in _CHOICES.items():
      if getattr(self, name) not in known:
        raise ConversionError(
          f"{name}={getattr(self, name)!r} is none of {', '.join(known)}."
        )
    if not 0 <= self.radius < hashes.BITS // 2:
      raise ConversionError(
        f"radius={self.radius}: 0 to {hashes.BITS // 2 - 1} bits of a word."
      )

  def ready(self, first: FirstPass) -> "Dedup":
    """Itself with the plan of who goes, made in a pass over all pictures."""
    plan = os.path.join(first.work, _DROPPED)
    if not os.path.exists(plan):
      signatures = first.collect("signatures", sign, self)
      _decide(self, signatures, plan, os.path.join(first.folder, REPORT))
    return dataclasses.replace(self, plan=plan)

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The record, or that it is left out and what it equals."""
    gone = _gone(self.plan).get(hash64(where))
    if gone is None:
      yield made
    else:
      yield Skipped("duplicate", f"the same as {gone}")

  def sign(self, made: Converted, where: str) -> Signature:
    """The record's signature; BadRecord where a picture cannot be read."""
    stored = made.stored
    asked = stored.task in ("understanding", "text")
    with_text = self.text == "always" or (self.text == "questions" and asked)
    said = _said(stored.record) if with_text or not stored.pictures else []
    group = hash64(json.dumps([stored.task, len(stored.pictures), said]))
    decoded = self.exact == "pixels" or self.perceptual
    arrays = [pixels(p, where) for p in stored.pictures] if decoded else []
    digest = hashlib.blake2b(group.to_bytes(8, "little"), digest_size=8)
    for i, data in enumerate(stored.pictures):
      if self.exact == "pixels":
        digest.update(str(arrays[i].shape).encode())
        digest.update(arrays[i].tobytes())
      else:
        digest.update(hashlib.blake2b(data).digest())
    key = int.from_bytes(digest.digest(), "little")
    kind = self.perceptual
    found = [hashes.words(a, kind) for a in arrays if kind]
    if not found or None in found:
      return Signature(key, group, [], [])
    return Signature(
      key,
      group,
      [word for both in found if both for word in both],
      list(map(thumbnails.thumbnail, arrays)),
    )


def _said(record: schema.Record) -> Any:
  """All that is said in a record, as JSON from which it could be read back."""
  if isinstance(record, Understanding):
    return record.turns
  if isinstance(record, Drawing):
    return record.prompt
  return record.instruction


def sign(part: containers.Part, path: str, dedup: Dedup, tick: Tick) -> None:
  """Writes the signatures of a part's rows."""
  found: list[Signature] = []
  area, where_of = [], []
  for where, row in containers.read(part, dedup.base.options):
    try:
      if isinstance(row, BadRecord):
        raise row
      for made in dedup.base.make(row, where, part.path):
        if isinstance(made, Converted):
          found.append(dedup.sign(made, where))
          area.append(sum(y * x for y, x in made.sizes))
          where_of.append(where)
    except BadRecord:
      pass  # counted when the records are written
    tick(False, 0)
  names = [name.encode(*_CODEC) for name in where_of]
  with files.atomic_write(path) as file:
    np.savez(
      file,
      **columns(found),  # type: ignore[arg-type]  # numpy's allow_pickle
      area=np.array(area, np.int64),
      where=np.frombuffer(b"".join(names), np.uint8),
      ends=np.cumsum([0, *map(len, names)]),
    )


def columns(found: Sequence[Signature]) -> dict[str, np.ndarray]:
  """Signatures as arrays: the arguments of `duplicates`, and "thumbs"."""
  thumbs = [thumb for one in found for thumb in one.thumbs]
  none = np.zeros((0, thumbnails.SIDE, thumbnails.SIDE, 3), np.uint8)
  return {
    "exact": np.array([one.exact for one in found], np.uint64),
    "group": np.array([one.group for one in found], np.uint64),
    "near": np.array([word for one in found for word in one.words], np.uint64),
    "count": np.array([len(one.words) for one in found], np.int32),
    "thumbs": np.stack(thumbs) if thumbs else none,
  }


def _decide(
  dedup: Dedup, signatures: Sequence[str], plan: str, report: str
) -> None:
  """Writes who goes, and because of whom, and the report for people."""
  parts: dict[str, list[np.ndarray]] = {}
  for path in signatures:
    with np.load(path) as file:
      for name in ("exact", "group", "near", "count", "area"):
        parts.setdefault(name, []).append(file[name])
  sizes = [part.size for part in parts["exact"]]
  all_of = {name: np.concatenate(found) for name, found in parts.items()}
  rank = np.arange(all_of["exact"].size)
  if dedup.keep == "largest":
    rank[np.argsort(-all_of["area"], kind="stable")] = rank.copy()
  kept_by, far = duplicates(
    all_of["exact"],
    all_of["group"],
    all_of["near"],
    all_of["count"],
    rank,
    dedup.radius,
    lambda rows: _thumbs_of(signatures, sizes, all_of["count"], rows),
  )
  gone = np.flatnonzero(kept_by != np.arange(rank.size))
  names = _names(signatures, sizes, np.union1d(gone, kept_by[gone]))
  with files.atomic_write(report, "w") as file:
    for row in gone.tolist():
      file.write(
        json.dumps(
          {
            "where": names[row],
            "same_as": names[int(kept_by[row])],
            "bits": int(far[row]),
          }
        )
        + "\n"
      )
  keepers = sorted({names[int(i)] for i in kept_by[gone]})
  place = {name: i for i, name in enumerate(keepers)}
  with files.atomic_write(plan) as file:
    np.savez(
      file,
      keepers=np.array(keepers),
      gone=np.array([hash64(names[int(i)]) for i in gone], np.uint64),
      by=np.array([place[names[int(i)]] for i in kept_by[gone]], np.int64),
    )


def duplicates(
  exact: np.ndarray,
  group: np.ndarray,
  near: np.ndarray,
  count: np.ndarray,
  rank: np.ndarray,
  radius: int,
  look: Look | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """(who keeps each of n records, itself if it stays; bits between the two).

  Args:
    exact: (n,) uint64; equal ones are duplicates.
    group: (n,) uint64; only near hashes of one group are compared.
    near: all records' hashes, one after the other.
    count: (n,) of them per record; 0 takes part by `exact` alone.
    rank: (n,) of those that may keep each other the smallest stays.
    radius: bits.
    look: at the pictures of those whose hashes are near; without it these
      decide alone.
  """
  kept_by = _first_of_equal(exact, rank)
  far = np.zeros(exact.size, np.int64)
  first = np.cumsum(count) - count
  alone = kept_by == np.arange(exact.size)
  for words in np.unique(count[count > 0]):
    rows = np.flatnonzero((count == words) & alone)
    rows = rows[np.argsort(rank[rows])]
    table_BP = near[first[rows, None] + np.arange(words)]
    by, bits = _near(table_BP, group[rows], radius, look, rows)
    kept_by[rows], far[rows] = rows[by], bits
  # Exact copies of what has gone go with it.
  return kept_by[kept_by], np.maximum(far, far[kept_by])


def _near(
  table_BP: np.ndarray,
  group_B: np.ndarray,
  radius: int,
  look: Look | None,
  rows_B: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """(which keeps each, bits between) of records in the order of their ranks."""
  both = np.concatenate([group_B[:, None], table_BP], axis=1)
  hashes_HP, hash_B = np.unique(both, axis=0, return_inverse=True)
  hash_B = hash_B.reshape(-1)
  beside = _neighbours(hashes_HP[:, 1:], hashes_HP[:, 0], radius)
  busy_H = np.bincount(hash_B, minlength=len(hashes_HP)) > 1
  busy_H[list(beside)] = True
  busy = np.flatnonzero(busy_H[hash_B])
  place = np.full(hash_B.size, -1)
  place[busy] = np.arange(busy.size)
  thumbs = look(rows_B[busy]) if look is not None and busy.size else None
  by, bits_B = np.arange(hash_B.size), np.zeros(hash_B.size, np.int64)
  stay: dict[int, list[int]] = {}  # hash -> those that stay
  for row in busy.tolist():
    own = int(hash_B[row])
    for bits, other in ((0, own), *beside.get(own, ())):
      found = stay.get(other, [])
      if thumbs is not None and found:
        alike = _alike(thumbs[place[row]], thumbs[place[found]])
        found = [found[i] for i in np.flatnonzero(alike)[:1]]
      if found:
        by[row], bits_B[row] = found[0], bits
        break
    else:
      stay.setdefault(own, []).append(row)
  return by, bits_B


def _neighbours(
  hashes_HP: np.ndarray, group_H: np.ndarray, radius: int
) -> dict[int, list[tuple[int, int]]]:
  """Hash -> (bits, hash) of those of its group within the radius, by bits."""
  found: dict[int, set[tuple[int, int]]] = {}
  for pairs in hashes.near_pairs(hashes_HP, group_H, radius):
    a, b = pairs.T
    bits = hashes.distance(hashes_HP[a], hashes_HP[b]).sum(axis=1)
    for x, y, n in zip(a.tolist(), b.tolist(), bits.tolist()):
      found.setdefault(x, set()).add((n, y))
      found.setdefault(y, set()).add((n, x))
  return {one: sorted(others) for one, others in found.items()}


def _alike(one_PSSC: np.ndarray, many_BPSSC: np.ndarray) -> np.ndarray:
  """(B,) bool: whether all pictures of a record look like those of others."""
  out = np.ones(len(many_BPSSC), bool)
  for number, picture in enumerate(one_PSSC):
    levels = thumbnails.apart(picture, many_BPSSC[:, number])
    out &= levels <= thumbnails.TOLERANCE
  return out


def _first_of_equal(keys: np.ndarray, rank: np.ndarray) -> np.ndarray:
  """The row of the smallest rank among those of the same key.

  >>> _first_of_equal(np.array([5, 7, 5]), np.array([2, 1, 0])).tolist()
  [2, 1, 2]
  """
  order = np.lexsort([rank, keys])
  starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] ^ 1))
  lengths = np.diff(starts, append=keys.size)
  out = np.empty(keys.size, np.int64)
  out[order] = np.repeat(order[starts], lengths)
  return out


def _thumbs_of(
  signatures: Sequence[str],
  sizes: Sequence[int],
  count: np.ndarray,
  rows: np.ndarray,
) -> np.ndarray:
  """Thumbnails (rows, pictures, SIDE, SIDE, 3) of rows of as many pictures.

  Only the parts that have some are read.
  """
  pictures = int(count[rows[0]]) // 2
  side = thumbnails.SIDE
  out = np.empty((rows.size, pictures, side, side, 3), np.uint8)
  start = 0
  for path, size in zip(signatures, sizes):
    here = np.flatnonzero((start <= rows) & (rows < start + size))
    if here.size:
      held = count[start : start + size] // 2
      first = np.cumsum(held) - held
      with np.load(path) as file:
        thumbs = file["thumbs"]
      at = first[rows[here] - start]
      out[here] = thumbs[at[:, None] + np.arange(pictures)]
    start += size
  return out


def _names(
  signatures: Sequence[str], sizes: Sequence[int], wanted: np.ndarray
) -> dict[int, str]:
  """Where the wanted rows are; only the parts that have some are read."""
  out, start = {}, 0
  for path, size in zip(signatures, sizes):
    a, b = np.searchsorted(wanted, [start, start + size])
    if a < b:
      with np.load(path) as file:
        text, ends = file["where"].tobytes(), file["ends"]
      for row in wanted[a:b].tolist():
        begin, end = ends[row - start : row - start + 2]
        out[row] = text[begin:end].decode(*_CODEC)
    start += size
  return out


@functools.lru_cache(maxsize=2)
def _gone(plan: str) -> dict[int, Any]:
  """hash64(where) of a record that goes -> where the one is that stays."""
  with np.load(plan) as file:
    keepers = file["keepers"]
    return {
      g: str(keepers[i])
      for g, i in zip(file["gone"].tolist(), file["by"].tolist())
    }
