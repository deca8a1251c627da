"""emma-convert check: is an import right? Compared with what torch computed.

  python launch/dump_reference.py --family qwen3 --folder weights/Qwen3-4B \\
      --out qwen3.npz      # where torch, transformers and diffusers are
  emma-convert check --family qwen3 --folder weights/Qwen3-4B \\
      --reference qwen3.npz

Prints each tensor's greatest difference over the reference's maximum; exit code
1 where one is above --tolerance. emma_jax/convert/check.py has the names in the
file, for those who dump it themselves.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common

# What `check` calls equal: float32 rounding of deep networks.
TOLERANCE = 5e-6


def add(commands: Any) -> None:
  """Adds the parser of `emma-convert check`."""
  parser = common.add_subcommand(
    commands,
    "check",
    "compare an import with tensors dumped from torch",
    __doc__,
    run,
  )
  parser.add_argument(
    "--family",
    required=True,
    choices=("qwen3", "siglip2", "dcae"),
    help="of the folder",
  )
  parser.add_argument(
    "--folder",
    required=True,
    type=common.path,
    metavar="DIR",
    help="of the weights, as downloaded",
  )
  parser.add_argument(
    "--reference",
    required=True,
    type=common.path,
    metavar="FILE.npz",
    help="what launch/dump_reference.py wrote of the same folder",
  )
  parser.add_argument(
    "--tolerance",
    type=ranges.Range(0, 0.5).number,
    default=TOLERANCE,
    help="of each reference's maximum (default: %(default)s)",
  )
  common.add_debug(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints a line a tensor; 1 where one differs."""
  common.refuse_overrides("check", overrides)
  from emma_jax.convert import arrays, check

  reference = arrays.Arrays(args.reference)
  compared = check.check(args.family, args.folder, reference)
  different = [c for c in compared if not c.error <= args.tolerance]
  for c in compared:
    verdict = f"DIFFERS  {c.note}".rstrip() if c in different else "ok"
    print(f"{c.name:24} {c.shape!s:24} {c.error:.2e}  {verdict}")
  if different:
    # No maximum: Python's drops NaN.
    names = ", ".join(c.name for c in different)
    print(
      f"The import is not equal: {names} by more than {args.tolerance:.0e} of"
      " the reference's maximum."
    )
    return 1
  print("Equal.")
  return 0
