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
  size_of: Callable[[Drawing], tuple[int, int]],
  batch: int,
  seed: int,
  steps: int,
  progress: Progress,
  name: str = "drawing",
) -> list[Outcome[Drawing]]:
  """Draws each prompt once, at `size_of(record)`, (y, x).

  0 `steps` is the model's own.
  """
  outcomes = []
  for start, part in batches(records, batch):
    progress(name, start, len(records))
    drawn: dict[int, np.ndarray] = {}
    for size in dict.fromkeys(map(size_of, part)):
      places = [i for i, r in enumerate(part) if size_of(r) == size]
      made = session.draw(
        [part[i].prompt for i in places],
        size=size,
        steps=steps or None,
        seed=seed,
        # Its number in the set, so that no batch size changes a picture.
        streams=[start + i for i in places],
      )
      drawn |= zip(places, made)
    for i, record in enumerate(part):
      mark = (record.kind or "drawing", judge(record, drawn[i]))
      outcomes.append(Outcome(record=record, marks=(mark,), picture=drawn[i]))
  progress(name, len(records), len(records))
  return outcomes


def score(outcomes: Sequence[Outcome]) -> Scores:
  """The score is the mean of the tags' scores, as in GenEval."""
  return tally(outcomes, macro=True)
