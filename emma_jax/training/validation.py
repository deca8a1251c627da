"""Held-out losses of a stage while it runs, of live and of averaged weights."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from emma_jax import sharding
from emma_jax.data.loading.held_out_batches import HeldOutBatch, HeldOutBatches
from emma_jax.structs import Mean
from emma_jax.training.objectives import Metrics, SummedObjective
from emma_jax.training.state import TrainState

# Beginnings of the metrics' names, by whether the weights are the averaged.
NAMES = {False: "validation/", True: "validation_averaged/"}


class Validator:
  """Measures a stage's weights, where they lie, on its held-out records.

  A collective of all processes; one program of the forward pass.
  """

  def __init__(
    self, objective: SummedObjective, held_out: HeldOutBatches, mesh: Mesh
  ):
    self._held_out, self._mesh = held_out, mesh
    self._told = False

    def measure(params: dict, held: HeldOutBatch) -> Metrics:
      with sharding.program(mesh):
        return objective.held_out(params, held)

    self._measure: Callable[[dict, HeldOutBatch], Metrics] = jax.jit(
      measure, out_shardings=sharding.whole(mesh)
    )

  def values(self, state: TrainState) -> dict[str, float]:
    """Metric -> mean over all held-out records, a function of the weights."""
    out: dict[str, float] = {}
    for averaged, prefix in NAMES.items():
      found = self._means(state.params(averaged=averaged))
      out |= {f"{prefix}{name}": mean for name, mean in found.items()}
    return out

  def _means(self, params: dict) -> dict[str, float]:
    sums: dict[str, tuple[float, float]] = {}
    for held in self._held_out.batches():
      placed = sharding.place_rows(held, self._mesh)
      found: Mapping[str, Mean] = jax.device_get(self._measure(params, placed))
      for name, mean in found.items():
        total, count = sums.get(name, (0.0, 0.0))
        sums[name] = total + float(mean.total), count + float(mean.count)
    return {k: total / n for k, (total, n) in sorted(sums.items()) if n}

  def notes(self) -> list[str]:
    """What is to be said of the records, once they were read; only once."""
    left = self._held_out.left_out
    parts = [
      f"{count} {why}"
      for why, count in (("broken", left.broken), ("too large", left.oversized))
      if count
    ]
    if self._told or not parts:
      return []
    self._told = True
    return [f"Held-out records left out of the validation: {', '.join(parts)}."]


def line(values: Mapping[str, Any]) -> str:
  """Losses by task in words, of both kinds of weights.

  >>> line({"validation/loss/drawing": 0.5,
  ...       "validation_averaged/loss/drawing": 0.4})
  'drawing 0.5 (averaged 0.4)'
  """
  parts = []
  for key, value in values.items():
    task = key.removeprefix(f"{NAMES[False]}loss/")
    if task != key:
      averaged = values[f"{NAMES[True]}loss/{task}"]
      parts.append(f"{task} {value:.4g} (averaged {averaged:.4g})")
  return ", ".join(parts)
