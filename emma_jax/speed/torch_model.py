"""EMMA over packed batches in PyTorch, of the parts of convert/emma_torch.

A block is computed again in the backward pass where ours is, in whole (PyTorch
has no names to keep). Of modes, see `torch_step`.
"""

from collections.abc import Callable, Mapping
import contextlib
import functools
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import flex_attention
from torch.utils import checkpoint

from emma_jax.convert import emma_torch
from emma_jax.convert.emma_torch import pictures
from emma_jax.convert.emma_torch.primitives import layers, linear, rms_norm
from emma_jax.models import masks
from emma_jax.training.objectives import EmmaObjective

Tensors = Any  # a `structs.Batch` of tensors, see `torch_step.on`


class Decoder(emma_torch.Llm):
  """Both branches over packed rows, with the mask in the form that suits."""

  def __init__(self, w: Any, c: dict, mode: str, flex: bool):
    super().__init__(w, c)
    self.flex = flex
    self._block = _faster(super().block, mode)
    # Made anew for every batch, so its time counts.
    self._tiles = _faster(flex_attention.create_block_mask, mode)
    self._again = c["remat"] != "none"

  def __call__(self, xs: dict, ids: Mapping[str, Any]) -> dict:  # type: ignore[override]  # no cache in training
    """Final hidden states (B, L, D) of each branch; `ids`: structs.TokenIds."""
    stacked = {
      b: torch.stack(
        [i.segment, i.order, i.last_visible, i.noise_group, i.position]
      )
      for b, i in ids.items()
    }
    mask = self.mask(torch.cat([stacked[b] for b in xs], 2))
    for block in self.blocks:
      xs = self._run(block, xs, stacked, mask)
    w, eps = vars(self.w), self.c["norm_eps"]
    return {
      b: rms_norm(w.get("norm_shared") or w[f"norm_{b}"], x, eps)
      for b, x in xs.items()
    }

  def _run(self, block, xs, ids, mask):
    run = lambda *x: self._block(block, dict(zip(xs, x)), ids, mask, None)[0]
    if self._again:
      return checkpoint.checkpoint(run, *xs.values(), use_reentrant=False)
    return run(*xs.values())

  def mask(self, ids_IBL: torch.Tensor) -> Any:
    """`masks.rule`; padding also sees itself, or its softmax were of nothing.
    Nothing sees padding, so that changes no loss."""
    L = ids_IBL.shape[2]
    if not self.flex:
      q, k = (
        masks.RuleIds(*ids_IBL[:4, :, :, None]),
        masks.RuleIds(*ids_IBL[:4, :, None]),
      )
      eye = torch.eye(L, dtype=torch.bool, device=ids_IBL.device)
      return masks.rule(q, k) | eye

    def allow(b, h, q, k):
      at = lambda i: masks.RuleIds(*(ids_IBL[n, b, i] for n in range(4)))
      return masks.rule(at(q), at(k)) | (q == k)

    return self._tiles(
      allow, ids_IBL.shape[1], None, L, L, device=ids_IBL.device
    )

  def attend(self, q, k, v, mask):
    """(B, H, L, E) of queries and of keys and values, whose heads are fewer."""
    if self.flex:
      return flex_attention.flex_attention(
        q, k, v, block_mask=mask, enable_gqa=True
      )
    # With a mask, no fast kernel knows groups of heads.
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, mask[:, None])


class Tower(emma_torch.VisionTower):
  """Its blocks are one program, and computed again if the config says so."""

  def __init__(self, w: Any, c: dict, mode: str):
    super().__init__(w, c)
    self._block = _faster(super().run, mode)
    self._again = c["encoder"]["remat"] != "none"
    stacks = [
      x for n, x in vars(w).items() if n not in ("embed", "post_norm", "router")
    ]
    self._stacks = [
      (x, [SimpleNamespace(**{"0": block}) for block in layers(x)])
      for x in stacks
    ]

  def run(self, w, x_PTD):
    """One stack of blocks: (P, T, D) -> (P, T, D)."""
    (blocks,) = (blocks for x, blocks in self._stacks if x is w)
    for block in blocks:
      run = functools.partial(self._block, block)
      x_PTD = (
        checkpoint.checkpoint(run, x_PTD, use_reentrant=False)
        if self._again
        else run(x_PTD)
      )
    return x_PTD


