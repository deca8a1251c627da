"""Emu Edit and MagicBrush: how far an edited picture is from a reference.

Emu Edit's test set comes without code. What papers report are three things by
one name: MagicBrush compares with a ground truth (L1, L2, CLIP ViT-B/32, DINO),
InstructPix2Pix and UltraEdit compare input, output and captions by CLIP
ViT-L/14, others compare with Emu Edit's own output. So a number needs its
reference and its encoder beside it.

Sources: OSU-NLP-Group/MagicBrush (CC BY 4.0), evaluation/image_eval.py;
HaozheZhao/UltraEdit, data_generation/metrics/clip_similarity.py, itself from
timothybrooks/instruct-pix2pix (MIT).

Both compute in float32 with PyTorch, whose sums depend on their order; `_sum`
adds in that order, so that numbers are the same to the last bit.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

import numpy as np

# Pictures are uint8 arrays (height, width, 3).
Pair = tuple[np.ndarray, np.ndarray]


# ------------------------------------------------------------------ distances


def l1(pairs: Sequence[Pair]) -> float:
  """Mean absolute difference in 0..1, of each pair, averaged over pairs.

  Args:
    pairs: (generated, reference), uint8 (height, width, 3) each. The generated
      one is resized to the reference's size first.

  Raises:
    ValueError: a picture of another type or shape.
    ZeroDivisionError: no pairs, as there.
  """
  return _distance(pairs, np.abs)


def l2(pairs: Sequence[Pair]) -> float:
  """Mean squared difference in 0..1, without a root; else as `l1`."""
  return _distance(pairs, lambda x: x * x)


def _distance(
  pairs: Sequence[Pair], of: Callable[[np.ndarray], np.ndarray]
) -> float:
  if not len(pairs):
    raise ZeroDivisionError("A distance needs at least one pair.")
  total = 0.0
  for generated, reference in pairs:
    reference = _checked(reference)
    height, width = reference.shape[:2]
    generated = resize(_checked(generated), width, height)
    # Channels first: the order in which the original adds.
    a, b = (
      x.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
      for x in (generated, reference)
    )
    difference = of(a - b)
    total += float(_sum(difference.ravel()) / np.float32(difference.size))
  return total / len(pairs)


def _checked(picture: np.ndarray) -> np.ndarray:
  picture = np.asarray(picture)
  if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
    raise ValueError(
      f"A picture must be (height, width, 3), not {picture.shape}."
    )
  if picture.dtype != np.uint8:
    raise ValueError(f"A picture must be uint8, not {picture.dtype}.")
  return picture


def _sum(values: np.ndarray) -> np.float32:
  """Sum of float32 (n,) in PyTorch's order on a CPU (at/native/cpu/SumKernel).

  Vectors of 8 lanes (of 1 lane, if there are less than 8 values) are dealt to 4
  rows; each row is added in up to 4 levels of partial sums. Larger tensors are
  split among threads there, so those agree to about 1e-7 only.
  """
  lanes, rows, levels = 8 if len(values) >= 8 else 1, 4, 4
  count = len(values) // lanes
  vectors = values[: count * lanes].reshape(count, lanes)
  deals = count // rows
  dealt = vectors[: deals * rows].reshape(deals, rows, lanes)
  power = max(4, (math.ceil(math.log2(deals)) if deals else 0) // levels)
  step = 1 << power
  partial = np.zeros((levels, rows, lanes), np.float32)
  for begin in range(0, deals - step + 1, step):
    # Down the first axis, whose partial sums are the running ones.
    partial[0] += np.add.accumulate(dealt[begin : begin + step])[-1]
    for level in range(1, levels):
      partial[level] += partial[level - 1]
      partial[level - 1] = 0
      if (begin + step) & ((step - 1) << (level * power)):
        break
  for deal in dealt[deals // step * step :]:
    partial[0] += deal
  for level in range(1, levels):
    partial[0] += partial[level]
  row = partial[0]
  for vector in vectors[deals * rows :]:
    row[0] += vector
  for other in row[1:]:
    row[0] += other
  total = np.float32(0)
  for value in [*values[count * lanes :], *row[0]]:
    total = np.float32(total + value)
  return total


# --------------------------------------------------------------- features


def clip_i(feature_pairs: Sequence[tuple[Any, Any]]) -> float:
  """MagicBrush's CLIP-I: mean cosine of pairs of features, -1..1.

  Its DINO and CLIP-T are the same of other features: DINO's of both pictures,
  CLIP's of the generated picture and of the caption.

  Args:
    feature_pairs: (generated, reference), (width,) each, of any length; from
      CLIP ViT-B/32 or DINO ViT-S/16. Computed in float32, as the encoders give
      them. A feature that is zero gives NaN.

  Raises:
    ValueError: a cosine beyond -1..1.
    ZeroDivisionError: no pairs, as there.
  """
  if not len(feature_pairs):
    raise ZeroDivisionError("CLIP-I needs at least one pair.")
  total = np.float32(0)
  for pair in feature_pairs:
    a, b = (np.asarray(x, np.float32) for x in pair)
    norms = np.float32(math.sqrt(np.dot(a, a) * np.dot(b, b)))
    with np.errstate(invalid="ignore"):
      distance = np.float32(1) - np.dot(a, b) / norms
    # As SciPy does: rounding must not make a cosine of more than one.
    similarity = np.float32(1) - np.clip(distance, np.float32(0), np.float32(2))
    if abs(similarity) > 1:
      raise ValueError(f"A cosine of {similarity} is beyond -1..1.")
    total = np.float32(total + similarity)
  return float(total / np.float32(len(feature_pairs)))


def clip_similarities(
  image_in: Any, image_out: Any, text_in: Any, text_out: Any
) -> dict[str, float]:
  """InstructPix2Pix's four cosines of one edit, -1..1.

  Args:
    image_in, image_out: features of the pictures before and after, (width,),
      each of length one.
    text_in, text_out: features of their captions, likewise.

  Returns:
    clip_dir: of the two differences, out less in; 0 where one is zero.
    clip_img: of both pictures. clip_out_sim_1: of output and its caption.
    sim_0: of input and its caption.
  """
  a, b, c, d = (
    np.asarray(x, np.float32) for x in (image_in, image_out, text_in, text_out)
  )
  return {
    "clip_dir": _cosine(b - a, d - c),
    "clip_img": _cosine(a, b),
    "clip_out_sim_1": _cosine(b, d),
    "sim_0": _cosine(a, c),
  }


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
  """PyTorch's: each is divided by its length, of at least 1e-8, first."""
  unit = []
  for x in (a, b):
    length = np.sqrt(_squares(x), dtype=np.float32)
    unit.append(x / np.maximum(length, np.float32(1e-8)))
  return float(_sum(unit[0] * unit[1]))


