"""emma-speed data: its flags, its turns, its table."""

import argparse
import contextlib
import os
import statistics
import tempfile
from typing import Any

from emma_jax.speed import child, data_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that `run` reads."""
  add = parser.add_argument
  add(
    "--pictures",
    nargs="+",
    default=[],
    metavar="FILE",
    help="JPEG files (default: photo-like ones of three sizes are made)",
  )
  add("--count", type=int, default=80, help="pictures a pass (default: 80)")
  add("--batch", type=int, default=16, help="pictures a batch (default: 16)")
  add(
    "--frame",
    default="512x512",
    metavar="HEIGHTxWIDTH",
    help="that pictures are fitted to (default: 512x512)",
  )
  add(
    "--sides",
    nargs="+",
    choices=data_rows.SIDES,
    default=data_rows.SIDES,
    help="fast and pillow are ours (default: all)",
  )
  add(
    "--repetitions",
    type=int,
    default=5,
    metavar="N",
    help="passes to take the median of (default: 5)",
  )


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
  """Compares; ValueError or ChildError for what cannot be."""
  try:
    height, width = map(int, args.frame.split("x"))
  except ValueError as error:
    raise ValueError(f"--frame {args.frame}: expected HEIGHTxWIDTH.") from error
  settings = data_rows.Settings(
    count=args.count, batch=args.batch, height=height, width=width
  )
  with tempfile.TemporaryDirectory() as base:
    folder = os.path.join(base, "set")
    size = data_rows.prepare(folder, settings, args.pictures)
    equal = _equal(folder) if {"pillow", "loader"} <= set(args.sides) else None
    results = _compare(folder, args)
  print(f"{'':10}{'pictures/s':>11}{'MB/s':>8}{'ratio':>7}{'others':>8}")
  base_rate = next(
    (
      settings.count / r["cpu"]
      for r in results
      if r["side"] == "loader" and "cpu" in r
    ),
    None,
  )
  for result in results:
    if "error" in result:
      print(f"{result['side']:10}  {result['error']}")
      continue
    rate = settings.count / result["cpu"]
    result |= {
      "pictures_per_second": rate,
      "mb_per_second": size / 1e6 / result["cpu"],
      "ratio": rate / base_rate if base_rate else None,
    }
    ratio = f"{result['ratio']:7.2f}" if base_rate else f"{'-':>7}"
    print(
      f"{result['side']:10}{rate:11.1f}{result['mb_per_second']:8.1f}"
      f"{ratio}{result['others']:8.0%}  {result['version']}"
    )
  print(
    f"{settings.count} JPEG files of {size / 1e6:.1f} MB to {args.frame}, "
    "uint8, on one core; seconds are the process's own. ratio: to the "
    "DataLoader."
    + (
      ""
      if equal is None
      else " With Pillow on both sides the pixels are "
      f"{'equal' if equal else 'NOT equal'}."
    )
  )
  if equal is False:
    raise ValueError("The two sides do not do the same work.")
  return results


def _equal(folder: str) -> bool | None:
  """Whether ours with Pillow and the DataLoader give the same pixels."""
  try:
    return data_rows.checksum("pillow", folder) == data_rows.checksum(
      "loader", folder
    )
  except ImportError:
    return None  # the child's error tells


def _compare(folder: str, args: argparse.Namespace) -> list[dict[str, Any]]:
  """In turns, so that a disturbance meets all sides."""
  results = {side: {"side": side} for side in args.sides}
  with contextlib.ExitStack() as stack:
    children = {}
    for side in args.sides:
      process = stack.enter_context(
        child.Child(data_rows.ROW, side, folder, "uint8", 1)
      )
      try:
        results[side] |= process.ready()
        children[side] = process
      except child.ChildError as error:
        results[side]["error"] = str(error)
    found: dict[str, list[child.Repetition]] = {side: [] for side in children}
    for _ in range(args.repetitions):
      for side, process in children.items():
        found[side].append(process.repeat())
  for side, repetitions in found.items():
    for name in ("seconds", "cpu", "others"):
      results[side][name] = statistics.median(
        getattr(r, name) for r in repetitions
      )
  return list(results.values())
