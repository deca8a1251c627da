"""Config keys by their former names, as older checkpoints and files hold them.

A checkpoint keeps the config of its run, which is compared with that of the
command that continues it, and is what a sampler works with. So a key that gets
another name gets a line here, and old files go on being read.
"""

from collections.abc import Mapping
from typing import Any

# Dotted, from the top of a config; `*` stands for any one name.
RENAMED = {
  "data.parts": "packing_groups",
  "data.buffer": "prefetch_batches",
  "data.min_seen": "min_samples",
  "stages.*.hand_over": "next_stage_weights",
}

# Keys that older configs lack, and what their runs did.
ADDED = {"data.fit": "pad_learned", "data.max_crop": 0.0}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
  """A copy of a saved config with today's keys, each in its old place; what it
  lacks behind them.

  >>> current({"stages": {"a": {"hand_over": "raw"}}, "name": "x"})
  {'stages': {'a': {'next_stage_weights': 'raw'}}, 'name': 'x'}
  >>> current({"data": {"seed": 1}})["data"]["fit"]
  'pad_learned'

  Raises:
    ValueError: a key is there by both names, with different values.
  """
  out = _renamed(config, ())
  for path, value in ADDED.items():
    section, key = path.split(".")
    if isinstance(out.get(section), dict):
      out[section].setdefault(key, value)
  return out


def current_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
  """The metadata of a checkpoint or weight file, its config by `current`."""
  config = {"config": current(meta["config"])} if "config" in meta else {}
  return {**meta, **config}


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


def _matches(pattern: str, path: tuple[str, ...]) -> bool:
  parts = pattern.split(".")
  return len(parts) == len(path) and all(
    p in ("*", name) for p, name in zip(parts, path, strict=True)
  )
