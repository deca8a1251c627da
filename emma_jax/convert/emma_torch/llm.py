"""Qwen3 in two branches, with a cache of keys and values."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .primitives import layers, linear, rms_norm


class Llm:
  """Qwen3 of which two branches share some parts. The mask is made of ids
  (5, B, L): sample of the row (0: padding), slot in reading order, last slot it
  may see, number of its noisy picture (0: clean), rotary position."""

  attend = lambda self, q, k, v, mask: F.scaled_dot_product_attention(
    q, k, v, mask[:, None], enable_gqa=True
  )  # a key serves some queries

  def __init__(self, w, c: dict):
    self.w, self.c, self.blocks, none = w, c, [], SimpleNamespace()
    for stack in ("shallow", "deep"):
      for block in map(vars, layers(vars(w).get(stack, none))):
        shared = vars(block.get("shared", none))
        self.blocks.append(
          {
            b: SimpleNamespace(**shared, **vars(block.get(b, none)))
            for b in ("und", "gen")
          }
        )

  def __call__(self, xs: dict, ids: dict, cache: tuple | None = None):
    """Final hidden states of tokens behind a cache, and the cache with them:
    (ids, per layer keys and values). xs (B, L, D) and ids are per branch."""
    query = torch.cat([ids[b] for b in xs], 2)
    key = torch.cat([cache[0], query], 2) if cache else query
    sample, _, end, picture, _ = query[..., None]
    key_sample, slot, _, noisy, _ = key[:, :, None]
    mask = (sample == key_sample) & (key_sample > 0) & (slot <= end)
    mask, kept = mask & ((noisy == 0) | (noisy == picture)), []
    for i, block in enumerate(self.blocks):
      xs, kv = self.block(block, xs, ids, mask, cache[1][i] if cache else None)
      kept.append(kv)
    w, eps = vars(self.w), self.c["norm_eps"]
    return {
      b: rms_norm(w.get("norm_shared") or w[f"norm_{b}"], x, eps)
      for b, x in xs.items()
    }, (key, kept)

  def block(self, w: dict, xs: dict, ids: dict, mask, old):
    """A layer: (xs after it, its keys and values behind the `old` ones)."""
    eps, heads = self.c["norm_eps"], (-1, self.c["head_dim"])
    qs, ks, vs = [], [old[0]] if old else [], [old[1]] if old else []  # type: list, list, list
    for b, x_BLD in xs.items():
      h, qk = rms_norm(w[b].attn_norm, x_BLD, eps), w[b].qk
      for m, norm, to in ((qk.q, qk.q_norm, qs), (qk.k, qk.k_norm, ks)):
        y = rms_norm(norm, linear(m, h).unflatten(2, heads), eps)
        to.append(self.rotate(y, ids[b][4]))
      vs.append(linear(w[b].v, h).unflatten(2, heads))
    q, k, v = (torch.cat(x, 1) for x in (qs, ks, vs))
    y = self.attend(*(x.transpose(1, 2) for x in (q, k, v)), mask)  # type: ignore[call-arg]  # three
    y = y.transpose(1, 2).flatten(2).split([x.shape[1] for x in xs.values()], 1)
    out = {}
    for (b, x_BLD), mixed in zip(xs.items(), y):
      x, m = x_BLD + linear(w[b].o, mixed), w[b].mlp
      h = rms_norm(w[b].mlp_norm, x, eps)
      out[b] = x + linear(m.down, F.silu(linear(m.gate, h)) * linear(m.up, h))
    return out, (k, v)

  def rotate(self, x_BLHE, position_BL):
    """Rotary positions: the first half of a head with the second."""
    E = x_BLHE.shape[-1]
    exponent = torch.arange(0, E, 2, device=x_BLHE.device).float() / E
    inverse = 1.0 / self.c["rope_theta"] ** exponent
    angle = position_BL.float()[:, :, None, None] * inverse
    cos, sin = angle.cos().to(x_BLHE.dtype), angle.sin().to(x_BLHE.dtype)
    a, b = x_BLHE.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
