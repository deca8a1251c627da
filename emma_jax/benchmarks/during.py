"""Published test sets during a training: a few items, every so many steps.

`config.evaluate.benchmarks` names a config of configs/benchmarks, sets of it
and a limit. Numbers of a part of a set are called partial and have intervals;
they say whether a run goes anywhere, not how good the model is.
"""

from collections.abc import Mapping
import pathlib
import sys
from typing import Any

import jax
from jax.experimental import multihost_utils

from emma_jax import distributed
from emma_jax.benchmarks import folders, runs, stages, tables
from emma_jax.benchmarks.model import Model, about
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.selection import Shard
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.build import config_file, sections
from emma_jax.build import session as build_session
from emma_jax.evals import runner
from emma_jax.judge.base import JudgeError


class BenchmarkEvaluator:
  """An `AfterStage` of training.loop, for between its stages and within them.

  Each call makes WORKDIR/benchmarks/step-N, with all files of a run, and a line
  in WORKDIR/benchmarks.jsonl. All processes predict; the first one judges.
  """

  def __init__(self, workdir: str | pathlib.Path, config: Mapping[str, Any]):
    """Opens the sets: what is missing is told before the training begins.

    Args:
      workdir: of the training, the same on all hosts.
      config: of the training, plain dictionaries.

    Raises:
      BadSettings: sets or judges that are not there; all problems at once.
      ConfigError: no such config of benchmarks.
    """
    self.workdir = pathlib.Path(workdir)
    self.config = sections.plain(config)
    self.chosen = self.config["evaluate"]["benchmarks"]
    self.benchmarks = config_file.load(self.chosen["config"]).to_dict()
    for section in self.benchmarks["sets"].values():
      section["limit"] = self.chosen["limit"]
    run = self._run("")
    self.sources = runs.open_sources(run, partial=True, judged=True)

  def _run(self, out: str) -> runs.Run:
    return runs.make_run(
      self.benchmarks, out, self.chosen["sets"], self.chosen["data"]
    )

  def __call__(
    self, params: dict, stage: str, step: int, last: bool, router_trained: bool
  ) -> dict[str, float]:
    """Scores `params` at the global `step`; the scores by name.

    A judge that fails is told, and ends nothing.
    """
    del last
    out = str(self.workdir / "benchmarks" / f"step-{step}")
    run = self._run(out)
    params = distributed.whole(params)  # each process predicts a part
    session = build_session.session(
      self.config,
      params,
      name=f"{self.config['name']} {stage}",
      step=step,
      route="router" if router_trained else "versatile",
      batch=self.benchmarks["rows"],
      fill=True,
    )
    model = Model.of(session)
    index, count = jax.process_index(), jax.process_count()
    if index == 0:
      runs.begin(run, about(model, str(self.workdir)))
    self._wait(f"{step}: begun")
    stages.predict(
      run,
      model,
      self.sources,
      shard=Shard(index, count),
      batch=self.benchmarks["rows"],
      stop=runs.never,
    )
    self._wait(f"{step}: predicted")
    if index == 0:
      try:
        stages.judge(run, self.sources, stop=runs.never)
        return self._remember(stages.score(run, self.sources), stage, step)
      except (BadRun, BadSettings, JudgeError, OSError) as error:
        # A server that is down must not end a training; all is kept, and
        # `emma-benchmark judge --out` goes on with it.
        print(
          f"No benchmarks at step {step}: {error} What was predicted is in "
          f"{out}.",
          file=sys.stderr,
          flush=True,
        )
    return {}

  @staticmethod
  def _wait(name: str) -> None:
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"benchmarks, step {name}")

  def _remember(self, path: str, stage: str, step: int) -> dict[str, float]:
    """A line of numbers, in the file and for the reader."""
    content = folders.read_json(path, "nothing was scored")
    found = {one["name"]: tables.headline(one) for one in content["sets"]}
    line = {
      "stage": stage,
      "step": step,
      "scores": {name: x["score"] for name, x in found.items()},
      "ci95": {name: x["ci95"] for name, x in found.items()},
    }
    runner.append_history(self.workdir / "benchmarks.jsonl", line)
    told = ", ".join(
      f"{name} {tables.score(x)} {tables.interval(x)}"
      for name, x in found.items()
    )
    print(f"Benchmarks at step {step}: {told}", file=sys.stderr, flush=True)
    return {
      f"benchmarks/{name}": float(x["score"])
      for name, x in found.items()
      if x["score"] is not None
    }
