"""A session as other toolkits ask it: text and pictures in, one result each.

What is asked together plays no part, as in `benchmarks.predict`: programs have
a fixed number of rows, and noise is of a question's name. Where there is no
result there is an error's text, never a picture or an answer in its place.
"""

import collections
from collections.abc import Callable, Hashable, Iterable, Sequence
import dataclasses
import logging
from typing import Any

from emma_jax.benchmarks.records import Status
from emma_jax.benchmarks.selection import stream

# Prepared requests that wait for company, in batches; see `predict`.
_WAITING = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """One request.

  Args:
    name: of it and no other: decides its noise.
    text: with IMAGE_MARK where pictures stand; without any they come first.
    pictures: files, or uint8 (Y, X, C).
    max_tokens: of an answer; None: the checkpoint's.
    temperature, top_p: of an answer.
    stop: texts that end an answer, and are not part of it.
  """

  name: str
  text: str
  pictures: Sequence[Any] = ()
  max_tokens: int | None = None
  temperature: float = 0.0
  top_p: float = 1.0
  stop: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
  """What came of it.

  Args:
    status: ok, truncated, empty; or unreadable, crashed: a failure.
    text: the answer.
    picture: what was drawn, a PNG file.
    error: of a failure.
  """

  status: Status = "ok"
  text: str = ""
  picture: bytes = b""
  error: str = ""

  @property
  def failed(self) -> bool:
    """Whether there is no result; an empty answer is one."""
    return self.status in ("unreadable", "crashed")


def error_text(status: str) -> str:
  """Stands for the answer of a failure, so that toolkits count it.

  No capital, digit or option is in it: no rule takes it for an answer.
  """
  return f"[error: {status}]"


def cut(text: str, stop: Iterable[str]) -> str:
  """A text up to the first of these.

  >>> cut("red. Or blue", [". ", "blue"])
  'red'
  """
  for end in stop:
    if end:
      text = text.partition(end)[0]
  return text


class Asker:
  """Answers and draws with a session; counts what failed.

  Args:
    session: loaded with `fill`.
    batch: requests computed at once; any number gives the same results.
    steps: of pictures; None: the checkpoint's.
    seed: of noise, and of answers above temperature 0.
  """

  def __init__(
    self,
    session: Any,
    *,
    batch: int = 1,
    steps: int | None = None,
    seed: int = 0,
  ):
    if batch < 1:
      raise ValueError(f"{batch=} must be positive.")
    if not session.runner.fill:
      raise ValueError("Toolkits need a session that was loaded with fill.")
    self.session = session
    self._batch, self._steps, self._seed = batch, steps, seed
    self.failures: collections.Counter[str] = collections.Counter()

  @classmethod
  def load(cls, checkpoint: str, *, rows: int, **options: Any) -> "Asker":
    """Loads weights.

    Args:
      checkpoint: shipped weights, a weight file, a training's or an exported
        folder.
      rows: of every program, a power of two; another number may round
        otherwise.
      options: of the constructor.
    """
    from emma_jax.build import session

    if not checkpoint:
      raise ValueError(
        "No checkpoint is named; give checkpoint=NAME: shipped weights, a "
        "weight file, or a training's or exported folder."
      )
    loaded = session.load(checkpoint, batch=rows, fill=True)
    return cls(loaded, **options)

  def answers(self, asked: Iterable[Asked]) -> list[Given]:
    """Texts, in the order of the requests."""
    return self._each(
      asked,
      lambda one: self.session.to_answer([one.pictures], [[one.text]])[0],
      self._reply,
    )

  def pictures(self, asked: Iterable[Asked]) -> list[Given]:
    """Drawings, or edits of requests with pictures, in their order."""

    def prepare(one: Asked) -> Any:
      if one.pictures:
        return self.session.to_edit([tuple(one.pictures)], [one.text])[0]
      return self.session.to_draw([one.text])[0]

    return self._each(asked, prepare, self._paint)

  def _each(
    self,
    asked: Iterable[Asked],
    prepare: Callable[[Asked], Any],
    run: Callable[[Sequence[Asked], Sequence[Any]], list[Given]],
  ) -> list[Given]:
    """Requests of one program and one way of answering, `batch` at a time."""
    from emma_jax.data.pictures.images import BadRecord
    from emma_jax.sampling.context import SampleError

    out: dict[int, Given] = {}
    waiting: dict[Hashable, list[tuple[int, Asked, Any]]] = {}

    def compute(group: list[tuple[int, Asked, Any]]) -> None:
      places, ones, prepared = zip(*group)
      out.update(zip(places, run(ones, prepared)))

    for i, one in enumerate(asked):
      try:
        prepared = prepare(one)
      except (BadRecord, SampleError) as error:
        bad = isinstance(error, BadRecord)
        out[i] = self._failed(one, "unreadable" if bad else "crashed", error)
        continue
      # Pictures wait no longer than their request needs them.
      one = dataclasses.replace(one, pictures=())
      how = one.max_tokens, one.temperature, one.top_p
      group = waiting.setdefault((prepared.program, how), [])
      group.append((i, one, prepared))
      if len(group) >= self._batch:
        compute(waiting.pop((prepared.program, how)))
      elif sum(map(len, waiting.values())) > _WAITING * self._batch:
        compute(waiting.pop(max(waiting, key=lambda k: len(waiting[k]))))
    for group in waiting.values():
      compute(group)
    return [out[i] for i in range(len(out))]

  def _failed(self, one: Asked, status: Status, error: Exception) -> Given:
    self.failures[status] += 1
    logging.getLogger(__name__).warning("%s: %s: %s", one.name, status, error)
    return Given(status=status, error=str(error))

  def _reply(
    self, ones: Sequence[Asked], prepared: Sequence[Any]
  ) -> list[Given]:
    said = self.session.reply(
      prepared,
      max_tokens=ones[0].max_tokens,
      temperature=ones[0].temperature,
      top_p=ones[0].top_p,
      seed=self._seed,
      streams=[stream(one.name) for one in ones],
    )
    found = []
    for one, (answer,) in zip(ones, said):
      text = cut(answer.text, one.stop)
      status: Status = "ok"
      if not text.strip():
        status = "empty"
      elif answer.truncated and text == answer.text:
        status = "truncated"
      found.append(Given(status=status, text=text))
    return found

  def _paint(
    self, ones: Sequence[Asked], prepared: Sequence[Any]
  ) -> list[Given]:
    from emma_jax.data.pictures.encoded import png  # loads JAX, as a session

    made = self.session.paint(
      prepared,
      steps=self._steps,
      seed=self._seed,
      streams=[stream(one.name) for one in ones],
    )
    return [Given(picture=png(pixels)) for pixels in made]
