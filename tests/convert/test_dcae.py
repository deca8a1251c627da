"""Folders of DC-AE, without torch: sizes, configs, round trips, refusals."""

import dataclasses
import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.convert import dcae as convert
from emma_jax.convert import files, table
from emma_jax.models import dcae_sizes
from emma_jax.models.dcae import DcaeConfig
from tests import neutral

TINY = neutral.dcae_config(
  latent_channels=4,
  attention_head_dim=4,
  encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  encoder_block_out_channels=(8, 8, 16),
  encoder_layers_per_block=(1, 2, 1),
  encoder_qkv_multiscales=((), (), (5,)),
  downsample_block_type="conv",
  decoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
  decoder_block_out_channels=(8, 8, 16),
  decoder_layers_per_block=(0, 1, 2),
  decoder_qkv_multiscales=((), (3, 5), ()),
  decoder_norm_types=("batch_norm", "batch_norm", "rms_norm"),
  decoder_act_fns=("relu", "relu", "silu"),
  upsample_block_type="pixel_shuffle",
)
# As published files have it, keys that only say who wrote them included.
SANA_JSON = {
  "_class_name": "AutoencoderDC",
  "_diffusers_version": "0.32.0.dev0",
  "_name_or_path": "dc-ae",
  "attention_head_dim": 32,
  "decoder_act_fns": "silu",
  "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
  "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
  "decoder_layers_per_block": [3] * 6,
  "decoder_norm_types": "rms_norm",
  "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
  "downsample_block_type": "Conv",
  "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
  "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
  "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
  "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
  "in_channels": 3,
  "latent_channels": 32,
  "scaling_factor": 0.41407,
  "upsample_block_type": "interpolate",
}

leaf_shapes = functools.cache(convert.leaf_shapes)  # full sizes take seconds


def random_params(config: DcaeConfig, dtype="float32") -> dict:
  rng = np.random.default_rng(0)
  flat = {
    path: rng.normal(size=x.shape).astype(jnp.dtype(dtype))
    for path, x in leaf_shapes(config).items()
  }
  params = rules.unflatten(flat)
  params["latent"] = {
    "shift": np.zeros(config.latent_channels, np.float32),
    "scale": np.full(config.latent_channels, 0.41407, np.float32),
  }
  return params


def assert_same_bits(a: dict, b: dict) -> None:
  a, b = rules.flatten(a), rules.flatten(b)
  assert set(a) == set(b)
  for path in a:
    assert a[path].dtype == b[path].dtype, path
    assert a[path].shape == b[path].shape, path
    assert a[path].tobytes() == b[path].tobytes(), path


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
  "config, encoder, decoder, total",
  [
    (dcae_sizes.SANA_F32C32, 153_027_104, 159_223_171, 312_250_275),
    (dcae_sizes.IN_F32C32, 123_172_384, 200_184_076, 323_356_460),
  ],
)
def test_published_sizes_have_exact_counts(config, encoder, decoder, total):
  """Parameters of the reference: no running statistics, no latent/*."""
  counts = {"encoder": 0, "decoder": 0}
  for path, x in leaf_shapes(config).items():
    if not path.endswith(("/mean", "/var")):
      counts[path.split("/")[0]] += int(np.prod(x.shape))
  assert counts == {"encoder": encoder, "decoder": decoder}
  assert sum(counts.values()) == total


@pytest.mark.parametrize(
  "config", [*{c: None for c, _ in dcae_sizes.PUBLISHED.values()}, TINY]
)
def test_the_table_names_every_leaf_once(config):
  entries = convert.entries(config)
  ours = [entry.ours for entry in entries]
  theirs = [name for entry in entries for name in entry.theirs]
  assert len(set(ours)) == len(ours)
  assert len(set(theirs)) == len(theirs)
  assert set(ours) == set(leaf_shapes(config))


# ---------------------------------------------------------------- configs


def test_a_published_config_is_the_size_we_know():
  assert convert.config_from_hf(SANA_JSON) == dcae_sizes.SANA_F32C32


@pytest.mark.parametrize("word", ["conv", "Conv", "anything"])
def test_what_is_no_pixel_unshuffle_is_a_convolution(word):
  config = convert.config_from_hf(SANA_JSON | {"downsample_block_type": word})
  assert config.downsample_block_type == "conv"


