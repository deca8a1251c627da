"""Editing: the change is there and everything else is as it was."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emma_jax.evals.outcomes import Outcome, Progress, Scores, batches, tally
from emma_jax.structs import Editing

Judge = Callable[[Editing, np.ndarray], bool | None]


def run(
  session: Any,
  records: Sequence[Editing],
  *,
  judge: Judge,
  batch: int,
  seed: int,
  steps: int,
  progress: Progress,
  name: str = "editing",
) -> list[Outcome[Editing]]:
  """Makes each edit once, of all its sources; 0 `steps` is the model's own."""
  outcomes = []
  for start, part in batches(records, batch):
    progress(name, start, len(records))
    edited = session.edit(
      [r.sources for r in part],
      [r.instruction for r in part],
      steps=steps or None,
      seed=seed,
      streams=range(start, start + len(part)),
    )
    for record, picture in zip(part, edited):
      mark = (record.kind or "editing", judge(record, picture))
      outcomes.append(Outcome(record=record, marks=(mark,), picture=picture))
  progress(name, len(records), len(records))
  return outcomes


def score(outcomes: Sequence[Outcome]) -> Scores:
  """The score is the mean of the kinds' scores.

  As for drawings: kinds go round with the index, so for whole rounds it is the
  mean over samples too.
  """
  return tally(outcomes, macro=True)
