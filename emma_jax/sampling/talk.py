"""A conversation that goes on: a question is added to the cache of the last.

Nothing that was said is read again, until a picture comes in (pictures stand
before the first question, as in training) or the cache has no room left; then
all that is in view is read at once, into a new cache.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.text.chat import IMAGE_MARK
from emma_jax.data.transforms import Sample, Text, further_turn
from emma_jax.sampling import answers, context, text
from emma_jax.sampling.answers import Answer
from emma_jax.sampling.context import SampleError, static_size
from emma_jax.sampling.requests import Requests
from emma_jax.sampling.runner import Runner
from emma_jax.structs import RawPicture

_Turn = tuple[str, list[int]]
# Tokens that a new cache has room for beyond what is read into it, at least.
_ROOM = 256


class Talk:
  """Questions and answers about the latest pictures."""

  def __init__(
    self,
    requests: Requests,
    runner: Runner,
    *,
    options: dict[str, Any],
    seed: int,
    pictures: int,
  ):
    """Nothing is computed yet.

    Args:
      requests: of the model.
      runner: the model.
      options: see `context.answer_options`.
      seed: of draws at a temperature above 0.
      pictures: so many of the latest are in view, with all that was said since
        the first of them came; 0 or less is a SampleError.
    """
    pictures = int(context.number("pictures", pictures, whole=True))
    if pictures < 1:
      raise SampleError(f"{pictures=} must be positive.")
    self._requests, self._runner = requests, runner
    self._options = options | {"allowed_V": answers.allowed(requests, runner)}
    self.seed, self._most = context.checked_seed(seed), pictures
    # Each picture in view, and what was said between it and the next: a
    # question, and the answer's tokens, which its text may not give back.
    self._views: list[tuple[RawPicture | None, list[_Turn]]] = [(None, [])]
    self._dialogue: text.Dialogue | None = None
    self.read = 0  # tokens that were computed to read, over all questions

  def state(self) -> Any:
    """What is in view, for `restore`."""
    return self._views

  def restore(self, state: Any) -> None:
    """Nothing was shown or said since `state`; it is read anew."""
    self._views, self._dialogue = state, None

  def show(self, picture: RawPicture) -> None:
    """A picture comes in; raises BadRecord for what is none."""
    self._requests.fit([picture], "und")
    self._views = [*self._views, (picture, [])]
    if len(self._views) > self._most:
      self._views = self._views[-self._most :]
    self._dialogue = None

  def say(self, question: str) -> Answer:
    """The answer to a question.

    Raises:
      SampleError: one that is empty, marks a picture, or is too long.
      NotFinite: see `Runner.answers`.
    """
    requests = self._requests
    if not question.strip():
      raise SampleError("The question is empty; say something.")
    requests.check_text("The question", question)
    if IMAGE_MARK in question:
      raise SampleError(
        f"The question marks a picture ({IMAGE_MARK}); give pictures beside it."
      )
    dialogue, self._dialogue = self._dialogue, None  # none after an error
    with self._runner.place.program():
      if dialogue is None or not (block := self._fits(dialogue, question)):
        dialogue = self._begin(question)
      else:
        dialogue = self._add(dialogue, *block)
      ids, dialogue = self._answer(dialogue)
    *before, (picture, said) = self._views
    self._views = [*before, (picture, [*said, (question, ids)])]
    self._dialogue = dialogue
    limit = int(self._options["limit"])
    return Answer(
      text=requests.tokenizer.decode(ids),
      tokens=len(ids),
      truncated=len(ids) >= limit,
    )

  def _rows(self) -> int:
    return self._runner.place.whole_rows(1)

  def _begin(self, question: str) -> text.Dialogue:
    """All that is in view, and the question."""
    requests, runner = self._requests, self._runner
    seen = [p for p, _ in self._views if p is not None]
    shown: Sequence[RawPicture] = requests.fit_all([seen])[0]
    if requests.framing.understanding.native:
      shown = runner.with_latents([shown])[0]  # type: ignore[list-item]
    sample = self._sample(shown, question)
    size = requests.size_of(sample)
    row = requests.layout("The conversation", [sample], size)
    self.read += row.row_cost(sample)["und_tokens"]
    rows = self._rows()
    batch = context.one_per_row([sample] * rows, rows, row)
    room = max(_ROOM, static_size(4 * self._options["room"]))
    return text.start(
      runner.model, runner.params, runner.place.rows(batch), runner.route, room
    )

  def _sample(self, shown: Sequence[RawPicture], question: str) -> Sample:
    said = [turn for _, turns in self._views for turn in turns]
    questions = [*(asked for asked, _ in said), question]
    sample = self._requests.question(0, shown, questions[:1])
    tokenizer, ids = self._requests.tokenizer, []
    for (_, answer), following in zip(said, questions[1:]):
      ids += [*answer, tokenizer.eos, *further_turn(tokenizer, following)]
    *parts, last = sample.parts
    assert isinstance(last, Text)  # the answer begins behind it
    last = Text((*last.tokens, *ids))
    return dataclasses.replace(sample, parts=(*parts, last))

  def _fits(
    self, dialogue: text.Dialogue, question: str
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """A further question's tokens (rows, Q) and counts, if there is room."""
    tokenizer = self._requests.tokenizer
    # An answer's cache lacks its <|im_end|>; see `text.answer`.
    ids = [tokenizer.eos, *further_turn(tokenizer, question)]
    width = static_size(len(ids), 16)
    columns = dialogue.cache.ids.segment.shape[1]
    used = int(self._runner.place.host(dialogue.column))
    if used + width + self._options["room"] > columns:
      return None
    length = int(self._runner.place.host(dialogue.length_B)[0])
    self._requests.check_tokens("The conversation", length + len(ids))
    tokens = np.zeros((self._rows(), width), np.int32)
    tokens[:, : len(ids)] = ids
    return tokens, np.full(self._rows(), len(ids), np.int32)

  def _add(
    self, dialogue: text.Dialogue, tokens: np.ndarray, count: np.ndarray
  ) -> text.Dialogue:
    runner = self._runner
    self.read += int(count[0])
    return text.say(
      runner.model, runner.params, dialogue, *runner.place.rows((tokens, count))
    )

  def _answer(self, dialogue: text.Dialogue) -> tuple[list[int], text.Dialogue]:
    """Tokens of what is said, and the dialogue with them."""
    runner, tokenizer = self._runner, self._requests.tokenizer
    rows = self._rows()
    answers_BL, finite_B, dialogue = text.answer(
      runner.model,
      runner.params,
      dialogue,
      runner.place.rows(np.ones(rows, bool)),
      runner.place.keys(self.seed, "understanding", [0] * rows),
      eos=np.int32(tokenizer.eos),
      **self._options,
    )
    runner.check_finite(finite_B, "An answer")
    ids = runner.place.host(answers_BL)[0].tolist()
    ids = ids[: ids.index(tokenizer.eos)] if tokenizer.eos in ids else ids
    return ids, dialogue