def test_a_sparse_config_takes_the_defaults_of_diffusers():
  sparse = {"_class_name": "AutoencoderDC", "scaling_factor": 0.5}
  config = convert.config_from_hf(sparse)
  assert config.encoder_block_types == ("ResBlock",) * 6
  assert config.encoder_layers_per_block == (2, 2, 2, 3, 3, 3)
  assert config.downsample_block_type == "pixel_unshuffle"
  assert config.upsample_block_type == "pixel_shuffle"
  assert config.decoder_conv_act_fn == "relu"
  assert config.encoder_out_shortcut and config.decoder_in_shortcut
  small = convert.config_from_hf(
    sparse
    | {
      "encoder_block_out_channels": [32, 64],
      "decoder_block_out_channels": [32, 64],
      "encoder_layers_per_block": [1, 1],
      "decoder_layers_per_block": [1, 1],
    }
  )
  assert small.encoder_qkv_multiscales == ((), ())


@pytest.mark.parametrize(
  "config", [c for c, _ in dcae_sizes.PUBLISHED.values()] + [TINY]
)
def test_configs_come_back(config):
  text = json.dumps(convert.config_to_hf(config))
  assert convert.config_from_hf(json.loads(text)) == config


@pytest.mark.parametrize(
  "change, message",
  [
    ({"_class_name": "AutoencoderKL"}, "AutoencoderKL"),
    ({"mid_block_type": "Attention"}, "mid_block_type"),
    ({"decoder_norm_types": "layer_norm"}, "layer_norm"),
    ({"decoder_act_fns": "tanh"}, "tanh"),
    ({"encoder_block_types": "UNet"}, "UNet"),
    ({"encoder_qkv_multiscales": [[], [], [], [4], [4], [4]]}, "odd"),
    ({"scaling_factor": 0}, "scaling_factor"),
    ({"scaling_factor": None}, "scaling_factor"),
  ],
)
def test_what_is_not_implemented_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    convert.config_from_hf(SANA_JSON | change)


def test_an_activation_diffusers_lacks_is_not_exported():
  config = dataclasses.replace(TINY, decoder_act_fns=("relu6",) * 3)
  with pytest.raises(ValueError, match="relu6"):
    convert.config_to_hf(config)


# ------------------------------------------------------------ round trips


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_import_of_export_is_bit_for_bit(tmp_path, dtype):
  params = random_params(TINY, dtype)
  convert.save(tmp_path, TINY, params)
  module, back = convert.load(tmp_path, dtype=None)
  assert module.config == TINY
  assert_same_bits(params, back)


def test_export_has_the_reference_s_files_and_counters(tmp_path):
  convert.save(tmp_path, TINY, random_params(TINY))
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"config.json", "diffusion_pytorch_model.safetensors"}
  folder = files.Folder.open(tmp_path)
  assert folder.config["scaling_factor"] == 0.41407
  counters = [n for n in folder.names() if n.endswith("num_batches_tracked")]
  # Stage 1 of the decoder: the norm after attention.
  assert counters == ["decoder.up_blocks.1.1.attn.norm_out.num_batches_tracked"]
  assert folder.read(counters[0]).shape == ()
  assert folder.read(counters[0]).dtype == np.int64


def test_latents_normalised_by_channel_survive(tmp_path):
  params = random_params(TINY)
  rng = np.random.default_rng(1)
  params["latent"] = {
    "shift": rng.normal(size=4).astype(np.float32),
    "scale": rng.uniform(0.1, 2, 4).astype(np.float32),
  }
  convert.save(tmp_path, TINY, params)
  _, back = convert.load(tmp_path)
  assert_same_bits(params, back)


def test_the_factor_stays_exact_in_bfloat16(tmp_path):
  convert.save(tmp_path, TINY, random_params(TINY))
  _, params = convert.load(tmp_path, "bfloat16")
  assert params["decoder"]["conv_in"]["kernel"].dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    params["latent"]["scale"], np.full(4, 0.41407, np.float32)
  )
  np.testing.assert_array_equal(params["latent"]["shift"], np.zeros(4))


def test_every_tensor_is_accounted_for(tmp_path):
  """An unknown, a missing and a mis-shaped name in one error."""
  config = convert.config_to_hf(TINY)
  tensors = dict(
    table.write(
      {k: v for k, v in random_params(TINY).items() if k != "latent"},
      convert.entries(TINY),
    )
  )
  tensors["encoder.mid.weight"] = np.zeros(3, np.float32)
  del tensors["decoder.norm_out.bias"]
  tensors["encoder.conv_in.bias"] = np.zeros(7, np.float32)
  files.write_folder(tmp_path, config, tensors.items(), stem=convert.STEM)
  with pytest.raises(table.ConversionError) as error:
    convert.load(tmp_path)
  assert error.value.unknown == ("encoder.mid.weight",)
  assert error.value.missing == ("decoder.norm_out.bias",)
  assert "encoder.conv_in.bias" in error.value.misshaped[0]
