"""DC-AE: sizes, shapes, and the laws its pieces obey."""

import dataclasses

from flax.core import meta
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import convolution, dcae, dcae_sizes, partition
from emma_jax.models import dcae_blocks as blocks
from tests import neutral

TINY = neutral.dcae_config(
  latent_channels=4,
  attention_head_dim=4,
  encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  encoder_block_out_channels=(8, 8, 16),
  encoder_layers_per_block=(0, 1, 1),
  encoder_qkv_multiscales=((), (), (5,)),
  downsample_block_type="pixel_unshuffle",
  decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  decoder_block_out_channels=(8, 8, 16),
  decoder_layers_per_block=(0, 1, 1),
  decoder_qkv_multiscales=((), (), ()),
  decoder_norm_types=("batch_norm", "batch_norm", "rms_norm"),
  decoder_act_fns=("relu", "relu", "silu"),
  upsample_block_type="pixel_shuffle",
)


def noise(*shape: int, seed: int = 0) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape)


def count(tree, but: tuple[str, ...] = ()) -> int:
  leaves = jax.tree_util.tree_flatten_with_path(meta.unbox(tree))[0]
  return sum(x.size for path, x in leaves if path[-1].key not in but)


def abstract_params(config: dcae.DcaeConfig) -> dict:
  pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  made = jax.eval_shape(
    dcae.Autoencoder(config).init, jax.random.key(0), pixels
  )
  return made["params"]


@pytest.mark.parametrize(
  "config, encoder, decoder",
  [
    (dcae_sizes.SANA_F32C32, 153_027_104, 159_223_171),
    (dcae_sizes.IN_F32C32, 123_172_384, 200_184_076),
  ],
)
def test_published_sizes_have_exact_counts(config, encoder, decoder):
  """Batch norm's statistics are weights here, buffers in the reference."""
  params = abstract_params(config)
  assert count(params["encoder"]) == encoder
  assert count(params["decoder"], but=("mean", "var")) == decoder
  assert count(params["latent"]) == 2 * 32


def test_chips_and_cpus_compute_the_same():
  """Which way is fast differs; see `convolution`."""
  x = noise(2, 8, 6, 16)
  for way in (
    lambda: convolution.depthwise(x, noise(5, 5, 16, seed=1)),
    lambda: convolution.folded_mean(x, 32),
    lambda: convolution.folded_mean(x, 16),
    lambda: convolution.folded_mean(x, 8),
  ):
    want = way()
    with partition.compiled_for("tpu"):
      got = way()
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 16])
def test_a_convolution_is_the_same_on_every_chip(channels):
  """Forward and backward; few channels are a product of matrices on TPUs."""
  x, kernel = noise(2, 6, 5, channels), noise(3, 3, channels, 8, seed=1)

  def outputs():
    loss = lambda *a: jnp.sum(jnp.sin(convolution.conv3x3(*a)))
    return convolution.conv3x3(x, kernel), *jax.grad(loss, (0, 1))(x, kernel)

  want = outputs()
  with partition.compiled_for("tpu"):
    got = outputs()
    made = str(jax.make_jaxpr(convolution.conv3x3)(x, kernel))
  assert ("conv_general_dilated" in made) == (channels == 16)
  for g, w in zip(got, want):
    np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)


def test_tree_reads_stage_block_part():
  params = abstract_params(dcae_sizes.SANA_F32C32)
  block = params["encoder"]["stage3"]["block0"]
  assert set(block) == {"attention", "conv"}
  assert set(block["attention"]) == {
    "to_q",
    "to_k",
    "to_v",
    "scale0",
    "to_out",
    "norm",
  }
  assert "down" in params["encoder"]["stage4"]
  assert "down" not in params["encoder"]["stage5"]
  assert "up" in params["decoder"]["stage0"]