class Model(emma_torch.Emma):
  """EMMA over packed batches.

  config: a run's whole one. w: weights, a tree as emma_torch has it.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    w: Any,
    objective: EmmaObjective,
    mode: str,
    flex: bool,
  ):
    about = {
      "config": config,
      "route": objective.route,
      "framing": None,  # a step neither reads pictures nor answers
      "answer_ids": [(0, 0)],
    }
    super().__init__(about, w, None)  # type: ignore[arg-type]  # no text is read
    self.objective = objective
    self.llm = Decoder(w.llm, self.c["llm"], mode, flex)
    self.vision = Tower(w.vision, self.c["vision"], mode)
    # Small arrays are made where they are used: copying one would wait. A whole
    # program cannot enter a device, and does its copies at once.
    self._here = contextlib.nullcontext() if mode == "whole" else self.device
    self._encode = _faster(self.autoencoder.encode, mode)
    self._text_loss = _faster(_next_token, mode)

  def loss(self, batch: Tensors, time_BM: Any, eps_BMTC: Any) -> torch.Tensor:
    """What `EmmaObjective` minimises, at these times and noises."""
    groups = (
      batch.und_pixels_BNYXC,
      batch.ref_pixels_BRYXC,
      batch.gen_pixels_BMYXC,
    )
    counts = [g.shape[0] * g.shape[1] for g in groups]
    B, _, Y, X, _ = groups[0].shape
    grid = (Y // pictures.GRID, X // pictures.GRID)
    pixels = torch.cat([g.flatten(0, 1) for g in groups])
    pixels = (pixels.float() / 127.5 - 1).to(self.dtype).movedim(-1, 1)
    with torch.no_grad():
      und, ref, clean = self._encode(pixels).split(counts)
    seen = sum(counts[:2])
    semantic = (
      self.vision(pixels[:seen], self.route).split(counts[:2])
      if seen
      else (None, None)
    )
    in_und = self.c["fusion"]["reference_branch"] == "und"
    visual: list[torch.Tensor] = []
    gen: list[torch.Tensor] = []
    for z, s, name, to in (
      (und, semantic[0], "und", visual),
      (ref, semantic[1], "und" if in_und else "gen", visual if in_und else gen),
    ):
      if len(z):
        to.append(self._rows(self.adapt(name, s, z, grid), B))
    ids = {"und": batch.und_ids}
    if counts[2]:
      clean_BMTC = clean.float().unflatten(0, (B, -1))
      t = time_BM[:, :, None, None]
      noisy = ((1 - t) * clean_BMTC + t * eps_BMTC).to(self.dtype)
      tokens = self.adapt("gen", None, noisy.flatten(0, 1), grid)
      tokens = tokens + self.embed_time(time_BM.flatten())[:, None]
      gen.append(self._rows(tokens, B))
    xs = {"und": self._und(batch, visual)}
    if gen:
      xs["gen"], ids["gen"] = torch.cat(gen, 1), batch.gen_ids
    hidden = self.llm(xs, ids)
    head = vars(self.w.llm).get("lm_head", self.w.llm.embed)  # may be tied
    total = self.objective.text_weight * self._text_loss(
      hidden["und"], head.weight, batch.targets_BU, batch.weights_BU
    )
    if counts[2]:
      tokens = hidden["gen"][:, -eps_BMTC[0, :, :, 0].numel() :].float()
      v = linear(self.w.heads.velocity, tokens)
      error = v.reshape(eps_BMTC.shape) - (eps_BMTC - clean_BMTC)
      real = (batch.gen_task_BM > 0).float()
      mse = (error.square().mean((2, 3)) * real).sum()
      total = total + self.objective.velocity_weight * (
        mse / real.sum().clamp(min=1e-9)
      )
    return total

  def adapt(self, *arguments):
    """As `emma_torch.Emma`'s; what it makes lies on this device."""
    with self._here:
      return super().adapt(*arguments)

  def embed_time(self, time_B):
    """As `emma_torch.Emma`'s; what it makes lies on this device."""
    with self._here:
      return super().embed_time(time_B)

  @staticmethod
  def _rows(x_PTD, rows: int):
    return x_PTD.reshape(rows, -1, x_PTD.shape[-1])

  def _und(self, batch: Tensors, visual: list):
    x_BUD = F.embedding(batch.tokens_BU, self.w.llm.embed.weight)
    if not visual:
      return x_BUD
    index = batch.visual_BU[..., None].expand(-1, -1, x_BUD.shape[-1])
    seen = torch.cat(visual, 1).gather(1, index.clamp(min=0))
    return torch.where(index >= 0, seen, x_BUD)


def _next_token(hidden_BUD, head_VD, targets_BU, weights_BU):
  logits = F.linear(hidden_BUD, head_VD).float()
  loss = F.cross_entropy(
    logits.flatten(0, 1), targets_BU.flatten(), reduction="none"
  )
  weights = weights_BU.flatten()
  return (loss * weights).sum() / weights.sum().clamp(min=1e-9)


def _faster(function: Callable, mode: str) -> Callable:
  return function if mode == "eager" else torch.compile(function, dynamic=False)
