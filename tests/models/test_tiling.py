"""Tiles: how they are cut, joined and run, whatever the coder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import dcae, tiling
from emma_jax.models.tiling import Tiling
from tests import neutral

TILES = Tiling(height=8, width=12, stride_height=6, stride_width=8)


def noise(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def pool(x: jax.Array) -> jax.Array:
  """Means of 2x2 pixels, which no tile's edge changes."""
  P, Y, X, C = x.shape
  return x.reshape(P, Y // 2, 2, X // 2, 2, C).mean((2, 4))


def enlarge(z: jax.Array) -> jax.Array:
  return jnp.repeat(jnp.repeat(z, 2, axis=1), 2, axis=2)


@pytest.mark.parametrize("size", [(14, 30), (8, 40), (40, 4), (20, 22)])
def test_a_coder_that_sees_no_edges_cannot_tell(size):
  x = noise(2, *size, 3)
  np.testing.assert_allclose(
    tiling.encode_tiles(pool, x, TILES, 2), pool(x), atol=1e-6
  )
  z = noise(1, size[0] // 2, size[1] // 2, 5)
  np.testing.assert_allclose(
    tiling.decode_tiles(enlarge, z, TILES, 2), enlarge(z), atol=1e-6
  )


def test_later_tiles_fade_in_linearly():
  """Two tiles of a row, 0 and 1: the overlap begins without the later one."""
  tiles = Tiling(height=2, width=8, stride_height=2, stride_width=4)
  z = jnp.zeros((1, 1, 4, 1)).at[:, :, 2:].set(1)
  first = lambda z: jnp.broadcast_to(
    z[:, :, :1], (*z.shape[:1], 2, 2 * z.shape[2], 1)
  )
  y = tiling.decode_tiles(first, z, tiles, 2)
  np.testing.assert_allclose(
    y[0, 0, :, 0], [0, 0, 0, 0, 0, 0.25, 0.5, 0.75], atol=1e-6
  )


def blended_in_place(tiles, stride, overlap):
  """The reference's loops: row by row of pixels, into the tiles themselves."""
  tiles = [[np.array(tile) for tile in row] for row in tiles]
  strips = []
  for i, row in enumerate(tiles):
    for j, b in enumerate(row):
      if i > 0:
        a = tiles[i - 1][j]
        extent = min(a.shape[1], b.shape[1], overlap[0])
        for y in range(extent):
          w = y / extent
          b[:, y] = a[:, y - extent] * (1 - w) + b[:, y] * w
      if j > 0:
        a = row[j - 1]
        extent = min(a.shape[2], b.shape[2], overlap[1])
        for x in range(extent):
          w = x / extent
          b[:, :, x] = a[:, :, x - extent] * (1 - w) + b[:, :, x] * w
    strips.append(
      np.concatenate([b[:, : stride[0], : stride[1]] for b in row], axis=2)
    )
  return np.concatenate(strips, axis=1)


@pytest.mark.parametrize("stride", [(6, 8), (2, 3), (8, 12)])
def test_corners_are_blended_with_what_is_blended_already(stride):
  """Up to four tiles deep, each a value of its own."""
  sizes = [8, 8, 8, 5, 2], [12, 12, 12, 7, 1]
  rng = np.random.default_rng(0)
  tiles = [
    [rng.normal(size=(1, h, w, 2)).astype(np.float32) for w in sizes[1]]
    for h in sizes[0]
  ]
  ours = tiling._join(
    tiles,
    Tiling(height=8, width=12, stride_height=stride[0], stride_width=stride[1]),
  )
  theirs = blended_in_place(tiles, stride, (8 - stride[0], 12 - stride[1]))
  np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_edges_are_padded_and_cropped_to_whole_latents():
  seen = []

  def run(x):
    seen.append(x.shape[1:3])
    return pool(x)

  x = np.ones((1, 15, 21, 1), np.float32)
  z = tiling.encode_tiles(run, x, TILES, 2)
  assert z.shape == (1, 7, 10, 1)
  assert all(h % 2 == 0 and w % 2 == 0 for h, w in seen)
  np.testing.assert_allclose(z, 1)  # half zeros lie outside of it


def test_a_shape_is_traced_once():
  """Nine tiles of four shapes."""
  traces = []

  def run(x):
    traces.append(x.shape)
    return enlarge(x)

  tiling.decode_tiles(run, noise(1, 10, 14, 1), TILES, 2)
  assert len(traces) == len(set(traces))


def test_bfloat16_stays_and_is_rounded_once():
  z = noise(1, 7, 15, 2)
  half = jnp.asarray(z, jnp.bfloat16)
  y = tiling.decode_tiles(enlarge, half, TILES, 2)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(y, enlarge(half).astype(jnp.float32), rtol=2e-2)


@pytest.mark.parametrize(
  "change", [dict(stride_height=9), dict(stride_width=0)]
)
def test_gaps_are_refused(change):
  with pytest.raises(ValueError, match="gaps"):
    Tiling(**dict(height=8, width=12, stride_height=6, stride_width=8) | change)


def test_tiles_between_latents_are_refused():
  tiles = Tiling(height=40, width=64, stride_height=32, stride_width=32)
  with pytest.raises(ValueError, match="multiples of 32 .*40"):
    tiles.latent(32)


def test_a_picture_of_one_tile_is_coded_whole():
  """So its size must be a whole number of latents, as without tiles."""
  assert not Tiling().applies(512, 512)
  assert Tiling().applies(512, 544)
  model = dcae.Autoencoder(
    neutral.dcae_config(
      latent_channels=2,
      attention_head_dim=4,
      encoder_block_types=("ResBlock",) * 2,
      encoder_block_out_channels=(4, 4),
      encoder_layers_per_block=(0, 1),
      encoder_qkv_multiscales=((), ()),
      downsample_block_type="conv",
      decoder_block_types=("ResBlock",) * 2,
      decoder_block_out_channels=(4, 4),
      decoder_layers_per_block=(0, 1),
      decoder_qkv_multiscales=((), ()),
      decoder_norm_types=("rms_norm",) * 2,
      decoder_act_fns=("silu",) * 2,
      upsample_block_type="pixel_shuffle",
    )
  )

  def shape(height, width):
    x = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    init = lambda x: model.init(jax.random.key(0), x[:, :2, :2])
    variables = jax.eval_shape(init, x)
    run = lambda v, x: model.apply(v, x, TILES, method="encode_normalised")
    z = jax.eval_shape(run, variables, x)
    back = lambda v, z: model.apply(v, z, TILES, method="decode_normalised")
    return z.shape, jax.eval_shape(back, variables, z).shape

  assert shape(8, 12) == ((1, 4, 6, 2), (1, 8, 12, 3))
  assert shape(9, 31) == ((1, 4, 15, 2), (1, 8, 30, 3))
  with pytest.raises(ValueError, match="7x12 is not a multiple of 2"):
    shape(7, 12)
