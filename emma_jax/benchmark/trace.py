"""What a profile says the device did: its costliest kernels."""

import pathlib
import re
import shutil
from typing import Any

import jax

_DEVICE, _HOST = "/device:", "/host:CPU"
# Lines of kernels, the first kind that there is: a GPU's streams, a TPU's
# operations, the CPU's threads of XLA. Others repeat or sum them up.
_LINES = ("Stream", "XLA Ops", "tf_XLA")


def costliest(
    folder: pathlib.Path, *, steps: int, count: int = 12
) -> list[dict[str, Any]]:
  """Kernels (numbers in names left out) by time a step, the slowest first.

  The newest trace below `folder` is read, and copied into it, so that it lies
  at a path without dates. Empty where nothing was traced.
  """
  files = sorted(folder.rglob("*.xplane.pb"), key=lambda p: p.stat().st_mtime)
  if not files:
    return []
  kept = folder / "trace.xplane.pb"
  if files[-1] != kept:
    shutil.copyfile(files[-1], kept)
  data = jax.profiler.ProfileData.from_file(str(kept))
  planes = list(data.planes)
  chosen = ([p for p in planes if p.name.startswith(_DEVICE)]
            or [p for p in planes if p.name == _HOST])
  lines = [line for p in chosen for line in p.lines]
  kind = next((k for k in _LINES if any(k in x.name for x in lines)), None)
  spent: dict[str, list[float]] = {}
  for line in lines:
    if kind is None or kind not in line.name:
      continue
    for event in line.events:
      name = re.sub(r"[._]?\d+", "", event.name) or event.name
      entry = spent.setdefault(name, [0, 0.0])
      entry[0] += 1
      entry[1] += event.duration_ns * 1e-9
  order = sorted(spent, key=lambda n: -spent[n][1])[:count]
  return [{"kernel": n, "calls": spent[n][0] / steps,
           "seconds": spent[n][1] / steps} for n in order]
