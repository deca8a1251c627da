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


def current(config: Mapping[str, Any]) -> dict[str, Any]:
  """A copy of a saved config with today's keys, each in its old place.

  >>> current({"data": {"seed": 1, "parts": 2}, "name": "x"})
  {'data': {'seed': 1, 'packing_groups': 2}, 'name': 'x'}

  Raises:
    ValueError: a key is there by both names, with different values.
  """
  return _renamed(config, ())


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


def _matches(pattern: str, path: tuple[str, ...]) -> bool:
  parts = pattern.split(".")
  return len(parts) == len(path) and all(
    p in ("*", name) for p, name in zip(parts, path, strict=True)
  )
