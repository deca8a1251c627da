"""Imports and exports of DC-AE against diffusers, every weight at random.

Skipped where torch or diffusers is missing. Sizes are chosen so that attention
is linear everywhere, or quadratic in the reference (no more positions than
channels of a head) at the last stage, or everywhere.
"""

import contextlib
import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from emma_jax import rules
from emma_jax.convert import dcae as convert
from emma_jax.models import dcae_sizes
from emma_jax.models import tiling as tiles
from emma_jax.models.tiling import Tiling
from tests.convert import dcae_pairs as pairs
from tests.convert.dcae_pairs import FACTOR, KINDS, error, noise, pair

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("exact_products")]
TOLERANCE = 5e-6  # of the reference's maximum, in float32
QUICK = {"xla_backend_optimization_level": 0}  # each program runs once
SIZES = {"linear": (16, 24), "mixed": (4, 8), "quadratic": (4, 4)}


def close(ours, theirs, tolerance: float = TOLERANCE, what: str = "") -> None:
  e = error(ours, theirs)
  print(f"{what} error {e:.2e} of the maximum")
  assert e < tolerance, what


def reference_states(blocks, run) -> list[np.ndarray]:
  """What goes into the first of the blocks, and comes out of each."""
  states: list = []
  blocks = [b for b in blocks if len(b)]
  hooks = [
    blocks[0].register_forward_pre_hook(
      lambda _, inputs: states.append(pairs.last(inputs[0]))
    )
  ]
  hooks += [
    b.register_forward_hook(
      lambda _, __, output: states.append(pairs.last(output))
    )
    for b in blocks
  ]
  run()
  for hook in hooks:
    hook.remove()
  return states


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_latents_pictures_and_every_state(kind, size):
  p = pair(kind)
  x = noise(2, *size, p.channels)
  theirs = reference_states(
    p.reference.encoder.down_blocks, lambda: p.encode(x)
  )
  z, states = p.apply("encode_states")(p.params, x)
  close(z, p.encode(x), what="latents")
  assert len(states) == len(theirs)
  for i, (a, b) in enumerate(zip(states, theirs)):
    close(a, b, what=f"encoder state {i}")
  z = p.encode(x)
  theirs = reference_states(
    p.reference.decoder.up_blocks[::-1], lambda: p.decode(z)
  )
  y, states = p.apply("decode_states")(p.params, z)
  close(y, p.decode(z), what="pictures")
  assert len(states) == len(theirs)
  for i, (a, b) in enumerate(zip(states, theirs)):
    close(a, b, what=f"decoder state {i}")


@pytest.mark.parametrize("kind", ["sana", "imagenet"])
def test_diffusion_sees_latents_times_the_factor(kind):
  p = pair(kind)
  assert p.scaling_factor == KINDS[kind]["scaling_factor"]
  x = noise(1, 8, 12, p.channels)
  z = p.encode(x) * np.float32(p.scaling_factor)
  close(p.apply("encode_normalised")(p.params, x), z)
  y = p.decode(z / np.float32(p.scaling_factor))
  close(p.apply("decode_normalised")(p.params, z), y)


@pytest.mark.parametrize("kind", ["sana 16", "imagenet 16"])
def test_gradients_of_every_weight_and_of_the_picture(kind):
  """Of a weighted sum of the reconstruction; batch norm's statistics have
  none. Compared with the largest gradient of all, and leaf by leaf."""
  p = pair(kind)
  x, weight = noise(2, 8, 12, 3), noise(2, 8, 12, 3, seed=1)
  p.reference.zero_grad()
  picture = pairs.first(x).requires_grad_()
  out = p.reference(picture).sample
  (out * pairs.first(weight)).sum().backward()
  theirs = {n: w.grad.numpy() for n, w in p.reference.named_parameters()}

  def loss(params, x):
    raw = p.module.apply({"params": params}, x, method="encode")
    y = p.module.apply({"params": params}, raw, method="decode")
    return (y * weight).sum()

  params = jax.tree.map(jnp.asarray, p.params)
  gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=QUICK)
  ours, on_x = gradient(params, x)
  close(on_x, pairs.last(picture.grad), what="picture")
  flat = rules.flatten(ours)
  most = np.max([np.abs(g).max() for g in theirs.values()])
  worst, worst_leaf = [], []  # numpy's maximum keeps NaN, Python's drops it
  seen = set()
  for entry in convert.entries(p.module.config):
    if entry.ours.endswith(("/mean", "/var")):
      assert not flat[entry.ours].any()
      continue
    (name,) = entry.theirs
    seen.add(name)
    g = entry.to_theirs(np.asarray(flat[entry.ours]))
    assert g.shape == theirs[name].shape
    off = np.abs(g - theirs[name]).max()
    worst.append(off / most)
    worst_leaf.append(off / np.abs(theirs[name]).max())
  worst, worst_leaf = np.max(worst), np.max(worst_leaf)
  print(f"gradients: {worst:.2e} of the largest, {worst_leaf:.2e} of a leaf's")
  assert seen == set(theirs)
  assert worst < TOLERANCE
  assert worst_leaf < 2e-5  # sums over all positions cancel in small ones


