"""What all parts are made of: products, norms, and lists of layers."""

import torch
import torch.nn.functional as F

linear = lambda w, x: F.linear(x, w.weight, getattr(w, "bias", None))
conv = lambda w, x, **options: F.conv2d(
  x,
  w.weight,
  getattr(w, "bias", None),
  padding=w.weight.shape[-1] // 2,
  **options,
)
gelu = lambda x: F.gelu(x, approximate="tanh")
two_layers = lambda w, x, act=gelu: linear(w.fc2, act(linear(w.fc1, x)))
layer_norm = lambda w, x, eps: F.layer_norm(
  x, x.shape[-1:], w.weight, w.bias, eps
)
layers = lambda w: [vars(w)[str(i)] for i in range(len(vars(w)))]


class NotFinite(ArithmeticError):
  """A result is no picture and no answer; the message has the remedy."""


def finite(x, what: str, dtype):
  """x; NotFinite where it holds numbers that are none."""
  if not x.isfinite().all():
    raise NotFinite(
      f"{what} holds numbers that are not finite, computed in {dtype}: load "
      "the model in float32; if it is, the weights are damaged."
    )
  return x


def rms_norm(w, x, eps: float):
  """Over the last axis of x; statistics in float32."""
  y = x.float()
  y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
  return y.to(x.dtype) * w.weight
