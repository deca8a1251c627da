"""What framing cuts off pictures that are drawn or edited, made visible."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.loading.dataset import BatchDataset
from emma_jax.data.pictures import images
from emma_jax.data.pictures.framing import Role
from emma_jax.data.pictures.preprocess import Placement
from emma_jax.evals import sheets
from emma_jax.pages.pictures import Picture
from emma_jax.structs import Drawing, Editing, RawPicture, WithLatent

_DIM = 0.3  # what is left of the brightness of what is lost


@dataclasses.dataclass(frozen=True)
class Crop:
  """A picture as it is in the data, what is lost of it dark."""

  text: str
  picture: Picture


def of_draws(
  source: BatchDataset, step: int, draws: Sequence[int]
) -> list[Crop]:
  """Of the pictures of some draws of a batch that lose something."""
  layout, names = source.layout(step), source.names(step)
  framing = source.config.framing.sized(layout.height, layout.width)
  out = []
  for draw in draws:
    record = source.record(step, draw)
    shown: list[tuple[Role, RawPicture | None]] = []
    if isinstance(record, Drawing):
      shown = [("target", record.picture)]
    elif isinstance(record, Editing):
      shown = [("ref", s) for s in record.sources] + [("target", record.target)]
    for role, raw in shown:
      if isinstance(raw, WithLatent):
        raw = raw.picture
      assert raw is not None  # what is trained on has its target
      pixels_YXC = images.load_picture(raw, names[draw])
      y, x, _ = pixels_YXC.shape
      fit = framing.of(role)
      lost = fit.cropped(y, x)
      if lost <= 0:
        continue
      dark = darkened(pixels_YXC, fit.place(y, x))
      word = "target" if role == "target" else "reference"
      text = (
        f"{names[draw]}, {word}, {x}x{y} to {layout.width}x{layout.height}: "
        f"{lost:.1%} cropped"
      )
      out.append(Crop(text, sheets.picture(dark, text)))
  return out


def darkened(pixels_YXC: np.ndarray, placed: Placement) -> np.ndarray:
  """The picture, uint8, dark where `placed` leaves it out."""
  top, left, bottom, right = (round(n) for n in placed.box)
  out = np.rint(pixels_YXC * _DIM).astype(np.uint8)
  out[top:bottom, left:right] = pixels_YXC[top:bottom, left:right]
  return out
