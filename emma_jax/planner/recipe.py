"""What a stage's batch, rate, warm-up and average are on this machine.

Of the config alone: nothing is compiled, no data is opened. A planned row's
samples are what the config expects it to hold.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from emma_jax.batches import half_life_steps, is_close


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """A stage's numbers; 0 where a config does not say how many samples.

  `samples` are those of a step, `batch` those of the recipe's on every machine
  (0: there is none). `rescaled` says what is not as in the recipe, and why.
  """

  stage: str
  rows: int
  accumulation: int
  samples: float
  batch: int
  steps: int
  warmup_steps: int
  learning_rate: float
  rate_factor: float
  ema_decay: float
  rescaled: tuple[str, ...]

  @property
  def all_samples(self) -> float:
    """That the stage sees."""
    return self.steps * self.samples

  @property
  def warmup_samples(self) -> float:
    """Until the learning rate is reached."""
    return self.warmup_steps * self.samples

  @property
  def ema_half_life(self) -> float:
    """Samples after which the average holds half of what it held."""
    return self.samples * half_life_steps(self.ema_decay)

  def as_json(self) -> dict[str, Any]:
    """All numbers by name."""
    return dataclasses.asdict(self) | {
      "all_samples": self.all_samples,
      "warmup_samples": self.warmup_samples,
      "ema_half_life": self.ema_half_life,
    }


def of_stage(config: Mapping[str, Any], name: str) -> Recipe:
  """The numbers of one stage of a whole config."""
  c = config["stages"][name]
  samples = c["samples_per_batch"] or c["rows"] * c["row_samples"]
  return Recipe(
    stage=name,
    rows=c["rows"],
    accumulation=c["accumulation"],
    samples=samples,
    batch=c["batch_samples"],
    steps=c["steps"],
    warmup_steps=c["warmup_steps"],
    learning_rate=c["learning_rate"],
    rate_factor=c["rate_factor"],
    ema_decay=c["ema_decay"],
    rescaled=_rescaled(config["mesh"], c, samples),
  )


def _rescaled(
  mesh: Mapping[str, int], c: Mapping[str, Any], samples: float
) -> tuple[str, ...]:
  """What differs from the recipe, and why."""
  if not (c["batch_samples"] and samples):
    return ()
  ratio, factor = samples / c["batch_samples"], c["rate_factor"]
  out = []
  shards = math.prod(mesh[a] for a in ("slice", "data", "fsdp"))
  if not is_close(ratio) or factor != 1:
    why = "rows or their samples are not those of the recipe"
    if c["rows"] == shards:
      why = f"each of {shards} devices holds one row at least"
    out.append(
      f"the batch: {ratio:.3g} times the recipe's "
      f"{c['batch_samples']:,} samples, as {why}"
    )
  if factor != 1:
    out.append(
      f"the learning rate: {factor:.3g} times the recipe's "
      f"{c['learning_rate'] / factor:.3g}, the square root of the batch's ratio"
    )
    out.append("steps, warm-up and average: fewer steps, as many samples")
  elif not is_close(ratio):
    out.append(
      "NOT the learning rate, warm-up, average or number of steps: they are "
      "those of another batch; set them, or restore rows"
    )
  return tuple(out)
