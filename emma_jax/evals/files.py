"""Evaluation on a user's files: answers count, pictures are looked at.

No exact score exists for a drawing or an edit of a real picture: nobody has
written down all that would be right. Edits get their distance to the target,
beside that of the untouched source: a model that changes nothing may well be
nearer than one that edits. What `measured` adds is no score of what was drawn
either, but comparable: losses of the held-out records, what the autoencoder
would make of their pictures, and how near to the training's pictures the drawn
ones are.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from emma_jax.data.loading.sources import open_source
from emma_jax.data.pictures.images import BadRecord, load_picture
from emma_jax.data.pictures.preprocess import resized
from emma_jax.evals import (
  drawing,
  editing,
  held_out_loss,
  nearest,
  understanding,
)
from emma_jax.evals.outcomes import (
  Outcome,
  Progress,
  Scores,
  batches,
  fidelity,
  only,
  pixels,
)
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.session import Session
from emma_jax.structs import RECORDS, Drawing, Editing, Record, Understanding

# A question asked so often, and one of so few, is a kind of its own.
_LEAST, _KINDS = 5, 12
OTHER = "other questions"


class NoRecords(ValueError):
  """A file that is not there, or holds nothing to evaluate on."""


def records(
  spec: str,
  task: str,
  count: int,
  check: Callable[[Record], None] | None = None,
) -> tuple[Sequence[Record], list[tuple[str, str]]]:
  """The first `count` sound records of a source, and the others met.

  Pictures are decoded. What may be trained on but cannot be asked is left out
  with the broken ones, and so is a record of another task.

  Args:
    spec: of the source.
    task: of its records.
    count: of them at most.
    check: raises SampleError or BadRecord for a record that a session could not
      take: `Session.check`.

  Raises:
    NoRecords: the source cannot be opened, or no record is sound.
  """
  try:
    source = open_source(spec, task)
  except (FileNotFoundError, ImportError, ValueError) as error:
    raise NoRecords(
      f"evaluate.sources.{task}={spec}: {error} Where the folder was moved, "
      f"name it anew: --config.evaluate.sources.{task}=records:DIR."
    ) from error
  found: list[Record] = []
  bad: list[tuple[str, str]] = []
  for index in range(len(source)):
    if len(found) == count:
      break
    try:
      record = source[index]
      where = record.id
      found.append(_sound(record, task, check))
    except BadRecord as error:
      bad.append((error.where, error.reason))
    except SampleError as error:
      bad.append((where, str(error)))
  if not found:
    first = f"; the first: {bad[0][0]}: {bad[0][1]}" if bad else ""
    raise NoRecords(
      f"{spec} has no record that could be read and asked{first}."
    )
  if task == "understanding":
    return _kinds(only(Understanding, found)), bad
  return found, bad


def _sound(
  record: Record, task: str, check: Callable[[Record], None] | None
) -> Record:
  """The record, decoded; else BadRecord, or SampleError of `check`."""
  kind = RECORDS[task]
  if not isinstance(record, kind):
    raise BadRecord(
      record.id,
      f"a {type(record).__name__} record; {task} needs {kind.__name__}",
    )
  sound = decoded(record)
  if check is not None:
    check(sound)
  return sound


def decoded(record: Record) -> Record:
  """The same record with every picture as an array."""
  load = lambda raw: load_picture(raw, record.id)
  if isinstance(record, Understanding):
    pictures = tuple(load(picture) for picture in record.pictures)
    return dataclasses.replace(record, pictures=pictures)
  if isinstance(record, Drawing):
    return dataclasses.replace(record, picture=load(record.picture))
  return dataclasses.replace(
    record,
    sources=tuple(load(source) for source in record.sources),
    target=load(record.target),
  )


def plain_question(text: str) -> str:
  """A question without the mark of its picture's place.

  >>> plain_question("<image>\\nWhat is it?")
  'What is it?'
  """
  return " ".join(text.replace("<image>", " ").split())


def _kinds(found: Sequence[Understanding]) -> list[Understanding]:
  """Names the frequent questions as kinds, the others OTHER."""
  counts = collections.Counter(
    plain_question(question) for r in found for question, _ in r.turns
  )
  common = {q for q, n in counts.most_common(_KINDS) if n >= _LEAST}
  name = lambda q: plain_question(q) if plain_question(q) in common else OTHER
  return [
    r
    if r.kinds
    else dataclasses.replace(r, kinds=tuple(name(q) for q, _ in r.turns))
    for r in found
  ]


def run(
  session: Any,
  samples: Sequence[Record],
  task: str,
  *,
  batch: int,
  seed: int,
  steps: int,
  progress: Progress,
) -> tuple[Scores, list[Outcome]]:
  """Scores and outcomes of one task; "score" is None for pictures."""
  if task == "understanding":
    asked = understanding.run(
      session, only(Understanding, samples), batch=batch, progress=progress
    )
    return understanding.score(asked), asked
  unknown = lambda record, picture: None
  flow: dict[str, Any] = dict(
    judge=unknown, batch=batch, seed=seed, steps=steps, progress=progress
  )
  if task == "drawing":
    data = session.config["data"]
    size = (data["height"], data["width"])
    size_of = lambda record: size
    drawn = drawing.run(
      session, only(Drawing, samples), size_of=size_of, **flow
    )
    return _unscored(drawn), drawn
  edited = editing.run(session, only(Editing, samples), **flow)
  return _unscored(edited) | _distances(edited), edited


# Why a task of files has no exact score.
WHY = {
  "understanding": "answers count where they equal the record's, but for case "
  "and spaces; other words for the same are wrong",
  "drawing": "no exact score: many pictures are right for a prompt; look at "
  "the sheet, and at these measures",
  "editing": "no exact score: many results are right for an instruction; look "
  "at the sheet, and at these measures",
}


def measured(
  session: Session, done: Sequence[Outcome], task: str, *, batch: int
) -> Scores:
  """{"why", name: {"value", "n"}}: measures of a task without a detector.

  Of questions token accuracy and loss; of pictures the velocity loss, also by
  bin of flow time, the autoencoder's ceiling in dB, and the nearest training
  picture (see `held_out_loss`, `nearest`). A measure that cannot be made is
  {"why"}.
  """
  records = [outcome.record for outcome in done]
  out: Scores = {"why": WHY[task]}
  out |= held_out_loss.measure(session, records, task, batch)
  if task == "understanding":
    return out
  own = [
    pixels(r.picture if isinstance(r, Drawing) else r.target)
    for r in records
    if isinstance(r, (Drawing, Editing))
  ]
  through: list[Any] = []
  for _, part in batches(own, batch):
    through += session.reconstruct(part)
  found = fidelity(list(zip(through, own)))
  out["autoencoder's ceiling"] = {"value": found["psnr"], "n": len(own)}
  out["nearest training picture"] = nearest.compare(
    [pixels(outcome.picture) for outcome in done],
    own,
    session.config["data"]["sources"],
  )
  return out


def _unscored(done: Sequence[Outcome]) -> Scores:
  return {"score": None, "n": len(done), "ci95": None, "kinds": {}}


def _distances(done: Sequence[Outcome[Editing]]) -> Scores:
  """To the targets: the results' distances, and the sources' as "copy"."""
  edited, copied = [], []
  for outcome in done:
    source = pixels(outcome.record.source)
    # A result has its source's size, a target may have another.
    target = resized(
      pixels(outcome.record.target), (source.shape[0], source.shape[1])
    )
    edited.append((pixels(outcome.picture), target))
    copied.append((source, target))
  return {**fidelity(edited), "copy": fidelity(copied)}
