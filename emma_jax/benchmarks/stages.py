"""The four stages of a run, with files between them: predict, judge,
aggregate, report. Each can be run alone; the first alone needs the model.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import sys
import time
from typing import Any

from emma_jax.benchmarks import aggregate, decide, folders, settings
from emma_jax.benchmarks.data import folder as data_folder
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.judges import judge_of
from emma_jax.benchmarks.selection import Shard
from emma_jax.benchmarks.settings import BadSettings, SetSettings
from emma_jax.benchmarks.suite import NoAnswers

Stop = Callable[[], bool]
CONFIG = "config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What is run, and where its files go.

  Args:
    config: plain dictionaries; see configs/benchmarks/defaults.py.
    sets: chosen of it.
    out: folder of the results.
  """

  config: Mapping[str, Any]
  sets: Sequence[SetSettings]
  out: str

  def place(self, one: SetSettings) -> SetFolder:
    """A set's folder."""
    return SetFolder(self.out, one.name)


def make_run(
  config: Mapping[str, Any], out: str, only: str = "", data: str = ""
) -> Run:
  """A run of a config.

  Args:
    config: plain dictionaries.
    out: folder of the results.
    only: sets, with commas between; "": all enabled.
    data: folder of the test sets; "": the config's.

  Raises:
    BadSettings: values that cannot be; a judge that is not there.
  """
  chosen = settings.chosen(config, only, data)
  for one in chosen:
    if one.judge and one.judge not in config["judges"]:
      known = ", ".join(config["judges"]) or "none"
      raise BadSettings(
        f"sets.{one.name}.judge={one.judge!r}: the config has no "
        f"judges.{one.judge}; there are {known}."
      )
  return Run(config=config, sets=chosen, out=out)


def open_sources(run: Run, *, partial: bool = False) -> dict[str, Source]:
  """The data of all sets; all problems at once, before anything is loaded.

  Args:
    run: with its sets.
    partial: whether sets with rows missing are taken, and named.

  Raises:
    BadSettings: what is missing or damaged, with what to download.
  """
  problems, made_up = [], []
  for one in run.sets:
    if not os.path.isdir(one.data):
      problems.append(
        f"{one.name}: {one.data!r} is no folder of test sets; name it with "
        "--data."
      )
      continue
    (entry,) = data_folder.inventory(
      one.data, [(one.benchmark.name, one.split)]
    )
    if entry.status in ("missing", "damaged"):
      problems.append(f"{one.name}: {entry.advice}")
    elif entry.status == "incomplete" and not partial and not one.limit:
      problems.append(
        f"{one.name}: {entry.advice} Or run a part of it, by "
        f"--config.sets.{one.name}.limit={entry.rows}."
      )
    elif entry.status == "rehearsal":
      made_up.append(one.name)
    elif entry.advice:
      print(f"note: {one.name}: {entry.advice}", file=sys.stderr)
  if problems:
    raise BadSettings("\n".join(problems))
  if made_up:
    print(
      f"note: a rehearsal: the items of {', '.join(made_up)} are made up, "
      "scores of them mean nothing.",
      file=sys.stderr,
    )
  return {
    one.name: data_folder.open_set(one.data, one.benchmark.name, one.split)
    for one in run.sets
  }


def check_judges(run: Run) -> None:
  """All judges that the sets name can be made; so before hours of predicting.

  Raises:
    BadSettings: with all problems.
  """
  problems = []
  for name in dict.fromkeys(one.judge for one in run.sets if one.judge):
    try:
      judge_of(run.config, name, "")
    except BadSettings as error:
      users = ", ".join(one.name for one in run.sets if one.judge == name)
      problems.append(f"{error} (for {users})")
  if problems:
    raise BadSettings(
      "\n".join(problems)
      + "\nOr leave a set's judge out: --config.sets.NAME.judge="
    )


def begin(run: Run, about: Mapping[str, Any]) -> None:
  """Makes the folder and writes the config down.

  Args:
    run: what is begun.
    about: versions and the model, for run.json.

  Raises:
    BadRun: a folder of something else, or of another version.
  """
  folders.begin(run.out, about)
  folders.write_json(os.path.join(run.out, CONFIG), run.config)


