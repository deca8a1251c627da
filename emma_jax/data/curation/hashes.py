"""Perceptual hashes of pictures, and all pairs of near ones among millions.

Two 64-bit hashes that differ in at most r bits, cut into r + k bands, agree on
at least k of them. So of every choice of k bands a table is sorted, and only
what agrees there is compared: nothing that is near is missed, and with k chosen
by the number of hashes the tables' runs stay short.
"""

from collections.abc import Iterator
import itertools
import math

import numpy as np
from PIL import Image

KINDS = ("dhash", "phash")
BITS = 64
# Standard deviation of grey below which a picture has no structure to compare:
# all plain walls would be one.
_FLAT = 2.0


def perceptual(picture_YXC: np.ndarray, kind: str) -> int | None:
  """A hash of uint8 RGB; None for a picture that is (almost) of one colour.

  dhash: whether each cell of a 9 x 8 grid is brighter than its neighbour.
  phash: whether each of the 8 x 8 lowest frequencies is above their median.
  """
  grey = Image.fromarray(picture_YXC).convert("L")
  size = (9, 8) if kind == "dhash" else (32, 32)
  cells = np.asarray(
    grey.resize(size, Image.Resampling.BOX, reducing_gap=None), np.float64
  )
  if cells.std() < _FLAT:
    return None
  if kind == "dhash":
    bits = cells[:, 1:] > cells[:, :-1]
  else:
    low = (_DCT @ cells @ _DCT.T)[:8, :8]
    bits = low > np.median(low)
  return int.from_bytes(np.packbits(bits).tobytes(), "big")


_DCT = np.cos(np.pi / 32 * (np.arange(32) + 0.5) * np.arange(32)[:, None])


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Differing bits of uint64, elementwise."""
  return np.bitwise_count(a ^ b).astype(np.int64)


def near_pairs(
  hashes_BP: np.ndarray, groups_B: np.ndarray, radius: int
) -> Iterator[np.ndarray]:
  """Pairs (m, 2) of rows of one group whose hashes differ in <= radius bits.

  Args:
    hashes_BP: uint64; the bits of all P pictures count together.
    groups_B: uint64; rows of different groups are never paired.
    radius: of the whole row.

  Every pair comes once at least; perhaps more often.
  """
  if not 0 <= radius < BITS // 2:
    raise ValueError(f"{radius=} is not in 0..{BITS // 2 - 1}.")
  count = hashes_BP.shape[0]
  if count < 2:
    return
  bands, chosen = _cut(count, radius)
  edges = np.linspace(0, BITS, bands + 1).astype(int)
  masks = [
    ((1 << int(b)) - 1) ^ ((1 << int(a)) - 1)
    for a, b in itertools.pairwise(edges)
  ]
  for some in itertools.combinations(masks, chosen):
    mask = np.uint64(sum(some))
    key = _mixed(hashes_BP[:, 0] & mask, groups_B)
    order = np.argsort(key, kind="stable")
    yield from _of_runs(hashes_BP, groups_B, order, key[order], radius)


def _cut(count: int, radius: int) -> tuple[int, int]:
  """(bands, how many must agree): runs of a random table stay below one."""
  for chosen in range(1, 5):
    bands = radius + chosen
    if BITS * chosen / bands >= math.log2(count):
      break
  return bands, chosen


def _mixed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """One number of two; equal pairs give equal numbers."""
  with np.errstate(over="ignore"):
    return a * np.uint64(0x9E3779B97F4A7C15) ^ b * np.uint64(0xC2B2AE3D27D4EB4F)


def _of_runs(
  hashes_BP: np.ndarray,
  groups_B: np.ndarray,
  order: np.ndarray,
  key: np.ndarray,
  radius: int,
) -> Iterator[np.ndarray]:
  """Compares each element with those after it that have its key."""
  left = np.flatnonzero(key[1:] == key[:-1])
  step = 1
  while left.size:
    a, b = order[left], order[left + step]
    far = distance(hashes_BP[a], hashes_BP[b]).sum(axis=1)
    near = (far <= radius) & (groups_B[a] == groups_B[b])
    if near.any():
      yield np.stack([a[near], b[near]], axis=1)
    step += 1
    left = left[left + step < key.size]
    left = left[key[left] == key[left + step]]
