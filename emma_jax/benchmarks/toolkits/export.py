"""Predictions of a run to the files of a target, whatever it is."""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
from typing import Literal, cast

from emma_jax.benchmarks.data import sets as test_sets
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.settings import BadSettings, SetSettings
from emma_jax.benchmarks.stages import Run
from emma_jax.benchmarks.toolkits import (
  picture_folders,
  prediction_files,
  replies,
  submissions,
)
from emma_jax.benchmarks.toolkits.asking import error_text
from emma_jax.benchmarks.toolkits.predicted import Predicted

# Data whose rows are those that lmms-eval's tasks read, in their order.
_HUB = ("parquet", "arrow")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
  """What was written.

  Args:
    paths: of files, or of folders of pictures.
    failures: set -> predictions without an answer, of those that have some.
    command: what scores it, "" where it is a server.
  """

  paths: Sequence[str]
  failures: Mapping[str, int]
  command: str = ""


def takes(to: str, one: SetSettings) -> bool:
  """Whether a target has a place for a set."""
  benchmark = one.benchmark
  if to in submissions.SUBMISSIONS:
    return benchmark.name in submissions.SUBMISSIONS[to][0]
  if to in picture_folders.FOLDERS:
    return benchmark.name == to
  if to == "lmms":
    return (benchmark.name, one.split) in replies.TASKS
  return benchmark.task == "ask"


def restricted(run: Run, to: str, *, named: bool) -> Run:
  """A run of the sets that a target takes.

  Args:
    run: of all.
    to: target.
    named: whether its sets were named, each of which must then be taken.

  Raises:
    BadSettings: a named one that is not, or none at all.
  """
  sets = [one for one in run.sets if takes(to, one)]
  wrong = [one.name for one in run.sets if one not in sets]
  if not sets or (named and wrong):
    raise BadSettings(
      f"--to {to} takes no {', '.join(wrong)}. Name others with --sets, or "
      "another target."
    )
  return dataclasses.replace(run, sets=sets)


def write(
  sets: Sequence[Predicted], to: str, dest: str, *, model: str, kind: str
) -> Written:
  """The files of some sets.

  Args:
    sets: all taken by the target.
    to: target.
    dest: folder.
    model: what VLMEvalKit calls it.
    kind: of VLMEvalKit's files.

  Raises:
    BadRun, BadItem, ImportError: see the modules of the targets.
  """
  failures = {x.settings.name: x.failures for x in sets if x.failures}
  command = ""
  if to == "vlmevalkit":
    form = cast(Literal["tsv", "xlsx"], kind)
    now = datetime.datetime.now()
    paths = prediction_files.write(sets, dest, model=model, kind=form, now=now)
    command = prediction_files.command(dest, model, kind, paths)
  elif to == "lmms":
    paths = [_replies(one, dest) for one in sets]
    tasks = ",".join(_task(one) for one in sets)
    command = (
      f"lmms-eval eval --model emma_jax --tasks {tasks} --model_args "
      f"replies={dest}"
    )
  elif to in submissions.SUBMISSIONS:
    _check_whole(sets)
    paths = [submissions.write(one, dest, to) for one in sets]
  else:
    _check_whole(sets)
    paths = [picture_folders.write(one, dest) for one in sets]
  return Written(paths=paths, failures=failures, command=command)


def _check_whole(sets: Sequence[Predicted]) -> None:
  """Raises BadRun for data with fewer rows than the split has: toolkits compare
  with tables of their own, servers and scripts score what they get."""
  for one in sets:
    found, split = test_sets.find(
      one.settings.benchmark.name, one.settings.split
    )
    expected = found.splits[split].rows
    if len(one.source) < expected:
      raise BadRun(
        f"{one.settings.name}: the data has {len(one.source):,} of "
        f"{expected:,} rows; predict the whole split first."
      )


def _task(one: Predicted) -> str:
  return replies.TASKS[one.settings.benchmark.name, one.settings.split]


def _replies(one: Predicted, dest: str) -> str:
  if one.source.format not in _HUB:
    raise BadRun(
      f"{one.settings.name} was read from {one.source.format} "
      f"({', '.join(one.source.files[:1])}), whose rows lmms-eval does not "
      "know. Predict with the snapshot that its task reads, in --data."
    )
  failed = {
    x.id: error_text(x.status)
    for x in one.predictions.values()
    if x.status in ("unreadable", "crashed")
  }
  rows = ((i.question, failed.get(i.id, text)) for i, text in one.texts())
  return replies.write(dest, _task(one), rows)
