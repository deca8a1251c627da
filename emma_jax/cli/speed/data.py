"""emma-speed data: pictures per second and core, beside a DataLoader.

  emma-speed data [--pictures FILE ...] [--frame HEIGHTxWIDTH]

From ArrayRecord to packed rows, beside PyTorch's DataLoader with Pillow (extras
`torch` and `fast`).
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli.speed import flags
from emma_jax.speed import data_comparison, data_rows


def add(commands: Any) -> None:
  """Adds the parser of `emma-speed data`."""
  parser = commands.add_parser(
    "data",
    help="pictures per second and core, beside PyTorch's DataLoader",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
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
  flags.add_output(parser)
  parser.set_defaults(run=run)


def run(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Compares; ValueError or ChildError for what cannot be."""
  del overrides  # refused before
  try:
    height, width = map(int, args.frame.split("x"))
  except ValueError as error:
    raise ValueError(f"--frame {args.frame}: expected HEIGHTxWIDTH.") from error
  settings = data_rows.Settings(
    count=args.count, batch=args.batch, height=height, width=width
  )
  found = data_comparison.compare(
    settings, args.pictures, sides=args.sides, repetitions=args.repetitions
  )
  print(f"{'':10}{'pictures/s':>11}{'MB/s':>8}{'ratio':>7}{'others':>8}")
  for result in found.results:
    print(data_comparison.line(result))
  print(
    f"{settings.count} JPEG files of {found.bytes / 1e6:.1f} MB to "
    f"{args.frame}, uint8, on one core; seconds are the process's own. ratio: "
    "to the DataLoader."
    + (
      ""
      if found.equal is None
      else " With Pillow on both sides the pixels are "
      f"{'equal' if found.equal else 'NOT equal'}."
    )
  )
  if found.equal is False:
    raise ValueError("The two sides do not do the same work.")
  return found.results
