"""What is run: sets of a config, their data and judges, and the folder."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import sys
from typing import Any

from emma_jax.benchmarks import folders, settings
from emma_jax.benchmarks.data import folder as data_folder
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import BadItem
from emma_jax.benchmarks.judges import anchors_of, judge_of
from emma_jax.benchmarks.settings import BadSettings, SetSettings

CONFIG = "config.json"
ANCHORS = "anchors.json"


def never() -> bool:
  """A `stop` of stages that nobody stops."""
  return False


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
  if data:  # so that later stages find it, from wherever they are run
    data = os.path.abspath(data_folder.located(data))
    config = {**config, "data": data}
  chosen = settings.chosen(config, only, data)
  for one in chosen:
    if one.judge and one.judge not in config["judges"]:
      known = ", ".join(config["judges"]) or "none"
      raise BadSettings(
        f"sets.{one.name}.judge={one.judge!r}: the config has no "
        f"judges.{one.judge}; there are {known}."
      )
  return Run(config=config, sets=chosen, out=out)


def open_sources(
  run: Run, *, partial: bool = False, judged: bool = False
) -> dict[str, Source]:
  """The data of all sets; all problems at once, before anything is loaded.

  Every item is read once, but no picture.

  Args:
    run: with its sets.
    partial: whether sets with rows missing are taken, and named.
    judged: whether judges will be asked too, so that they are checked.

  Raises:
    BadSettings: what is missing or damaged, with what to download; with
      `judged`, what `judge_problems` says.
  """
  problems, made_up, sources = [], [], {}
  for one in run.sets:
    if not os.path.isdir(one.data):
      problems.append(
        f"{one.name}: {one.data!r} is no folder of test sets; name it with "
        "--data."
      )
      continue
    entry, source = data_folder.inspect(one.data, one.benchmark.name, one.split)
    if source is None:
      problems.append(f"{one.name}: {entry.advice}")
      continue
    try:
      if not source.groups:
        raise BadItem(f"{', '.join(source.files)}: there is no item.")
    except BadItem as error:
      problems.append(f"{one.name}: {error}")
      continue
    sources[one.name] = source
    if entry.status == "incomplete" and not partial and not one.limit:
      problems.append(
        f"{one.name}: {entry.advice} Or run a part of it, by "
        f"--config.sets.{one.name}.limit={entry.rows}."
      )
    elif entry.status == "rehearsal":
      made_up.append(one.name)
    elif entry.advice:
      print(f"note: {one.name}: {entry.advice}", file=sys.stderr)
  if judged:
    problems += judge_problems(run)
  if problems:
    raise BadSettings("\n".join(problems))
  if made_up:
    print(
      f"note: a rehearsal: the items of {', '.join(made_up)} are made up, "
      "scores of them mean nothing.",
      file=sys.stderr,
    )
  return sources


def judge_problems(run: Run) -> list[str]:
  """Why judges that the sets name cannot be made; so before hours of
  predicting."""
  problems = []
  for name in dict.fromkeys(one.judge for one in run.sets if one.judge):
    try:
      judge_of(run.config, name, "")
      anchors_of(run.config, name)
    except BadSettings as error:
      users = ", ".join(one.name for one in run.sets if one.judge == name)
      problems.append(f"{error} (for {users})")
  if problems:
    problems.append("Or leave a set's judge out: --config.sets.NAME.judge=")
  return problems


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
    os.path.join(out, CONFIG),
    "the run was not begun; run `predict` first",
    *settings.KEYS,
  )
