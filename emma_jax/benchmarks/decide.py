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

from emma_jax.benchmarks import asked as asking
from emma_jax.benchmarks import records, scored
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import Appender, BadRun, Judgement, Stopped
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.judge import cached as cache
from emma_jax.judge.base import Call, Judge, JudgeError, Reply, close, key_of

# Statuses that are not asked again.
FINAL = ("ok", "refused")


# Calls in a row that a server gave nothing to, in several tries each. With the
# pauses between tries, a set that goes on so takes hours to be scored as none.
_VAIN = 32
_POLL = 0.2  # seconds between looks at `stop`


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
    self._closed = threading.Event()
    self._vain = 0
    self.asked = Asked()

  def close(self) -> None:
    """Asks nothing more; what is in flight comes back, and is kept."""
    self._closed.set()
    close(self._judge)

  def __call__(self, call: Call) -> Reply:
    """The reply, from the file or from the judge.

    Raises:
      Stopped: the desk was closed.
      JudgeError: of the judge; or it has given nothing for too long.
    """
    key = key_of(self._identity, call)
    with self._lock:
      known = self._replies.get(key)
    if known is None or known.status not in FINAL:
      if self._closed.is_set():
        raise Stopped
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
    self._count_vain(known)
    return known

  def _count_vain(self, reply: Reply) -> None:
    """Ends it where the server, not the call, seems to be why."""
    with self._lock:
      vain = reply.status == "unreachable" and reply.tries > 1
      self._vain = self._vain + 1 if vain else 0
      if self._vain < _VAIN or self._closed.is_set():
        return
    raise JudgeError(
      f"The judge {self._name} gave nothing to {_VAIN} calls in a row; the "
      f"last: {reply.error}. What is done is kept: give the same command again "
      "when it answers, or score what is there with `emma-benchmark aggregate`."
    )


def kept(path: str) -> dict[str, Reply]:
  """Key -> the last reply to it, of a file of judgements.

  Raises:
    BadRun: a damaged line.
  """
  found = {}
  for number, line in records.numbered(Judgement, path):
    try:
      found[line.key] = Reply(**line.reply)
    except TypeError as error:
      raise BadRun(
        f"{path}, line {number}: no reply of this version ({error}). Delete "
        "the line, and the judge is asked again."
      ) from error
  return found


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
    stop: asked between items, and while they are waited for.
    tell: hears what was asked, and how many items are done.

  Raises:
    Stopped: `stop` said so.
    BadRun: predictions that cannot be used.
    JudgeError, OutOfBudget: from the judge; what was said is kept.
  """
  predictions, _ = asking.answered(source, settings, place)
  with Appender(place.judgements) as out:
    desk = Desk(judge_of_set, settings.judge, out, place.judgements)

    def look(item: Item) -> None:
      scored.by_all(item, predictions, settings, place, desk)

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
            done += _finished(running, stop)
            tell(desk.asked, done)
        while running:
          done += _finished(running, stop)
          tell(desk.asked, done)
      except BaseException:
        desk.close()
        for future in running:
          future.cancel()
        raise
  return desk.asked


def _finished(
  running: set[concurrent.futures.Future], stop: Callable[[], bool]
) -> int:
  """Waits for some, takes them out, raises what they raised, or Stopped."""
  done: set[concurrent.futures.Future] = set()
  while not done:
    if stop():
      raise Stopped
    done, _ = concurrent.futures.wait(
      running, timeout=_POLL, return_when=concurrent.futures.FIRST_COMPLETED
    )
  running -= done
  for future in done:
    future.result()
  return len(done)


class Replay:
  """Gives the replies of a set's file; absent what was never asked.

  Attributes:
    used: those that were asked for, by key; a file may hold another judge's.
  """

  def __init__(self, place: SetFolder, identity: Mapping[str, Any]):
    self._identity, self._replies = identity, kept(place.judgements)
    self.used: dict[str, Reply] = {}

  def __call__(self, call: Call) -> Reply:
    """The reply that was kept."""
    key = key_of(self._identity, call)
    found = self._replies.get(key)
    if found is None:
      return Reply(status="absent", error="not judged")
    self.used[key] = found
    return found
