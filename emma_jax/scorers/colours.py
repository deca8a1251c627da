"""Which of ten colours an object has, as GenEval asks CLIP.

The object is cut out by its box, what is outside of its mask is painted grey,
and the nearest of the colours' texts wins. Source: djghosh13/geneval (MIT),
evaluation/evaluate_images.py, ImageCrops and color_classification; its CLIP is
OpenAI's ViT-L/14.
"""

from collections.abc import Mapping, Sequence
import threading
from typing import Any, Protocol

import numpy as np
from PIL import Image

from emma_jax.scorers.classes import COLOURS, TEMPLATES
from emma_jax.scorers.encoders import PictureEncoder, TextEncoder
from emma_jax.scorers.packages import ScorerError

BACKGROUND = np.full(3, 0x99, np.uint8)


class Outlined(Protocol):
  """A detection, as far as its colour goes."""

  @property
  def box(self) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) in pixels."""
    ...

  @property
  def mask(self) -> np.ndarray | None:
    """Bool (Y, X), where it is known."""
    ...


class ColourClassifier(Protocol):
  """Names colours; safe to use from several threads."""

  def identity(self) -> Mapping[str, Any]:
    """JSON of all that decides a colour."""
    ...

  def __call__(
    self, pixels: np.ndarray, name: str, objects: Sequence[Outlined]
  ) -> list[str]:
    """The colour of each object of the class `name`, one of COLOURS."""
    ...


def cut_out(pixels: np.ndarray, found: Outlined) -> np.ndarray:
  """uint8 (y, x, 3): the box's pixels, grey where the mask is not.

  Sides are rounded to whole pixels, and are one pixel at least.

  Raises:
    ScorerError: the mask is of another size than the picture.
  """
  if found.mask is not None:
    if found.mask.shape != pixels.shape[:2]:
      raise ScorerError(
        f"A mask of {found.mask.shape} for a picture of {pixels.shape[:2]}."
      )
    pixels = np.where(found.mask[..., None], pixels, BACKGROUND)
  left, top, right, bottom = (round(side) for side in found.box)
  box = (left, top, max(right, left + 1), max(bottom, top + 1))
  return np.asarray(Image.fromarray(pixels).crop(box))


class ClipColours:
  """By CLIP: the colour whose texts are nearest to the cut-out."""

  def __init__(self, pictures: PictureEncoder, texts: TextEncoder):
    self._pictures, self._texts = pictures, texts
    self._known: dict[str, np.ndarray] = {}
    self._lock = threading.Lock()

  def identity(self) -> Mapping[str, Any]:
    """Of both encoders."""
    return {
      "image": self._pictures.identity(),
      "text": self._texts.identity(),
      "templates": list(TEMPLATES),
    }

  def __call__(
    self, pixels: np.ndarray, name: str, objects: Sequence[Outlined]
  ) -> list[str]:
    """The colour of each object; see ColourClassifier."""
    with self._lock:
      if name not in self._known:
        self._known[name] = np.stack([self._colour(c, name) for c in COLOURS])
      texts_CD = self._known[name]
    vectors = [self._pictures(cut_out(pixels, found)) for found in objects]
    return [COLOURS[int(np.argmax(texts_CD @ vector))] for vector in vectors]

  def _colour(self, color: str, name: str) -> np.ndarray:
    texts = [t.format(color=color, name=name) for t in TEMPLATES]
    return _unit(np.mean([_unit(self._texts(t)) for t in texts], axis=0))


def _unit(vector: np.ndarray) -> np.ndarray:
  return vector / np.linalg.norm(vector)
