"""Conversations: prepared one by one, answered in groups of one program."""

from collections.abc import Callable, Hashable, Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Sample
from emma_jax.models.emma import token_grid
from emma_jax.sampling import context
from emma_jax.sampling.requests import Requests, places_by
from emma_jax.sampling.runner import Progress, Runner
from emma_jax.structs import RawPicture, WithLatent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
  """What was said: `tokens` many; `truncated`: the limit came first."""

  text: str
  tokens: int
  truncated: bool


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Conversation:
  """Questions to be answered, one after the other.

  sample: what is seen up to the first answer.
  turns: all questions.
  row: the layout that the sample needs.
  """

  sample: Sample
  turns: tuple[str, ...]
  row: Layout

  @property
  def program(self) -> Hashable:
    """Conversations with the same one are computed together."""
    return self.row

  @property
  def tokens(self) -> int:
    """Tokens up to the first answer, pictures included."""
    return self.row.row_cost(self.sample)["und_tokens"]

  @property
  def targets(self) -> int:
    """No picture is made."""
    return 0

  @property
  def slots(self) -> int:
    """Tokens they are computed as, with padding."""
    return self.row.und_tokens


def conversations(
  requests: Requests,
  runner: Runner,
  pictures: Sequence[Sequence[RawPicture]],
  turns: Sequence[Sequence[str]],
) -> list[Conversation]:
  """What is asked, as the model sees it; see `Session.answer`.

  Raises:
    SampleError: a conversation without a question, one that marks pictures
      behind its first, or one that is too long.
    BadRecord: what is no picture, or is too large.
  """
  return _conversations(requests, runner.with_latents, pictures, turns)


def check(
  requests: Requests,
  pictures: Sequence[Sequence[RawPicture]],
  turns: Sequence[Sequence[str]],
) -> None:
  """Raises what `conversations` raises, without a model."""

  def none(shown: Sequence[Sequence[np.ndarray]]) -> list[list[WithLatent]]:
    grid = lambda p: token_grid(*p.shape[:2])
    return [[WithLatent(p, np.zeros((*grid(p), 1))) for p in x] for x in shown]

  _conversations(requests, none, pictures, turns)


def _conversations(
  requests: Requests,
  with_latents: Callable[[Any], Sequence[Sequence[WithLatent]]],
  pictures: Sequence[Sequence[RawPicture]],
  turns: Sequence[Sequence[str]],
) -> list[Conversation]:
  context.same_length(pictures=pictures, turns=turns)
  fitted = requests.fit_all(pictures)
  shown: Sequence[Sequence[RawPicture]] = fitted
  if requests.framing.understanding.native:
    # Only SigLIP2 takes many sizes in one program.
    shown = with_latents(fitted)
  out = []
  for i, (seen, asked) in enumerate(zip(shown, turns)):
    sample = requests.question(i, seen, asked)
    name = f"Conversation {i}"
    row = requests.layout(name, [sample], requests.size_of(sample))
    requests.check_tokens(
      name,
      row.row_cost(sample)["und_tokens"] + sum(requests.further_tokens(asked)),
    )
    out.append(Conversation(sample=sample, turns=tuple(asked), row=row))
  return out


def allowed(requests: Requests, runner: Runner) -> np.ndarray:
  """(V,) bool: tokens that an answer is made of."""
  allowed_V = np.zeros(runner.model.config.llm.vocab_size, bool)
  allowed_V[list(requests.tokenizer.answer_ids)] = True
  return allowed_V


def answer(
  requests: Requests,
  runner: Runner,
  asked: Sequence[Conversation],
  options: dict[str, Any],
  seed: int,
  streams: Sequence[int],
  on_progress: Progress | None = None,
) -> list[list[Answer]]:
  """Answers to each conversation's questions.

  Args:
    requests: of the model, for its tokenizer.
    runner: the model.
    asked: by `conversations`.
    options: see `context.answer_options`.
    seed, streams: of draws at a temperature above 0.
    on_progress: told how many conversations of all are answered.
  """
  tokenizer, limit = requests.tokenizer, int(options["limit"])
  options = options | {"allowed_V": allowed(requests, runner)}
  turns = [one.turns for one in asked]
  out: list[list[Answer]] = [[] for _ in asked]
  done = 0
  for members in places_by(one.program for one in asked).values():
    found = runner.answers(
      [one.sample for one in asked],
      requests.further_turns(members, turns),
      members,
      asked[members[0]].row,
      tokenizer.eos,
      seed,
      streams,
      options,
    )
    for i, said in found:
      out[i] = [
        Answer(
          text=tokenizer.decode(ids),
          tokens=len(ids),
          truncated=len(ids) >= limit,
        )
        for ids in said[: len(turns[i])]
      ]
      done += 1
      if on_progress is not None:
        on_progress(done, len(asked))
  return out
