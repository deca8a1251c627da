"""What looking at a stage while it runs costs, as a share of its time.

By FLOPs (see `emma_jax.flops`), so that it is known before the first step. A
sampler has few rows and reads all weights for each of its steps, so its
FLOPs are counted as `SLOWER` times as many.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from emma_jax import flops, rules
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.data.batching.row_layout import Layout
from emma_jax.models.emma import EmmaConfig
from emma_jax.training.state import TRAIN

# How much less of the peak a sampler reaches than a training step does.
SLOWER = 20.0
_WEIGHTS = 2  # live and averaged
_TEXT = 256  # tokens of a prompt or a question, and more than most have


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
  """Of the stage's own time."""

  validation: float
  samples: float

  @property
  def total(self) -> float:
    """Both."""
    return self.validation + self.samples


def shares(
  config: Mapping[str, Any], name: str, shapes: Mapping[str, Any]
) -> Shares:
  """Of a stage of a whole config; `shapes`: the model's, nested.

  An autoencoder's has none here: its products are not counted.
  """
  section, train = config["stages"][name], config["train"]
  if section["objective"] == "autoencoder":
    return Shares(validation=0.0, samples=0.0)
  sizes = build_model.emma_config(config["model"])
  layout = build_data.stage_layout(config, name)
  step = _step(sizes, layout, section, shapes)
  whole = section["steps"] * flops.total(step)
  looks = lambda every: math.ceil(section["steps"] / every) if every else 0
  samples = section["row_samples"] or (
    section["samples_per_batch"] / section["rows"]
  )
  # A part of a batch more: tasks do not fill rows evenly.
  rows = layout.rows // section["accumulation"]
  batches = math.ceil(1.5 * train["validate_samples"] / (samples * rows))
  forward = sum(part.forward for part in step.values())
  batch = forward / section["accumulation"]
  validation = _WEIGHTS * looks(train["validate_every"]) * batches * batch
  sampling = _WEIGHTS * looks(train["sample_every"]) * _samples(config, name)
  return Shares(
    validation=validation / whole, samples=SLOWER * sampling / whole
  )


def _step(
  sizes: EmmaConfig,
  layout: Layout,
  section: Mapping[str, Any],
  shapes: Mapping[str, Any],
) -> dict[str, flops.Part]:
  if section["objective"] == "router":
    return flops.router_step(sizes, layout)
  paths = rules.flatten(shapes)
  policy = rules.resolve(section["policy"], paths, "policy")
  return flops.step(
    sizes,
    layout,
    [path for path, what in policy.items() if what == TRAIN],
    draws=section["draws"],
    route=section["route"],
  )


def _samples(config: Mapping[str, Any], name: str) -> float:
  """FLOPs of the samples of one look, of one kind of weights."""
  sample = config["sample"]
  sizes = build_model.emma_config(config["model"])
  layout = build_data.stage_layout(config, name)
  count = config["train"]["sample_count"]
  steps = config["evaluate"]["steps"] or sample["steps"]
  picture = layout.tokens_per_picture
  token = sizes.llm.num_layers * flops.projections(sizes.llm)
  encoded = flops.encoder(sizes.autoencoder, layout.height, layout.width)
  seen = config["data"]["max_tokens"] if layout.und_patches else picture
  vocabulary = 2.0 * sizes.llm.width * sizes.llm.vocab_size
  answers = config["train"]["sample_tokens"]
  out = count * (encoded + (_TEXT + seen) * token)
  out += count * answers * (token + vocabulary)
  attended = lambda before: _attention(sizes, picture, before + picture)
  if layout.targets:  # two contexts, and the decoder costs twice an encoder
    each = picture * token + attended(_TEXT)
    out += count * (2 * (_TEXT * token + steps * each) + 2 * encoded)
  if layout.references:  # three contexts, of a source and without
    before = _TEXT + picture
    each = picture * token + attended(before)
    out += count * (3 * (before * token + steps * each) + 3 * encoded)
  return out


def _attention(sizes: EmmaConfig, queries: int, keys: int) -> float:
  c = sizes.llm
  return 4.0 * c.num_layers * c.num_heads * c.head_dim * queries * keys
