"""Objects that a config makes, with what a test does not care about filled in.

The product has one place for defaults, configs/defaults.py, and its classes
have none. What stands here changes nothing: no dropout, no limit that is met.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from emma_jax.checkpoints.checkpointer import Checkpointer
from emma_jax.data.batching.mixture import Phase
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.loading.config import DataConfig
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.images import MAX_PIXELS
from emma_jax.data.pictures.preprocess import Fitted, Preprocess
from emma_jax.data.transforms import ToSample
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.llm import LlmConfig
from emma_jax.models.qwen3 import Qwen3Config
from emma_jax.models.siglip2 import SiglipConfig
from emma_jax.optimizer import OptimizerConfig
from emma_jax.structs import RawPicture
from emma_jax.training.objectives import EmmaObjective, TaskWeights


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


def read(preprocess: Preprocess, raw: RawPicture) -> Fitted:
  """A picture of any size that is safe to open."""
  return preprocess.read(raw, "here", MAX_PIXELS)


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


def layout(**changes: Any) -> Layout:
  """Of pictures of one size, one token a cell; the step makes the latents."""
  rest = dict(
    und_patches=0, latent_channels=0, fusion="channel", reference_branch="gen"
  )
  return Layout(**rest | changes)


def phase(weights: Mapping[str, float], **changes: Any) -> Phase:
  """Goes on for ever; weights count samples."""
  rest = dict(steps=None, unit="samples", even_buckets=False, row={})
  return Phase(weights, **rest | changes)


def data_config(**changes: Any) -> DataConfig:
  """Read in this process, two threads ahead; a hundredth may be broken."""
  rest = dict(
    latent_settings=None,
    packing_groups=1,
    plan_segment=1000,
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


# Of a decoder and a tower: the stream as it is published, layers one by one.
_SPEED = dict(scan_unroll=1, remat="none", attention="auto")
_DECODER = dict(embed_std=0.02, residual_gain=1.0, **_SPEED)


def qwen3_config(**changes: Any) -> Qwen3Config:
  """First weights as published; nothing kept or unrolled for speed."""
  return Qwen3Config(**_DECODER | changes)


def llm_config(**changes: Any) -> LlmConfig:
  """The same; shallow queries and keys are shared, and nothing else."""
  rest = dict(shallow_shared=("qk",), deep_shared=(), final_norm_shared=False)
  return LlmConfig(**_DECODER | rest | changes)


def siglip_config(**changes: Any) -> SiglipConfig:
  """Of colour pictures at a fixed resolution."""
  rest = dict(norm_eps=1e-6, num_channels=3, position_resize="bicubic")
  return SiglipConfig(**_SPEED | rest | changes)


def dcae_config(**changes: Any) -> DcaeConfig:
  """Of colour pictures, with the published shortcuts and first scales."""
  rest = dict(
    in_channels=3,
    encoder_out_shortcut=True,
    decoder_in_shortcut=True,
    decoder_conv_act_fn="relu",
    residual_gain=1.0,
  )
  return DcaeConfig(**rest | changes)


def checkpointer(
  directory: str | pathlib.Path, keep: int = 3, keep_every: int = 0
) -> Checkpointer:
  """That keeps as many steps as most tests write."""
  return Checkpointer(directory, keep, keep_every)


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
  """One noise a picture; every picture counts alike; the logits of a micro
  batch in one chunk."""
  rest = dict(draws=1, loss_chunk=1024, task_weights=task_weights())
  return EmmaObjective(**rest | changes)


def task_weights(**changes: float) -> TaskWeights:
  """Each task's loss as it is."""
  return TaskWeights(
    **dict(understanding=1.0, drawing=1.0, editing=1.0) | changes
  )
