"""Weights read one after the other, each to its place and in its dtype.

A model that fits its devices need not fit the memory of a host: what is read
there is one weight, or some small ones, until they are where they belong.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.checkpoints import integrity, sound
from emma_jax.checkpoints.integrity import CheckpointDamaged, CheckpointError

# Bytes of small weights that are restored together: each call of Orbax costs
# as much as some megabytes.
TOGETHER = 2**28
_SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Keep:
  """How weights are kept once they are read.

  on_devices: else they are numpy arrays.
  shardings: path -> where; what is not named lies on the first device.
  dtypes: path -> what it is rounded to; what is not named stays as it is.
  shapes: path -> shape of all that has to be there; None: whatever is.
  """

  on_devices: bool = False
  shardings: Mapping[str, jax.sharding.Sharding] = dataclasses.field(
    default_factory=dict
  )
  dtypes: Mapping[str, str] = dataclasses.field(default_factory=dict)
  shapes: Mapping[str, Sequence[int]] | None = None

  def check(self, found: Mapping[str, Sequence[int]]) -> None:
    """Raises CheckpointError unless these are the weights of `shapes`."""
    if self.shapes is None:
      return
    lines = [
      f"{path}: {_shape(found.get(path))}, the model has {_shape(wanted)}"
      for path in sorted(found.keys() | self.shapes.keys())
      if _shape(found.get(path)) != _shape(wanted := self.shapes.get(path))
    ]
    if lines:
      more = len(lines) - _SHOWN
      raise CheckpointError(
        "The weights are not those of their config's model:\n  "
        + "\n  ".join(lines[:_SHOWN])
        + (f"\n  and {more} more" if more > 0 else "")
      )

  def put(self, path: str, x: Any, dtype: Any = None) -> Any:
    """A weight in its place: a numpy array's parts, each where it lies.

    `dtype`: what it becomes where `dtypes` does not name it; None: its own.

    Raises:
      CheckpointError: whole numbers, where the weights of `shapes` belong.
    """
    if self.shapes is not None and not jnp.issubdtype(x.dtype, jnp.inexact):
      raise CheckpointError(
        f"{path} is stored as {x.dtype}; weights are floating point. Get the "
        "file again, or convert it again."
      )
    dtype = jnp.dtype(self.dtypes.get(path, dtype or x.dtype))
    where = self.shardings.get(path)
    if isinstance(x, jax.Array):
      x = x.astype(dtype)
      return x if where is None else jax.device_put(x, where)
    # Copies: `x` may be a mapping of its file, which is to go with it.
    if not self.on_devices:
      return np.array(x, dtype, order="C")
    if where is None:
      # Not `jnp.asarray`, which would compile a copy for every shape.
      return jax.device_put(np.array(x, dtype, order="C"))
    part = lambda index: np.array(x[index], dtype, order="C")
    return jax.make_array_from_callback(x.shape, where, part)


def _shape(shape: Sequence[int] | None) -> str:
  return "nothing" if shape is None else str(list(shape))


def read_step(
  directory: pathlib.Path, step: int, keys: Sequence[str], keep: Keep
) -> dict:
  """Top-level subtrees of exactly one step of a run, as one tree of weights.

  Raises:
    CheckpointError: the step lacks a subtree, or has other weights.
    CheckpointDamaged: its stored bytes are not what was saved.
  """
  _, leaves = sound.read_part(directory / str(step), keys)
  stored = {path: sound.abstract_leaf(entry) for path, entry in leaves.items()}
  keep.check({_weight(path): x.shape for path, x in stored.items()})
  out: dict[str, Any] = {}
  sums: dict[str, integrity.Sum] = {}
  error: CheckpointDamaged | None = None
  try:
    for part in _restored(directory / str(step) / "state", stored, keep):
      sums |= integrity.own_sums(part)
      for path in tuple(part):  # what is kept goes: it may be a copy
        out[_weight(path)] = keep.put(_weight(path), part.pop(path))
  except CheckpointDamaged as damage:
    error = damage  # the others wait for this process's sums
  found = integrity.summed(
    {
      path: sums.get(path, (integrity.kind_of(path, x), 0))
      for path, x in stored.items()
    }
  )
  if error:
    raise error
  sound.compare(found, leaves)
  return rules.unflatten(out)


def _weight(path: str) -> str:
  """The path of a state's leaf without its subtree."""
  return path.partition("/")[2]


def _restored(
  path: pathlib.Path, stored: Mapping[str, jax.ShapeDtypeStruct], keep: Keep
) -> Iterator[dict[str, Any]]:
  """Leaves as they are stored, some at a time."""
  import orbax.checkpoint as ocp  # here: weight files are read without it

  with ocp.PyTreeCheckpointer() as checkpointer:
    for paths in _groups(stored):
      item, args = {}, {}
      for one in paths:
        where = keep.shardings.get(_weight(one)) if keep.on_devices else None
        x = stored[one]
        if where is None:
          item[one] = x
          args[one] = ocp.RestoreArgs(restore_type=np.ndarray)
        else:
          item[one] = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
          args[one] = ocp.checkpoint_utils.construct_restore_args(item[one])
      with sound.as_damage():
        tree = checkpointer.restore(
          path,
          args=ocp.args.PyTreeRestore(
            item=rules.unflatten(item),
            restore_args=rules.unflatten(args),
            partial_restore=True,
          ),
        )
      part = rules.flatten(tree)
      del tree  # the only references are to be those of `part`
      yield part


def _groups(stored: Mapping[str, jax.ShapeDtypeStruct]) -> Iterator[list[str]]:
  """Paths in groups of at most `TOGETHER` bytes, or of one weight."""
  group: list[str] = []
  size = 0
  for path, x in stored.items():
    own = math.prod(x.shape) * x.dtype.itemsize
    if group and size + own > TOGETHER:
      yield group
      group, size = [], 0
    group.append(path)
    size += own
  if group:
    yield group