@pytest.mark.parametrize(
  "config", [dcae_sizes.SANA_F32C32, dcae_sizes.IN_F32C32]
)
@pytest.mark.parametrize("size", [(32, 32), (96, 64), (512, 1024)])
def test_a_latent_is_32_pixels(config, size):
  model = dcae.Autoencoder(config)
  pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.bfloat16)
  params = {"params": meta.unbox(abstract_params(config))}
  latent = jax.eval_shape(
    lambda p, x: model.apply(p, x, method="encode"), params, pixels
  )
  assert latent.shape == (1, size[0] // 32, size[1] // 32, 32)
  assert latent.dtype == jnp.bfloat16
  picture = jax.eval_shape(
    lambda p, z: model.apply(p, z, method="decode"), params, latent
  )
  assert (picture.shape, picture.dtype) == (pixels.shape, pixels.dtype)


def test_normalised_latents_are_shifted_and_scaled():
  """And __call__ is the plain reconstruction, whatever shift and scale are."""
  model, x = dcae.Autoencoder(TINY), noise(2, 8, 12, 3)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda s: 0.2 + 0.1 * rng.normal(size=s.shape).astype(np.float32),
    meta.unbox(abstract_params(TINY)),
  )
  params["latent"] = {"shift": noise(4), "scale": 0.5 + noise(4, seed=1) ** 2}

  @jax.jit  # one program: op by op takes ten times as long
  def outputs(x):
    run = lambda x, name: model.apply({"params": params}, x, method=name)
    raw = run(x, "encode")
    z = run(x, "encode_normalised")
    return raw, z, run(raw, "decode"), run(x, "__call__")

  raw, z, plain, ours = outputs(x)
  expected = raw - params["latent"]["shift"][None, None, None]
  expected *= params["latent"]["scale"][None, None, None]
  np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


def test_pictures_that_do_not_divide_are_refused():
  model = dcae.Autoencoder(TINY)
  with pytest.raises(ValueError, match="10x8 is not a multiple of 4"):
    model.init(jax.random.key(0), noise(1, 10, 8, 3))


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(encoder_block_out_channels=(8, 8)), "differ in number"),
    (dict(encoder_block_out_channels=(8, 8, 12)), "multiple"),
    (dict(decoder_block_out_channels=(8, 6, 16)), "4 times"),
    (dict(encoder_layers_per_block=(1, 0, 1)), "may have no layers"),
    (dict(downsample_block_type="pool"), "choose one of"),
    (dict(decoder_act_fns=("tanh",) * 3), "choose one of"),
    (dict(attention_head_dim=5), "attention_head_dim"),
    (dict(encoder_qkv_multiscales=((), (), (4,))), "odd"),
    (dict(latent_channels=5), "latent"),
  ],
)
def test_configs_check_themselves(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **change)


def test_lists_are_as_good_as_tuples():
  fields = dataclasses.asdict(TINY)
  lists = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
  assert neutral.dcae_config(**lists) == TINY


# -------------------------------------------------------------- the pieces


