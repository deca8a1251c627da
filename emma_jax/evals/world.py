"""The embedded world's benchmarks: three tasks, held-out sets, the ceiling."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emma_jax.evals import drawing, editing, understanding
from emma_jax.evals.outcomes import (
  Outcome,
  Progress,
  Scores,
  batches,
  fidelity,
  only,
  pixels,
)
from emma_jax.structs import Drawing, Editing, RawPicture, Record, Understanding
from emma_jax.world import scoring, tasks
from emma_jax.world.scene import name_of

# What no training split holds: pairs of colour and shape, Chinese prompts for
# pictures, two edits at once.
HELD_OUT = (
  "understanding_pairs",
  "drawing_pairs",
  "editing_pairs",
  "drawing_zh",
  "editing_zh",
  "editing_multi",
)


# How a picture that was made is judged, by the record's task.
_JUDGES: Mapping[str, Callable[[Any, np.ndarray], bool]] = {
  "drawing": scoring.score_drawing,
  "editing": scoring.score_editing,
}


def records(task: str, split: str, count: int) -> list[Record]:
  """Samples 0..count-1 of a split."""
  return [tasks.sample(task, split, index) for index in range(count)]


def run(
  session: Any,
  samples: Sequence[Record],
  task: str,
  *,
  batch: int,
  seed: int,
  steps: int,
  progress: Progress,
) -> tuple[Scores, list[Outcome]]:
  """Scores and outcomes of a task or held-out set named `task`.

  Where the samples are of several sizes, "sizes" holds {"64x128": {"score",
  "n"}} and so on beside the kinds.
  """
  family = task.split("_")[0]
  if family == "understanding":
    asked = understanding.run(
      session,
      only(Understanding, samples),
      batch=batch,
      progress=progress,
      name=task,
    )
    return _scores(understanding, asked), asked
  flow: dict[str, Any] = dict(
    batch=batch, seed=seed, steps=steps, progress=progress, name=task
  )
  if family == "drawing":
    drawn = drawing.run(
      session,
      only(Drawing, samples),
      judge=_JUDGES[family],
      size_of=scoring.canvas_of,
      **flow,
    )
    return _scores(drawing, drawn), drawn
  edited = editing.run(
    session, only(Editing, samples), judge=_JUDGES[family], **flow
  )
  return _scores(editing, edited), edited


def _scores(family: Any, outcomes: Sequence[Outcome]) -> Scores:
  """Of an evaluator's outcomes: all together, and by size where they differ."""
  scores = family.score(outcomes)
  sizes: dict[str, list[Outcome]] = {}
  for outcome in outcomes:
    name = name_of(scoring.canvas_of(outcome.record))
    sizes.setdefault(name, []).append(outcome)
  if len(sizes) > 1:
    scores["sizes"] = {
      name: {key: family.score(part)[key] for key in ("score", "n", "ci95")}
      for name, part in sorted(sizes.items())
    }
  return scores


def ceiling(
  session: Any,
  samples: Sequence[Record],
  task: str,
  *,
  batch: int,
  progress: Progress,
) -> tuple[Scores, list[Outcome]]:
  """The score of perfect latents: true pictures through the autoencoder.

  Adds "psnr" (dB) and "l1" (of 255) of those reconstructions.
  """
  pictured: list[Drawing | Editing] = only((Drawing, Editing), samples)
  true = [pixels(_target(r)) for r in pictured]
  made: list[np.ndarray] = []
  for start, part in batches(true, batch):
    progress(f"ceiling of {task}", start, len(true))
    made += session.reconstruct(part)
  progress(f"ceiling of {task}", len(true), len(true))
  family = drawing if task == "drawing" else editing
  done = [
    Outcome(record=r, marks=((r.kind, _JUDGES[r.task](r, p)),), picture=p)
    for r, p in zip(pictured, made)
  ]
  return _scores(family, done) | fidelity(list(zip(made, true))), done


def _target(record: Drawing | Editing) -> RawPicture | None:
  return record.picture if isinstance(record, Drawing) else record.target
