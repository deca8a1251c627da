"""The autoencoder alone: how near its pictures are, and what is still read."""

from typing import Any

import numpy as np

from emma_jax.evals import files, world
from emma_jax.evals.outcomes import (
  Outcome,
  Progress,
  Scores,
  batches,
  fidelity,
  only,
  pixels,
  tally,
)
from emma_jax.structs import Drawing
from emma_jax.world import scoring
from emma_jax.world.scene import Scene


def run(
  session: Any,
  spec: str,
  split: str,
  count: int,
  *,
  batch: int,
  progress: Progress,
) -> tuple[Scores, list[Outcome]]:
  """{"score", "n", "kinds", "samples", "psnr", "l1"} and the outcomes.

  The score is the share of scenes that still read exactly; pictures that no
  detector reads (charts, a user's files) count in psnr and l1 only.

  Args:
    session: only its `reconstruct` is used.
    spec: "jsonl:PATH" of captioned pictures; else the world's pictures.
    split: of the world.
    count: pictures.
    batch: pictures of a call.
    progress: told now and then.
  """
  if spec.startswith("jsonl"):
    found, bad = files.records(
      spec, "drawing", count, getattr(session, "check_picture", None)
    )
  else:
    found, bad = world.records("autoencoder", split, count), []
  samples = only(Drawing, found)
  true = [pixels(r.picture) for r in samples]
  made: list[np.ndarray] = []
  for start, part in batches(true, batch):
    progress("autoencoder", start, len(true))
    made += session.reconstruct(part)
  done = [_outcome(r, p) for r, p in zip(samples, made)]
  distances = fidelity(list(zip(made, true)))
  scores = tally(done, macro=False) | distances | {"samples": len(done)}
  if bad:
    scores["bad_records"] = [f"{where}: {why}" for where, why in bad]
  return scores, done


def _outcome(record: Drawing, picture: np.ndarray) -> Outcome[Drawing]:
  readable = record.truth is not None and isinstance(
    scoring.scene_of(record), Scene
  )
  right = scoring.score_drawing(record, picture) if readable else None
  mark = (record.kind or "picture", right)
  return Outcome(record=record, marks=(mark,), picture=picture)
