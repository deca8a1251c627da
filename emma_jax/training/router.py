"""The router's stage: whether it is trained, and how right it is."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from emma_jax import rules, sharding
from emma_jax.data.loading.held_out import HeldOutPictures, LeftOut
from emma_jax.training.objectives import RouterObjective
from emma_jax.training.run import Stage
from emma_jax.training.state import TRAIN

# In the order of the labels' codes; `experts` has its own for the first.
NAMES = ("general", "stem")


def inherited(
  stage: Stage,
  shapes: Mapping[str, Any],
  previous: bool,
  metas: Mapping[str, Mapping[str, Any]],
) -> bool:
  """Whether the router that a stage starts with is a trained one.

  It is where all its weights were a trained router's, and the stage leaves what
  the router looks at, the shared blocks below it, as it was.

  Args:
    stage: with its tables.
    shapes: the model's, nested.
    previous: whether the stage before ended with a trained one.
    metas: name -> metadata of the weights that the stage was loaded from.
  """
  paths = list(rules.flatten(shapes))
  router = [p for p in paths if p.startswith("vision/router/")]
  below = [p for p in paths if p.startswith(("vision/embed/", "vision/lower/"))]
  policy = rules.resolve(stage.policy, paths, "policy")
  if not router or any(policy[p] == TRAIN for p in below):
    return False
  source = rules.resolve(stage.load, paths, "load")
  known = {"keep": previous} | {
    f"weights:{name}": bool(meta.get("router_trained", False))
    for name, meta in metas.items()
  }
  return all(known.get(source[p], False) for p in router)


@dataclasses.dataclass(frozen=True)
class Confusion:
  """Held-out pictures by label (rows) and by the router's choice (columns)."""

  counts: np.ndarray  # int (experts, experts), in the order of `names`
  left_out: LeftOut
  names: tuple[str, ...] = NAMES

  @property
  def total(self) -> int:
    """All of them."""
    return int(self.counts.sum())

  @property
  def accuracy(self) -> float:
    """The share that goes where its label says; 0 of none."""
    return float(np.trace(self.counts)) / max(self.total, 1)

  def values(self) -> dict[str, float]:
    """For the log."""
    cells = {
      f"router/{label}_to_{choice}": int(self.counts[i, j])
      for i, label in enumerate(self.names)
      for j, choice in enumerate(self.names)
    }
    return {"router/accuracy": self.accuracy, **cells}

  def lines(self) -> list[str]:
    """For people: the accuracy, the table, and what is not in it."""
    left = dataclasses.asdict(self.left_out)
    shown = ["STEM" if name == "stem" else name for name in self.names]
    wide = [len(name) + 4 for name in shown]
    heads = [f"{'to ' + name:>{n}}" for name, n in zip(shown, wide)]
    out = [
      f"Router on {self.total} held-out pictures: accuracy {self.accuracy:.3f}",
      " ".join([f"{'label':>10}", *heads]),
    ]
    for label, row in zip(shown, self.counts.tolist()):
      cells = [f"{count:>{n}}" for count, n in zip(row, wide)]
      out.append(" ".join([f"{label:>10}", *cells]))
    if any(left.values()):
      parts = ", ".join(f"{n} {name}" for name, n in left.items() if n)
      out.append(f"Held-out records left out: {parts}.")
    return out


def measured(stage: Stage, params: dict, mesh: Mesh) -> Confusion | None:
  """Of the router's own stage, on its held-out pictures; None without any."""
  pictures, objective = stage.held_out, stage.objective
  if pictures is None or not isinstance(objective, RouterObjective):
    return None
  return measure(objective, pictures, params, mesh)


def measure(
  objective: RouterObjective,
  pictures: HeldOutPictures,
  params: dict,
  mesh: Mesh,
) -> Confusion:
  """How the router of `params` decides; a collective of all processes."""

  def count(params: dict, batch: Any) -> jax.Array:
    with sharding.program(mesh):
      return objective.confusion(params, batch)

  run = jax.jit(count, out_shardings=sharding.whole(mesh))
  experts = objective.model.config.vision.names
  total, left_out = np.zeros((len(experts),) * 2, int), LeftOut()
  for batch in pictures.batches(left_out):
    found = run(params, sharding.place_rows(batch, mesh))
    total += np.asarray(found).astype(int)
  return Confusion(total, left_out, (NAMES[0], *experts[1:]))
