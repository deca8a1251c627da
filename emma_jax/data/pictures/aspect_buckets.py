"""Sizes of generated pictures by aspect ratio, and which one a picture gets.

A step has pictures of one size, so a stage names a few sizes, its buckets, and
every picture to generate goes to the one whose aspect ratio is nearest.
"""

from collections.abc import Sequence

import numpy as np

# (height, width), about one megapixel each: the table of PixArt-alpha (arXiv
# 2310.00426) as diffusers' pipelines have it (ASPECT_RATIO_1024_BIN), which
# SANA uses, too (arXiv 2410.10629).
TABLE_1024 = (
  (512, 2048),
  (512, 1856),
  (576, 1792),
  (576, 1728),
  (576, 1664),
  (640, 1600),
  (640, 1536),
  (704, 1472),
  (704, 1408),
  (704, 1344),
  (768, 1344),
  (768, 1280),
  (832, 1216),
  (832, 1152),
  (896, 1152),
  (896, 1088),
  (960, 1088),
  (960, 1024),
  (1024, 1024),
  (1024, 960),
  (1088, 960),
  (1088, 896),
  (1152, 896),
  (1152, 832),
  (1216, 832),
  (1280, 768),
  (1344, 768),
  (1408, 704),
  (1472, 704),
  (1536, 640),
  (1600, 640),
  (1728, 576),
  (2048, 512),
)
# The same ratios at a quarter of the pixels: PixArt's own table of 512 differs
# from it by one multiple of 32 in a few sizes.
TABLE_512 = tuple((height // 2, width // 2) for height, width in TABLE_1024)
# Each is a program of its own, which takes minutes to compile at full size.
MOST = 8


def check(buckets: Sequence[tuple[int, int]]) -> None:
  """Raises ValueError for buckets that cannot be told apart, or too many."""
  if len(buckets) > MOST:
    raise ValueError(
      f"{len(buckets)} buckets would compile as many programs; name at most "
      f"{MOST}."
    )
  ratios: dict[float, tuple[int, int]] = {}
  for height, width in buckets:
    other = ratios.setdefault(height / width, (height, width))
    if other != (height, width):
      raise ValueError(
        f"The buckets {other} and {(height, width)} have one aspect ratio; "
        "keep one of them."
      )
  if len(ratios) != len(buckets):
    raise ValueError(f"A bucket occurs twice in {tuple(buckets)}.")


def nearest(
  sizes_P2: np.ndarray, buckets: Sequence[tuple[int, int]]
) -> np.ndarray:
  """(P,) int8: the bucket of each picture, by its place in `buckets`.

  Nearest is meant in ratios, so that a picture on its side goes to the bucket
  on its side.

  >>> nearest(np.array([[30, 40], [9, 10], [40, 30]]),
  ...         [(64, 64), (64, 96), (96, 64)]).tolist()
  [1, 0, 2]

  Args:
    sizes_P2: y, x in pixels.
    buckets: (height, width), see `check`.
  """
  ratios = np.array([height / width for height, width in buckets])
  order = np.argsort(ratios)
  ratios = ratios[order]
  # Between two buckets the border is their geometric mean.
  borders = np.sqrt(ratios[:-1] * ratios[1:])
  mine = sizes_P2[:, 0] / sizes_P2[:, 1]
  return order[np.searchsorted(borders, mine)].astype(np.int8)
