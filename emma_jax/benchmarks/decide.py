"""The judge stage: asks what the scorers want to know, and keeps the replies.

It needs the predictions and a judge, no model and no accelerator. Replies are
kept twice: in a folder by what was asked, which runs may share, and in the
set's judgements.jsonl, from which scores are made.
"""

from collections.abc import Callable, Mapping
import concurrent.futures
import dataclasses
import threading
from typing import Any

from emma_jax.benchmarks import records, scored
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import Appender, Judgement
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.judge import cached as cache
from emma_jax.judge.base import Call, Judge, Reply, key_of

# Statuses that are not asked again.
FINAL = ("ok", "refused")


class Stopped(Exception):
  """Asked to stop; all replies that came are on the disk."""


@dataclasses.dataclass
class Asked:
  """What a call of `judge` did.

  Attributes:
    calls: to the judge.
    cached: replies that had been given before, to this run or another.
    statuses: of all replies -> how many.
  """

  calls: int = 0
  cached: int = 0
  statuses: dict[str, int] = dataclasses.field(default_factory=dict)


class Desk:
  """Keeps replies in a set's file, each asked once."""

  def __init__(self, judge: Judge, name: str, out: Appender, path: str):
    self._judge, self._name, self._out = judge, name, out
    self._identity = judge.identity()
    self._replies = kept(path)
    self._lock = threading.Lock()
    self.asked = Asked()

  def __call__(self, call: Call) -> Reply:
    """The reply, from the file or from the judge."""
    key = key_of(self._identity, call)
    with self._lock:
      known = self._replies.get(key)
    if known is None or known.status not in FINAL:
      known, cached = cache.ask(self._judge, call)
      line = Judgement(
        call=call.id,
        key=key,
        judge=self._name,
        reply=dataclasses.asdict(known),
        cached=cached,
      )
      with self._lock:
        # Nothing that nobody said is worth a line.
        if known.status != "absent" and self._replies.get(key) != known:
          self._out.add([line])
        self._replies[key] = known
        self.asked.calls += not cached
        self.asked.cached += cached
    else:
      with self._lock:
        self.asked.cached += 1
    with self._lock:
      count = self.asked.statuses.get(known.status, 0)
      self.asked.statuses[known.status] = count + 1
    return known


def kept(path: str) -> dict[str, Reply]:
  """Key -> the last reply to it, of a file of judgements.

  Raises:
    BadRun: a damaged line.
  """
  return {
    line.key: Reply(**line.reply) for line in records.load(Judgement, path)
  }


def judge(
  source: Source,
  settings: SetSettings,
  place: SetFolder,
  judge_of_set: Judge,
  *,
  concurrency: int,
  stop: Callable[[], bool],
  tell: Callable[[Asked, int], None],
) -> Asked:
  """Asks the judge of a set about all its predictions.

  Args:
    source: the set's items.
    settings: of the set.
    place: its folder.
    judge_of_set: is asked.
    concurrency: items looked at at once.
    stop: asked between items.
    tell: hears what was asked, and how many items are done.

  Raises:
    Stopped: `stop` said so.
    BadRun: predictions that cannot be used.
    JudgeError, OutOfBudget: from the judge; what was said is kept.
  """
  predictions, _ = place.predictions(settings)
  with Appender(place.judgements) as out:
    desk = Desk(judge_of_set, settings.judge, out, place.judgements)

    def look(item: Item) -> None:
      for impl in settings.impls:
        scored.of_item(item, predictions, settings, impl, place, desk)

    items = scored.chosen(source, settings.limit)
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
      running: set[concurrent.futures.Future] = set()
      done = 0
      try:
        for item in items:
          if stop():
            raise Stopped
          running.add(pool.submit(look, item))
          if len(running) >= 2 * concurrency:
            done += _finished(running)
            tell(desk.asked, done)
        while running:
          done += _finished(running)
          tell(desk.asked, done)
          if stop() and running:
            raise Stopped
      except BaseException:
        for future in running:
          future.cancel()
        raise
  return desk.asked


def _finished(running: set[concurrent.futures.Future]) -> int:
  """Waits for some, takes them out, raises what they raised."""
  done, _ = concurrent.futures.wait(
    running, return_when=concurrent.futures.FIRST_COMPLETED
  )
  running -= done
  for future in done:
    future.result()
  return len(done)


def replay(place: SetFolder, identity: Mapping[str, Any]) -> scored.Ask:
  """Gives the replies of a set's file; absent what was never asked."""
  replies = kept(place.judgements)

  def ask(call: Call) -> Reply:
    found = replies.get(key_of(identity, call))
    if found is None:
      return Reply(status="absent", error="not judged")
    return found

  return ask
