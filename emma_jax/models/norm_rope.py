"""RMSNorm per head and RoPE of queries and keys, in one pass on TPUs.

XLA takes apart what stands between a projection and the attention kernel: it
transposes, reduces, rotates halves of 64 lanes and joins them again, each from
memory and back. The kernels here read and write every value once, forward and
backward, in the token-major layout of both neighbours.

r: rows (tokens) of a tile, which has all heads.
"""

import functools

import jax
import jax.numpy as jnp

from emma_jax.models import flash, partition
from emma_jax.models.attention import rope, rotations
from emma_jax.models.layers import rms_norm

TILE = 2**19  # values: a megabyte of bfloat16, of which six fit in 16 of VMEM
SUBLANES = 16  # of a register of bfloat16: the least rows


def norm_rope(
  x_BLHE: jax.Array,
  scale_E: jax.Array,
  position_BL: jax.Array,
  eps: float,
  theta: float,
) -> jax.Array:
  """`rope(rms_norm(x, scale, eps), position, theta)`.

  On TPUs, if heads fill whole lanes, a kernel: float32 within, rounded once.
  """
  if (
    partition.platform() != "tpu"
    or x_BLHE.shape[-1] % partition.TPU_LANES
    or not x_BLHE.size
  ):
    return rope(rms_norm(x_BLHE, scale_E, eps), position_BL, theta)
  return fused(x_BLHE, scale_E, position_BL, eps, theta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def fused(
  x_BLHE: jax.Array,
  scale_E: jax.Array,
  position_BL: jax.Array,
  eps: float,
  theta: float,
  interpret: bool = False,
) -> jax.Array:
  """The kernels of `norm_rope`; `interpret` runs them without a TPU, slowly."""
  return _forward(x_BLHE, scale_E, position_BL, eps, theta, interpret)[0]


def _forward(x_BLHE, scale_E, position_BL, eps, theta, interpret):
  def run(x_BLHE, scale_E, position_BL):
    kernel = functools.partial(_forward_kernel, eps=eps)
    (out,) = _call(kernel, (x_BLHE,), scale_E, position_BL, theta, interpret)
    return out

  inputs = x_BLHE, scale_E, position_BL
  return flash.on_mesh(run, *x_BLHE.shape[::2])(*inputs), inputs


def _backward(eps, theta, interpret, kept, dout_BLHE):
  def run(x_BLHE, scale_E, position_BL, dout_BLHE):
    kernel = functools.partial(_backward_kernel, eps=eps)
    return _call(
      kernel,
      (x_BLHE, dout_BLHE),
      scale_E,
      position_BL,
      theta,
      interpret,
      sums=True,
    )

  split = flash.on_mesh(run, *dout_BLHE.shape[::2])
  dx_BLHE, dscale_BHE = split(*kept, dout_BLHE)
  return dx_BLHE, dscale_BHE.sum((0, 1)).astype(kept[1].dtype), None


fused.defvjp(_forward, _backward)


# ---------------------------------------------------------------- kernels
#
# Pallas is imported where one is traced: whoever draws on a CPU needs none.


def _forward_kernel(cos, sin, scale, x, out, *, eps):
  cos_rE, sin_rE = _wide(cos), _wide(sin)
  scale_1E = scale[...]

  @_per_head(x, cos)
  def head(_, at):
    x_rE = x[0, :, at].astype(jnp.float32)
    y_rE = x_rE * _inverse(x_rE, eps) * scale_1E
    out[0, :, at] = (y_rE * cos_rE + _other_half(y_rE) * sin_rE).astype(
      out.dtype
    )


def _backward_kernel(cos, sin, scale, x, dout, dx, dscale, *, eps):
  from jax.experimental import pallas as pl

  cos_rE, sin_rE = _wide(cos), _wide(sin)
  scale_1E = scale[...]

  @pl.when(pl.program_id(1) == 0)
  def begin():
    dscale[...] = jnp.zeros_like(dscale)

  @_per_head(x, cos)
  def head(h, at):
    x_rE = x[0, :, at].astype(jnp.float32)
    dout_rE = dout[0, :, at].astype(jnp.float32)
    inverse_r1 = _inverse(x_rE, eps)
    normed_rE = x_rE * inverse_r1
    dy_rE = dout_rE * cos_rE + _other_half(dout_rE * sin_rE)
    dscale[0, pl.ds(h, 1)] += (dy_rE * normed_rE).sum(axis=0, keepdims=True)
    dy_rE *= scale_1E
    along_r1 = (dy_rE * normed_rE).mean(axis=1, keepdims=True)
    dx[0, :, at] = (inverse_r1 * (dy_rE - normed_rE * along_r1)).astype(
      dx.dtype
    )


def _per_head(x, cos):
  from jax.experimental import pallas as pl

  width = cos.shape[-1]
  return lambda head: jax.lax.fori_loop(
    0,
    x.shape[-1] // width,
    lambda h, _: head(
      h, pl.ds(pl.multiple_of(h * width, partition.TPU_LANES), width)
    ),
    None,
  )


def _inverse(x_rE, eps: float):
  return jax.lax.rsqrt((x_rE * x_rE).mean(axis=1, keepdims=True) + eps)


def _other_half(x_rE):
  from jax.experimental.pallas import tpu as pltpu

  return pltpu.roll(x_rE, x_rE.shape[1] // 2, 1)


def _wide(tile):
  return tile[0].astype(jnp.float32)


# ---------------------------------------------------------------- the grid


def _call(
  kernel,
  xs,
  scale_E,
  position_BL,
  theta: float,
  interpret: bool,
  sums: bool = False,
):
  """Runs a kernel over rows and tiles of tokens; all `xs` are (B, L, H, E).

  Returns an array like them and, if `sums`, float32 (B, H, E).
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import tpu as pltpu

  B, L, H, E = xs[0].shape
  tiles = -(-L // max(SUBLANES, TILE // (H * E)))
  r = -(-L // tiles)
  r += -r % SUBLANES
  length = tiles * r

  def padded(x):
    return jnp.pad(x, ((0, 0), (0, length - L), (0, 0)))

  cos, sin = rotations(position_BL, E, theta)
  # A half's partner is subtracted from the first, added to the second.
  turns = [
    padded(jnp.concatenate(x, axis=-1).astype(xs[0].dtype))
    for x in ((cos, cos), (-sin, sin))
  ]
  flat = [padded(x.reshape(B, L, H * E)) for x in xs]
  spec = lambda width: pl.BlockSpec((1, r, width), lambda b, n: (b, n, 0))
  out_specs = [spec(H * E)]
  out_shape = [jax.ShapeDtypeStruct(flat[0].shape, flat[0].dtype)]
  if sums:
    out_specs.append(pl.BlockSpec((1, H, E), lambda b, n: (b, 0, 0)))
    out_shape.append(jax.ShapeDtypeStruct((B, H, E), jnp.float32))
  outs = pl.pallas_call(
    kernel,
    grid=(B, length // r),
    in_specs=[
      spec(E),
      spec(E),
      pl.BlockSpec((1, E), lambda b, n: (0, 0)),
      *(spec(H * E) for _ in flat),
    ],
    out_specs=out_specs,
    out_shape=out_shape,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary")
    ),
    interpret=interpret,
    name=kernel.func.__name__.strip("_") + "_norm_rope",
  )(*turns, scale_E.astype(jnp.float32)[None], *flat)
  return outs[0][:, :L].reshape(xs[0].shape), *outs[1:]
