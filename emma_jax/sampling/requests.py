"""What is asked of a model, as the sequences that its training showed it.

Nothing here is computed on a device; see `runner`.
"""

from collections.abc import Hashable, Iterable, Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax import ranges
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.images import MAX_ASPECT
from emma_jax.data.pictures.preprocess import Fitted
from emma_jax.data.text.chat import IMAGE_MARK
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.data.transforms import Picture, Sample, ToSample, further_turn
from emma_jax.sampling import context
from emma_jax.sampling.context import SampleError, static_size
from emma_jax.sampling.fitting import Fitting
from emma_jax.sampling.image import Context
from emma_jax.structs import Drawing, Editing, RawPicture, Understanding

# Of a token, at most: runs of spaces in Qwen3's vocabulary.
_CHARACTERS = 128
# A text may take so many times the tokens of the longest row of the training.
# Beyond, no model has learned where anything is, and a small one computes long.
_BEYOND = 16
# Results that are kept together, in pictures of the largest size.
_RESULTS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requests(Fitting):
  """How a model sees what it is asked.

  to_sample: with the framing, and nothing dropped at random.
  max_context: tokens of a request, pictures and all questions included.
  longest_row: tokens of the longest row that a stage of the training had room
    for; None: not known.
  """

  tokenizer: Tokenizer
  to_sample: ToSample
  max_context: int
  longest_row: int | None = None

  def size_of(self, question: Sample) -> tuple[int, int] | None:
    """(height, width) of the layout of a question; None: as trained."""
    if self.framing.understanding.native:
      return None
    return shown_size(question)

  def layout(
    self,
    name: str,
    samples: Sequence[Sample],
    size: tuple[int, int] | None = None,
  ) -> Layout:
    """One row for any one of the samples; `size` of pictures, or trained.

    Raises:
      SampleError: the request of that name is longer than `max_context`.
    """
    row = context.row_layout(samples, self.row, size or self.size)
    self.check_tokens(name, max(row.row_cost(s)["und_tokens"] for s in samples))
    return row

  def check_results(self, size: tuple[int, int], count: int) -> None:
    """Raises SampleError for results that no memory is meant for.

    `size`: rows and columns of each of `count`.
    """
    height, width = size
    if height < 1 or width < 1:
      raise SampleError(f"{size=} must be positive.")
    if height * width > self.max_pixels:
      raise SampleError(
        f"A picture of {height}x{width} has {height * width} pixels; at most "
        f"data.max_pixels={self.max_pixels} are made. Ask for a smaller one."
      )
    if max(size) > MAX_ASPECT * min(size):
      raise SampleError(
        f"A picture of {height}x{width} is thinner than 1:{MAX_ASPECT}, as no "
        "picture that is read may be. Ask for one that is less so."
      )
    self.check_kept([(size, count)])

  def check_kept(self, results: Sequence[tuple[tuple[int, int], int]]) -> None:
    """The same of results of several sizes, each with how many it has."""
    pixels = sum(height * width * n for (height, width), n in results)
    if pixels > _RESULTS * self.max_pixels:
      (height, width), _ = max(results)
      up_to = "up to " if len({size for size, _ in results}) > 1 else ""
      raise SampleError(
        f"{sum(n for _, n in results)} pictures of {up_to}{height}x{width} are "
        f"kept until all are made, and have more than {_RESULTS} times "
        f"data.max_pixels={self.max_pixels}. Ask for fewer at a time, with "
        "another seed each."
      )

  def check_tokens(self, name: str, tokens: int) -> None:
    """Raises SampleError where a request is longer than `max_context`."""
    if tokens > self.max_context:
      raise SampleError(
        f"{name} takes {tokens} tokens, pictures included; at most "
        f"sample.max_context={self.max_context} of them fit. Shorten it."
      )

  def check_prompt(self, name: str, text: str) -> None:
    """Raises SampleError for a text that is too long to be drawn from."""
    if len(text) > ranges.MOST_CHARACTERS:
      raise SampleError(
        f"{name} has {len(text)} characters; at most {ranges.MOST_CHARACTERS} "
        "are taken. Shorten it."
      )
    self.check_text(name, text)

  def check_text(self, name: str, text: str) -> None:
    """Before a text is turned into tokens, which of a long one takes long.

    Raises:
      SampleError: its characters are more than `max_context` tokens hold, or
        it has more tokens than `_BEYOND` of the longest row.
    """
    most = self.max_context * _CHARACTERS
    if len(text) > most:
      raise SampleError(
        f"{name} has {len(text)} characters; more than {most} never fit into "
        f"sample.max_context={self.max_context} tokens. Shorten it."
      )
    if self.longest_row is None or len(text) <= self.longest_row:
      return
    tokens = len(self.tokenizer.encode(text))
    self.check_tokens(name, tokens)
    limit = _BEYOND * self.longest_row
    if tokens > limit:
      raise SampleError(
        f"{name} takes {tokens} tokens. The longest row of the training has "
        f"{self.longest_row}, and no more than {_BEYOND} times as many are "
        f"taken, {limit}. Shorten it."
      )

  def drawings(
    self, prompts: Sequence[str], contexts: Sequence[Context]
  ) -> list[list[Sample]]:
    """samples[context][prompt]."""
    for i, prompt in enumerate(prompts):
      self.check_prompt(f"Prompt {i}", prompt)
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
    for i in places:
      self.check_prompt(f"Instruction {i}", instructions[i])
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
    for question in questions:
      self.check_text(f"A question of conversation {i}", question)
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

  def further_tokens(self, questions: Sequence[str]) -> list[int]:
    """Of each question behind the first."""
    return [
      1 + len(further_turn(self.tokenizer, question))
      for question in questions[1:]
    ]

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
