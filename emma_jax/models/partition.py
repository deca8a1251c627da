"""How a program is laid out over devices: constraints, local work, remat.

Models name the axes of what they make; `sharding.program` says while a program
is traced which mesh axes those names stand for. Without it, as when sampling on
one device, everything here does nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import contextvars
import math
from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import layout
from jax.sharding import PartitionSpec

# Tensors of a block that a remat policy "names:a,b" can keep, in the order in
# which a block makes them. Attention kernels name their own residuals
# "attn_out" too, or their forward pass would run again.
SAVEABLE = (
  "attn_in",
  "query",
  "key",
  "value",
  "attn_out",
  "attn_proj",
  "mlp_in",
  "mlp_gate",
  "mlp_up",
)
REMAT = ("none", "full", "dots")
TPU_LANES = 128  # numbers that a TPU holds side by side, used or not


_PLATFORM: contextvars.ContextVar[tuple[str | None, tuple[int, int] | None]]
_PLATFORM = contextvars.ContextVar("platform", default=(None, None))
_COUNTED = contextvars.ContextVar("counted", default=False)
_APART = contextvars.ContextVar("apart", default=False)


def platform() -> str:
  """What is traced now will run on this ("cpu", "tpu", "gpu", ...).

  Not always on the devices that are here: programs are also compiled for
  machines far away.
  """
  return _PLATFORM.get()[0] or jax.default_backend()


def capability() -> tuple[int, int] | None:
  """CUDA's compute capability of what is traced for, (9, 0) of an H100.

  None where that is no NVIDIA GPU, or nobody said which.
  """
  name, of_name = _PLATFORM.get()
  if name is None and jax.default_backend() == "gpu":
    return capability_of(jax.devices()[0])
  return of_name


def capability_of(device: Any) -> tuple[int, int] | None:
  """Of a device, present or described; None: it is no NVIDIA GPU."""
  major, _, minor = getattr(device, "compute_capability", "").partition(".")
  return (int(major), int(minor)) if major.isdigit() else None


@contextlib.contextmanager
def compiled_for(
  name: str | None, capability: tuple[int, int] | None = None
) -> Iterator[None]:
  """What is traced inside will run on this platform; None: as without.

  `capability` is CUDA's, of a GPU; without it kernels that need to know it are
  left out.
  """
  token = _PLATFORM.set((name, capability))
  try:
    yield
  finally:
    _PLATFORM.reset(token)


def for_tpu() -> bool:
  """Whether to take a form with more products than the equations ask for,
  because a TPU is faster at it."""
  return platform() == "tpu" and not counting_flops()


def counting_flops() -> bool:
  """Whether what is traced now is not to be run; see `equations`."""
  return _COUNTED.get()


@contextlib.contextmanager
def equations() -> Iterator[None]:
  """What is traced inside has the products of the model's equations, on every
  platform: to count them, not to run."""
  token = _COUNTED.set(True)
  try:
    yield
  finally:
    _COUNTED.reset(token)


def mesh_axes(name: str) -> tuple[str, ...] | None:
  """The mesh axes a logical axis is split over; None outside of a program.

  Raises:
    ValueError: a name that the table lacks: it would be copied to all devices
      without a word.
    RuntimeError: a table without a mesh: constraints would be dropped.
  """
  table = dict(nn.get_logical_axis_rules())
  if not table:
    return None
  if jax.sharding.get_abstract_mesh().empty:
    raise RuntimeError("A table of axes but no mesh: enter sharding.program.")
  if name not in table:
    raise ValueError(
      f"Unknown logical axis {name!r}; the table has {sorted(table)}. Add a "
      "line to sharding.TABLE."
    )
  return _several(table[name])


def _several(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
  """Mesh axes as a line of Flax's table may give them."""
  return (axes,) if isinstance(axes, str) else tuple(axes or ())


def is_unsharded() -> bool:
  """Whether there is nothing to lay out: no program, or one device."""
  return mesh_axes("rows") is None or jax.sharding.get_abstract_mesh().size == 1


def shards(name: str) -> int:
  """Into how many parts a logical axis is split."""
  mesh = jax.sharding.get_abstract_mesh()
  return math.prod(mesh.shape[a] for a in mesh_axes(name) or ())


def split_axes(
  shape: Sequence[int], names: Sequence[str | None]
) -> list[tuple[str, ...] | None]:
  """Mesh axes of each axis of a weight; None: whole.

  Of a weight's axes that want the same mesh axis, the one further up in the
  table gets it, if its size is a multiple of the devices.
  """
  mesh = jax.sharding.get_abstract_mesh()
  rules = nn.get_logical_axis_rules()
  table = [(name, _several(axes)) for name, axes in rules]
  return choose_axes(shape, names, table, mesh.shape)


