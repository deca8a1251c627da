"""The model's answers and pictures: the only part that knows a session.

A prediction is a function of the weights, the settings, the item and the
repeat. What it is computed beside plays no part: programs have a fixed number
of rows (`Runner.fill`), each item's program depends on that item alone, and
noise is of the item's id. So it does not matter in which order, batch or
process an item comes, or whether a run was killed in between.

Several processes may be one mesh: all of them go through the same items and
compute together, the first one alone reads and writes the run's folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import os
import re
import time
from typing import Any

import jax

from emma_jax import distributed, files
from emma_jax.benchmarks import asked as asking
from emma_jax.benchmarks import folders, records
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.model import Model
from emma_jax.benchmarks.records import Appender, Prediction, Stopped
from emma_jax.benchmarks.selection import Shard, limited, stream
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.data.pictures.encoded import png
from emma_jax.data.pictures.images import BadRecord
from emma_jax.sampling.answers import Answer, Conversation
from emma_jax.sampling.canvases import Canvas
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.session import Session

# Prepared requests that wait for company, in batches: 32 pictures of 1024 x
# 1024 are 100 MB.
_WAITING = 32


@dataclasses.dataclass
class Tally:
  """What a call of `predict` did, or found."""

  made: int = 0
  found: int = 0
  stale: int = 0
  stale_where: str = ""
  failed: int = 0
  seconds: float = 0.0
  model_seconds: float = 0.0
  calls: int = 0  # of programs
  tokens: int = 0  # of prompts and pictures; of targets, at each step
  slots: int = 0  # they were computed in

  def timing(self) -> dict[str, float]:
    """JSON of what was computed and how long it took."""
    keys = ("made", "seconds", "model_seconds", "calls", "tokens", "slots")
    return {key: getattr(self, key) for key in keys}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
  """One prediction to be made: a line without its result, and its noise."""

  line: Prediction
  stream: int
  text: str
  pictures: Sequence[bytes]


def predict(
  model: Model,
  source: Source,
  settings: SetSettings,
  folder: str,
  *,
  shard: Shard,
  batch: int,
  stop: Callable[[], bool],
  tell: Callable[[Tally, int], None],
) -> Tally:
  """Makes what is missing of a set's predictions.

  Args:
    model: with its session.
    source: the set's items.
    settings: of the set.
    folder: of the run; the set's is in it.
    shard: of the items this process makes.
    batch: requests computed at once; any number gives the same predictions.
    stop: asked between batches.
    tell: hears what is done, and how many there are in all; of several
      processes in the first.

  Of several processes of one mesh all give the same arguments but for `stop`.

  Raises:
    Stopped: `stop` said so, of any process.
    BadRun: files of this set are damaged or being written.
  """
  place = folders.SetFolder(folder, settings.name)
  first = jax.process_index() == 0
  decides = model.decides(settings)
  tally, begun = Tally(), time.monotonic()
  ids, groups = list(source.groups), list(source.groups.values())
  places = [i for i in limited(groups, settings.limit) if shard.has(ids[i])]
  total = len(places) * settings.repeats
  worker = _Worker(model.session, settings, place, batch, tally)
  with contextlib.ExitStack() as stack:
    out, known = None, {}
    if first:
      out = stack.enter_context(Appender(place.part(shard.index)))
      place.note(settings, decides, source)
      known = place.known()

    def keep(lines: list[Prediction]) -> None:
      tally.seconds = time.monotonic() - begun
      if out is not None:
        out.add(lines)
        tell(tally, total)

    for i in places:
      jobs = list(_jobs(source[i], settings, decides))
      found = [first and _is_known(known, job.line, tally) for job in jobs]
      for job in _missing(jobs, found, stop()):
        if lines := worker.add(job):
          keep(lines)
    for lines in worker.rest():
      keep(lines)
      _missing([], [], stop())
  tally.seconds = time.monotonic() - begun
  if first:
    place.add_timing(shard.index, tally.timing())
  return tally


def _missing(
  jobs: Sequence[_Job], found: Sequence[bool], stop: bool
) -> list[_Job]:
  """The jobs to do, on all processes those that the first did not find.

  Raises:
    Stopped: a process is to `stop`.
  """
  asked = {f"{n}": int(there) for n, there in enumerate(found)}
  told = distributed.summed({"stop": int(stop), **asked})
  if told["stop"]:
    raise Stopped
  return [job for n, job in enumerate(jobs) if not told[f"{n}"]]


def _is_known(
  known: Mapping[tuple[str, int], Mapping[str, str]],
  line: Prediction,
  tally: Tally,
) -> bool:
  """Whether a prediction is there; counts it, and those of other settings."""
  of_item = known.get((line.id, line.repeat), {})
  if line.key in of_item:
    tally.found += 1
    return True
  if of_item:
    tally.stale += 1
    tally.stale_where = tally.stale_where or next(iter(of_item.values()))
  return False


def _jobs(
  item: Item, settings: SetSettings, decides: Mapping[str, Any]
) -> Iterator[_Job]:
  """Of each repeat; pictures that cannot be read make it `unreadable`."""
  asked = asking.of(item, settings)
  of_settings = records.digest(decides)
  for repeat in range(settings.repeats):
    line = Prediction(
      id=item.id,
      repeat=repeat,
      key=asked.key(of_settings, item.id, repeat),
      settings=of_settings,
      prompt=records.digest(asked.text),
      status="unreadable" if asked.error else "ok",
      error=asked.error,
    )
    yield _Job(
      line=line,
      stream=stream(f"{item.id}/{repeat}"),
      text=asked.text,
      pictures=asked.pictures,
    )


_Prepared = Conversation | Canvas


class _Worker:
  """Collects requests of one program until there are `batch` of them."""

  def __init__(
    self,
    session: Session,
    settings: SetSettings,
    place: folders.SetFolder,
    batch: int,
    tally: Tally,
  ):
    self._session, self._settings, self._place = session, settings, place
    self._batch, self._tally = batch, tally
    self._waiting: dict[Any, list[tuple[_Job, _Prepared]]] = {}

  def add(self, job: _Job) -> list[Prediction]:
    """The lines that a further request made complete, often none."""
    if job.line.status != "ok":
      self._tally.failed += 1
      self._tally.made += 1
      return [job.line]
    try:
      prepared = self._prepare(job)
    except (BadRecord, SampleError) as error:
      status: Any = "unreadable" if isinstance(error, BadRecord) else "crashed"
      self._tally.failed += 1
      self._tally.made += 1
      return [dataclasses.replace(job.line, status=status, error=str(error))]
    group = self._waiting.setdefault(prepared.program, [])
    group.append((job, prepared))
    if len(group) >= self._batch:
      return self._run(self._waiting.pop(prepared.program))
    if sum(map(len, self._waiting.values())) > _WAITING * self._batch:
      return next(self.rest())  # bounds memory
    return []

  def rest(self) -> Iterator[list[Prediction]]:
    """The lines of what still waits, the largest group first."""
    while self._waiting:
      program = max(self._waiting, key=lambda p: len(self._waiting[p]))
      yield self._run(self._waiting.pop(program))

  def _prepare(self, job: _Job) -> _Prepared:
    settings, session = self._settings, self._session
    task = settings.benchmark.task
    if task == "ask":
      return session.to_answer([job.pictures], [[job.text]])[0]
    guidance = settings.text_guidance
    if task == "draw":
      return session.to_draw([job.text], settings.size, guidance)[0]
    return session.to_edit(
      [job.pictures], [job.text], guidance, settings.image_guidance
    )[0]

  def _run(self, group: Sequence[tuple[_Job, _Prepared]]) -> list[Prediction]:
    """Computes requests of one program."""
    jobs, prepared = zip(*group)
    settings, session = self._settings, self._session
    begun = time.monotonic()
    made = self._computed(prepared, [job.stream for job in jobs])
    self._tally.model_seconds += time.monotonic() - begun
    lines = [self._line(job, result) for job, result in zip(jobs, made)]
    rows = session.runner.batch
    calls = -(-len(jobs) // rows)
    steps = settings.steps or session.defaults["steps"]
    denoised = prepared[0].targets * steps
    self._tally.calls += calls
    self._tally.tokens += sum(p.tokens + denoised for p in prepared)
    self._tally.slots += (prepared[0].slots + denoised) * calls * rows
    self._tally.made += len(jobs)
    self._tally.failed += sum(x.status in records.FAILED for x in lines)
    return lines

  def _computed(
    self, prepared: Sequence[Any], streams: Sequence[int]
  ) -> Sequence[Any]:
    """An `Answer` or pixels of each."""
    settings, session = self._settings, self._session
    noise: dict[str, Any] = dict(seed=settings.seed, streams=streams)
    if settings.benchmark.task == "ask":
      said = session.reply(
        prepared,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        **noise,
      )
      return [answer for (answer,) in said]
    return session.paint(
      prepared, steps=settings.steps, shift=settings.shift, **noise
    )

  def _line(self, job: _Job, result: Any) -> Prediction:
    if isinstance(result, Answer):
      return self._answered(job, result)
    return self._drawn(job, result)

  def _answered(self, job: _Job, answer: Answer) -> Prediction:
    text, cut = answer.text, False
    for end in self._settings.benchmark.stop:
      text, found, _ = text.partition(end)
      cut = cut or bool(found)
    status: records.Status = "ok"
    if not text.strip():
      status = "empty"
    elif answer.truncated and not cut:
      status = "truncated"
    return dataclasses.replace(
      job.line, text=text, tokens=answer.tokens, status=status
    )

  def _drawn(self, job: _Job, pixels: Any) -> Prediction:
    data = png(pixels)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", job.line.id)[:80]
    # By its key: pictures of other weights in the same folder stay.
    path = f"pictures/{name}-{job.line.repeat}-{job.line.key[:12]}.png"
    # Before its line, so that a line never names what is not there.
    whole = os.path.join(self._place.path, path)
    if jax.process_index() == 0:
      with records.writing(whole), files.atomic_write(whole) as file:
        file.write(data)
    return dataclasses.replace(
      job.line, picture=path, sha256=hashlib.sha256(data).hexdigest()
    )
