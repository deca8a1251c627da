"""Text to image: a detector reads every picture back; mean over six tags."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emma_jax.evals.outcomes import Outcome, Progress, Scores, batches, tally
from emma_jax.structs import Drawing

Judge = Callable[[Drawing, np.ndarray], bool | None]


def run(
  session: Any,
  records: Sequence[Drawing],
  *,
  judge: Judge,
  size: tuple[int, int],
  batch: int,
  seed: int,
  steps: int,
  progress: Progress,
  name: str = "drawing",
) -> list[Outcome[Drawing]]:
  """Draws each prompt once; `size` is (y, x), 0 `steps` is the model's own."""
  outcomes = []
  for start, part in batches(records, batch):
    progress(name, start, len(records))
    drawn = session.draw(
      # A seed of its own: no two batches start from the same noise.
      [r.prompt for r in part],
      size=size,
      steps=steps or None,
      seed=seed + start,
    )
    for record, picture in zip(part, drawn):
      mark = (record.kind or "drawing", judge(record, picture))
      outcomes.append(Outcome(record=record, marks=(mark,), picture=picture))
  progress(name, len(records), len(records))
  return outcomes


def score(outcomes: Sequence[Outcome]) -> Scores:
  """The score is the mean of the tags' scores, as in GenEval."""
  return tally(outcomes, macro=True)
