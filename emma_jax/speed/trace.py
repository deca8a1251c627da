"""What a profile says the device did: its costliest kernels."""

from collections.abc import Iterable
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
  spent: dict[str, list[float]] = {}
  for line in _of_kernels(data.planes):
    for event in line.events:
      name = re.sub(r"[._]?\d+", "", event.name) or event.name
      entry = spent.setdefault(name, [0, 0.0])
      entry[0] += 1
      entry[1] += event.duration_ns * 1e-9
  order = sorted(spent, key=lambda n: -spent[n][1])[:count]
  return [
    {"kernel": n, "calls": spent[n][0] / steps, "seconds": spent[n][1] / steps}
    for n in order
  ]


def _of_kernels(planes: Iterable[Any]) -> list[Any]:
  """The lines of a profile that have one event a kernel."""
  named = [(p.name, list(p.lines)) for p in planes]
  # A library that is loaded for chips that are not there adds an empty device.
  device = [
    x for name, lines in named if name.startswith(_DEVICE) for x in lines
  ]
  lines = device or [x for name, lines in named if name == _HOST for x in lines]
  kind = next((k for k in _LINES if any(k in x.name for x in lines)), None)
  return [x for x in lines if kind and kind in x.name]
