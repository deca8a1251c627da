"""Data pipelines in turns, a process for each, and whether they do the same."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import os
import statistics
import tempfile
from typing import Any

from emma_jax.speed import child, comparison, data_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """What `compare` finds.

  results: per side its numbers, or an `error`. bytes: of all JPEG files.
  equal: whether with Pillow on both sides the pixels are the same; None: not
  compared.
  """

  results: list[dict[str, Any]]
  bytes: int
  equal: bool | None


def compare(
  settings: data_rows.Settings,
  pictures: Sequence[str],
  *,
  sides: Sequence[str],
  repetitions: int,
) -> Comparison:
  """Seconds, pictures and megabytes per second, and the ratio to the loader.

  Args:
    settings: how many pictures, of what size.
    pictures: JPEG files; none: made ones.
    sides: of `data_rows.SIDES`.
    repetitions: passes to take the median of.
  """
  with tempfile.TemporaryDirectory() as base:
    folder = os.path.join(base, "set")
    size = data_rows.prepare(folder, settings, pictures)
    equal = _equal(folder) if {"pillow", "loader"} <= set(sides) else None
    results = _in_turns(folder, sides, repetitions)
  rates = {r["side"]: settings.count / r["cpu"] for r in results if "cpu" in r}
  base_rate = rates.get("loader")
  for result in results:
    if "error" not in result:
      rate = rates[result["side"]]
      result |= {
        "pictures_per_second": rate,
        "mb_per_second": size / 1e6 / result["cpu"],
        "ratio": rate / base_rate if base_rate else None,
      }
  return Comparison(results=results, bytes=size, equal=equal)


def line(result: Mapping[str, Any]) -> str:
  """A side on one line, or what went wrong with it."""
  if "error" in result:
    return f"{result['side']:10}  {result['error']}"
  ratio = result["ratio"]
  against = f"{'-':>7}" if ratio is None else f"{ratio:7.2f}"
  return (
    f"{result['side']:10}{result['pictures_per_second']:11.1f}"
    f"{result['mb_per_second']:8.1f}{against}{result['others']:8.0%}"
    f"  {result['version']}"
  )


def _equal(folder: str) -> bool | None:
  """Whether ours with Pillow and the DataLoader give the same pixels."""
  try:
    return data_rows.checksum("pillow", folder) == data_rows.checksum(
      "loader", folder
    )
  except ImportError:
    return None  # the child's error tells


def _in_turns(
  folder: str, sides: Sequence[str], repetitions: int
) -> list[dict[str, Any]]:
  with contextlib.ExitStack() as stack:
    children, said = comparison.start(
      stack, {s: (data_rows.ROW, s, folder, "uint8", 1) for s in sides}
    )
    results = {side: {"side": side} | said[side] for side in sides}
    found: dict[str, list[child.Repetition]] = {side: [] for side in children}
    for _ in range(repetitions):
      for side, process in children.items():
        found[side].append(process.repeat())
  for side, those in found.items():
    for name in ("seconds", "cpu", "others"):
      results[side][name] = statistics.median(getattr(r, name) for r in those)
  return list(results.values())
