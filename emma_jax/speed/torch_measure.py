"""Times PyTorch's train step on the batch that ours gets."""

from collections.abc import Mapping
import time
from typing import Any

import torch

from emma_jax.build import run as build_run
from emma_jax.speed import clock, synthetic, torch_step


def measure(
  config: Mapping[str, Any], stage: str, *, mode: str, warmup: int, steps: int
) -> dict[str, Any]:
  """Seconds and memory of a stage's step; `mode` is one of torch_step's."""
  device = "cuda" if torch.cuda.is_available() else "cpu"
  # As jax does by default: the fastest convolutions, float32 products in TF32.
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision("high")
  of_stage = build_run.run(config, data=False).stage(stage)
  host, info = synthetic.batch(
    of_stage.layout, config["model"]["llm"]["vocab_size"]
  )
  trainer = torch_step.Trainer(
    config, of_stage, torch_step.random_tensors(config, device), mode
  )
  batch = torch_step.on(host, device)
  start = time.perf_counter()
  loss = trainer.step(batch)
  first = float(loss)  # waits
  compile_seconds = time.perf_counter() - start

  def launch():
    nonlocal loss
    loss = trainer.step(batch)
    if device == "cpu":
      return None
    event = torch.cuda.Event()
    event.record()
    return event

  times = clock.intervals(
    launch,
    lambda event: event and event.synchronize(),
    warmup=warmup,
    count=steps,
  )
  tokens = of_stage.layout.rows * of_stage.layout.slots
  seconds = clock.summary(times)
  cuda = device == "cuda"
  return seconds | {
    "device": torch.cuda.get_device_name() if cuda else "cpu",
    "version": torch.__version__,
    "tokens": tokens,
    "fill": info.fill,
    "tokens_per_second": tokens / seconds["seconds"],
    "loss": float(loss),
    "first_loss": first,
    "compile_seconds": compile_seconds,
    "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    "reserved_bytes": torch.cuda.max_memory_reserved() if cuda else None,
  }
