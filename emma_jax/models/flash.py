"""Attention whose memory grows with S, not S x S: one gradient, several ways.

A `Path` is a forward and a backward function as `flash_xla` defines them. What
is kept between the two is q, k, v, the output and a log-sum-exp per query; the
last two are named "attn_out", so that a remat policy can keep them too.
"""

from collections.abc import Callable
import dataclasses
import functools

import jax
from jax.sharding import AxisType, PartitionSpec

from emma_jax.models import flash_gpu, flash_tpu, flash_xla, partition
from emma_jax.structs import Ids

# Of a mesh; heads are split over it, rows over all the others.
HEADS_AXIS = "tensor"


@dataclasses.dataclass(frozen=True)
class Path:
  """One way to compute attention; see `flash_xla` for both functions."""

  forward: Callable
  backward: Callable


CHUNKED = Path(flash_xla.forward, flash_xla.backward)
TPU = Path(flash_tpu.forward, flash_tpu.backward)
GPU = Path(flash_gpu.forward, flash_gpu.backward)


def _by_platform(name: str) -> Callable:
  """The platform a program is lowered for decides, not the one it runs on
  now: programs are also compiled ahead of time, for machines far away."""
  tpu, cuda, other = (getattr(x, name) for x in (TPU, GPU, CHUNKED))
  return functools.partial(
      jax.lax.platform_dependent, tpu=tpu, cuda=cuda, default=other)


KERNEL = Path(_by_platform("forward"), _by_platform("backward"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attention(
    q_BHLE: jax.Array, k_BKSE: jax.Array, v_BKSE: jax.Array,
    query: Ids, key: Ids, path: Path,
) -> jax.Array:
  """Grouped-query attention (B, H, L, E) under `masks.allow(query, key)`.

  Queries that see nothing give 0 and no gradient.
  """
  return _forward(q_BHLE, k_BKSE, v_BKSE, query, key, path)[0]


def _forward(q_BHLE, k_BKSE, v_BKSE, query: Ids, key: Ids, path: Path):
  inputs = q_BHLE, k_BKSE, v_BKSE, query, key
  out, lse = _on_mesh(path.forward, k_BKSE.shape[:2])(*inputs)
  out, lse = (partition.keep(x, "attn_out") for x in (out, lse))
  return out, (*inputs, out, lse)


def _backward(path: Path, kept, dout_BHLE: jax.Array):
  heads = kept[1].shape[:2]
  return *_on_mesh(path.backward, heads)(*kept, dout_BHLE), None, None


attention.defvjp(_forward, _backward)


def _on_mesh(function: Callable, sizes: tuple[int, int]) -> Callable:
  """Each device computes its own rows and heads, which never meet.

  The compiler cannot split a kernel by itself. Under no mesh (`jax.set_mesh`)
  or one that is already split up by hand, the function stays as it is.

  Args:
    sizes: rows and key heads of the arrays.

  Raises:
    ValueError: the heads do not split over the mesh's axis of heads.
  """
  mesh = jax.sharding.get_abstract_mesh()
  free = {name: size for name, size, kind
          in zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types)
          if kind != AxisType.Manual}
  if not free:
    return function
  heads = free.get(HEADS_AXIS, 1)
  if sizes[1] % heads:
    raise ValueError(
        f"{sizes[1]} key heads do not split over {heads} devices of the mesh's "
        f"axis {HEADS_AXIS!r}; make it a divisor of {sizes[1]}.")
  rows, parts = [], 1
  for name, size in free.items():
    # A lone row, as in sampling, is computed everywhere.
    if name != HEADS_AXIS and sizes[0] % (parts * size) == 0:
      rows.append(name)
      parts *= size
  row_spec = PartitionSpec(tuple(rows))
  head_spec = PartitionSpec(
      tuple(rows), HEADS_AXIS if HEADS_AXIS in free else None)

  def split(*args):
    # Ids are (B, L); all else has heads behind the rows.
    specs = jax.tree.map(
        lambda x: row_spec if x.ndim == 2 else head_spec, args)
    return jax.shard_map(
        function, in_specs=specs, out_specs=head_spec,
        axis_names=set(free), check_vma=False)(*args)

  return split
