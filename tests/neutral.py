"""Objects that a config makes, with what a test does not care about filled in.

The product has one place for defaults, configs/defaults.py, and its classes
have none. What stands here changes nothing: no dropout, no limit that is met.
"""

import dataclasses
from typing import Any

from emma_jax.data.loading.config import DataConfig
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.images import MAX_PIXELS
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.transforms import ToSample
from emma_jax.optimizer import OptimizerConfig
from emma_jax.training.objectives import EmmaObjective


def preprocess(**changes: Any) -> Preprocess:
  """To one size, as Pillow reads pictures."""
  rest = dict(
    native=False,
    min_tokens=1,
    max_tokens=4096,
    codec="pillow",
    fit="pad",
    max_crop=0.0,
  )
  return Preprocess(**rest | changes)


def framing(buckets: Any = (), **changes: Any) -> Framing:
  """Pictures of all roles go through `preprocess`; none to draw is native."""
  return Framing(
    understanding=preprocess(**changes | dict(fit="pad", max_crop=0.0)),
    generation=preprocess(**changes | dict(native=False)),
    buckets=buckets,
  )


def framed(seen: Preprocess, buckets: Any = ()) -> Framing:
  """Pictures of all roles go through `seen`; none to draw is native."""
  drawn = dataclasses.replace(seen, native=False)
  return Framing(understanding=seen, generation=drawn, buckets=buckets)


def to_sample(**changes: Any) -> ToSample:
  """Nothing is dropped, no turn is left out."""
  rest = dict(
    text_dropout=0.0,
    reference_dropout=0.0,
    max_turns=None,
    max_pixels=MAX_PIXELS,
  )
  return ToSample(**rest | changes)


def data_config(**changes: Any) -> DataConfig:
  """Read in this process, two threads ahead; a hundredth may be broken."""
  rest = dict(
    packing_groups=1,
    text_dropout=0.1,
    reference_dropout=0.1,
    max_turns=None,
    max_pixels=MAX_PIXELS,
    max_bad_share=0.01,
    min_samples=1000,
    workers=0,
    threads=2,
    prefetch_batches=4,
  )
  return DataConfig(**rest | changes)


def optimizer_config(**changes: Any) -> OptimizerConfig:
  """Adam at a constant rate, clipped at a norm of one."""
  rest = dict(
    schedule="constant",
    warmup_steps=0,
    final_ratio=0.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    clip_norm=1.0,
  )
  return OptimizerConfig(**rest | changes)


def objective(**changes: Any) -> EmmaObjective:
  """One noise a picture; the logits of a micro batch in one chunk."""
  return EmmaObjective(**dict(draws=1, loss_chunk=1024) | changes)