def rms(ours, theirs: np.ndarray) -> float:
  return float(np.sqrt(np.mean((np.asarray(ours, np.float32) - theirs) ** 2)))


@pytest.mark.parametrize("kind", pairs.WIDE_HEADS)
def test_bfloat16_is_within_four_percent(kind):
  """Weights and activations, against the reference in float32; and about as
  near to it as the reference's own bfloat16."""
  p = pair(kind)
  half = {k: v for k, v in p.params.items() if k != "latent"}
  half = jax.tree.map(lambda w: jnp.asarray(w, jnp.bfloat16), half)
  half["latent"] = p.params["latent"]
  reference = copy.deepcopy(p.reference).bfloat16()
  picture = noise(2, 16, 24, p.channels)
  for method, x in (("encode", picture), ("decode", p.encode(picture))):
    exact = getattr(p, method)(x)
    ours = p.apply(method)(half, jnp.asarray(x, jnp.bfloat16))
    assert ours.dtype == jnp.bfloat16
    with torch.no_grad():
      theirs = getattr(reference, method)(
        pairs.first(x).bfloat16(), return_dict=False
      )[0]
    theirs = pairs.last(theirs)
    print(
      f"{method}: rms {rms(ours, exact):.2e}, torch's"
      f" {rms(theirs, exact):.2e}, its error {error(theirs, exact):.2e}"
    )
    close(ours, exact, 0.04, method)
    assert rms(ours, exact) < 1.5 * rms(theirs, exact)


# ----------------------------------------------------------------- tiling


TILING = Tiling(height=16, width=24, stride_height=12, stride_width=16)
TILINGS = {  # in "dense" tiles overlap more than their neighbours
  "wide": TILING,
  "tall": Tiling(height=32, width=16, stride_height=24, stride_width=12),
  "dense": Tiling(height=16, width=20, stride_height=4, stride_width=8),
  "apart": Tiling(height=16, width=16, stride_height=16, stride_width=16),
}


@contextlib.contextmanager
def tiled(reference, t: Tiling):
  reference.enable_tiling(*t.size, *t.stride)
  try:
    yield
  finally:
    reference.disable_tiling()


