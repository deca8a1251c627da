"""What a stage minimises: (params, batch, key) -> (loss, metrics).

Metrics are `structs.Mean`s by name and stay on the device until logged.
"""

import abc
from collections.abc import Callable
import dataclasses
import math
from typing import Any, NamedTuple

from flax import struct
import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax import flow, losses, ranges
from emma_jax.data.loading.held_out_batches import HeldOutBatch
from emma_jax.models import masks
from emma_jax.models.emma import Emma, to_unit, token_grid
from emma_jax.models.experts import choose
from emma_jax.structs import GEN_TASKS, Array, Batch, Mean
from emma_jax.training import fixed_noise

Metrics = dict[str, Mean]
# Beginnings of the names of metrics that say how good the weights are.
MEASURES = ("loss", "accuracy/")
Objective = Callable[[dict, Batch, Callable], tuple[jax.Array, Metrics]]


@struct.dataclass
class Scale:
  """What losses are divided by and multiplied with: known before any pass.

  `counts` are of a whole batch, float32, by what is counted; `weights` are
  factors on the losses of tasks, by task.
  """

  counts: dict[str, Array]
  weights: dict[str, Any]


class SummedObjective(abc.ABC):
  """A loss that is a sum over rows, divided by counts of the whole batch.

  So a batch can be computed in parts: their losses, their gradients and, as
  `Mean`s, their metrics sum to those of the whole, whatever the rows hold.
  """

  def __call__(
    self, params: dict, batch: Batch, stream: Callable
  ) -> tuple[jax.Array, Metrics]:
    """(loss, metrics) of a whole batch; `stream`: name -> random key."""
    loss, metrics = self.part(
      params, batch, self.random(batch, stream), self.scale(batch)
    )
    return loss, metrics | {"loss/total": Mean(loss, jnp.float32(1))}

  def random(self, batch: Batch, stream: Callable) -> Any:
    """Random arrays of a whole batch, row by row; None where none are drawn."""
    del batch, stream

  @abc.abstractmethod
  def scale(self, batch: Batch) -> Scale:
    """Counts of a whole batch, and the weights of its tasks."""

  @abc.abstractmethod
  def part(
    self, params: dict, batch: Batch, random: Any, scale: Scale
  ) -> tuple[jax.Array, Metrics]:
    """Some rows' part of the loss, and their metrics but for "loss/total".

    Args:
      params: all weights, nested.
      batch: those rows.
      random: of `random`, those rows.
      scale: of the whole batch.
    """

  def held_out(self, params: dict, held: HeldOutBatch) -> Metrics:
    """Losses and accuracies of a batch that is not trained on."""
    found = self.part(params, held.batch, None, self.scale(held.batch))[1]
    return {k: v for k, v in found.items() if k.startswith(MEASURES)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskWeights:
  """Factors on the losses of tasks; at 1 each every picture counts alike."""

  understanding: float
  drawing: float
  editing: float

  def __post_init__(self):
    values = dataclasses.asdict(self)
    for name, value in values.items():
      ranges.NOT_NEGATIVE.check(name, value)
    if not any(values.values()):
      raise ValueError("All weights are 0: nothing would be learned.")


@struct.dataclass
class FlowNoise:
  """Flow times and noises of a batch's targets, `draws` of each."""

  time_BM: jax.Array
  eps_BMTC: jax.Array


class _FlowErrors(NamedTuple):
  """Squared errors of the velocities of a batch's targets, in all draws."""

  error_BM: jax.Array
  time_BM: jax.Array
  task_BM: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmmaObjective(SummedObjective):
  """Next token on answers and velocity on targets, weighted (paper sec. 5).

    text_weight * u * CE per answer token
      + velocity_weight * (d * MSE of drawings + e * MSE of edits) per picture

  with `task_weights` u, d, e. Pictures are pooled: where edits join drawings
  in a batch, drawing's part of the second sum falls to its part of the
  pictures. `route` is the expert understanding pictures take: "versatile", or
  "stem" in the expert's own stage. `draws` noisy versions of every target,
  each of its own time and noise, share one pass over the context.
  Logits are made for `loss_chunk` tokens of a device at a time.
  """

  model: Emma
  flow: flow.FlowConfig
  route: str
  text_weight: float
  velocity_weight: float
  task_weights: TaskWeights
  time_bins: int
  draws: int
  loss_chunk: int

  def __post_init__(self):
    for name in ("draws", "loss_chunk"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
    for name in ("text_weight", "velocity_weight"):
      ranges.NOT_NEGATIVE.check(name, getattr(self, name))
    known = self.model.config.vision.routes
    if self.route not in known:
      raise ValueError(f"{self.route=}: choose one of {known}.")

  def random(self, batch: Batch, stream: Callable) -> FlowNoise | None:
    """Times and noises; None without targets."""
    B, M, Y, X, _ = batch.gen_pixels_BMYXC.shape
    if not M:
      return None
    h, w = token_grid(Y, X)
    channels = self.model.config.autoencoder.latent_channels
    shape = (B, M * self.draws)
    return FlowNoise(
      time_BM=flow.sample_time(stream("flow_time"), shape, self.flow),
      eps_BMTC=jax.random.normal(
        stream("flow_noise"), (*shape, h * w, channels)
      ),
    )

  def scale(self, batch: Batch) -> Scale:
    """Answer tokens, targets with their draws, and the tasks' weights."""
    filled = (batch.gen_task_BM > 0).astype(jnp.float32)
    return Scale(
      counts={
        "answers": jnp.sum(batch.weights_BU),
        "pictures": self.draws * jnp.sum(filled),
      },
      weights=dataclasses.asdict(self.task_weights),
    )

  def part(
    self, params: dict, batch: Batch, random: FlowNoise | None, scale: Scale
  ) -> tuple[jax.Array, Metrics]:
    """The weighted loss, and losses and weights by task and by flow time."""
    text, right, flows = self._errors(params, batch, random)
    metrics = {"loss/understanding": text, "accuracy/tokens": right}
    total = self.text_weight * _over(
      scale.weights["understanding"] * text.total, scale.counts["answers"]
    )
    tasks: dict[str, Mean] = {}
    if flows is not None:
      tasks = losses.per_task(flows.error_BM, flows.task_BM)
      pooled = sum(scale.weights[k] * mean.total for k, mean in tasks.items())
      total += self.velocity_weight * _over(pooled, scale.counts["pictures"])
      metrics |= {f"loss/{k}": v for k, v in tasks.items()}
      times = losses.per_time(
        flows.error_BM, flows.time_BM, flows.task_BM, self.time_bins
      )
      metrics |= {f"loss_by_time/{k}": v for k, v in times.items()}
    return total, metrics | self._weights(text, tasks, scale)

  def held_out(self, params: dict, held: HeldOutBatch) -> Metrics:
    """Losses by task, and of each task of pictures by bin of flow time.

    Times have the training's distribution, and fill it evenly.
    """
    text, right, flows = self._errors(params, held.batch, self._own_noise(held))
    metrics = {"loss/understanding": text, "accuracy/tokens": right}
    if flows is None:
      return metrics
    tasks = losses.per_task(flows.error_BM, flows.task_BM)
    metrics |= {f"loss/{k}": v for k, v in tasks.items()}
    for name, code in GEN_TASKS.items():
      only_BM = flows.task_BM * (flows.task_BM == code)
      times = losses.per_time(
        flows.error_BM, flows.time_BM, only_BM, self.time_bins
      )
      metrics |= {f"loss_by_time/{name}_{k}": v for k, v in times.items()}
    return metrics

  def _own_noise(self, held: HeldOutBatch) -> FlowNoise | None:
    """Noise and times of each target by its own numbers; None without any."""
    M, Y, X = held.batch.gen_pixels_BMYXC.shape[1:4]
    if not M:
      return None
    h, w = token_grid(Y, X)
    channels = self.model.config.autoencoder.latent_channels
    time_BM, eps_BMTC = fixed_noise.of_targets(
      held, draws=self.draws, shape=(h * w, channels), config=self.flow
    )
    return FlowNoise(time_BM=time_BM, eps_BMTC=eps_BMTC)

  def _errors(
    self, params: dict, batch: Batch, random: FlowNoise | None
  ) -> tuple[Mean, Mean, _FlowErrors | None]:
    """One pass: cross-entropy and hits of answer tokens, errors of targets."""
    apply: Callable[..., Any] = lambda *a, **k: self.model.apply(
      {"params": params}, *a, **k
    )
    latents = apply(batch, method=Emma.latents)
    noisy_BMTC = time_BM = None
    if random is not None:
      batch = self.repeat_targets(batch, latents.gen_BMTC.shape[2])
      clean_BMTC = jnp.tile(
        latents.gen_BMTC.astype(jnp.float32), (1, self.draws, 1, 1)
      )
      time_BM = random.time_BM
      noisy_BMTC = flow.interpolate(clean_BMTC, random.eps_BMTC, time_BM)
    out = apply(batch, latents, noisy_BMTC, time_BM, self.route)
    text, right = losses.next_token_of(
      out.hidden_BUD,
      apply(method=Emma.head),
      batch.targets_BU,
      batch.weights_BU,
      chunk=self.loss_chunk,
    )
    if random is None:
      return text, right, None
    # What is no token of its picture is padding.
    segment_BG = batch.gen_ids.segment
    start = segment_BG.shape[1] - math.prod(clean_BMTC.shape[1:3])
    valid_BMT = segment_BG[:, start:].reshape(clean_BMTC.shape[:3]) > 0
    error_BM = losses.squared_error(
      out.velocity_BMTC, flow.velocity(clean_BMTC, random.eps_BMTC), valid_BMT
    )
    return text, right, _FlowErrors(error_BM, random.time_BM, batch.gen_task_BM)

  def _weights(
    self, text: Mean, tasks: dict[str, Mean], scale: Scale
  ) -> Metrics:
    """What multiplies each task's own mean loss in the total: its weights,
    and of a picture task its part of the pictures."""
    own = {"understanding": (self.text_weight, text.count, text.count)} | {
      k: (
        self.velocity_weight,
        mean.count,
        sum(m.count for m in tasks.values()),
      )
      for k, mean in tasks.items()
    }
    return {
      f"weight/{k}": Mean(weight * scale.weights[k] * count, of)
      for k, (weight, count, of) in own.items()
    }

  def repeat_targets(self, batch: Batch, tokens: int) -> Batch:
    """The batch with every target `draws` times, M slots after M slots.

    All stand at the same place of the reading order; noise groups of their own
    hide them from each other. `tokens` are those of a target.
    """
    M = batch.gen_task_BM.shape[1]
    ids = batch.gen_ids
    start = ids.segment.shape[1] - M * tokens
    target = jax.tree.map(lambda x: x[:, start:], ids)
    other = lambda group, i: jnp.where(group > 0, group + i * M, 0)
    again = [
      target.replace(noise_group=other(target.noise_group, i))
      for i in range(1, self.draws)
    ]
    return dataclasses.replace(
      batch,
      gen_ids=masks.join(ids, *again),
      gen_task_BM=jnp.tile(batch.gen_task_BM, (1, self.draws)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouterObjective(SummedObjective):
  """Cross-entropy of the router on STEM/general labels (stage 4b)."""

  model: Emma

  def __post_init__(self):
    if not self.model.config.vision.experts:
      raise ValueError(
        "objective='router' needs a model with experts: set "
        "config.model.vision.experts=True, or leave the stage out."
      )

  def scale(self, batch: Batch) -> Scale:
    """Pictures with a label."""
    labelled_BN = losses.labelled(batch.stem_BN, batch.und_valid_BN)
    return Scale(counts={"labels": jnp.sum(labelled_BN)}, weights={})

  def part(
    self, params: dict, batch: Batch, random: None, scale: Scale
  ) -> tuple[jax.Array, Metrics]:
    """The router's cross-entropy, and its accuracy."""
    logits_BNe: Any = self.model.apply(
      {"params": params}, batch, method=Emma.router_logits
    )
    loss, right = losses.label(logits_BNe, batch.stem_BN, batch.und_valid_BN)
    return _over(loss.total, scale.counts["labels"]), {
      "loss/router": loss,
      "accuracy/router": right,
    }

  def confusion(self, params: dict, batch: Batch) -> jax.Array:
    """Pictures by (label, expert that sampling takes), see `losses`: (e, e)."""
    logits_BNe: Any = self.model.apply(
      {"params": params}, batch, method=Emma.router_logits
    )
    threshold = self.model.config.vision.router_threshold
    chosen_BN = choose(logits_BNe, threshold)
    return losses.confusion(
      chosen_BN, batch.stem_BN, batch.und_valid_BN, logits_BNe.shape[-1]
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderObjective(SummedObjective):
  """L1 and squared error of reconstructed targets; no adversary."""

  model: nn.Module
  dtype: str
  l1_weight: float
  l2_weight: float

  def __post_init__(self):
    for name in ("l1_weight", "l2_weight"):
      ranges.NOT_NEGATIVE.check(name, getattr(self, name))

  def scale(self, batch: Batch) -> Scale:
    """Pictures."""
    filled = (batch.gen_task_BM > 0).astype(jnp.float32)
    return Scale(counts={"pictures": jnp.sum(filled)}, weights={})

  def part(
    self, params: dict, batch: Batch, random: None, scale: Scale
  ) -> tuple[jax.Array, Metrics]:
    """The weighted error, and its two parts; means over pictures."""
    pixels = batch.gen_pixels_BMYXC
    x = to_unit(jnp.reshape(pixels, (-1, *pixels.shape[2:])), self.dtype)
    apply: Callable[..., Any] = lambda *a, **k: self.model.apply(
      {"params": params["autoencoder"]}, *a, **k
    )
    z = apply(x, method="encode")
    error = (apply(z, method="decode") - x).astype(jnp.float32)
    valid = (batch.gen_task_BM.reshape(-1) > 0).astype(jnp.float32)
    of_picture = lambda e: Mean(
      jnp.sum(jnp.mean(e, axis=(1, 2, 3)) * valid), jnp.sum(valid)
    )
    l1, l2 = of_picture(jnp.abs(error)), of_picture(error * error)
    count = scale.counts["pictures"]
    loss = self.l1_weight * _over(l1.total, count)
    loss += self.l2_weight * _over(l2.total, count)
    return loss, {"loss/l1": l1, "loss/l2": l2}


def _over(total: Any, count: Array) -> Any:
  """The mean of a total over a count of a whole batch; 0 of nothing."""
  return Mean(total, count).value
