"""Whether pictures that a model draws are its training pictures by heart.

The distance of two pictures is the root mean square of the difference of their
thumbnails, in levels of 255. What is drawn is called a copy where it lies far
nearer to one training picture than to the others that are near it, as Carlini
et al. 2023 (arXiv 2301.13188, section 4.2) tell extracted pictures: nearer than
RATIO times the mean distance of its NEIGHBOURS nearest.
"""

from collections.abc import Mapping, Sequence
import functools
import statistics
from typing import Any

import numpy as np

from emma_jax.data.loading.sources import SourceSpec, open_source
from emma_jax.data.pictures.images import BadRecord, load_picture
from emma_jax.data.pictures.preprocess import covering
from emma_jax.structs import Drawing, Editing, Record

SIDE, NEIGHBOURS, RATIO = 32, 50, 0.5
# Training records that are looked at, evenly spread.
_MOST = 5000


def compare(
  drawn: Sequence[np.ndarray],
  own: Sequence[np.ndarray],
  training: Mapping[str, str],
) -> dict[str, Any]:
  """How near drawn pictures lie to the training's, beside the held-out ones.

  Args:
    drawn: uint8 (Y, X, 3), by the model.
    own: the held-out records' pictures, for the same prompts.
    training: a config's data.sources.

  Returns:
    {"value": median distance of `drawn` to the nearest training picture, "own":
    the same of `own`, "copies", "n", "compared"}; {"why"} where there is
    nothing to compare with.
  """
  specs = sorted(
    spec
    for spec in set(training.values())
    if SourceSpec.parse(spec).kind != "world"
  )
  if not specs:
    return {"why": "trained on the world, which never draws a picture twice"}
  thumbnails_NP = _thumbnails(tuple(specs))
  if len(thumbnails_NP) < 2:
    return {
      "why": f"{len(thumbnails_NP)} pictures of the training can be read; a "
      "copy is told by comparing with two or more"
    }
  found = [_nearest(picture, thumbnails_NP) for picture in drawn]
  return {
    "value": statistics.median(distance for distance, _ in found),
    "own": statistics.median(_nearest(p, thumbnails_NP)[0] for p in own),
    "copies": sum(copied for _, copied in found),
    "n": len(found),
    "compared": len(thumbnails_NP),
  }


def thumbnail(picture_YXC: np.ndarray) -> np.ndarray:
  """(SIDE * SIDE * 3,) float32, of the centre: what framing shows."""
  return covering(picture_YXC, (SIDE, SIDE)).astype(np.float32).reshape(-1)


def _nearest(
  picture_YXC: np.ndarray, thumbnails_NP: np.ndarray
) -> tuple[float, bool]:
  """(distance to the nearest, whether it is a copy of it)."""
  difference_NP = thumbnails_NP - thumbnail(picture_YXC)
  distance_N = np.sqrt(np.mean(difference_NP**2, axis=1))
  near = np.sort(distance_N)[:NEIGHBOURS]
  return float(near[0]), bool(near[0] < RATIO * near.mean())


@functools.lru_cache(maxsize=4)  # a run evaluates after each stage
def _thumbnails(specs: tuple[str, ...]) -> np.ndarray:
  """(N, P) of the pictures that are learned to be drawn, each once."""
  out: dict[bytes, np.ndarray] = {}
  for spec in specs:
    try:
      source = open_source(spec)
    except (OSError, ValueError, ImportError):
      continue  # of another machine; what is compared is told
    count = min(len(source), _MOST // len(specs))
    for i in range(count):
      try:
        picture = _drawn(source[i * len(source) // count])
      except BadRecord:
        continue
      if picture is not None:
        small = thumbnail(picture)
        out[small.tobytes()] = small
  return np.array(list(out.values()), np.float32)


def _drawn(record: Record) -> np.ndarray | None:
  """What a record teaches to draw; None of a question."""
  if isinstance(record, Drawing) and record.picture is not None:
    return load_picture(record.picture, record.id)
  if isinstance(record, Editing) and record.target is not None:
    return load_picture(record.target, record.id)
  return None
