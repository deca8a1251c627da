"""The world as rows of public formats, for `emma-data convert python:...`.

  emma-data convert python:emma_jax.world.rows:drawing_shapes --out data/t2i

Records on disk have lengths, so batches of them can be planned: that is how
pictures of many shapes are trained. Rows hold PNG files, which lose nothing.
"""

from collections.abc import Iterator
import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.structs import STEM_SCIENCE, Drawing, Editing, Understanding
from emma_jax.world import tasks

# Rows of each: the training split's first.
LENGTH = 8000


@dataclasses.dataclass(frozen=True)
class Rows:
  """Rows of a task's first `length` samples of the training split.

  Questions as LLaVA has them (image, conversations; with `stem`), drawings as
  captions (image, caption), edits as X2I2 has them (input_images, instruction,
  output_image).
  """

  task: str
  length: int = LENGTH

  def __len__(self) -> int:
    return self.length

  def __iter__(self) -> Iterator[dict[str, Any]]:
    return map(self.__getitem__, range(self.length))

  def __getitem__(self, index: Any) -> dict[str, Any]:
    if not 0 <= index < self.length:
      raise IndexError(f"{index=} is outside of 0..{self.length - 1}.")
    record = tasks.sample(self.task, "train", int(index))
    if isinstance(record, Understanding):
      speakers = ("human", "gpt")
      return {
        "image": _png(record.pictures[0]),
        "conversations": [
          {"from": speaker, "value": text}
          for turn in record.turns
          for speaker, text in zip(speakers, turn)
        ],
        "stem": record.stem == STEM_SCIENCE,
      }
    if isinstance(record, Drawing):
      return {"image": _png(record.picture), "caption": record.prompt}
    assert isinstance(record, Editing)  # there is no fourth
    return {
      "input_images": [_png(source) for source in record.sources],
      "instruction": record.instruction,
      "output_image": _png(record.target),
    }


def _png(picture: Any) -> bytes:
  assert isinstance(picture, np.ndarray)  # the world renders
  out = io.BytesIO()
  Image.fromarray(picture).save(out, "PNG")
  return out.getvalue()


def understanding_shapes() -> Rows:
  """Questions about pictures on all canvases, general and STEM."""
  return Rows("understanding_shapes")


def stem_shapes() -> Rows:
  """Questions about charts, digits and sums on all canvases."""
  return Rows("stem_shapes")


def drawing_shapes() -> Rows:
  """Captions of pictures on all canvases."""
  return Rows("drawing_shapes")


def editing_shapes() -> Rows:
  """Edits of pictures on all canvases."""
  return Rows("editing_shapes")


def editing_two() -> Rows:
  """The first picture's things on the background of the second."""
  return Rows("editing_two")
