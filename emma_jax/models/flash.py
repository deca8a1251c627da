"""Attention whose memory grows with S, not S x S: one gradient, several ways.

A `Path` is a forward and a backward function of token-major arrays, as
`flash_tpu` and `flash_gpu` define them. What is kept between the two is q, k,
v, the output and a log-sum-exp per query (B, H, L); the last two are named
"attn_out", so that a remat policy can keep them too. A backward function adds
to the gradients of keys and values that it is given, if it is: with several
buffers of queries those are rounded to their dtype in between.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from emma_jax.models import flash_xla, partition
from emma_jax.structs import TokenIds

# Multiple and most of a head's width, and the least compute capability, that
# cuDNN's attention takes.
CUDNN_WIDTHS, CUDNN_CAPABILITY = (8, 128), (8, 0)
# Of a mesh; heads are split over it, rows over all the others.
HEADS_AXIS = "tensor"


@dataclasses.dataclass(frozen=True)
class Path:
  """One way to compute attention; see `flash_tpu` for both functions."""

  forward: Callable
  backward: Callable


def _heads_first(function: Callable) -> Callable:
  """A function of head-major arrays as one of token-major ones."""

  def swapped(xs):
    return jax.tree.map(lambda x: x.swapaxes(1, 2) if x.ndim == 4 else x, xs)

  return lambda *args, **kwargs: swapped(function(*swapped(args), **kwargs))


CHUNKED = Path(
  _heads_first(flash_xla.forward), _heads_first(flash_xla.backward)
)


# Pallas is a third of what a drawing on CPUs would import: kernels are read
# where a program that may need them is traced.
def _tpu(name: str) -> Callable:
  def kernel(*args, **kwargs):
    from emma_jax.models import flash_tpu

    return getattr(flash_tpu, name)(*args, **kwargs)

  return kernel


def _gpu(name: str) -> Callable:
  def kernel(*args, **kwargs):
    from emma_jax.models import flash_gpu

    return getattr(flash_gpu, name)(*args, **kwargs)

  return kernel


TPU = Path(_tpu("forward"), _tpu("backward"))
GPU = Path(_gpu("forward"), _gpu("backward"))


def _by_platform(gpu: Path) -> Path:
  """The platform a program is lowered for decides, not the one it runs on
  now: programs are also compiled ahead of time, for machines far away."""

  def choose(tpu: Callable, cuda: Callable, other: Callable) -> Callable:
    return functools.partial(
      jax.lax.platform_dependent, tpu=tpu, cuda=cuda, default=other
    )

  return Path(
    choose(TPU.forward, gpu.forward, CHUNKED.forward),
    choose(TPU.backward, gpu.backward, CHUNKED.backward),
  )


KERNEL, CHUNKED_ON_GPU = _by_platform(GPU), _by_platform(CHUNKED)


def gpu_path(
  capability: tuple[int, int] | None, dtype: Any, width: int, masked: bool
) -> str:
  """How attention of many tokens is computed on an NVIDIA GPU.

    cudnn    where nothing is masked: NVIDIA's kernels, of every generation.
    kernel   under EMMA's masks, of which cuDNN would need S x S numbers:
             `flash_gpu`, whose products (wgmma) are Hopper's alone.
    chunked  otherwise: float32, other GPUs, or nobody said which.

  Args:
    capability: of CUDA, (9, 0) of an H100; None: not known.
    dtype, width: of a head.
    masked: whether some may not see all.

  >>> gpu_path((9, 0), "bfloat16", 72, False), gpu_path((9, 0), "float32", 72,
  ...                                                   False)
  ('cudnn', 'chunked')
  """
  multiple, most = CUDNN_WIDTHS
  if capability is None:
    return "chunked"
  if (
    not masked
    and capability >= CUDNN_CAPABILITY
    and width <= most
    and width % multiple == 0
    and jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
  ):
    return "cudnn"
  if capability[0] == 9:
    from emma_jax.models import flash_gpu

    if flash_gpu.takes(dtype, width):
      return "kernel"
  return "chunked"


def kernel(q_BLHE: jax.Array) -> Path:
  """The path of kernels for heads like these, each platform its own."""
  found = gpu_path(
    partition.capability(), q_BLHE.dtype, q_BLHE.shape[-1], masked=True
  )
  return KERNEL if found == "kernel" else CHUNKED_ON_GPU


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attention(
  qs: tuple[jax.Array, ...],
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  queries: tuple[TokenIds, ...],
  key: TokenIds,
  path: Path,
) -> tuple[jax.Array, ...]:
  """Grouped-query attention under `masks.allow(query, key)`, for queries in any
  number of buffers (B, L, H, E), each result for itself.

  Queries that see nothing give 0 and no gradient.
  """
  return _forward(qs, k_BSKE, v_BSKE, queries, key, path)[0]


def _forward(qs, k_BSKE, v_BSKE, queries, key: TokenIds, path: Path):
  forward = on_mesh(path.forward, *k_BSKE.shape[::2])
  outs, sums = [], []
  for q_BLHE, query in zip(qs, queries):
    out_BLHE, lse_BHL = forward(q_BLHE, k_BSKE, v_BSKE, query, key)
    outs.append(partition.save_residual_flat(out_BLHE, "attn_out"))
    sums.append(partition.save_residual(lse_BHL, "attn_out"))
  return tuple(outs), (qs, k_BSKE, v_BSKE, queries, key, outs, sums)


def _backward(path: Path, kept, douts: tuple[jax.Array, ...]):
  qs, k_BSKE, v_BSKE, queries, key, outs, sums = kept
  backward = on_mesh(path.backward, *k_BSKE.shape[::2])
  dqs, of_keys = [], ()
  for q_BLHE, query, *made in zip(qs, queries, outs, sums, douts):
    dq_BLHE, *of_keys = backward(
      q_BLHE, k_BSKE, v_BSKE, query, key, *made, *of_keys
    )
    dqs.append(dq_BLHE)
  return tuple(dqs), *of_keys, None, None


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
  free = {
    name: size
    for name, size, kind in zip(
      mesh.axis_names, mesh.axis_sizes, mesh.axis_types
    )
    if kind != AxisType.Manual
  }
  if not free:
    return function
  split = free.get(HEADS_AXIS, 1)
  if heads % split:
    raise ValueError(
      f"{heads} heads do not split over {split} devices of the mesh's "
      f"axis {HEADS_AXIS!r}; make it a divisor of {heads}."
    )
  axes, parts = [], 1
  for name, size in free.items():
    # A lone row, as in sampling, is computed everywhere.
    if name != HEADS_AXIS and rows % (parts * size) == 0:
      axes.append(name)
      parts *= size
  by_rows, by_heads = tuple(axes), HEADS_AXIS if HEADS_AXIS in free else None

  def spec(x) -> PartitionSpec:
    return {
      4: PartitionSpec(by_rows, None, by_heads),
      3: PartitionSpec(by_rows, by_heads),
      2: PartitionSpec(by_rows),
    }.get(x.ndim, PartitionSpec())

  def on_each(*args):
    out = jax.eval_shape(function, *args)
    return jax.shard_map(
      function,
      in_specs=jax.tree.map(spec, args),
      out_specs=jax.tree.map(spec, out),
      axis_names=set(free),
      check_vma=False,
    )(*args)

  return on_each
