"""A denoising step behind a cached context, by the code that samples."""

from collections.abc import Mapping
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.models.emma import PIXELS_PER_TOKEN, Emma
from emma_jax.planner import counts
from emma_jax.sampling import context, image
from emma_jax.speed import clock, synthetic, train
from emma_jax.training import goodput

_WALKS = 5  # timed, at least: of fewer a median says little
_TEXT, _FRAME = 100, 12  # tokens of a request, and of the chat layout alone


def measure(
  config: Mapping[str, Any], *, task: str, side: int, warmup: int, steps: int
) -> dict[str, Any]:
  """Seconds of one step of one picture, all its guidance contexts in it.

  Args:
    config: a whole one; weights are random, of its computation's dtype.
    task: draw or edit.
    side: pixels of the square picture.
    warmup: steps that do not count.
    steps: steps that do, and some more.
  """
  emma = Emma(build_model.emma_config(config["model"]))
  dtype = emma.config.dtype
  shapes = rules.flatten(build_model.model(config["model"]).shapes)
  params = jax.jit(lambda: synthetic.weights(shapes, dtype))()
  contexts, batch = _contexts(config, task, side)
  jax.block_until_ready(params)
  start = time.perf_counter()
  # Compiled, and run twice: the second time counts.
  for _ in range(2):
    begun = time.perf_counter()
    _, cache = jax.block_until_ready(
      context.prefill(emma, params, batch, "versatile")
    )
    prefill = time.perf_counter() - begun
  grid = (side // PIXELS_PER_TOKEN,) * 2
  times = image.padded_times(
    int(config["sample"]["steps"]), float(config["sample"]["shift"])
  )
  weights_A = jnp.array([c.weight for c in contexts], jnp.float32)
  keys_B = context.keys(0, task, [0])
  arguments = (params, cache, weights_A, keys_B, times)
  traced = image.sample_latents.trace(emma, *arguments, np.int32(1), grid)
  compiled = traced.lower().compile()
  compile_seconds = time.perf_counter() - start
  # Each launch walks so many steps: a walk's ends cost nothing then.
  walk = max(1, int(config["sample"]["steps"]) // 5)
  launch = lambda: compiled(*arguments, np.int32(walk))
  found = clock.intervals(
    launch,
    jax.block_until_ready,
    warmup=-(-warmup // walk),
    count=max(_WALKS, -(-steps // walk)),
  )
  device = jax.devices()[0]
  asked = counts.count(
    traced.jaxpr, "cuda" if device.platform == "gpu" else device.platform
  )
  rows = len(contexts)
  return train.report(
    clock.summary([s / walk for s in found]),
    tokens=rows * grid[0] * grid[1],
    fill=1.0,
    model_flops=float(asked.matmul + asked.kernel),
    device=device,
    devices=1,
  ) | {
    "contexts": rows,
    "cached_tokens": cache.ids.segment.shape[1],
    "prefill_seconds": prefill,
    "compile_seconds": compile_seconds,
    "peak_bytes": goodput.peak_memory(),
    "compiled_bytes": train.compiled_bytes(compiled.memory_analysis()),
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
    "finite": bool(jnp.isfinite(launch()).all()),
  }


def _contexts(config: Mapping[str, Any], task: str, side: int):
  """The contexts of a guided picture, and their batch, a row each."""
  c = config["sample"]
  contexts = (
    image.editing_contexts(c["edit_text_guidance"], c["edit_image_guidance"])
    if task == "edit"
    else image.drawing_contexts(c["text_guidance"])
  )
  rng = np.random.default_rng(0)
  vocab = config["model"]["llm"]["vocab_size"]
  say = lambda n: synthetic.text(n, vocab, rng)
  size = (side, side)
  layout = build_data.layout(
    config,
    dict(
      rows=1,
      und_tokens=1,
      und_pictures=0,
      references=0,
      targets=0,
      und_patches=0,
    ),
    "sample",
    height=side,
    width=side,
  )
  reference, samples = synthetic.picture("ref", layout, rng), []
  for one in contexts:
    parts: list[Text | Picture] = [say(_FRAME)]
    if one.reference:
      parts.append(reference)
    if one.text:
      parts.append(say(_TEXT))
    samples.append(
      Sample("editing" if task == "edit" else "drawing", tuple(parts))
    )
  layout = context.row_layout(samples, build_data.row(config, *size), size)
  return contexts, context.one_per_row(samples, len(samples), layout)
