"""Where arrays lie: the mesh, and one table from logical to mesh axes.

Mesh axes, outermost first:

  slice   pods joined by the data-centre network: gradients cross it, once
  data    copies of the sharded weights within a slice (HSDP)
  fsdp    weights, moments and averages are split; gathered layer by layer
  tensor  heads, hidden units and vocabulary are split; rows are not

Rows of a batch are split over all of them but `tensor`.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import math
import re
from typing import Any

import flax.linen as nn
import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from emma_jax import rules
from emma_jax.models import partition

SLICE, DATA, FSDP, TENSOR = AXES = ("slice", "data", "fsdp", "tensor")

# Logical axis -> mesh axes; see `partition.choose_axes` for weights of which
# several axes want the same mesh axis.
TABLE = (
  # Of activations; what they share with weights is below.
  ("rows", (SLICE, DATA, FSDP)),
  ("row_groups", (SLICE, DATA)),  # rows of devices that share their weights
  ("pictures", (SLICE, DATA, FSDP)),  # row by row, so like rows
  # Of weights.
  ("vocab", (TENSOR,)),
  ("heads", (TENSOR,)),
  ("kv_heads", (TENSOR,)),
  ("mlp", (TENSOR,)),
  # Parts that are whole rows are gathered without being transposed, and so
  # are the gradients and activations that go with them. Of weights alone; the
  # second line is for those that do not split so far.
  ("mlp_rows", (TENSOR, FSDP)),
  ("mlp_rows", (TENSOR,)),
  ("embed", (FSDP,)),
  ("conv_out", (FSDP,)),
  ("conv_in", (FSDP,)),
  ("head_dim", ()),
  ("layers", ()),  # a scan takes one at a time
)

# A weight of this many bytes that no device may hold whole, but for these.
LARGE = 2**20
WHOLE: tuple[str, ...] = ()  # regular expressions over paths


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Devices along each axis; at most one is -1: all that are left."""

  slice: int
  data: int
  fsdp: int
  tensor: int

  def __post_init__(self):
    for name in AXES:
      if getattr(self, name) < 1 and getattr(self, name) != -1:
        raise ValueError(
          f"mesh.{name}={getattr(self, name)}: give a number of "
          "devices, or -1 for all that are left."
        )
    if [getattr(self, name) for name in AXES].count(-1) > 1:
      raise ValueError(f"{self}: only one axis can be -1.")

  @classmethod
  def using(cls, sizes: Mapping[str, int]) -> "MeshConfig":
    """Of weights that are only used: split as far as they go.

    Axes that are not given are 1, but for fsdp: all devices that are left.

    >>> MeshConfig.using({"data": 2})
    MeshConfig(slice=1, data=2, fsdp=-1, tensor=1)
    >>> MeshConfig.using({"data": -1}).fsdp
    1

    Raises:
      ValueError: an axis that there is not, or a number that cannot be.
    """
    wrong = sorted(set(sizes) - set(AXES))
    if wrong:
      raise ValueError(f"A mesh has no axis {wrong[0]!r}; it has {AXES}.")
    left = 1 if -1 in sizes.values() else -1
    return cls(**{SLICE: 1, DATA: 1, FSDP: left, TENSOR: 1} | dict(sizes))

  def shape(self, devices: int) -> tuple[int, ...]:
    """Sizes in the order of `AXES`.

    >>> MeshConfig(slice=1, data=2, fsdp=-1, tensor=1).shape(8)
    (1, 2, 4, 1)

    Raises:
      ValueError: sizes whose product is not the number of devices.
    """
    sizes = [getattr(self, name) for name in AXES]
    known = math.prod(n for n in sizes if n > 0)
    filled = tuple(devices // known if n < 0 else n for n in sizes)
    if math.prod(filled) != devices:
      text = ", ".join(f"{k}={n}" for k, n in zip(AXES, sizes))
      raise ValueError(
        f"The mesh {text} does not use {devices} devices exactly; change "
        "config.mesh (-1: all that are left), or the number of devices."
      )
    return filled


def make_mesh(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """The mesh over `devices` (default: all), which may be a topology's.

  Neighbours along `tensor` and `fsdp` are neighbours in the torus; slices lie
  along `slice` alone. Auto axes: under the Explicit ones that `jax.make_mesh`
  makes by default every operation would have to name its sharding.

  Raises:
    ValueError: sizes that do not fit the devices, or their slices.
  """
  devices = list(jax.devices() if devices is None else devices)
  shape = config.shape(len(devices))
  slices = len({getattr(d, "slice_index", 0) for d in devices})
  if slices > 1:
    if shape[0] != slices:
      raise ValueError(
        f"The devices form {slices} slices, but mesh.slice="
        f"{shape[0]}; set config.mesh.slice={slices}."
      )
    grid = mesh_utils.create_hybrid_device_mesh(
      (1, *shape[1:]),
      (slices, 1, 1, 1),
      devices=devices,
      allow_split_physical_axes=True,
    )
  elif shape[0] > 1 and devices[0].platform == "tpu":
    raise ValueError(
      f"mesh.slice={shape[0]}, but the devices form one slice; "
      "set config.mesh.slice=1."
    )
  elif devices[0].platform == "tpu":
    grid = mesh_utils.create_device_mesh(
      shape, devices=devices, allow_split_physical_axes=True
    )
  else:  # no torus: a host's devices are neighbours
    grid = np.array(devices).reshape(shape)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


@contextlib.contextmanager
def program(mesh: Mesh) -> Iterator[None]:
  """While a program for `mesh` is traced: constraints take effect, and what
  depends on the platform is made for the mesh's.

  Entered inside the traced function, so that no caller can forget it. (In other
  contexts, Linen drops constraints without a word.)
  """
  devices = mesh.devices.flat if isinstance(mesh, Mesh) else ()
  device = next(iter(devices), None)
  with (
    jax.sharding.use_abstract_mesh(mesh.abstract_mesh),
    nn.logical_axis_rules(TABLE),
    partition.compiled_for(
      getattr(device, "platform", None), partition.capability_of(device)
    ),
  ):
    yield


# ------------------------------------------------------------------- weights


def spec(
  shape: Sequence[int], names: Sequence[str | None], mesh: Mesh
) -> PartitionSpec:
  """How one weight is split; axes whose size is no multiple stay whole.

  Raises:
    ValueError: a logical axis that the table lacks.
  """
  known = [name for name, _ in TABLE]
  unknown = sorted({n for n in names if n is not None} - set(known))
  if unknown:
    raise ValueError(
      f"Unknown logical axes {unknown}; the table has {known}. "
      "Add a line to sharding.TABLE."
    )
  return PartitionSpec(*partition.choose_axes(shape, names, TABLE, mesh.shape))


def weights(
  shapes: Any, axes: Mapping[str, tuple[str | None, ...]], mesh: Mesh
) -> dict[str, NamedSharding]:
  """Path -> sharding of every weight.

  Args:
    shapes: the parameters' shapes, nested.
    axes: path -> logical axes.
    mesh: see `make_mesh`.

  Raises:
    ValueError: a large weight that every device would hold whole.
  """
  out, whole = {}, []
  for path, x in rules.flatten(shapes).items():
    split = spec(x.shape, axes[path], mesh)
    out[path] = NamedSharding(mesh, split)
    large = math.prod(x.shape) * x.dtype.itemsize > LARGE
    names = (e if isinstance(e, tuple) else (e,) for e in split)
    used = set(itertools.chain(*names))
    if (
      large
      and mesh.shape[FSDP] > 1
      and FSDP not in used
      and not any(re.fullmatch(pattern, path) for pattern in WHOLE)
    ):
      whole.append(f"{path} {x.shape} {axes[path]}")
  if whole:
    raise ValueError(
      f"On a mesh of {dict(mesh.shape)} these weights would be copied to "
      "every device:\n  " + "\n  ".join(whole) + "\nMake mesh.fsdp a divisor "
      "of one of their sizes, name an axis that is split, or list them in "
      "sharding.WHOLE."
    )
  return out


def like_weights(
  tree: Any, of_weights: Mapping[str, NamedSharding], mesh: Mesh
) -> Any:
  """Shardings of a state: what mirrors a weight lies where that weight lies.

  A leaf mirrors the weight that its path ends in: a gradient, a moment, an
  average. Numbers are on every device.

  Raises:
    ValueError: an array that mirrors no weight.
  """

  def place(keys, leaf):
    parts = rules.path_of(keys).split("/")
    for i in range(len(parts)):
      found = of_weights.get("/".join(parts[i:]))
      if found is not None:
        return found
    if leaf.ndim:
      raise ValueError(
        f"{'/'.join(parts)} {leaf.shape} mirrors no weight, so "
        "nothing says how to split it."
      )
    return whole(mesh)

  return jax.tree_util.tree_map_with_path(place, tree)


# ---------------------------------------------------------------- everything


def whole(mesh: Mesh) -> NamedSharding:
  """On every device."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
  """Splits the leading axis of a batch."""
  return NamedSharding(mesh, PartitionSpec(dict(TABLE)["rows"]))


def row_shards(mesh: Mesh) -> int:
  """Into how many parts the rows of a batch are split."""
  return math.prod(mesh.shape[a] for a in dict(TABLE)["rows"])


def check_rows(
  count: int, name: str, mesh: Mesh, accumulation: int = 1
) -> None:
  """Raises ValueError unless `count` rows split over the mesh, and those of a
  device into `accumulation` micro-batches."""
  if accumulation < 1:
    raise ValueError(f"{name}.accumulation={accumulation} must be at least 1.")
  shards = row_shards(mesh)
  if count % shards:
    raise ValueError(
      f"{name}.rows={count} do not split over {shards} devices; make it a "
      f"multiple of {shards * accumulation}."
    )
  if count // shards % accumulation:
    raise ValueError(
      f"{name}.accumulation={accumulation} does not divide the "
      f"{count // shards} rows of each of {shards} devices; make it a divisor "
      f"of {count // shards}, or {name}.rows={count} a multiple of "
      f"{shards * accumulation}."
    )


def place(x: Any, sharding: NamedSharding) -> jax.Array:
  """An array in its place; of a host's array only the parts that lie here."""
  if isinstance(x, jax.Array):
    return jax.device_put(x, sharding)
  x = np.asarray(x)
  return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])