def saved_config(out: str) -> dict[str, Any]:
  """The config that a folder was begun with.

  Raises:
    BadRun: it is no folder of results.
  """
  folders.check(out)
  return folders.read_json(
    os.path.join(out, CONFIG), "the run was not begun; run `predict` first"
  )


class Progress:
  """Prints how far a set is, now and then, with the time that is left."""

  def __init__(self, name: str, every: float = 5.0):
    self._name, self._every = name, every
    self._begun = self._last = time.monotonic()

  def __call__(self, done: int, total: int, skipped: int, more: str = ""):
    """Says it if the last time was long ago, or all is done."""
    now = time.monotonic()
    if now - self._last < self._every and done < total:
      return
    self._last = now
    made = max(done - skipped, 1)
    left = (now - self._begun) / made * (total - done)
    print(
      f"{self._name}: {done:,} of {total:,}, {_time(left)} left{more}",
      flush=True,
    )


def _time(seconds: float) -> str:
  """
  >>> _time(75), _time(8000)
  ('1 min 15 s', '2 h 13 min')
  """
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours} h {minutes} min"
  return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def predict(
  run: Run,
  model: Any,
  sources: Mapping[str, Source],
  *,
  shard: Shard,
  batch: int,
  stop: Stop,
) -> None:
  """The model's answers and pictures of all sets.

  Args:
    run: begun.
    model: `predict.Model`.
    sources: of each set.
    shard: of this process.
    batch: items computed at once.
    stop: see `predict.predict`.

  Raises:
    Stopped, BadRun: see there.
  """
  from emma_jax.benchmarks import predict as predicting  # knows jax

  for one in run.sets:
    progress = Progress(one.name)

    def tell(tally, total, progress=progress):
      more = f"; {tally.failed} failed" if tally.failed else ""
      progress(tally.found + tally.made, total, tally.found, more)

    tally = predicting.predict(
      model,
      sources[one.name],
      one,
      run.out,
      shard=shard,
      batch=batch,
      stop=stop,
      tell=tell,
    )
    print(f"{one.name}: {tally.made:,} predicted, {tally.found:,} were there")
    if tally.stale:
      print(
        f"{one.name}: {tally.stale:,} earlier predictions are of other "
        "weights, settings, prompts or pictures, and are not used; the first: "
        f"{tally.stale_where}",
        file=sys.stderr,
      )


def judge(run: Run, sources: Mapping[str, Source], *, stop: Stop) -> None:
  """Asks the judges of all sets that have one.

  Raises:
    Stopped, BadRun, JudgeError, OutOfBudget: see `decide.judge`.
  """
  for one in run.sets:
    if not one.judge:
      continue
    progress = Progress(one.name)
    asked_judge = judge_of(run.config, one.judge, run.out)
    total = one.limit or len(sources[one.name])

    def tell(asked, done, progress=progress, total=total):
      progress(done, max(total, done), 0, f"; {asked.calls:,} calls")

    asked = decide.judge(
      sources[one.name],
      one,
      run.place(one),
      asked_judge,
      concurrency=run.config["concurrency"],
      stop=stop,
      tell=tell,
    )
    told = ", ".join(f"{n:,} {k}" for k, n in sorted(asked.statuses.items()))
    print(
      f"{one.name}: judge {one.judge}: {asked.calls:,} calls, "
      f"{asked.cached:,} known ({told or 'nothing to ask'})"
    )


def score(run: Run, sources: Mapping[str, Source]) -> str:
  """Numbers of all sets, into results.json; returns its path.

  Raises:
    BadRun: files that cannot be used.
  """
  found = []
  for one in run.sets:
    identity = (
      judge_of(run.config, one.judge, "").identity() if one.judge else {}
    )
    try:
      found.append(
        aggregate.aggregate(
          sources[one.name],
          one,
          run.place(one),
          identity,
          max_failed=run.config["max_failed"],
          seed=run.config["seed"],
        )
      )
    except NoAnswers as error:
      print(f"{one.name}: no score. {error}", file=sys.stderr)
  return aggregate.write(run.out, run.config, found)
