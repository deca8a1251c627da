"""What is asked of a model, as the sequences that its training showed it.

Nothing here is computed on a device; see `runner`.
"""

from collections.abc import Hashable, Iterable, Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.framing import Framing, Role
from emma_jax.data.pictures.preprocess import Fitted
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.data.transforms import (
  IMAGE_MARK,
  Picture,
  Sample,
  ToSample,
  further_turn,
)
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

  framing: of pictures by their role, as in training.
  to_sample: with it, and nothing dropped at random.
  row: a layout of one row, with room for nothing, of the trained size.
  max_pixels: larger pictures are refused.
  """

  tokenizer: Tokenizer
  framing: Framing
  to_sample: ToSample
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

  def size_of(self, question: Sample) -> tuple[int, int] | None:
    """(height, width) of the layout of a question; None: as trained."""
    if self.framing.understanding.native:
      return None
    return shown_size(question)

  def layout(
    self, samples: Sequence[Sample], size: tuple[int, int] | None = None
  ) -> Layout:
    """One row for any one of the samples; `size` of pictures, or trained."""
    return context.row_layout(samples, self.row, size or self.size)

  def fit(self, pictures: Sequence[RawPicture], role: Role) -> list[Fitted]:
    """Pictures of any kind, each in the bucket that is nearest to it.

    Raises:
      BadRecord: what is no picture, or has more than `max_pixels`.
    """
    out = []
    for i, raw in enumerate(pictures):
      where = raw if isinstance(raw, str) else f"picture {i}"
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
    """samples[context][n] of the sources and instruction at places[n].

    All of one size.
    """
    height, width = sources[places[0]][0].pixels_YXC.shape[:2]
    to_sample = self.to_sample.sized(height, width)
    return [
      [
        to_sample(
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
    return self._as_shown(shown)(record)

  def _as_shown(self, shown: Sequence[RawPicture]) -> ToSample:
    """Lets fitted pictures through as they are."""
    if self.framing.understanding.native or not shown:
      return self.to_sample
    (first, *_) = shown
    assert isinstance(first, np.ndarray)  # only native ones bring latents
    return self.to_sample.sized(*first.shape[:2])

  def computed_together(self, questions: Sequence[Sample]) -> list[list[int]]:
    """Places of the questions in one layout: of one size, or as large."""
    native = self.framing.understanding.native
    own = lambda q: self.layout([q]) if native else self.size_of(q)
    return list(places_by(map(own, questions)).values())

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


def shown_size(sample: Sample) -> tuple[int, int] | None:
  """(height, width) of its first picture; None without one."""
  for part in sample.parts:
    if isinstance(part, Picture):
      height, width, _ = part.pixels_YXC.shape
      return height, width
  return None


def places_by(keys: Iterable[Hashable]) -> dict[Any, list[int]]:
  """Key -> its places, in the order in which keys come up.

  >>> places_by("aba")
  {'a': [0, 2], 'b': [1]}
  """
  groups: dict[Any, list[int]] = {}
  for i, key in enumerate(keys):
    groups.setdefault(key, []).append(i)
  return groups
