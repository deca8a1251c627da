"""Runs plants one after the other on private copies, and keeps the results."""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import dataclasses
import json
from pathlib import Path
import shutil
import tempfile
import time

from tests.mutation import child, tree
from tests.mutation.plants import Plant, tests_of

_POLL = 0.05  # seconds
BASELINE = "baseline"


class Void(RuntimeError):
  """Tests fail without any bug."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """How a plant, or a test file without a bug (the room "baseline"), ended.

  `limit` is the time it was given, `clean` what its tests take without a bug;
  both in seconds of processor time, as `seconds` is.
  """

  id: str
  room: str
  outcome: str  # killed, survived, timeout, error
  by: str  # the test that failed first
  seconds: float
  limit: float = 0.0
  clean: float = 0.0

  @property
  def killed(self) -> bool:
    """Too slow counts where the same tests are fast without the bug."""
    return self.outcome == "killed" or (
      self.outcome == "timeout" and self.clean <= self.limit / 2
    )


class Kept:
  """Results in a file of JSON lines, for a run that goes on later."""

  def __init__(self, path: Path | None):
    self.path = path
    self.results: dict[tuple[str, str], Result] = {}
    if path is not None and path.exists():
      for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # cut off by a kill
          self._put(Result(**json.loads(line)))

  def _put(self, result: Result) -> None:
    self.results[result.room, result.id] = result

  def add(self, result: Result) -> None:
    self._put(result)
    if self.path is not None:
      with open(self.path, "a") as file:
        file.write(json.dumps(dataclasses.asdict(result)) + "\n")

  def clean(self) -> dict[str, float]:
    """Test files that passed without a bug -> their seconds."""
    return {
      r.id: r.seconds
      for r in self.results.values()
      if r.room == BASELINE and r.outcome == "survived"
    }

  def of(self, plants: Iterable[Plant]) -> list[Result]:
    keys = [(p.room, p.id) for p in plants]
    return [self.results[k] for k in keys if k in self.results]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """Tests to run: on a plant, or on the tree as it is."""

  plant: Plant | None
  tests: list[str]
  limit: float
  clean: float = 0.0

  @property
  def name(self) -> tuple[str, str]:
    if self.plant is None:
      return self.tests[0], BASELINE
    return self.plant.id, self.plant.room


def run(
  plants: list[Plant],
  kept: Kept,
  *,
  jobs: int,
  limit: float,
  revision: str | None,
  tell: Callable[[Result], None],
  log: Path | None = None,
  repo: Path = tree.REPO,
  slow: float = 600.0,
) -> None:
  """Runs what `kept` does not hold yet.

  Args:
    limit: seconds of a plant, of processor time.
    log: folder for what pytest printed; a temporary one where None.
    slow: seconds of a test file without a bug.

  Raises:
    Void: a test file fails without a bug.
  """
  with tempfile.TemporaryDirectory(prefix="emma_mutation_") as name:
    base = Path(name).resolve()
    trees = [base / f"job{i}" / "tree" for i in range(jobs)]
    tree.copy(trees[0], revision, repo)
    for other in trees[1:]:
      shutil.copytree(trees[0], other)
    groups = {p.id: tests_of(p, trees[0]) for p in plants}
    logs = log or base / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    # Room by room, so that there is something to see early.
    for room in dict.fromkeys(p.room for p in plants):
      todo = [
        p for p in plants if p.room == room and (room, p.id) not in kept.results
      ]
      files = dict.fromkeys(
        f for p in todo for group in groups[p.id] for f in group
      )
      missing = [
        Work(plant=None, tests=[f], limit=slow)
        for f in files
        if f not in kept.clean()
      ]
      for result in _each(missing, trees, logs):
        if result.outcome != "survived":
          raise Void(
            f"{result.id} fails without a bug: {result.outcome} {result.by}"
          )
        kept.add(result)
        tell(result)
      clean = kept.clean()
      works = [_work(p, groups[p.id], clean, limit) for p in todo]
      for result in _each(works, trees, logs):
        kept.add(result)
        tell(result)


def _work(
  plant: Plant, groups: list[list[str]], clean: dict[str, float], limit: float
) -> Work:
  """A plant's tests, in each group the fast ones first."""
  tests = [f for group in groups for f in sorted(group, key=clean.__getitem__)]
  return Work(
    plant=plant, tests=tests, limit=limit, clean=sum(clean[f] for f in tests)
  )


def _each(works: list[Work], trees: list[Path], logs: Path) -> Iterator[Result]:
  """Runs as many at a time as there are trees."""
  waiting, free = list(reversed(works)), list(trees)
  running: list[tuple[child.Run, Work, Path, contextlib.ExitStack]] = []
  try:
    while waiting or running:
      while waiting and free:
        running.append(_start(waiting.pop(), free.pop(), logs))
      time.sleep(_POLL)
      for entry in [r for r in running if r[0].poll()]:
        running.remove(entry)
        done, work, where, stack = entry
        stack.close()
        free.append(where)
        id_, room = work.name
        yield Result(
          id=id_,
          room=room,
          outcome=done.outcome,
          by=done.by,
          seconds=round(done.seconds, 2),
          limit=work.limit,
          clean=round(work.clean, 2),
        )
  finally:
    for process, _, _, stack in running:
      process.end()
      stack.close()


def _start(work: Work, where: Path, logs: Path):
  stack = contextlib.ExitStack()
  if work.plant is not None:
    stack.enter_context(tree.planted(where, work.plant))
  name = "-".join(work.name).replace("/", "_")
  process = child.start(
    where,
    work.tests,
    work.limit,
    where.parent / "note.json",
    logs / f"{name}.txt",
  )
  return process, work, where, stack
