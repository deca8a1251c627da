"""The range of every number of a config, asked when the config is read.

Wide ones: they hold all that anybody has published, many times over, and leave
out what can only be a slip of the hand: a rate of 1e20, a share of -1, NaN.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from emma_jax import seeds
from emma_jax.build import forms
from emma_jax.build.keys import matches
from emma_jax.build.sections import ConfigError
from emma_jax.ranges import GUIDANCE, SHARE, SHIFT, Range

# What divides must not vanish in float32, whose smallest number is 1.2e-38.
_EPSILON = Range(1e-30, 1)
_SIZE = Range(0, 1e6, above=True)
_COUNT, _SOME = Range(0, 2**31 - 1), Range(1, 2**31 - 1)
_WEIGHT = Range(0, 1e6)  # of a loss: a negative one would be maximised
# Moments that never change (1) divide zero by zero: 1 - b is 0 in float32 from
# 1 - 6e-8 on.
_DECAY = Range(0, 1 - 1e-7)

# Dotted key -> its numbers; `*` stands for one name, `**` at the end for all
# that is inside. The first that matches counts.
BOUNDS: dict[str, Range] = {
  "data.max_bad_share": SHARE,
  "data.max_crop": SHARE,
  "data.max_pixels": Range(1, 2**53),
  "data.max_tokens": _SOME,
  "data.max_turns": _COUNT,
  "data.min_samples": _COUNT,
  "data.min_tokens": _SOME,
  "data.packing_groups": _SOME,
  "data.plan_segment": _SOME,
  "data.prefetch_batches": _COUNT,
  "data.reference_dropout": SHARE,
  "data.text_dropout": SHARE,
  "data.threads": _COUNT,
  "data.workers": _COUNT,
  "evaluate.batch": _SOME,
  "evaluate.benchmarks.every": _COUNT,
  "evaluate.benchmarks.limit": _COUNT,
  "evaluate.held_out_samples": _SOME,
  "evaluate.router.samples": _COUNT,
  "evaluate.samples": _SOME,
  "evaluate.stage_samples": _SOME,
  "evaluate.steps": _COUNT,
  "model.autoencoder.decoder_layers_per_block.*": _COUNT,
  "model.autoencoder.encoder_layers_per_block.*": _COUNT,
  "model.autoencoder.residual_gain": _SIZE,
  "model.fusion.norm_eps": _EPSILON,
  "model.fusion.position_base": Range(0, 1e12, above=True),
  "model.fusion.position_scale": _SIZE,
  "model.fusion.time_scale": _SIZE,
  "model.llm.embed_std": _SIZE,
  "model.llm.norm_eps": _EPSILON,
  "model.llm.residual_gain": _SIZE,
  "model.llm.rope_theta": Range(1, 1e12),
  "model.vision.encoder.norm_eps": _EPSILON,
  "model.vision.router_threshold": SHARE,
  "model.llm.num_shallow": _COUNT,
  "optimizer.b1": _DECAY,
  "optimizer.b2": _DECAY,
  "optimizer.clip_norm": Range(0, 1e9),
  "optimizer.eps": _EPSILON,
  "optimizer.weight_decay": Range(0, 100),
  "sample.edit_image_guidance": GUIDANCE,
  "sample.edit_text_guidance": GUIDANCE,
  "sample.max_context": _SOME,
  "sample.max_tokens": _SOME,
  "sample.shift": SHIFT,
  "sample.steps": Range(1, 1000),
  "sample.text_guidance": GUIDANCE,
  "stages.*.accumulation": Range(1, 1e6),
  "stages.*.batch_samples": _COUNT,
  "stages.*.draws": _SOME,
  "stages.*.ema_decay": SHARE,
  "stages.*.final_ratio": SHARE,  # of the peak
  "stages.*.half_life": _COUNT,
  "stages.*.l1_weight": _WEIGHT,
  "stages.*.l2_weight": _WEIGHT,
  # An update of Adam moves every weight by about the rate, whatever the
  # gradient; weights are of size 1 at most.
  "stages.*.learning_rate": Range(0, 10),
  "stages.*.lr_multipliers.**": Range(0, 1e4),
  "stages.*.mixture.**": Range(0, 1e9),  # shares, weights, rows
  "stages.*.rate_factor": Range(0, 1e4, above=True),
  "stages.*.row_samples": Range(0, 1e6),
  "stages.*.samples_per_batch": _COUNT,
  "stages.*.shift": SHIFT,
  "stages.*.stage_samples": _COUNT,
  "stages.*.steps": Range(0, 2**31 - 1),  # an int32 counts them
  "stages.*.task_weights.*": _WEIGHT,
  "stages.*.text_weight": _WEIGHT,
  "stages.*.time_bins": _SOME,
  "stages.*.time_mean": Range(-100, 100),  # in logits
  "stages.*.time_std": Range(0, 100, above=True),
  "stages.*.velocity_weight": _WEIGHT,
  "stages.*.warmup_samples": _COUNT,
  "train.sample_count": _SOME,
  "train.sample_tokens": _SOME,
  "train.spike_threshold": Range(1, 1e6),
  "train.validate_samples": _SOME,
}
# Of any other of the model: sizes; what may be absent is said by other keys.
_MODEL = _SOME
# Of any other: whole numbers that JSON and every program hold exactly.
_ANY = Range(-(2**53), 2**53)


def check(config: Mapping[str, Any]) -> None:
  """Raises ConfigError, with the key, for a number that is out of range, or a
  table that is not of its form (`forms`).

  NaN and infinity are out of every range, also within tables. Keys `seed` have
  the range of `seeds`.
  """
  try:
    seeds.check_config(config)
  except ValueError as error:
    raise ConfigError(f"config.{error}") from error
  for path, value in _numbers(config, ()):
    other = _MODEL if path[0] == "model" else _ANY
    allowed = next(
      (r for pattern, r in BOUNDS.items() if matches(pattern, path)), other
    )
    if value not in allowed:
      key = ".".join(path)
      raise ConfigError(f"config.{key}={value} is not {allowed}.")
  forms.check(config)


def _numbers(
  node: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
  """(path, value) of every number in nested dicts and sequences."""
  if hasattr(node, "items"):
    for key, value in node.items():
      yield from _numbers(value, (*path, str(key)))
  elif isinstance(node, (list, tuple)):
    for i, value in enumerate(node):
      yield from _numbers(value, (*path, str(i)))
  elif isinstance(node, (int, float)) and not isinstance(node, bool):
    yield path, node
