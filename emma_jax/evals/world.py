"""The embedded world's benchmarks: three tasks, held-out sets, the ceiling."""

from collections.abc import Sequence
from typing import Any

from emma_jax.evals import drawing, editing, understanding
from emma_jax.evals.outcomes import Outcome, Progress, Scores, batches, fidelity
from emma_jax.structs import Drawing, Record
from emma_jax.world import scoring, tasks
from emma_jax.world.scene import CANVAS

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
  """Scores and outcomes of a task or held-out set named `task`."""
  family = task.split("_")[0]
  if family == "understanding":
    done = understanding.run(
      session, samples, batch=batch, progress=progress, name=task
    )
    return understanding.score(done), done
  flow = dict(batch=batch, seed=seed, steps=steps, progress=progress, name=task)
  if family == "drawing":
    done = drawing.run(
      session,
      samples,
      judge=scoring.score_drawing,
      size=(CANVAS, CANVAS),
      **flow,
    )
    return drawing.score(done), done
  done = editing.run(session, samples, judge=scoring.score_editing, **flow)
  return editing.score(done), done


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
  true = [r.picture if isinstance(r, Drawing) else r.target for r in samples]
  made = []
  for start, part in batches(true, batch):
    progress(f"ceiling of {task}", start, len(true))
    made += session.reconstruct(part)
  progress(f"ceiling of {task}", len(true), len(true))
  family = drawing if task == "drawing" else editing
  judge = scoring.score_drawing if task == "drawing" else scoring.score_editing
  done = [
    Outcome(record=r, marks=((r.kind, judge(r, p)),), picture=p)
    for r, p in zip(samples, made)
  ]
  return family.score(done) | fidelity(list(zip(made, true))), done
