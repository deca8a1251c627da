"""What makes a stored state trustworthy: checksums, errors, config checks."""

from collections.abc import Iterator, Mapping, Sequence
import hashlib
import json
import re
from typing import Any

import jax
import numpy as np

from emma_jax import rules
from emma_jax.exits import Exit

_MASK = (1 << 64) - 1


class CheckpointError(Exception):
  """A checkpoint that cannot be saved, found, or fitted to the program."""


class CheckpointDamaged(CheckpointError):
  """Stored bytes are not what was saved."""

  exit_code = Exit.DATA


_SHOWN = 20  # differences of two configs


class ContradictionError(ValueError):
  """A config that contradicts the one a run was started with."""

  def __init__(self, differences: Sequence[str], where: str = "checkpoint"):
    self.differences = list(differences)
    lines = "\n  ".join(self.differences[:_SHOWN])
    more = len(self.differences) - _SHOWN
    super().__init__(
      f"The config contradicts the {where}:\n  {lines}\n"
      + (f"  and {more} more\n" if more > 0 else "")
      + "Restore these values, or start in a new working directory; a stage "
      "there begins with these weights by load=(('.*', 'weights:FOLDER'),)."
    )


# -------------------------------------------------------------- checksums


def _bits(x: np.ndarray) -> np.ndarray:
  return x.view(f"uint{8 * x.dtype.itemsize}")


def _sum(x: np.ndarray, start: Sequence[int]) -> int:
  """Sum of each element's bits times a weight of its place, modulo 2^64.

  The weight is a product of odd pseudo-random numbers, one per coordinate
  (`start` is that of the first element). Odd: a change of one element always
  changes the sum. A product: one pass, an axis at a time, without an array of
  weights. Of the coordinates alone: a whole is the sum of its shards.
  """
  sums = _bits(np.asarray(x))
  for axis in reversed(range(sums.ndim)):
    place = np.arange(sums.shape[axis], dtype=np.uint64)
    weight = _scatter(place + np.uint64(start[axis]), axis)
    sums = np.einsum("...i,i->...", sums, weight, dtype=np.uint64)
  return int(sums)


def _scatter(place: np.ndarray, axis: int) -> np.ndarray:
  """Odd pseudo-random uint64 of each place (splitmix64)."""
  offset = (axis + 1) * 0x9E3779B97F4A7C15 & _MASK
  z = place * np.uint64(0xD1342543DE82EF95) + np.uint64(offset)
  z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return (z ^ (z >> np.uint64(31))) | np.uint64(1)


# Kind and checksum of a leaf, of what this process answers for.
Sum = tuple[str, int]


def checksums(tree: Any) -> dict[str, str]:
  """Path -> "dtype[shape]:checksum" of every leaf, equal on any mesh.

  >>> import numpy as np
  >>> checksums({"a": np.uint8(7)})
  {'a': 'uint8[]:0000000000000007'}
  """
  return summed(own_sums(tree))


def own_sums(tree: Any) -> dict[str, Sum]:
  """Path -> kind, and this process's part of the checksum, of every leaf."""
  return {
    path: (
      kind_of(path, leaf),
      sum(_sum(x, start) for x, start in _shards(leaf)) & _MASK,
    )
    for path, leaf in rules.flatten(tree).items()
  }


def summed(own: Mapping[str, Sum]) -> dict[str, str]:
  """`checksums`, of every process's own sums; all have to call it."""
  sums = np.array([part for _, part in own.values()], np.uint64)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    # As uint32: JAX narrows 64-bit integers on the way.
    parts = multihost_utils.process_allgather(sums.view(np.uint32))
    sums = np.ascontiguousarray(parts).view(np.uint64).sum(axis=0)
  return {
    path: f"{kind}:{int(total):016x}"
    for (path, (kind, _)), total in zip(own.items(), sums, strict=True)
  }


def _shards(leaf: Any) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
  """(data, coordinates of its first element) this process answers for."""
  if not isinstance(leaf, jax.Array):
    if jax.process_index() == 0:  # every process holds the whole array
      yield leaf, (0,) * leaf.ndim
    return
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  for shard in leaf.addressable_shards:
    if shard.replica_id == 0:
      yield np.asarray(shard.data), [s.start or 0 for s in shard.index]


def kind_of(path: str, leaf: Any) -> str:
  """ "dtype[shape]" of an array; CheckpointError, with its path, of others."""
  if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
    # Orbax would fail half-way, and its threads then block the exit.
    raise CheckpointError(
      f"{path}: {type(leaf).__name__} is no array; wrap a number with "
      "numpy.asarray, or put it into the metadata."
    )
  return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def digest(value: Any) -> str:
  """SHA-256 of a JSON value, in hexadecimal, whatever the order of its keys."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sealed(state: Any, meta: dict) -> dict:
  """What is written beside a state's arrays, with the checksum of itself.

  Raises:
    CheckpointError: a leaf that is no array, or metadata that is not JSON.
  """
  try:
    meta = json.loads(json.dumps(meta))
  except TypeError as error:
    raise CheckpointError(f"Metadata must be JSON: {error}.") from error
  content = {"meta": meta, "roots": _roots(state), "leaves": checksums(state)}
  return content | {"sha256": digest(content)}


def _roots(state: Any) -> list[str]:
  """Names of the state's top-level parts, the empty ones too."""
  parts = jax.tree_util.tree_flatten_with_path(
    state, is_leaf=lambda x: x is not state
  )[0]
  return [rules.path_of(keys) for keys, _ in parts]


# ---------------------------------------------------------------- configs


def config_differences(
  saved: Mapping[str, Any],
  current: Mapping[str, Any],
  ignore: Sequence[str] = (),
) -> list[str]:
  """One line per key whose value is not the same, for a `ContradictionError`.

  >>> config_differences({"data": {"seed": 1}}, {"data": {"seed": 2}})
  ['data.seed: checkpoint 1, now 2']

  Args:
    saved: nested dicts of JSON values.
    current: the same; tuples count as lists, as in JSON.
    ignore: regular expressions of whole dotted keys that may differ.
  """
  a, b = _dotted(saved), _dotted(current)
  lines = []
  for key in sorted(a.keys() | b.keys()):
    if any(re.fullmatch(pattern, key) for pattern in ignore):
      continue
    old, new = a.get(key, "absent"), b.get(key, "absent")
    if old != new:
      lines.append(f"{key}: checkpoint {old}, now {new}")
  return lines


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
  """Dotted key -> JSON text of the value, which tells 1 from "1"."""
  flat: dict[str, str] = {}
  for key, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= _dotted(value, f"{prefix}{key}.")
    else:
      flat[prefix + str(key)] = json.dumps(value, sort_keys=True)
  return flat
