"""Data parallelism over all devices: rows are split, weights are replicated."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = "data"


def data_mesh() -> Mesh:
  """One axis over all devices of all processes.

  Auto axes: under the Explicit ones that `jax.make_mesh` makes by default every
  operation would have to name its sharding.
  """
  return jax.make_mesh(
      (jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
  """Splits the leading axis."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def check_rows(count: int, name: str) -> None:
  """Raises ValueError unless `count` rows split over all devices."""
  devices = jax.device_count()
  if count % devices:
    raise ValueError(
        f"{name}.rows={count} do not split over {devices} devices; make it a "
        f"multiple of {devices}.")


def place_rows(batch: Any, mesh: Mesh) -> Any:
  """This process's rows of a batch -> one global array a leaf."""
  sharding = rows(mesh)
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  place = lambda x: jax.make_array_from_process_local_data(sharding, x)
  return jax.tree.map(place, batch)
