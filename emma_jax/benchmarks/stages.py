"""The four stages of a run, with files between them: predict, judge,
aggregate, report. Each can be run alone; the first alone needs the model.
"""

from collections.abc import Callable, Mapping
import os
import sys
import time
from typing import Any

from emma_jax.benchmarks import aggregate, decide, folders, runs
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.judges import judge_of
from emma_jax.benchmarks.runs import Run
from emma_jax.benchmarks.selection import Shard, limited
from emma_jax.benchmarks.suite import NoAnswers
from emma_jax.judge.base import Judge

Stop = Callable[[], bool]


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
    model: `model.Model`.
    sources: of each set.
    shard: of this process.
    batch: items computed at once.
    stop: see `predict.predict`.

  Raises:
    Stopped, BadRun: see there.
  """
  import jax

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
    if jax.process_index():  # the first one speaks for all
      continue
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
  # One for all sets that name it: its budget is the command's.
  judges = {
    name: judge_of(run.config, name, run.out)
    for name in dict.fromkeys(one.judge for one in run.sets if one.judge)
  }
  _calibrate(run, judges)
  for one in run.sets:
    if not one.judge:
      continue
    progress = Progress(one.name)
    groups = sources[one.name].groups
    total = len(limited(list(groups.values()), one.limit))

    def tell(asked, done, progress=progress, total=total):
      progress(done, total, 0, f"; {asked.calls:,} calls")

    try:
      asked = decide.judge(
        sources[one.name],
        one,
        run.place(one),
        judges[one.judge],
        concurrency=run.config["concurrency"],
        stop=stop,
        tell=tell,
      )
    except NoAnswers as error:
      print(f"{one.name}: nothing to judge. {error}", file=sys.stderr)
      continue
    told = ", ".join(f"{n:,} {k}" for k, n in sorted(asked.statuses.items()))
    print(
      f"{one.name}: judge {one.judge}: {asked.calls:,} calls, "
      f"{asked.cached:,} known ({told or 'nothing to ask'})"
    )


def _calibrate(run: Run, judges: Mapping[str, Judge]) -> None:
  """Asks judges that have anchors how far they have moved, and says it."""
  from emma_jax.benchmarks import calibration  # knows runs

  path = os.path.join(run.out, runs.ANCHORS)
  found = folders.read_json(path, "") if os.path.exists(path) else {}
  for name, judge_of_sets in judges.items():
    drift = calibration.check(run.config, name, judge_of_sets)
    if drift is None:
      continue
    found[name] = drift
    moved = drift["mean_abs_diff"]
    told = "no number" if moved is None else f"{moved:.3g} in the mean"
    print(
      f"judge {name}: {drift['n']} of {drift['anchors']} anchors compared, "
      f"moved by {told}; {len(drift['failed'])} failed"
    )
    folders.write_json(path, found)


def score(run: Run, sources: Mapping[str, Source]) -> str:
  """Numbers of all sets, into results.json; returns its path.

  Raises:
    BadRun: files that cannot be used.
  """
  found = []
  for one in run.sets:
    identity = (
      judge_of(run.config, one.judge, "", asked=False).identity()
      if one.judge
      else {}
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
