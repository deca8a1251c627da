"""Samples of the built-in world: pictures, texts, detector, scorers."""

from typing import Any

import numpy as np

from emma_jax import structs
from emma_jax.world import detector, draws, scene, scoring, tasks, vocabulary
from emma_jax.world.render import render
from tests.goldens import store

KEPT = 3
INDICES = (0, 1, 7, 1000, 123456)


def _texts(record: structs.Record) -> list[str]:
  if isinstance(record, structs.Understanding):
    return [
      *(x for turn in record.turns for x in turn),
      *record.kinds,
      f"stem {record.stem}",
    ]
  said = getattr(record, "prompt", None)
  return [record.instruction if said is None else said, record.kind]


def _pictures(record: structs.Record) -> list[np.ndarray]:
  if isinstance(record, structs.Understanding):
    return list(record.pictures)
  if isinstance(record, structs.Drawing):
    return [record.picture]
  return [*record.sources, record.target]


def _sample(task: str, split: str, index: int) -> str:
  """Digests of what is said and of what is seen, and the text to read."""
  record = tasks.sample(task, split, index)
  said = _texts(record)
  seen = store.digest(b"".join(p.tobytes() for p in _pictures(record)))
  truth = scoring.truth_text(record)
  return f"{store.digest(repr([said, truth, record.id]))} {seen} {said[0]}"


def _noisy(picture: np.ndarray, seed: int) -> np.ndarray:
  """Whole numbers: the same on every machine."""
  noise = np.random.default_rng(seed).integers(-30, 31, picture.shape)
  return np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)


def _rendered() -> dict[str, Any]:
  """Every kind of picture, by the digest of its pixels."""
  out = {}
  for i, (shape, colour, size) in enumerate(
    (a, b, c)
    for a in scene.SHAPES
    for b in scene.COLOURS[:2]
    for c in ("small", "large")
  ):
    ground = scene.BACKGROUNDS[i % len(scene.BACKGROUNDS)]
    if ground == colour:
      ground = scene.BACKGROUNDS[(i + 1) % len(scene.BACKGROUNDS)]
    thing = scene.Thing(
      shape=shape, colour=colour, size=size, cell=(i % 3, i // 3 % 3)
    )
    out[f"{shape} {colour} {size}"] = store.digest(
      render(scene.Scene((thing,), ground)).tobytes()
    )
  for i in range(10):
    out[f"digit {i}"] = store.digest(render(scene.Digit(i, "red")).tobytes())
  out["sums"] = store.digest(
    b"".join(render(scene.Sum(i, 9 - i, "blue")).tobytes() for i in range(10))
  )
  for i in range(12):
    picture = draws.stem_picture(draws.stream("golden", "test", i))
    out[f"stem {i}"] = store.digest(render(picture).tobytes())
  return out


def _read() -> dict[str, str]:
  """What the detector sees in noise, right or wrong."""
  out = {}
  for i in range(12):
    want = draws.scene(draws.stream("golden", "test", i))
    got = detector.read(_noisy(render(want), i))
    out[str(i)] = f"{got == want} {store.digest(scoring.scene_text(got))}"
  return out


def _scored(task: str) -> str:
  """A letter for each pair of a record and another one's picture."""
  records = [tasks.sample(task, "test", i) for i in range(24)]
  score = (
    scoring.score_drawing
    if task.startswith("drawing")
    else scoring.score_editing
  )
  letters = ""
  # Of pictures of several canvases, those of one: a round of kinds.
  turn = 6 if task.endswith("_shapes") else 24
  for i, record in enumerate(records):
    for step in (0, 1, 5):
      j = i - i % turn + (i + step) % turn
      picture = _pictures(records[j])[-1]
      letters += "01"[bool(score(record, picture))]
  return letters


def cases() -> dict[str, Any]:
  out: dict[str, Any] = {
    f"samples {task}": {
      f"{split} {i}": _sample(task, split, i)
      for i in INDICES
      for split in (("train", "test") if i < 2 else ("val",))
    }
    for task in tasks.TASKS
  }
  out["rendered"] = _rendered()
  out["read"] = _read()
  out["scored"] = {
    task: _scored(task)
    for task in tasks.TASKS
    if task.startswith(("drawing", "editing"))
  }
  answers = [
    ("red", "Red."),
    ("red", "red square"),
    ("3", "three"),
    ("yes", " YES! "),
    ("no", "no no"),
    ("左边", "左边。"),
    ("a", ""),
  ]
  out["answers"] = {
    f"{a} | {b}": bool(scoring.score_answer(a, b)) for a, b in answers
  }
  out["baseline"] = {
    k: round(v, 9)
    for k, v in scoring.majority_baseline(
      [("a", "x"), ("a", "x"), ("a", "y"), ("b", "z"), ("b", "w")]
    ).items()
  }
  words = sorted(vocabulary.words())
  out["vocabulary"] = {
    "words": len(words),
    "digest": store.digest("\n".join(words)),
  }
  return out