def _squares(x: np.ndarray) -> np.float32:
  """Sum of the squares of float32 (n,), as PyTorch adds those of a norm.

  8 lanes down the vector, then lane after lane, then what is left over
  (at/native/cpu/ReduceOpsKernel): not the order of `_sum`. Of that what fills
  no 4 is squared and added at once, as the compiler has it on x86.
  """
  squares = x * x
  full, fours = len(x) // 8 * 8, len(x) // 4 * 4
  lanes = np.zeros(8, np.float32)
  if full:
    lanes = np.add.accumulate(squares[:full].reshape(-1, 8))[-1]
  total = np.add.accumulate(np.concatenate([lanes, squares[full:fours]]))[-1]
  for value in x[fours:]:
    total = np.float32(float(total) + float(value) ** 2)
  return total


# ----------------------------------------------------------------- resizing


def resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
  """Bicubic, uint8 (height, width, 3); bit for bit what Pillow up to 12 gives.

  Pillow's default, which MagicBrush uses: the kernel widens when it shrinks;
  rows first, then columns, each rounded to 8 bits.
  """
  if picture.shape[1] != width:
    picture = _resize_rows(picture, width)
  if picture.shape[0] != height:
    turned = _resize_rows(picture.swapaxes(0, 1), height)
    picture = turned.swapaxes(0, 1)
  return picture


def _resize_rows(picture: np.ndarray, width: int) -> np.ndarray:
  """uint8 (height, old width, 3) -> (height, width, 3)."""
  bits = 32 - 8 - 2  # after the point, of Pillow's weights
  first, weights = _kernels(picture.shape[1], width)
  fixed = np.trunc(weights * (1 << bits) + np.copysign(0.5, weights))
  sums = np.full((picture.shape[0], width, 3), 1 << (bits - 1), np.int64)
  for tap, weight in enumerate(fixed.astype(np.int64).T):
    place = np.minimum(first + tap, picture.shape[1] - 1)
    sums += picture[:, place].astype(np.int64) * weight[:, None]
  return np.clip(sums >> bits, 0, 255).astype(np.uint8)


def _kernels(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
  """Per new pixel: the first old pixel it is made of (new,), and the weights of
  that and those after it (new, taps), in sum 1."""
  scale = old / new
  wide = max(scale, 1.0)
  center = (np.arange(new) + 0.5) * scale
  first = np.maximum((center - 2 * wide + 0.5).astype(np.int64), 0)
  last = np.minimum((center + 2 * wide + 0.5).astype(np.int64), old)
  taps = np.arange((last - first).max())
  x = (taps + first[:, None] - center[:, None] + 0.5) * (1.0 / wide)
  weights = np.where(taps < (last - first)[:, None], _bicubic(x), 0.0)
  total = np.add.accumulate(weights, axis=1)[:, -1:]  # one by one, as in C
  return first, weights * (1.0 / total)


def _bicubic(x: np.ndarray) -> np.ndarray:
  """The cubic kernel with a = -0.5."""
  a = -0.5
  x = np.abs(x)
  near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
  far = (((x - 5) * x + 8) * x - 4) * a
  return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _pairs_case(
  generated: Any = None, reference: Any = None, pairs: Any = (), note: str = ""
) -> list[Pair]:
  """A golden case's pictures: one pair, or the greys of pairs of 4 x 4."""
  del note
  if generated is not None:
    return [(np.array(generated, np.uint8), np.array(reference, np.uint8))]
  grey = lambda value: np.full((4, 4, 3), value, np.uint8)
  return [(grey(a), grey(b)) for a, b in pairs]


_PIXELS = "Emu-Edit/MagicBrush"
SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  (_PIXELS, "clip_i", "magicbrush"): clip_i,
  (
    _PIXELS,
    "clip_similarities",
    "ultraedit (InstructPix2Pix)",
  ): clip_similarities,
  (_PIXELS, "l1", "magicbrush"): lambda **case: l1(_pairs_case(**case)),
  (_PIXELS, "l2", "magicbrush"): lambda **case: l2(_pairs_case(**case)),
}
