"""Attention whose memory grows with S, not S x S: one gradient, several ways.

A `Path` is a forward and a backward function of token-major arrays, as
`flash_tpu` and `flash_gpu` define them. What is kept between the two is q, k, v,
the output and a log-sum-exp per query (B, H, L); the last two are named
"attn_out", so that a remat policy can keep them too.
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


def _heads_first(function: Callable) -> Callable:
  """A function of head-major arrays as one of token-major ones."""
  def swapped(xs):
    return jax.tree.map(lambda x: x.swapaxes(1, 2) if x.ndim == 4 else x, xs)

  return lambda *args, **kwargs: swapped(function(*swapped(args), **kwargs))


CHUNKED = Path(*map(_heads_first, (flash_xla.forward, flash_xla.backward)))
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
    q_BLHE: jax.Array, k_BSKE: jax.Array, v_BSKE: jax.Array,
    query: Ids, key: Ids, path: Path,
) -> jax.Array:
  """Grouped-query attention (B, L, H, E) under `masks.allow(query, key)`.

  Queries that see nothing give 0 and no gradient.
  """
  return _forward(q_BLHE, k_BSKE, v_BSKE, query, key, path)[0]


def _forward(q_BLHE, k_BSKE, v_BSKE, query: Ids, key: Ids, path: Path):
  inputs = q_BLHE, k_BSKE, v_BSKE, query, key
  out, lse = on_mesh(path.forward, *k_BSKE.shape[::2])(*inputs)
  out = partition.keep_flat(out, "attn_out")
  lse = partition.keep(lse, "attn_out")
  return out, (*inputs, out, lse)


def _backward(path: Path, kept, dout_BLHE: jax.Array):
  split = on_mesh(path.backward, *kept[1].shape[::2])
  return *split(*kept, dout_BLHE), None, None


attention.defvjp(_forward, _backward)


def on_mesh(function: Callable, rows: int, heads: int) -> Callable:
  """Each device computes its own rows and heads, which never meet.

  The compiler cannot split a kernel by itself. Under no mesh (`jax.set_mesh`)
  or one that is already split up by hand, the function stays as it is.

  Args:
    function: takes and gives arrays (B, L, H, E), (B, H, L) and (B, L); of
      others, of which it must take none by rows, each device has all.
    rows, heads: of the arrays; of several kinds of heads the fewest.

  Raises:
    ValueError: the heads do not split over the mesh's axis of heads.
  """
  mesh = jax.sharding.get_abstract_mesh()
  free = {name: size for name, size, kind
          in zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types)
          if kind != AxisType.Manual}
  if not free:
    return function
  split = free.get(HEADS_AXIS, 1)
  if heads % split:
    raise ValueError(
        f"{heads} key heads do not split over {split} devices of the mesh's "
        f"axis {HEADS_AXIS!r}; make it a divisor of {heads}.")
  axes, parts = [], 1
  for name, size in free.items():
    # A lone row, as in sampling, is computed everywhere.
    if name != HEADS_AXIS and rows % (parts * size) == 0:
      axes.append(name)
      parts *= size
  by_rows, by_heads = tuple(axes), HEADS_AXIS if HEADS_AXIS in free else None

  def spec(x) -> PartitionSpec:
    return {4: PartitionSpec(by_rows, None, by_heads),
            3: PartitionSpec(by_rows, by_heads),
            2: PartitionSpec(by_rows)}.get(x.ndim, PartitionSpec())

  def on_each(*args):
    out = jax.eval_shape(function, *args)
    return jax.shard_map(
        function, in_specs=jax.tree.map(spec, args),
        out_specs=jax.tree.map(spec, out),
        axis_names=set(free), check_vma=False)(*args)

  return on_each
