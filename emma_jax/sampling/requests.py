"""What is asked of a model, as the sequences that its training showed it.

Nothing here is computed on a device; see `runner`.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.preprocess import Fitted, Preprocess
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.data.transforms import IMAGE_MARK, Sample, ToSample, further_turn
from emma_jax.sampling import context
from emma_jax.sampling.context import SampleError, static_size
from emma_jax.sampling.image import Context
from emma_jax.structs import (
  Drawing,
  Editing,
  RawPicture,
  Understanding,
  WithLatent,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requests:
  """How a model sees what it is asked.

  preprocess: of pictures in questions.
  generation_preprocess: of what is drawn and edited; other than `preprocess`
    where a model was trained on native pictures, which it saw in questions
    alone.
  to_sample: with `generation_preprocess`, and nothing dropped at random.
  row: a layout of one row, with room for nothing, of the trained size.
  max_pixels: larger pictures are refused.
  """

  tokenizer: Tokenizer
  preprocess: Preprocess
  generation_preprocess: Preprocess
  to_sample: ToSample
  row: Layout
  max_pixels: int

  @property
  def size(self) -> tuple[int, int]:
    """Rows and columns of a picture in training, where all have one size."""
    return self.row.height, self.row.width

  def layout(
    self, samples: Sequence[Sample], size: tuple[int, int] | None = None
  ) -> Layout:
    """One row for any one of the samples; `size` of pictures, or trained."""
    return context.row_layout(samples, self.row, size or self.size)

  def fit(
    self, pictures: Sequence[RawPicture], preprocess: Preprocess
  ) -> list[Fitted]:
    """Pictures of any kind, preprocessed.

    Raises:
      BadRecord: what is no picture, or has more than `max_pixels`.
    """
    out = []
    for i, raw in enumerate(pictures):
      where = _where(raw, f"picture {i}")
      out.append(preprocess.read(raw, where, self.max_pixels))
    return out

  def fit_sources(
    self, sources: Sequence[Sequence[RawPicture]]
  ) -> list[list[Fitted]]:
    """Each edit's source pictures; the further ones in the size of the first.

    Raises:
      SampleError: an edit without one.
      BadRecord: as `fit`.
    """
    out = []
    for i, raw in enumerate(sources):
      if not raw:
        raise SampleError(
          f"Edit {i} has no picture; give it one or more, or draw."
        )
      first = self.generation_preprocess.read(
        raw[0], _where(raw[0], f"picture {i}"), self.max_pixels
      )
      y, x, _ = first.pixels_YXC.shape
      further = dataclasses.replace(
        self.generation_preprocess, native=False, height=y, width=x
      )
      rest = [
        further.read(
          picture, _where(picture, f"picture {n} of edit {i}"), self.max_pixels
        )
        for n, picture in enumerate(raw[1:], start=1)
      ]
      out.append([first, *rest])
    return out

  def fit_all(
    self, pictures: Sequence[Sequence[RawPicture]]
  ) -> list[list[np.ndarray]]:
    """Each conversation's pictures, uint8 (Y, X, 3)."""
    return [
      [f.pixels_YXC for f in self.fit(shown, self.preprocess)]
      for shown in pictures
    ]

  def drawings(
    self, prompts: Sequence[str], contexts: Sequence[Context]
  ) -> list[list[Sample]]:
    """samples[context][prompt]."""
    return [
      [self.to_sample(Drawing(prompt=p), drop_text=not c.text) for p in prompts]
      for c in contexts
    ]

  def edits(
    self,
    sources: Sequence[Sequence[Fitted]],
    instructions: Sequence[str],
    contexts: Sequence[Context],
    places: Sequence[int],
  ) -> list[list[Sample]]:
    """samples[context][n] of the sources and instruction at places[n]."""
    return [
      [
        self.to_sample(
          Editing(
            sources=tuple(f.pixels_YXC for f in sources[i]),
            instruction=instructions[i],
            id=f"picture {i}",
          ),
          drop_text=not c.text,
          drop_reference=not c.reference,
        )
        for i in places
      ]
      for c in contexts
    ]

  def question(
    self, i: int, shown: Sequence[RawPicture], questions: Sequence[str]
  ) -> Sample:
    """Conversation `i` up to its first answer."""
    if not questions:
      raise SampleError(f"Conversation {i} has no question; give one.")
    for question in questions[1:]:
      if IMAGE_MARK in question:
        raise SampleError(
          f"Conversation {i}: {question!r} marks a picture, but pictures "
          "belong to the first question; mark them there."
        )
    record = Understanding(
      pictures=tuple(shown),
      turns=((questions[0], None),),  # type: ignore[arg-type]  # `structs` lacks None: to be made
      id=f"conversation {i}",
    )
    return self.to_sample(record)

  def computed_together(self, questions: Sequence[Sample]) -> list[list[int]]:
    """Places of the questions in one layout: all, or native ones as large."""
    groups: dict[Layout | None, list[int]] = {}
    for i, question in enumerate(questions):
      own = self.layout([question]) if self.preprocess.native else None
      groups.setdefault(own, []).append(i)
    return list(groups.values())

  def further_turns(
    self, members: Sequence[int], turns: Sequence[Sequence[str]]
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per turn after the first: tokens (all conversations, Q) and counts."""
    blocks = []
    for turn in range(1, max(len(turns[i]) for i in members)):
      # An answer's cache lacks its <|im_end|>; see `text.answer`.
      asked = {
        i: (self.tokenizer.eos, *further_turn(self.tokenizer, turns[i][turn]))
        for i in members
        if turn < len(turns[i])
      }
      width = static_size(max(map(len, asked.values())), 16)
      tokens = np.zeros((len(turns), width), np.int32)
      count = np.zeros(len(turns), np.int32)
      for i, ids in asked.items():
        tokens[i, : len(ids)], count[i] = ids, len(ids)
      blocks.append((tokens, count))
    return blocks


def sources_of(
  pictures: Sequence[RawPicture | Sequence[RawPicture]],
) -> list[Sequence[RawPicture]]:
  """Of each edit all pictures, where one may stand for a list of one."""
  one = (np.ndarray, str, bytes, WithLatent)
  return [[p] if isinstance(p, one) else p for p in pictures]


def _where(picture: RawPicture, name: str) -> str:
  """What errors call a picture: its path, or else the name."""
  return picture if isinstance(picture, str) else name


def by_size(fitted: Sequence[Fitted]) -> dict[tuple, list[int]]:
  """(height, width) -> places of the pictures of that size."""
  groups: dict[tuple[int, ...], list[int]] = {}
  for i, f in enumerate(fitted):
    groups.setdefault(f.pixels_YXC.shape[:2], []).append(i)
  return groups
