"""Where a session's arrays lie: on one device, or over a mesh as in training.

Weights lie as `sharding.weights` says; rows of a batch, of a cache and of noise
are split over the mesh's axes of rows. Programs are the planner's: the same
functions, within the same `sharding.program`.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from emma_jax import distributed, sharding
from emma_jax.sampling.context import SampleError, Seeds, keys
from emma_jax.structs import KvCache


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
  """The devices that compute together; without a mesh the first one alone."""

  mesh: Mesh | None = None

  @classmethod
  def over(cls, config: sharding.MeshConfig | None) -> "Placement":
    """Over all devices of all processes; None: the first one alone.

    Raises:
      SampleError: a mesh that does not use all devices exactly.
    """
    if config is None:
      return cls()
    try:
      return cls(mesh=sharding.make_mesh(config))
    except ValueError as error:
      raise SampleError(str(error)) from error

  @property
  def shards(self) -> int:
    """Into how many parts the rows of a batch are split."""
    return 1 if self.mesh is None else sharding.row_shards(self.mesh)

  def whole_rows(self, count: int) -> int:
    """The least number of rows, `count` or more, that every part has alike."""
    return -(-count // self.shards) * self.shards

  def check_rows(self, count: int) -> None:
    """Raises SampleError unless a program's `count` rows split evenly."""
    if count % self.shards:
      raise SampleError(
        f"Programs of {count} rows do not split over {self.shards} devices; "
        f"make rows a multiple of {self.shards}, or mesh.slice, data and fsdp "
        "smaller."
      )

  @contextlib.contextmanager
  def program(self) -> Iterator[None]:
    """While a program is called, and perhaps traced."""
    if self.mesh is None:
      yield
      return
    with sharding.program(self.mesh):
      yield

  def rows(self, tree: Any) -> Any:
    """Host arrays whose first axis is split; as they are without a mesh.

    Every process has all rows, and gives its devices theirs.
    """
    if self.mesh is None:
      return tree
    where = sharding.rows(self.mesh)
    return jax.tree.map(lambda x: sharding.place(x, where), tree)

  def keys(self, seed: Seeds, task: str, streams: Sequence[int]) -> jax.Array:
    """`context.keys`, a key a row."""
    made = keys(seed, task, streams)
    if self.mesh is None:
      return made
    data = self.rows(np.asarray(jax.random.key_data(made)))
    return jax.random.wrap_key_data(data)

  def host(self, x: jax.Array) -> np.ndarray:
    """All of an array, in each process."""
    if self.mesh is not None and not x.is_fully_addressable:
      x = distributed.whole(x)
    return np.asarray(x)


def split(shape: Sequence[int], mesh: Mesh, axis: int | None) -> NamedSharding:
  """Of an array whose `axis` is split as rows are; None: whole."""
  spec: list[tuple[str, ...] | None] = [None] * len(shape)
  if axis is not None:
    spec[axis] = dict(sharding.TABLE)["rows"]
  return NamedSharding(mesh, PartitionSpec(*spec))


def of_cache(cache: KvCache, mesh: Mesh) -> KvCache:
  """Where each array of a cache lies, or of its shapes."""
  put = lambda axis: lambda x: split(x.shape, mesh, axis)
  places: dict[str, Any] = {  # JAX lets shardings stand in a tree of arrays
    "key_ZBSKE": put(1)(cache.key_ZBSKE),
    "value_ZBSKE": put(1)(cache.value_ZBSKE),
    "ids": jax.tree.map(put(0), cache.ids),
  }
  return KvCache(**places)