@pytest.mark.parametrize("size", [3, 5])
def test_shifted_products_are_a_grouped_convolution(size):
  x, kernel = noise(2, 6, 7, 5), noise(size, size, 5, seed=1)

  def grouped(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel[:, :, None],
      (1, 1),
      "SAME",
      feature_group_count=5,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  def probe(f):
    loss = lambda *a: jnp.sum(jnp.sin(f(*a)))
    return jax.jit(jax.grad(loss, argnums=(0, 1)))

  np.testing.assert_allclose(
    jax.jit(convolution.depthwise)(x, kernel), grouped(x, kernel), atol=1e-5
  )
  for ours, theirs in zip(
    probe(convolution.depthwise)(x, kernel), probe(grouped)(x, kernel)
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_stride_two_pads_both_sides():
  """An impulse at the first pixel meets the kernel's centre, as in torch."""
  x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1)
  kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
  y = convolution.conv3x3(x, kernel, 2)
  assert y.shape == (1, 2, 2, 1)
  assert y[0, 0, 0, 0] == 4


def test_space_to_depth_is_channel_major_and_invertible():
  x = noise(2, 4, 6, 3)
  y = convolution.space_to_depth(x)
  assert y.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(y[0, 1, 2, 2 * 4 + 1 * 2 + 0], x[0, 3, 4, 2])
  np.testing.assert_array_equal(convolution.depth_to_space(y), x)


def test_linear_attention_is_the_quadratic_form():
  q, k, v = (noise(2, 9, 3, 4, seed=s) for s in range(3))
  mass = jnp.einsum("PNGE,PMGE->PGNM", jax.nn.relu(q), jax.nn.relu(k))
  weights = mass / (mass.sum(-1, keepdims=True) + 1e-15)
  expected = jnp.einsum("PGNM,PMGE->PNGE", weights, v)
  np.testing.assert_allclose(
    blocks.linear_attention(q, k, v), expected, atol=1e-5
  )


@pytest.mark.parametrize(
  "scales, dtype, tolerance",
  [((1, 3), jnp.float32, 1e-5), ((3,), jnp.bfloat16, 2e-2)],
)
def test_attention_is_the_same_on_every_chip(scales, dtype, tolerance):
  """Output and gradients, with channels that do not fill a group: 4 of 18."""
  module = blocks.LinearAttention(4, scales, "rms_norm")
  x = noise(2, 5, 6, 18)
  weights = meta.unbox(module.init(jax.random.key(1), x))

  def outputs():
    def loss(weights, x):
      y = module.apply(weights, x.astype(dtype)).astype(jnp.float32)
      return jnp.mean(jnp.sin(y)), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(weights, x)

  want = outputs()
  with partition.compiled_for("tpu"):
    got = outputs()
  for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(
      g, w, rtol=tolerance, atol=tolerance * float(jnp.abs(w).max())
    )


def test_queries_without_mass_give_zero():
  q, k, v = -jnp.ones((1, 2, 1, 4)), noise(1, 2, 1, 4), noise(1, 2, 1, 4)
  assert not blocks.linear_attention(q, k, v).any()


def silenced(module, x: jax.Array) -> jax.Array:
  """The module's output with every weight zero: its shortcut alone."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)
  zeros = jax.tree.map(lambda w: jnp.zeros(w.shape), meta.unbox(shapes))
  return jax.jit(module.apply)(zeros, x)


@pytest.mark.parametrize("kind", dcae.DOWNSAMPLE)
def test_down_shortcut_averages_consecutive_channels(kind):
  x = noise(1, 4, 4, 8)
  folded = convolution.space_to_depth(x)
  y = silenced(blocks.Down(16, kind), x)
  np.testing.assert_allclose(
    y, (folded[..., ::2] + folded[..., 1::2]) / 2, atol=1e-6
  )


@pytest.mark.parametrize("kind", dcae.UPSAMPLE)
def test_up_shortcut_repeats_channels(kind):
  """16 channels -> 8 in 2x2: each channel fills two neighbouring places."""
  x = noise(1, 2, 2, 16)
  y = silenced(blocks.Up(8, kind), x)
  assert y.shape == (1, 4, 4, 8)
  for c in range(8):
    np.testing.assert_array_equal(y[0, 0, :2, c], [x[0, 0, 0, 2 * c]] * 2)
    np.testing.assert_array_equal(y[0, 1, :2, c], [x[0, 0, 0, 2 * c + 1]] * 2)


def test_down_and_up_shortcuts_keep_a_flat_picture():
  x = jnp.ones((1, 4, 4, 8))
  down = silenced(blocks.Down(16, "conv"), x)
  np.testing.assert_allclose(silenced(blocks.Up(8, "interpolate"), down), x)


def test_batch_norm_uses_its_own_statistics():
  """Alone or in a batch, a picture is treated alike; no gradient to them."""
  x = noise(3, 4, 4, 2) + 5
  norm = blocks.BatchNorm()
  variables = meta.unbox(norm.init(jax.random.key(0), x))
  variables["params"].update(
    mean=jnp.array([5.0, 4.0]), var=jnp.array([1.0, 4.0])
  )
  y = norm.apply(variables, x)
  np.testing.assert_allclose(y[1:2], norm.apply(variables, x[1:2]))
  np.testing.assert_allclose(
    y[..., 1], (x[..., 1] - 4) / np.sqrt(4 + 1e-5), atol=1e-6
  )
  grads = jax.grad(lambda v: norm.apply(v, x).sum())(variables)["params"]
  assert not grads["mean"].any() and not grads["var"].any()
  assert grads["bias"].all()
