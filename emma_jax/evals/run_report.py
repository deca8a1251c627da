"""The page of a run while it goes on: written at every look, stage and end."""

from collections.abc import Mapping, Sequence
import pathlib
import sys
from typing import Any

import jax

from emma_jax import provenance
from emma_jax.evals import grids, over_time, predictions, report, runner
from emma_jax.evals.outcomes import Evaluation
from emma_jax.evals.table import plain_kind
from emma_jax.training.metrics import read_metrics

NAME = "report.html"


class RunReport:
  """WORKDIR/report.html, of what lies in the folder; of the first process."""

  def __init__(self, workdir: str | pathlib.Path, config: Mapping[str, Any]):
    self.workdir = pathlib.Path(workdir)
    self.path = self.workdir / NAME
    self._config = config
    self._last: Evaluation | None = None

  def write(self, done: Evaluation | None = None) -> None:
    """Writes the page anew.

    A page that cannot be written ends no run: it is told, and tried again.

    done: an evaluation that was just made; its pictures are shown until there
      is another.
    """
    if jax.process_index() != 0:
      return
    self._last = done or self._last
    history = runner.read_history(self.workdir / "scores.jsonl")
    metrics = read_metrics(self.workdir)
    if metrics:  # what a run that went back has not reached again
      history = [e for e in history if e["step"] <= metrics[-1]["step"]]
    scores = self._last.scores if self._last else None
    if scores is None and history:
      scores = history[-1]
    try:
      report.write(
        self.path,
        title=self._config["name"],
        scores=scores,
        outcomes=self._last.outcomes if self._last else None,
        history=history,
        metrics=metrics,
        config=self._config,
        samples=over_time.tables(self.workdir),
        stages=grids.same_prompts(self._stages(history), self._records()),
        starts=provenance.read(self.workdir),
        predictions=f"{predictions.folder_of(scores['step'])}/{predictions.LINES}"
        if scores
        else "",
      )
    except OSError as error:
      print(f"No report: {error}", file=sys.stderr, flush=True)

  def _stages(
    self, history: Sequence[Mapping[str, Any]]
  ) -> list[tuple[str, pathlib.Path]]:
    """Name and folder of the predictions after each stage."""
    return [
      (
        plain_kind(str(entry.get("stage", entry["step"]))),
        self.workdir / predictions.folder_of(entry["step"]),
      )
      for entry in history
    ]

  def _records(self) -> dict[tuple[str, int], Any]:
    """The first samples of the last evaluation."""
    if self._last is None:
      return {}
    return {
      (task, n): outcome.record
      for task, done in self._last.outcomes.items()
      for n, outcome in enumerate(done[: grids.LINES])
    }
