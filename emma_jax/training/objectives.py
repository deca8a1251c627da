"""What a stage minimises: (params, batch, key) -> (loss, metrics).

Metrics are `structs.Mean`s by name and stay on the device until logged.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from emma_jax import flow, losses
from emma_jax.models import masks
from emma_jax.models.dcae import Autoencoder
from emma_jax.models.emma import Emma, to_unit
from emma_jax.models.experts import ROUTES, is_science
from emma_jax.structs import Batch, Mean

Metrics = dict[str, Mean]
Objective = Callable[[dict, Batch, Callable], tuple[jax.Array, Metrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmmaObjective:
  """Next token on answers and velocity on targets, weighted (paper sec. 5).

  `route` is the expert understanding pictures take: "versatile", or "stem" in
  the expert's own stage. `draws` noisy versions of every target, each of its
  own time and noise, share one pass over the context.
  Logits are made for `loss_chunk` tokens of a device at a time.
  """

  model: Emma
  flow: flow.FlowConfig
  route: str
  text_weight: float
  velocity_weight: float
  time_bins: int
  draws: int
  loss_chunk: int

  def __post_init__(self):
    for name in ("draws", "loss_chunk"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
    known = ROUTES if self.model.config.vision.experts else ROUTES[:1]
    if self.route not in known:
      raise ValueError(f"{self.route=}: choose one of {known}.")

  def __call__(
    self, params: dict, batch: Batch, stream: Callable
  ) -> tuple[jax.Array, Metrics]:
    """The weighted loss, and the losses by task and by flow time."""
    apply: Callable[..., Any] = lambda *a, **k: self.model.apply(
      {"params": params}, *a, **k
    )
    latents = apply(batch, method=Emma.latents)
    noisy_BMTC = time_BM = None
    if latents.gen_BMTC is not None:
      batch = self.repeat_targets(batch, latents.gen_BMTC.shape[2])
      clean_BMTC = jnp.tile(
        latents.gen_BMTC.astype(jnp.float32), (1, self.draws, 1, 1)
      )
      time_BM = flow.sample_time(
        stream("flow_time"), clean_BMTC.shape[:2], self.flow
      )
      eps_BMTC = jax.random.normal(stream("flow_noise"), clean_BMTC.shape)
      noisy_BMTC = flow.interpolate(clean_BMTC, eps_BMTC, time_BM)
    out = apply(batch, latents, noisy_BMTC, time_BM, self.route)
    text, right = losses.next_token_of(
      out.hidden_BUD,
      apply(method=Emma.head),
      batch.targets_BU,
      batch.weights_BU,
      chunk=self.loss_chunk,
    )
    metrics = {"loss/understanding": text, "accuracy/tokens": right}
    total = self.text_weight * text.value
    if time_BM is not None:
      error_BM = losses.squared_error(
        out.velocity_BMTC, flow.velocity(clean_BMTC, eps_BMTC)
      )
      tasks = losses.per_task(error_BM, batch.gen_task_BM)
      both = tasks["drawing"] + tasks["editing"]
      total += self.velocity_weight * both.value
      metrics |= {f"loss/{k}": v for k, v in tasks.items()}
      times = losses.per_time(
        error_BM, time_BM, batch.gen_task_BM, self.time_bins
      )
      metrics |= {f"loss_by_time/{k}": v for k, v in times.items()}
    return total, metrics | {"loss/total": Mean(total, jnp.float32(1))}

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
class RouterObjective:
  """Cross-entropy of the router on STEM/general labels (stage 4b)."""

  model: Emma

  def __post_init__(self):
    if not self.model.config.vision.experts:
      raise ValueError(
        "objective='router' needs a model with experts: set "
        "config.model.vision.experts=True, or leave the stage out."
      )

  def __call__(
    self, params: dict, batch: Batch, stream: Callable
  ) -> tuple[jax.Array, Metrics]:
    """The router's cross-entropy, and its accuracy."""
    logits_BN2: Any = self.model.apply(
      {"params": params}, batch, method=Emma.router_logits
    )
    loss, right = losses.label(logits_BN2, batch.stem_BN, batch.und_valid_BN)
    return loss.value, {
      "loss/router": loss,
      "accuracy/router": right,
      "loss/total": Mean(loss.value, jnp.float32(1)),
    }

  def confusion(self, params: dict, batch: Batch) -> jax.Array:
    """Pictures by (label, expert that sampling takes), see `losses`: (2, 2)."""
    logits_BN2: Any = self.model.apply(
      {"params": params}, batch, method=Emma.router_logits
    )
    threshold = self.model.config.vision.router_threshold
    chosen_BN = is_science(logits_BN2, threshold)
    return losses.confusion(chosen_BN, batch.stem_BN, batch.und_valid_BN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderObjective:
  """L1 and squared error of reconstructed targets; no adversary."""

  model: Autoencoder
  dtype: str
  l1_weight: float
  l2_weight: float

  def __call__(
    self, params: dict, batch: Batch, stream: Callable
  ) -> tuple[jax.Array, Metrics]:
    """The weighted error, and its two parts; means over pictures."""
    pixels = batch.gen_pixels_BMYXC
    x = to_unit(jnp.reshape(pixels, (-1, *pixels.shape[2:])), self.dtype)
    apply: Callable[..., Any] = lambda *a, **k: self.model.apply(
      {"params": params["autoencoder"]}, *a, **k
    )
    z = apply(x, method=Autoencoder.encode)
    error = (apply(z, method=Autoencoder.decode) - x).astype(jnp.float32)
    valid = (batch.gen_task_BM.reshape(-1) > 0).astype(jnp.float32)
    of_picture = lambda e: Mean(
      jnp.sum(jnp.mean(e, axis=(1, 2, 3)) * valid), jnp.sum(valid)
    )
    l1, l2 = of_picture(jnp.abs(error)), of_picture(error * error)
    loss = self.l1_weight * l1.value + self.l2_weight * l2.value
    return loss, {
      "loss/l1": l1,
      "loss/l2": l2,
      "loss/total": Mean(loss, jnp.float32(1)),
    }