def down(x: jax.Array) -> jax.Array:
  """Stands for an encoder: cheap, and every tile's mean is another."""
  y = x.reshape(x.shape[0], x.shape[1] // 4, 4, x.shape[2] // 4, 4, -1)
  y = y.mean((2, 4))
  return y - 0.5 * y.mean((1, 2), keepdims=True)


def up(z: jax.Array) -> jax.Array:
  y = z - 0.5 * z.mean((1, 2), keepdims=True)
  return jnp.repeat(jnp.repeat(y, 4, axis=1), 4, axis=2)


class Down(torch.nn.Module):
  def forward(self, x):
    y = torch.nn.functional.avg_pool2d(x, 4)
    return y - 0.5 * y.mean((2, 3), keepdim=True)


class Up(torch.nn.Module):
  def forward(self, z):
    y = z - 0.5 * z.mean((2, 3), keepdim=True)
    return torch.nn.functional.interpolate(y, scale_factor=4)


@pytest.mark.parametrize("size", [(28, 44), (29, 42), (18, 50), (64, 12)])
@pytest.mark.parametrize("tiling", TILINGS.values(), ids=TILINGS)
def test_tiles_are_cut_and_blended_like_the_reference_s(tiling, size):
  """With a cheap coder, so that many shapes of tiles can be had."""
  reference = diffusers.AutoencoderDC(**KINDS["imagenet"])
  reference.encoder, reference.decoder = Down(), Up()
  x = noise(2, *size, 3)
  z = noise(2, size[0] // FACTOR, size[1] // FACTOR, 4)
  with tiled(reference, tiling):
    latents = pairs.last(reference.encode(pairs.first(x)).latent)
    pictures = pairs.last(reference.decode(pairs.first(z)).sample)
  close(tiles.encode_tiles(down, x, tiling, FACTOR), latents, 1e-6, "latents")
  close(tiles.decode_tiles(up, z, tiling, FACTOR), pictures, 1e-6, "pictures")


def test_a_tiled_model_is_the_reference_s():
  """The last tiles are padded with zeros: 29 x 42 pixels, 4 to a latent."""
  p = pair("imagenet")

  def run(method, x):
    f = lambda params, x: p.module.apply(
      {"params": params}, x, TILING, method=method
    )
    return jax.jit(f, compiler_options=QUICK)(p.params, x)

  x, z = noise(1, 29, 42, 3), noise(1, 7, 10, 4)
  with tiled(p.reference, TILING):
    latents, pictures = p.encode(x), p.decode(z)
  assert latents.shape == (1, 7, 10, 4)
  assert error(p.decode(z), pictures) > 1e-2  # the whole is something else
  close(run("encode", x), latents, what="latents")
  close(run("decode", z), pictures, what="pictures")


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_the_same_model_in_diffusers(tmp_path, kind):
  """Names, bits and numbers; the counters alone start anew."""
  p = pair(kind)
  convert.save(tmp_path, p.module.config, p.params)
  back = diffusers.AutoencoderDC.from_pretrained(tmp_path).eval()
  assert back.config.scaling_factor == p.scaling_factor
  old, new = p.reference.state_dict(), back.state_dict()
  assert set(old) == set(new)
  for name, x in new.items():
    assert x.dtype == old[name].dtype
    same = torch.zeros_like(x) if "num_batches" in name else old[name]
    assert torch.equal(x, same), name
  x = noise(1, 16, 8, p.channels)
  with torch.no_grad():
    z = pairs.last(back.encode(pairs.first(x)).latent)
    y = pairs.last(back.decode(pairs.first(z)).sample)
  close(p.apply("encode")(p.params, x), z)
  close(p.apply("decode")(p.params, z), y)


def test_latents_normalised_by_channel_load_in_diffusers(tmp_path):
  """It leaves our two fields alone: raw latents are the same."""
  p = pair("sana")
  params = p.params | {"latent": {"shift": noise(4), "scale": noise(4) ** 2}}
  convert.save(tmp_path, p.module.config, params)
  back = diffusers.AutoencoderDC.from_pretrained(tmp_path).eval()
  x = noise(1, 8, 8, 3)
  with torch.no_grad():
    z = pairs.last(back.encode(pairs.first(x)).latent)
  np.testing.assert_array_equal(z, p.encode(x))


def test_sharded_bfloat16_files_are_read(tmp_path):
  p = pair("imagenet")
  model = diffusers.AutoencoderDC(**KINDS["imagenet"])
  model.load_state_dict(p.reference.state_dict())
  model.bfloat16().save_pretrained(tmp_path, max_shard_size="20KB")
  assert len(list(tmp_path.glob("*.safetensors"))) > 2
  _, params = convert.load(tmp_path)
  wanted = jax.tree.map(
    lambda w: np.asarray(jnp.asarray(w, jnp.bfloat16), np.float32), p.params
  )
  wanted["latent"] = p.params["latent"]
  jax.tree.map(np.testing.assert_array_equal, params, wanted)


def test_sparse_configs_are_filled_in(tmp_path):
  """The newer fields, absent from published files."""
  p = pair("sana")
  p.reference.save_pretrained(tmp_path)
  pairs.write_config(
    tmp_path,
    {
      "encoder_out_shortcut": None,
      "decoder_in_shortcut": None,
      "decoder_conv_act_fn": None,
      "in_channels": None,
      "decoder_norm_types": None,
      "decoder_act_fns": None,
    },
  )
  module, params = convert.load(tmp_path)
  assert module.config == p.module.config
  jax.tree.map(np.testing.assert_array_equal, params, p.params)


@pytest.mark.parametrize(
  "config", dict.fromkeys(c for c, _ in dcae_sizes.PUBLISHED.values())
)
def test_full_sizes_have_the_reference_s_names_and_shapes(config):
  """On torch's meta device: no weight is made on either side."""
  fields = convert.config_to_hf(config)
  with torch.device("meta"):
    reference = diffusers.AutoencoderDC(
      **{k: v for k, v in fields.items() if not k.startswith("_")}
    )
  theirs = {
    n: tuple(x.shape)
    for n, x in reference.state_dict().items()
    if not n.endswith("num_batches_tracked")
  }
  shapes = convert.leaf_shapes(config)
  ours = {}
  for entry in convert.entries(config):
    leaf = np.broadcast_to(np.int8(0), shapes[entry.ours].shape)
    ours[entry.theirs[0]] = entry.to_theirs(leaf).shape
  assert ours == theirs
