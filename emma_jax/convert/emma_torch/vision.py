"""SigLIP2 with experts: pictures to semantic tokens."""

import torch
import torch.nn.functional as F

from .primitives import gelu, layer_norm, layers, linear, two_layers


class VisionTower:
  """SigLIP2 (arXiv 2502.14786) whose last blocks are one of several experts."""

  def __init__(self, w, c: dict):
    self.w, self.c, self.encoder = w, c, c["encoder"]

  def __call__(self, pixels_PCYX, route: str):
    """Semantic tokens (P, T, 4 D) of pictures in [-1, 1]. route: the expert for
    all, as "versatile" or "stem", or "router": each picture's own choice."""
    w, c, native = self.w, self.encoder, (self.encoder["native_grid"],) * 2
    x = F.conv2d(pixels_PCYX, w.embed.weight, w.embed.bias, c["patch_size"])
    position = w.embed.position.float().mT.unflatten(1, native)[None]
    h, v = x.shape[2:]
    if (h, v) != native:
      naflex = c["position_resize"] == "bilinear_antialias"
      position = F.interpolate(
        position,
        (h, v),
        antialias=naflex,
        mode="bilinear" if naflex else "bicubic",
      )
    x = self.run(w.lower, (x + position.to(x.dtype)).flatten(2).mT)
    if route == "router":
      others_Pe = two_layers(w.router, x.float().mean(1)).softmax(-1)[:, 1:]
      most_P, best_P = others_Pe.max(-1)
      lower, x = x, self.run(w.versatile, x)
      for number, name in enumerate(("stem", *self.c["extra_experts"])):
        own_P = (most_P > self.c["router_threshold"]) & (best_P == number)
        x = torch.where(own_P[:, None, None], self.run(vars(w)[name], lower), x)
    else:
      x = self.run(vars(w)[route], x)
    # A token is 2x2 patches, one after the other along the channels.
    x = layer_norm(w.post_norm, x, c["norm_eps"])
    x = x.unflatten(1, (h // 2, 2, v // 2, 2)).transpose(2, 3)
    return x.flatten(3).flatten(1, 2)

  def run(self, w, x_PTD):
    """One stack of blocks: (P, T, D) -> (P, T, D)."""
    eps, heads = self.encoder["norm_eps"], (self.encoder["num_heads"], -1)
    for block in layers(w):
      a, y = block.attention, layer_norm(block.attention_norm, x_PTD, eps)
      q, k, v = (
        linear(m, y).unflatten(2, heads).transpose(1, 2)
        for m in (a.query, a.key, a.value)
      )
      y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
      x_PTD = x_PTD + linear(a.out, y)
      y = linear(block.mlp.up, layer_norm(block.mlp_norm, x_PTD, eps))
      x_PTD = x_PTD + linear(block.mlp.down, gelu(y))
    return x_PTD
