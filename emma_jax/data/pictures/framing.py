"""How pictures of each role are framed: one rule for all who show them.

Training, latents made beforehand, sampling, evaluation and planning ask here,
so that a model is shown nothing that it was not trained on (the exported
PyTorch file follows the same rule; tests compare). Pictures to be understood
are never cropped: padded to one size, or of their own (native). What is drawn,
and what is edited, covers one of a few sizes, the buckets.
"""

import dataclasses
from typing import Literal

import numpy as np

from emma_jax.data.pictures import aspect_buckets, images
from emma_jax.data.pictures.preprocess import Fitted, Preprocess
from emma_jax.structs import RawPicture, WithLatent

Role = Literal["und", "ref", "target"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Framing:
  """How a picture becomes what the model sees, by its role.

  understanding: what pictures in questions go through.
  generation: what references and targets go through; never native in training.
  buckets: (height, width) in place of the one size of both; a picture has the
    nearest by aspect ratio. (): that size.
  """

  understanding: Preprocess
  generation: Preprocess
  buckets: tuple[tuple[int, int], ...]

  def of(self, role: Role) -> Preprocess:
    """What pictures of a role go through, those of one size."""
    return self.understanding if role == "und" else self.generation

  @property
  def sizes(self) -> tuple[tuple[int, int], ...]:
    """(height, width) of the pictures to draw."""
    return self.buckets or ((self.generation.height, self.generation.width),)

  def sized(self, height: int, width: int) -> "Framing":
    """The same for pictures of one size; native ones keep theirs."""
    fit = lambda x: dataclasses.replace(x, height=height, width=width)
    return Framing(
      understanding=fit(self.understanding),
      generation=fit(self.generation),
      buckets=(),
    )

  def nearest(self, y: int, x: int) -> "Framing":
    """Of the bucket that is nearest to a picture of y x x pixels."""
    if not self.buckets:
      return self
    (index,) = aspect_buckets.nearest(np.array([[y, x]]), self.buckets)
    return self.sized(*self.buckets[index])

  def read(
    self, raw: RawPicture, role: Role, where: str, max_pixels: int
  ) -> Fitted:
    """Decodes a picture and fits it to its nearest bucket.

    Raises:
      BadRecord: see `Preprocess.read`.
    """
    fit = self
    if self.buckets and not self.of(role).native:
      if isinstance(raw, np.ndarray):
        y, x = raw.shape[:2]
      else:
        assert not isinstance(raw, WithLatent)  # ToSample takes it apart
        y, x = images.measure_picture(raw, where, max_pixels)
      fit = self.nearest(y, x)
    return fit.of(role).read(raw, where, max_pixels)

  def fingerprints(self) -> dict[str, str]:
    """Hashes of all that decides what the model sees."""
    out = {"preprocess": self.understanding.fingerprint()}
    drawn = self.generation.fingerprint()
    if self.generation.fit == "pad":  # named as when there was no other way
      return out | ({"frame": drawn} if self.understanding.native else {})
    return out | {"generation": drawn, "buckets": repr(self.buckets)}
