"""Pictures of a request in the sizes that training gave them."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.bad_record import BadRecord
from emma_jax.data.pictures.framing import Framing, Role
from emma_jax.data.pictures.preprocess import Fitted
from emma_jax.sampling.context import SampleError
from emma_jax.structs import RawPicture, WithLatent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
  """How pictures are fitted.

  framing: of pictures by their role, as in training.
  row: a layout of one row, with room for nothing, of the trained size.
  max_pixels: larger pictures are refused.
  """

  framing: Framing
  row: Layout
  max_pixels: int

  @property
  def size(self) -> tuple[int, int]:
    """Rows and columns of a picture in training, where all have one size."""
    return self.row.height, self.row.width

  def drawn_size(self, rows: int, columns: int) -> tuple[int, int]:
    """The trained (height, width) in which a picture of a size is drawn.

    Where the sampler asked for native sizes: its own, in whole tokens.
    """
    placed = self.framing.nearest(rows, columns).generation.place(rows, columns)
    return self.target_size(placed.full, placed.content)

  def target_size(
    self, full: tuple[int, int], content: tuple[int, int]
  ) -> tuple[int, int]:
    """(height, width) of a result: padding is no part of it (pad_cells)."""
    return content if self.framing.generation.fit == "pad_cells" else full

  def edit_sizes(
    self, fitted: Fitted
  ) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of an edit's references, and of its result."""
    height, width, _ = fitted.pixels_YXC.shape
    full = (height, width)
    return full, self.target_size(full, fitted.content_size)

  def fit(self, pictures: Sequence[RawPicture], role: Role) -> list[Fitted]:
    """Pictures of any kind, each in the bucket that is nearest to it.

    Raises:
      BadRecord: what is no picture, or has more than `max_pixels`.
    """
    out = []
    for i, raw in enumerate(pictures):
      where = raw if isinstance(raw, str) else f"picture {i}"
      if isinstance(raw, np.ndarray) and raw.ndim > 1:  # as of a file
        y, x, *_ = raw.shape
        if y * x > self.max_pixels:
          raise BadRecord(
            where, f"{x}x{y} exceeds {self.max_pixels} pixels (max_pixels)"
          )
      out.append(self.framing.read(raw, role, where, self.max_pixels))
    return out

  def fit_sources(
    self, sources: Sequence[Sequence[RawPicture]]
  ) -> list[list[Fitted]]:
    """Each edit's source pictures; the further ones in the size of the first.

    Raises:
      SampleError: an edit without one.
      BadRecord: as `fit`.
    """
    for i, pictures in enumerate(sources):
      if not pictures:
        raise SampleError(
          f"Edit {i} has no picture; give it one or more, or draw."
        )
    out = []
    for first, (_, *others) in zip(
      self.fit([first for first, *_ in sources], "ref"), sources
    ):
      framing = self.framing.sized(*first.pixels_YXC.shape[:2])
      framing = dataclasses.replace(
        framing,
        generation=dataclasses.replace(framing.generation, native=False),
      )
      further = dataclasses.replace(self, framing=framing).fit(others, "ref")
      out.append([first, *further])
    return out

  def fit_all(
    self, pictures: Sequence[Sequence[RawPicture]]
  ) -> list[list[np.ndarray]]:
    """Each conversation's pictures, uint8 (Y, X, 3).

    As in training all get the bucket of the first, where they are not native.
    """
    out = []
    for shown in pictures:
      first = [f.pixels_YXC for f in self.fit(shown[:1], "und")]
      framing = self.framing
      if first and framing.buckets:
        framing = framing.sized(*first[0].shape[:2])
      rest = dataclasses.replace(self, framing=framing).fit(shown[1:], "und")
      out.append([*first, *(f.pixels_YXC for f in rest)])
    return out


def sources_of(
  pictures: Sequence[RawPicture | Sequence[RawPicture]],
) -> list[Sequence[RawPicture]]:
  """Of each edit all pictures, where one may stand for a list of one."""
  one = (np.ndarray, str, bytes, WithLatent)
  return [[p] if isinstance(p, one) else p for p in pictures]
