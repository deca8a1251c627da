"""EMMA's train step in PyTorch: what ours is measured against.

The same batch, loss, average and optimizer as ours: AdamW on float32 weights,
of which each step takes a copy in the dtype of the computation; the model is
`torch_model`'s. Run in a process of its own, as torch is imported here.

  eager    attention by `scaled_dot_product_attention` and a mask of L x L
  compile  each kind of block by `torch.compile`; on GPUs FlexAttention, which
           skips tiles as our kernel does
  whole    the same, and the whole loss as one program: compiles for minutes
"""

from collections.abc import Collection, Mapping
import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import torch

from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.convert import emma_names as names
from emma_jax.convert.emma_torch.model import EXACT
from emma_jax.optimizer import OptimizerConfig
from emma_jax.speed.torch_model import Model, Tensors
from emma_jax.structs import Batch
from emma_jax.training.objectives import EmmaObjective
from emma_jax.training.run import Stage

MODES = ("eager", "compile", "whole")


class Trainer:
  """Weights, optimizer and average; a step changes them all.

  Args:
    config: a run's whole one.
    stage: whose step it is.
    tensors: name in emma_torch -> float32 weight, on the device.
    mode: one of MODES.

  Raises:
    ValueError: a stage that this is not written for.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    stage: Stage,
    tensors: Mapping[str, torch.Tensor],
    mode: str,
  ):
    objective = stage.objective
    if (
      not isinstance(objective, EmmaObjective)
      or objective.draws != 1
      or set(dataclasses.astuple(objective.task_weights)) != {1.0}
      or stage.accumulation != 1
      or (stage.layout.references and objective.route != "versatile")
    ):
      raise ValueError(
        f"Stage {stage.name}: PyTorch's step is that of the "
        "objective emma with draws=1, task_weights of 1 and accumulation=1, "
        "and of the versatile expert where there are references."
      )
    self.stage, self.objective = stage, objective
    self.dtype = getattr(torch, config["model"]["dtype"])
    moves = trained_names(config, stage.policy)
    self.master = {n: tensors[n] for n in tensors if n in moves}
    low = {
      n: self._low(n, x).requires_grad_(n in moves) for n, x in tensors.items()
    }
    self.low = {n: low[n] for n in self.master}
    self.average = [x.detach().clone() for x in self.master.values()]
    self.optimizer = self._adam(stage.optimizer)
    device = next(iter(tensors.values())).device
    model = Model(
      config,
      tree(low),
      objective,
      mode,
      flex=mode != "eager" and device.type == "cuda",
    )
    self.loss = model.loss
    if mode == "whole":
      self.loss = torch.compile(model.loss, dynamic=False)

  def _low(self, name: str, x: torch.Tensor) -> torch.Tensor:
    exact = self.dtype == x.dtype or name.startswith(EXACT)
    return x.detach() if exact else x.detach().to(self.dtype)

  def _adam(self, c: OptimizerConfig):
    # Behind the warm-up of a constant schedule: the rate costs no time.
    return torch.optim.AdamW(
      list(self.master.values()),
      lr=c.learning_rate,
      betas=(c.b1, c.b2),
      eps=c.eps,
      weight_decay=c.weight_decay,
      fused=True,
    )

  def draw(self, batch: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Times (B, M) and noises (B, M, T, C) of the targets."""
    shape, layout, flow = (
      batch.gen_task_BM.shape,
      self.stage.layout,
      (self.objective.flow),
    )
    device = batch.gen_task_BM.device
    z = torch.randn(shape, device=device)
    t = torch.sigmoid(flow.time_mean + flow.time_std * z)
    t = flow.shift * t / (1 + (flow.shift - 1) * t)
    channels = self.objective.model.config.autoencoder.latent_channels
    return t, torch.randn(
      *shape, layout.tokens_per_picture, channels, device=device
    )

  def step(self, batch: Tensors) -> torch.Tensor:
    """One update; the loss before it."""
    loss = self.loss(batch, *self.draw(batch))
    loss.backward()
    self.update()
    return loss.detach()

  def update(self) -> None:
    """From the gradients of the copies to weights, average and copies."""
    weights = list(self.master.values())
    for n, x in self.master.items():
      # What the loss does not reach has none, and stays.
      grad = self.low[n].grad
      x.grad = torch.zeros_like(x) if grad is None else grad.to(x.dtype)
      self.low[n].grad = None
    clip = self.stage.optimizer.clip_norm
    with torch.no_grad():
      if clip:
        torch.nn.utils.clip_grad_norm_(weights, clip, foreach=True)
      self.optimizer.step()
      torch._foreach_lerp_(self.average, weights, 1 - self.stage.ema_decay)
      copies = [
        (self.low[n], x)
        for n, x in self.master.items()
        if self.low[n].data_ptr() != x.data_ptr()
      ]
      if copies:
        torch._foreach_copy_(*map(list, zip(*copies)))
    for x in weights:
      x.grad = None


def trained_names(config: Mapping[str, Any], policy: tuple) -> Collection[str]:
  """Names in emma_torch of the weights that a stage's policy trains."""
  entries = names.entries(build_model.emma_config(config["model"]))
  decided = rules.resolve(policy, [e.ours for e in entries], "policy")
  return {n for e in entries if decided[e.ours] == "train" for n in e.theirs}


def tree(tensors: Mapping[str, torch.Tensor]) -> SimpleNamespace:
  """Names with dots as attributes of attributes."""

  def node(value: Any) -> Any:
    if not isinstance(value, dict):
      return value
    return SimpleNamespace(**{k: node(v) for k, v in value.items()})

  return node(
    rules.unflatten({n.replace(".", "/"): x for n, x in tensors.items()})
  )


def random_tensors(
  config: Mapping[str, Any], device: str
) -> dict[str, torch.Tensor]:
  """As `synthetic.weights`, made on the device."""
  generator = torch.Generator(device).manual_seed(0)
  out = {}
  for name, shape in names.theirs(
    build_model.emma_config(config["model"])
  ).items():
    if len(shape) > 1:
      out[name] = 0.02 * torch.randn(shape, device=device, generator=generator)
    else:
      scales = name.endswith(("weight", "scale", "var"))
      out[name] = torch.full(shape, float(scales), device=device)
  return out


def on(batch: Batch, device: str) -> Tensors:
  """A batch of numpy arrays as tensors on the device."""
  wide = lambda x: torch.from_numpy(x).to(device)
  placed = jax.tree.map(wide, batch)
  # PyTorch's gathers and losses take 64 bits only.
  return placed.replace(
    **{
      n: getattr(placed, n).long()
      for n in ("tokens_BU", "visual_BU", "targets_BU")
    }
  )