def choose_axes(
  shape: Sequence[int],
  names: Sequence[str | None],
  table: Sequence[tuple[str, tuple[str, ...]]],
  sizes: Mapping[str, int],
) -> list[tuple[str, ...] | None]:
  """`split_axes` for a table and mesh axes of these sizes."""
  entries: list[tuple[str, ...] | None] = [None] * len(shape)
  taken: set[str] = set()
  for name, axes in table:
    devices = math.prod(sizes[a] for a in axes)
    if devices == 1 or taken & set(axes):
      continue
    for i, (n, given) in enumerate(zip(shape, names)):
      if given == name and n % devices == 0:
        entries[i] = tuple(axes)
        taken |= set(axes)
        break
  return entries


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """`x` with its axes split as the table says; None: whole on every device."""
  if len(names) != x.ndim:
    raise ValueError(f"{names=} for an array of shape {x.shape}.")
  entries = [() if n is None else mesh_axes(n) for n in names]
  if is_unsharded():
    return x
  return jax.lax.with_sharding_constraint(
    x, PartitionSpec(*[e or None for e in entries])
  )


def per_shard(function: Callable[..., Any], *xs: Any) -> Any:
  """`function` on each device's own rows: leading axes are split, and stay.

  For what mixes rows only in appearance: joining two lists of pictures along
  their first axis would send most of them to other devices.
  """
  if is_unsharded():
    return function(*xs)
  spec = PartitionSpec(mesh_axes("rows"))
  return jax.shard_map(function, in_specs=spec, out_specs=spec)(*xs)


@contextlib.contextmanager
def distinct_scan_carry() -> Iterator[None]:
  """What passes `add_unit_axis` inside, and is saved, gets a first axis of one.

  For the second of two scans of like blocks. XLA takes the zeros that both
  start their stacks from for one array, and so copies it for each instead of
  dropping it: 138 of 1,960 ms of the 4B's step on a v5p, by its own count.
  """
  token = _APART.set(True)
  try:
    yield
  finally:
    _APART.reset(token)


def add_unit_axis(x: jax.Array) -> jax.Array:
  """`x`, inside of `distinct_scan_carry` with a first axis of one: a scan keeps
  what its blocks pass on."""
  return x[None] if _APART.get() else x


def drop_unit_axis(x: jax.Array) -> jax.Array:
  """Undoes `add_unit_axis`."""
  return x[0] if _APART.get() else x


def save_residual(x: jax.Array, name: str) -> jax.Array:
  """Names a tensor, so that a remat policy may keep it."""
  if name not in SAVEABLE:
    raise ValueError(f"Unknown tensor {name!r}; names are {SAVEABLE}.")
  return drop_unit_axis(checkpoint_name(add_unit_axis(x), name))


def save_residual_flat(x_BLHE: jax.Array, name: str) -> jax.Array:
  """`save_residual`, as (B, L, H * E) if heads fill whole lanes.

  Then a TPU's kernels and products take them so: they are not transposed to be
  kept nor when they are taken up again.
  """
  if x_BLHE.shape[-1] % TPU_LANES:
    return save_residual(x_BLHE, name)
  B, L, H, E = x_BLHE.shape
  return save_residual(x_BLHE.reshape(B, L, H * E), name).reshape(x_BLHE.shape)


def materialize(x: jax.Array) -> jax.Array:
  """`x`, on TPUs made whole before anything takes it: else their compiler may
  make it anew inside of each product, or reshape behind one."""
  return jax.lax.optimization_barrier(x) if platform() == "tpu" else x


def materialize_gradient(x: jax.Array) -> jax.Array:
  """`x`, whose gradient is made whole, as by `materialize`."""
  return _materialize_gradient(x) if platform() == "tpu" else x


@jax.custom_vjp
def _materialize_gradient(x):
  return x


_materialize_gradient.defvjp(
  lambda x: (x, None), lambda _, dy: (materialize(dy),)
)


def row_major(x: jax.Array) -> jax.Array:
  """`x`, split by rows alone; on TPUs with its last axis across lanes, and its
  gradient too.

  Of an array with more tokens than channels the compiler chooses tokens, and
  then copies on the way to what wants channels.
  """
  if platform() != "tpu":
    return x
  order = layout.Layout(major_to_minor=tuple(range(x.ndim)))
  # Within `per_shard`: the partitioner would gather what is constrained so.
  return per_shard(lambda x: layout.with_layout_constraint(x, order), x)


def check_remat(policy: str):
  """Raises ValueError for what `remat` would not take."""
  names = policy.removeprefix("names:").split(",")
  if policy in REMAT:
    return
  if not policy.startswith("names:") or set(names) - set(SAVEABLE):
    raise ValueError(
      f"remat={policy!r}: choose none, full or dots (keep every product of "
      f"matrices), or names:A,B with names of {SAVEABLE}."
    )


def remat(block: type[nn.Module], policy: str) -> type[nn.Module]:
  """The block, recomputing in the backward pass what `policy` does not keep."""
  check_remat(policy)
  if policy == "none":
    return block
  saved = None
  if policy == "dots":
    saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  elif policy != "full":
    names = policy.removeprefix("names:").split(",")
    saved = jax.checkpoint_policies.save_only_these_names(*names)
  # In a scan nothing can be merged with the forward pass by mistake.
  return nn.remat(block, prevent_cse=False, policy=saved)