def place_rows(batch: Any, mesh: Mesh) -> Any:
  """This process's rows of a batch -> one global array a leaf."""
  sharding = rows(mesh)
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  put = lambda x: jax.make_array_from_process_local_data(sharding, x)
  return jax.tree.map(put, batch)


@dataclasses.dataclass(frozen=True)
class Share:
  """Which of `count` equal stretches of a batch's rows a process feeds.

  `first`: no process with a smaller number feeds the same stretch.
  """

  index: int = 0
  count: int = 1
  first: bool = True


def share_of_rows(where: jax.sharding.Sharding, rows: int) -> Share:
  """This process's share of the leading axis of a sharded batch.

  Devices may be laid out in any order over the mesh, and processes may hold
  the same rows (a tensor axis across hosts), so `where` is asked.

  Raises:
    ValueError: a process whose rows do not follow each other.
  """
  held: dict[int, set[tuple[int, int]]] = {}
  # JAX's own type of a device is that of a variable.
  placed: Mapping[Any, tuple[slice, ...]] = where.devices_indices_map((rows,))
  for device, index in placed.items():
    start, stop, _ = index[0].indices(rows)
    held.setdefault(device.process_index, set()).add((start, stop))
  spans = {}
  for process, pieces in held.items():
    start, stop = min(pieces)[0], max(pieces)[1]
    if sum(b - a for a, b in pieces) != stop - start:
      raise ValueError(
        f"Process {process} would feed the rows {sorted(pieces)}, which do "
        "not follow each other; put the axes that split rows first in the "
        "mesh."
      )
    spans[process] = (start, stop)
  start, stop = spans[jax.process_index()]
  size = stop - start
  if start % size or any(b - a != size for a, b in spans.values()):
    raise ValueError(f"Processes would feed unequal stretches: {spans}.")
  first = min(p for p, span in spans.items() if span == (start, stop))
  return Share(start // size, rows // size, first == jax.process_index())
