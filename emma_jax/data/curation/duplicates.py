"""Leaves out records that are there already, in any of the data sets.

One pass over all pictures takes signatures; all of them together (some 30 bytes
a record) decide who stays; the second pass writes those. A record goes if it is
a duplicate of one that *stays*, so chains of small changes do not drift. Of
duplicates the first stays, or the largest.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any, Literal

import numpy as np

from emma_jax import files
from emma_jax.data.curation import hashes
from emma_jax.data.curation.base import Construction, hash64, pixels, texts_of
from emma_jax.data.ingest import containers
from emma_jax.data.ingest.part import Converted, FirstPass, Skipped, Tick
from emma_jax.data.pictures.images import BadRecord

_DROPPED = "dropped.npz"
REPORT = "duplicates.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dedup(Construction):
  """Writes the records that are no duplicates.

  Args:
    exact: pictures are equal by their encoded bytes, or by their pixels.
    perceptual: one of hashes.KINDS, to also find near pictures; "" does not.
    radius: bits that may differ, over all pictures of a record.
    text: whether records must also say the same to be duplicates: "auto" asks
      that of questions and answers (one picture may have many), but not of
      captions and instructions.
    keep: which one of the duplicates.
    plan: what `ready` found.
  """

  exact: Literal["bytes", "pixels"] = "pixels"
  perceptual: str = "dhash"
  radius: int = 3
  text: Literal["auto", "always", "never"] = "auto"
  keep: Literal["first", "largest"] = "first"
  plan: str = dataclasses.field(default="", repr=False)

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

  def sign(self, made: Converted, where: str) -> tuple[int, int, list[int]]:
    """(exact key, key of what must be equal besides, perceptual hashes)."""
    stored = made.stored
    asked = stored.task in ("understanding", "text")
    with_text = self.text == "always" or (self.text == "auto" and asked)
    text = (
      json.dumps([stored.task, *texts_of(stored.record)])
      if (with_text or not stored.pictures)
      else stored.task
    )
    group = hash64(f"{len(stored.pictures)} {text}")
    decoded = self.exact == "pixels" or self.perceptual
    arrays = [pixels(p, where) for p in stored.pictures] if decoded else []
    digest = hashlib.blake2b(group.to_bytes(8, "little"), digest_size=8)
    for i, data in enumerate(stored.pictures):
      if self.exact == "pixels":
        digest.update(str(arrays[i].shape).encode())
        digest.update(arrays[i].tobytes())
      else:
        digest.update(hashlib.blake2b(data).digest())
    found = [
      hashes.perceptual(a, self.perceptual) for a in arrays if self.perceptual
    ]
    near = [h for h in found if h is not None]
    key = int.from_bytes(digest.digest(), "little")
    return key, group, near if len(near) == len(found) else []


def sign(part: containers.Part, path: str, dedup: Dedup, tick: Tick) -> None:
  """Writes the signatures of a part's rows."""
  exact, group, near, count, area, where_of = [], [], [], [], [], []
  for where, row in containers.read(part, dedup.base.options):
    try:
      if isinstance(row, BadRecord):
        raise row
      for made in dedup.base.make(row, where, part.path):
        if isinstance(made, Converted):
          key, same, found = dedup.sign(made, where)
          exact.append(key)
          group.append(same)
          near += found
          count.append(len(found))
          area.append(sum(y * x for y, x in made.sizes))
          where_of.append(where)
    except BadRecord:
      pass  # counted when the records are written
    tick(False, 0)
  names = [name.encode() for name in where_of]
  with files.atomic_write(path) as file:
    np.savez(
      file,
      exact=np.array(exact, np.uint64),
      group=np.array(group, np.uint64),
      near=np.array(near, np.uint64),
      count=np.array(count, np.int32),
      area=np.array(area, np.int64),
      where=np.frombuffer(b"".join(names), np.uint8),
      ends=np.cumsum([0, *map(len, names)]),
    )


def _decide(
  dedup: Dedup, signatures: Sequence[str], plan: str, report: str
) -> None:
  """Writes who goes, and because of whom, and the report for people."""
  columns: dict[str, list[np.ndarray]] = {}
  for path in signatures:
    with np.load(path) as file:
      for name in ("exact", "group", "near", "count", "area"):
        columns.setdefault(name, []).append(file[name])
  sizes = [part.size for part in columns["exact"]]
  all_of = {name: np.concatenate(parts) for name, parts in columns.items()}
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
) -> tuple[np.ndarray, np.ndarray]:
  """(who keeps each of n records, itself if it stays; bits between the two).

  Args:
    exact: (n,) uint64; equal ones are duplicates.
    group: (n,) uint64; only near hashes of one group are compared.
    near: all records' hashes, one after the other.
    count: (n,) of them per record; 0 takes part by `exact` alone.
    rank: (n,) of those that may keep each other the smallest stays.
    radius: bits.
  """
  kept_by = _first_of_equal(exact, rank)
  far = np.zeros(exact.size, np.int64)
  first = np.cumsum(count) - count
  pairs: set[tuple[int, int, int]] = set()  # worse rank, better rank, bits
  alone = kept_by == np.arange(exact.size)
  for pictures in np.unique(count[count > 0]):
    rows = np.flatnonzero((count == pictures) & alone)
    table_BP = near[first[rows, None] + np.arange(pictures)]
    # Of equal hashes one stands for all: k of them would be k^2 / 2 pairs.
    columns = np.concatenate([group[rows, None], table_BP], axis=1)
    _, same = np.unique(columns, axis=0, return_inverse=True)
    equal = _first_of_equal(same.reshape(-1), rank[rows])
    kept_by[rows] = rows[equal]
    chosen = np.flatnonzero(equal == np.arange(rows.size))
    rows, table_BP = rows[chosen], table_BP[chosen]
    for found in hashes.near_pairs(table_BP, group[rows], radius):
      bits = hashes.distance(table_BP[found[:, 0]], table_BP[found[:, 1]])
      ranks = rank[rows[found]]
      pairs.update(
        zip(
          ranks.max(axis=1).tolist(),
          ranks.min(axis=1).tolist(),
          bits.sum(axis=1).tolist(),
        )
      )
  row_of = np.argsort(rank)
  for worse, better, apart in sorted(pairs):
    a, b = int(row_of[worse]), int(row_of[better])
    # In the order of ranks, so that whether b stays is decided already.
    if kept_by[a] == a and kept_by[b] == b:
      kept_by[a], far[a] = b, apart
  return _followed(kept_by, far)


def _followed(
  kept_by: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Copies of what has gone go with it: equal, equal hash, near."""
  at = np.arange(kept_by.size)
  bits = np.zeros_like(far)
  for _ in range(3):
    bits = np.maximum(bits, far[at])  # one step at most has any
    at = kept_by[at]
  return at, bits


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
        out[row] = text[begin:end].decode()
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
