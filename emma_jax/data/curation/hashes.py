"""Perceptual hashes of pictures, and all pairs of near ones among millions.

A picture has two words of 64 bits: its shape (dHash or pHash of the grey
picture) and its colours. Where both say next to nothing, they are no evidence.

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
# Levels by which a cell must be brighter than its neighbour: what encoders do
# to plain areas is less, and would fill a hash with bits of noise.
_RISE = 1.0
# Levels of chroma beside neutral grey from which an area has a colour.
_TINT = 12
# Bits that must tell a picture from a plain one; of fewer nothing follows, as
# all pictures of one thing on a plain ground would be near.
LEAST_BITS = 8


def words(picture_YXC: np.ndarray, kind: str) -> tuple[int, int] | None:
  """(shape, colours) of uint8 RGB; None where they are no evidence.

  kind: of KINDS. They are none where fewer than LEAST_BITS of both together
  differ from those of a plain picture, bright or dark, of any colour.
  """
  shape = perceptual(picture_YXC, kind)
  if shape is None:
    return None
  colours = tints(picture_YXC)
  planes = [colours >> start & 0xFFFF for start in range(0, BITS, 16)]
  telling = _unlike_plain(shape, BITS)
  telling += sum(_unlike_plain(plane, 16) for plane in planes)
  return (shape, colours) if telling >= LEAST_BITS else None


def _unlike_plain(bits: int, width: int) -> int:
  """Bits that differ from all zeros and from all ones.

  >>> _unlike_plain(0b0111, 4), _unlike_plain(0b1111, 4)
  (1, 0)
  """
  return min(bits.bit_count(), width - bits.bit_count())


def perceptual(picture_YXC: np.ndarray, kind: str) -> int | None:
  """A hash of uint8 RGB's grey; None for one that is (almost) of one grey.

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
    bits = cells[:, 1:] > cells[:, :-1] + _RISE
  else:
    low = (_DCT @ cells @ _DCT.T)[:8, :8]
    bits = low > np.median(low)
  return int.from_bytes(np.packbits(bits).tobytes(), "big")


def tints(picture_YXC: np.ndarray) -> int:
  """64 bits of uint8 RGB: where it is bluish, reddish, yellowish, greenish.

  Four planes of 4 x 4 cells: chroma above and below neutral grey.
  """
  cells = Image.fromarray(picture_YXC).resize((4, 4), Image.Resampling.BOX)
  chroma = np.asarray(cells.convert("YCbCr"), np.int16)[..., 1:] - 128
  bits = np.stack([chroma > _TINT, chroma < -_TINT]).transpose(0, 3, 1, 2)
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
