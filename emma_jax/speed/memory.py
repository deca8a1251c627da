"""What DC-AE needs to code a large picture, whole and in tiles.

    python -m emma_jax.speed.memory CASE_AS_JSON

A process per case, as the highest resident memory of a process never falls.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import re
import sys
from typing import Any

from emma_jax import processes
from emma_jax.speed import child

PICTURES = ("1024x1024", "2048x512")
HEADER = (
  f"{'':32}{'compiled':>10}{'of it: weights':>16}{'peak':>8}{'seconds':>9}"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A picture of height x width pixels; direction is encode or decode."""

  direction: str
  height: int
  width: int
  dtype: str
  tiled: bool


def cases(pictures: Sequence[str], dtypes: Sequence[str]) -> Iterator[Case]:
  """Every combination.

  Raises:
    ValueError: a picture that is not HEIGHTxWIDTH.
  """
  for direction in ("encode", "decode"):
    for picture in pictures:
      match = re.fullmatch(r"(\d+)x(\d+)", picture)
      if not match:
        raise ValueError(f"{picture!r}: write a picture as 1024x1024.")
      height, width = map(int, match.groups())
      for dtype in dtypes:
        for tiled in (False, True):
          yield Case(
            direction=direction,
            height=height,
            width=width,
            dtype=dtype,
            tiled=tiled,
          )


def measure(case: Case, sizes: str) -> dict[str, Any]:
  """The case and its numbers, in MiB.

  Raises:
    ValueError: the process failed, with its last line.
  """
  return child.outcome(
    __spec__.name, sizes, json.dumps(dataclasses.asdict(case)), what=case
  )


def line(result: dict[str, Any]) -> str:
  """One row of the table."""
  name = (
    f"{result['direction']} {result['height']}x{result['width']}"
    f" {result['dtype']}{' tiled' if result['tiled'] else ''}"
  )
  return (
    f"{name:32}{result['compiled']:10,.0f}{result['weights']:16,.0f}"
    f"{result['peak']:8,.0f}{result['seconds']:9.1f}"
  )


def _run(case: Case, sizes: str) -> dict[str, Any]:
  import time

  import jax
  import jax.numpy as jnp

  from emma_jax.models.dcae import Autoencoder
  from emma_jax.models.tiling import Tiling
  from emma_jax.speed import rows
  from emma_jax.speed import sizes as known

  module, params = rows.autoencoder(known.BY_NAME[sizes], case.dtype)
  side = f"{case.direction}r"
  params = {side: params[side]}  # the other one is not needed
  c = module.config
  shape = (1, case.height, case.width, c.in_channels)
  if case.direction == "decode":
    shape = (
      1,
      case.height // c.factor,
      case.width // c.factor,
      c.latent_channels,
    )
  method = getattr(Autoencoder, case.direction)
  tiling = Tiling() if case.tiled else None
  run = jax.jit(
    lambda p, x: module.apply({"params": p}, x, tiling, method=method)
  )
  x = jnp.zeros(shape, case.dtype)
  compiled = run.lower(params, x).compile()
  stats = compiled.memory_analysis()
  assert stats is not None  # a CPU's compiler tells
  start = time.perf_counter()
  jax.block_until_ready(compiled(params, x))
  seconds = time.perf_counter() - start
  reserved = (
    stats.temp_size_in_bytes
    + stats.argument_size_in_bytes
    + stats.output_size_in_bytes
  )
  weights = sum(w.nbytes for w in jax.tree.leaves(params))
  return dataclasses.asdict(case) | {
    "compiled": reserved / 2**20,
    "weights": weights / 2**20,
    "peak": processes.peak_memory() / 2**20,
    "seconds": seconds,
  }


if __name__ == "__main__":
  print(json.dumps(_run(Case(**json.loads(sys.argv[2])), sys.argv[1])))
