"""Configs of older checkpoints and files, with today's keys.

A checkpoint keeps the config of its run, which is compared with that of the
command that continues it, and is what a sampler works with. So a key that gets
another name, or is new, gets a line here, and old files go on being read.
"""

from collections.abc import Mapping
import json
from typing import Any

# Dotted, from the top of a config; `*` stands for any one name.
RENAMED = {
  "data.parts": "packing_groups",
  "data.buffer": "prefetch_batches",
  "data.min_seen": "min_samples",
  "stages.*.hand_over": "next_stage_weights",
}

# Keys that came later than files that are still read, and what the code did
# before there was a choice: history, so no value changes with the defaults of
# today's configs. A section that a file lacks stays out.
ADDED = {
  "data.buckets": (),
  "data.codec": "pillow",
  "data.fit": "pad_learned",
  "data.latents": "step",
  "data.max_crop": 0.0,
  "data.packing_groups": 1,
  "data.plan_segment": 1000,
  "evaluate.ceiling": True,
  "evaluate.held_out": True,
  "evaluate.reference": False,
  "evaluate.sources": {},
  "evaluate.tasks": ("understanding", "drawing", "editing"),
  "model.autoencoder.kind": "dcae",
  "model.llm.attention": "auto",
  "model.vision.encoder.attention": "auto",
  "model.vision.encoder.remat": "none",
  "model.vision.extra_experts": (),
  # There was no bound; the models of that time are tiny ones.
  "sample.max_context": 4096,
  "stages.*.accumulation": 1,
  "stages.*.batch_samples": 0,
  "stages.*.mixture_even_buckets": False,
  "stages.*.mixture_unit": "samples",
  "stages.*.half_life": 0,
  "stages.*.measure_rows": False,
  "stages.*.rate_factor": 1.0,
  "stages.*.row_samples": 0.0,
  "stages.*.stage_samples": 0,
  "stages.*.warmup_samples": 0,
  "stages.*.task_weights": {
    "understanding": 1.0,
    "drawing": 1.0,
    "editing": 1.0,
  },
  "stages.*.und_patches": 0,
  "train.frozen_dtype": "float32",
  "train.gradient_shares_every": 500,
  "train.max_rewinds": 3,
  "train.max_skipped_steps": 3,
  "train.on_nonfinite": "stop",
  "train.on_spike": "count",
  "train.spike_threshold": 10.0,
  "train.spike_window": 128,
  "train.max_failed_saves": 3,
  "train.sample_count": 4,
  "train.sample_every": 0,
  "train.sample_prompts": (),
  "train.sample_tokens": 64,
  "train.validate_every": 0,
  "train.validate_samples": 256,
  "train.validate_sources": {},
  "train.writers": (),
  "evaluate.benchmarks": {
    "config": "",
    "sets": "",
    "limit": 50,
    "every": 0,
    "data": "",
  },
}
# New keys that only sections with another key have: an autoencoder's stage has
# no tasks.
BESIDE = {"stages.*.task_weights": "text_weight"}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
  """A copy of a saved config with today's keys: renamed ones in their old
  place, new ones behind the others of their section.

  >>> current({"stages": {"a": {"hand_over": "raw"}}})["stages"]["a"].popitem()
  ('und_patches', 0)
  >>> current({"data": {"seed": 1}})["data"]["fit"]
  'pad_learned'

  Raises:
    ValueError: a key is there by both names, with different values.
  """
  return _completed(_renamed(config, ()), ())


def current_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
  """The metadata of a checkpoint or weight file by today's names.

  The config is what `current` makes of it. Older checkpoints do not say whether
  their router is trained: it was where the stage's name began with "4b"; older
  weight files say it as `routed`.

  >>> current_meta({"stage": "4b_router", "step": 7})
  {'stage': '4b_router', 'step': 7, 'router_trained': True}
  """
  out = dict(meta)
  if "config" in meta:
    out["config"] = current(meta["config"])
  routed = out.pop("routed", None)
  if "router_trained" not in out:
    if routed is None and "stage" in meta:
      routed = meta["stage"].startswith("4b")
    if routed is not None:
      out["router_trained"] = routed
  return out


def _renamed(section: Mapping[str, Any], path: tuple[str, ...]) -> dict:
  out: dict[str, Any] = {}
  for key, value in section.items():
    at = (*path, key)
    if isinstance(value, Mapping):
      value = _renamed(value, at)
    name = next((new for old, new in RENAMED.items() if _matches(old, at)), key)
    if out.get(name, value) != value:
      raise ValueError(
        f"{'.'.join((*path, name))} is there twice, by its old name {key!r} "
        f"too: {out[name]!r} and {value!r}."
      )
    out[name] = value
  return out


def _completed(section: dict, path: tuple[str, ...]) -> dict:
  """The section, its new keys as JSON gives them back."""
  inner = {
    key: _completed(value, (*path, key))
    for key, value in section.items()
    if isinstance(value, dict)
  }
  new = {
    key.rpartition(".")[2]: json.loads(json.dumps(value))
    for key, value in ADDED.items()
    if _matches(key.rpartition(".")[0], path)
    and BESIDE.get(key, "") in {"", *section}
  }
  added = {
    key: _completed(value, (*path, key)) if isinstance(value, dict) else value
    for key, value in new.items()
    if key not in section
  }
  return section | inner | added


def _matches(pattern: str, path: tuple[str, ...]) -> bool:
  parts = pattern.split(".")
  return len(parts) == len(path) and all(
    p in ("*", name) for p, name in zip(parts, path, strict=True)
  )
