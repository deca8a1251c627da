"""The encoders against torch, on tiny models with every weight at random.

Skipped where torch, transformers or diffusers is missing. The name tables here
are the tests' own, so that a mistake in the converters cannot hide.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import dcae, siglip2
from tests import neutral

torch = pytest.importorskip("torch")
TOLERANCE = 5e-6  # of the reference's maximum

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("exact_products")]


def randomise(module, seed: int) -> None:
  """Gives every weight and statistic a random value."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, x in module.state_dict().items():
      if not x.is_floating_point():
        continue
      noise = torch.randn(x.shape, generator=generator)
      if name.endswith("running_var"):
        x.copy_(0.5 + noise.abs())
      elif x.ndim < 2:
        x.copy_(
          (1.0 if "norm" in name and "weight" in name else 0.0) + 0.3 * noise
        )
      else:
        x.copy_(noise * (x[0].numel() ** -0.5))


def close(ours: jax.Array, theirs, tolerance: float = TOLERANCE) -> None:
  theirs = theirs.detach().numpy()
  assert ours.shape == theirs.shape
  error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
  print(f"error {error:.2e} of the maximum")
  assert error < tolerance


def nested(flat: dict) -> dict:
  """{"a/b": x} -> {"a": {"b": x}}."""
  tree: dict = {}
  for path, x in flat.items():
    *folders, leaf = path.split("/")
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[leaf] = jnp.asarray(x)
  return tree


# ------------------------------------------------------------------ DC-AE

ATTENTION = {
  "to_q": "to_q",
  "to_k": "to_k",
  "to_v": "to_v",
  "to_out": "to_out",
  "norm_out": "norm",
}
GLU = {
  "conv_inverted": "inverted",
  "conv_depth": "depth",
  "conv_point": "point",
  "norm": "norm",
}
LEAVES = {
  "weight": "kernel",
  "bias": "bias",
  "running_mean": "mean",
  "running_var": "var",
}


def dcae_path(name: str, side: str, layers: tuple[int, ...]) -> str:
  """down_blocks.3.0.attn.to_q.weight -> stage3/block0/attention/to_q/kernel."""
  parts = name.split(".")
  leaf = LEAVES[parts.pop()]
  if "norm" in name and leaf == "kernel":
    leaf = "scale"
  if parts[0] not in ("down_blocks", "up_blocks"):
    return "/".join([side, *parts, leaf])
  stage, index, rest = int(parts[1]), int(parts[2]), parts[3:]
  up = side == "decoder" and stage + 1 < len(layers)
  if side == "encoder" and index == layers[stage]:
    return "/".join([side, f"stage{stage}", "down", *rest, leaf])
  if up and index == 0:
    return "/".join([side, f"stage{stage}", "up", *rest, leaf])
  block = [side, f"stage{stage}", f"block{index - up}"]
  if rest[0] == "attn":
    if rest[1] == "to_qkv_multiscale":
      filtered = ["filter"] if rest[3] == "proj_in" else []
      return "/".join([*block, "attention", f"scale{rest[2]}", *filtered, leaf])
    return "/".join([*block, "attention", ATTENTION[rest[1]], leaf])
  if rest[0] == "conv_out":
    return "/".join([*block, "conv", GLU[rest[1]], leaf])
  return "/".join([*block, *rest, leaf])


def dcae_weight(name: str, x: np.ndarray, head_dim: int) -> np.ndarray:
  if x.ndim == 2:
    return x.T
  if x.ndim != 4:
    return x
  if "proj_out" in name:  # a 1x1 convolution in groups of head_dim
    return x.reshape(-1, head_dim, head_dim).transpose(0, 2, 1)
  if "proj_in" in name or "conv_depth" in name:
    return x[:, 0].transpose(1, 2, 0)
  if x.shape[2:] == (1, 1):
    return x[:, :, 0, 0].T
  return x.transpose(2, 3, 1, 0)


def dcae_params(reference, config: dcae.DcaeConfig) -> dict:
  flat = {
    "latent/shift": np.zeros(config.latent_channels, np.float32),
    "latent/scale": np.ones(config.latent_channels, np.float32),
  }
  for full, x in reference.state_dict().items():
    side, name = full.split(".", 1)
    if name.endswith("num_batches_tracked"):
      continue
    layers = getattr(config, f"{side}_layers_per_block")
    value = dcae_weight(name, x.numpy(), config.attention_head_dim)
    flat[dcae_path(name, side, layers)] = value
  return nested(flat)


SANA = dict(
  in_channels=3,
  latent_channels=4,
  attention_head_dim=4,
  encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  decoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
  encoder_block_out_channels=(8, 16, 16),
  decoder_block_out_channels=(8, 16, 16),
  encoder_layers_per_block=(1, 2, 2),
  decoder_layers_per_block=(2, 1, 2),
  encoder_qkv_multiscales=((), (), (5,)),
  decoder_qkv_multiscales=((), (3, 5), (5,)),
  downsample_block_type="conv",
  upsample_block_type="interpolate",
  decoder_norm_types=("rms_norm",) * 3,
  decoder_act_fns=("silu",) * 3,
)
IMAGENET = dict(
  SANA,
  encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  encoder_layers_per_block=(0, 2, 1),
  decoder_layers_per_block=(0, 1, 2),
  encoder_qkv_multiscales=((),) * 3,
  decoder_qkv_multiscales=((),) * 3,
  downsample_block_type="pixel_unshuffle",
  upsample_block_type="pixel_shuffle",
  decoder_norm_types=("batch_norm", "batch_norm", "rms_norm"),
  decoder_act_fns=("relu", "relu", "silu"),
)
LITE = dict(
  IMAGENET,
  decoder_block_types=("ResBlock",) * 3,
  decoder_norm_types=("rms_norm",) * 3,
  decoder_act_fns=("silu",) * 3,
  decoder_conv_act_fn="silu",
  encoder_out_shortcut=False,
  decoder_in_shortcut=False,
)


@pytest.mark.parametrize(
  "kind", [SANA, IMAGENET, LITE], ids=["sana", "imagenet", "lite"]
)
@pytest.mark.parametrize(
  "size", [(16, 24), (4, 4)], ids=["linear", "quadratic"]
)
def test_dcae_equals_diffusers(kind: dict, size: tuple[int, int]):
  """Latents and pictures; (4, 4) takes the reference's quadratic path."""
  diffusers = pytest.importorskip("diffusers")
  config = neutral.dcae_config(**kind)
  reference = diffusers.AutoencoderDC(**kind).eval()
  randomise(reference, 0)
  params = dcae_params(reference, config)
  model = dcae.Autoencoder(config)
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  with torch.no_grad():
    picture = torch.from_numpy(x.transpose(0, 3, 1, 2))
    latent = reference.encode(picture).latent
    decoded = reference.decode(latent).sample
  ours = model.apply({"params": params}, x, method="encode")
  close(ours.transpose(0, 3, 1, 2), latent)
  z = latent.numpy().transpose(0, 2, 3, 1)
  ours = model.apply({"params": params}, z, method="decode")
  close(ours.transpose(0, 3, 1, 2), decoded)
  expected = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
  assert jax.tree.structure(
    jax.tree.map(np.shape, params), is_leaf=is_shape
  ) == jax.tree.structure(shapes(expected), is_leaf=is_shape)


def is_shape(x) -> bool:
  return isinstance(x, tuple)


def shapes(tree):
  from flax.core import meta

  return jax.tree.map(np.shape, meta.unbox(tree))


# ----------------------------------------------------------------- SigLIP

VISION = dict(
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=3,
  num_attention_heads=2,
  layer_norm_eps=1e-6,
  hidden_act="gelu_pytorch_tanh",
)
BLOCK = {
  "layer_norm1": "attention_norm",
  "layer_norm2": "mlp_norm",
  "self_attn.q_proj": "attention/query",
  "self_attn.k_proj": "attention/key",
  "self_attn.v_proj": "attention/value",
  "self_attn.out_proj": "attention/out",
  "mlp.fc1": "mlp/up",
  "mlp.fc2": "mlp/down",
}


def ours_config(patch: int, grid: int, resize: str) -> siglip2.SiglipConfig:
  return neutral.siglip_config(
    width=24,
    mlp_width=40,
    num_layers=3,
    num_heads=2,
    patch_size=patch,
    native_grid=grid,
    position_resize=resize,
  )


def siglip_params(reference, config: siglip2.SiglipConfig) -> dict:
  state = {
    k.removeprefix("vision_model."): x.numpy()
    for k, x in reference.state_dict().items()
  }
  kernel = state["embeddings.patch_embedding.weight"]
  if kernel.ndim == 4:
    kernel = kernel.transpose(2, 3, 1, 0)
  else:
    kernel = kernel.T.reshape(config.patch_size, config.patch_size, 3, -1)
  flat = {
    "embed/kernel": kernel,
    "embed/bias": state["embeddings.patch_embedding.bias"],
    "embed/position": state["embeddings.position_embedding.weight"],
    "post_norm/scale": state["post_layernorm.weight"],
    "post_norm/bias": state["post_layernorm.bias"],
  }
  for theirs, ours in BLOCK.items():
    for leaf in ("weight", "bias"):
      stacked = np.stack(
        [
          state[f"encoder.layers.{i}.{theirs}.{leaf}"].T
          for i in range(config.num_layers)
        ]
      )
      name = "kernel" if stacked.ndim == 3 else leaf.replace("weight", "scale")
      flat[f"blocks/{ours}/{name}"] = stacked
  return nested(flat)


@pytest.mark.parametrize("patch", [16, 14])
@pytest.mark.parametrize("size", [(96, 96), (160, 160), (64, 48), (50, 230)])
def test_siglip_equals_transformers(patch: int, size: tuple[int, int]):
  """Native (6 x 6), larger, smaller, oblong, and pixels left over."""
  transformers = pytest.importorskip("transformers")
  native = 96 if patch == 16 else 90  # 90 = 6 * 14 + 6
  reference = transformers.SiglipVisionModel(
    transformers.SiglipVisionConfig(
      **VISION, image_size=native, patch_size=patch, attn_implementation="eager"
    )
  ).eval()
  randomise(reference, 1)
  config = ours_config(patch, 6, "bicubic")
  params = siglip_params(reference, config)
  x = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3))
  x = x.astype(np.float32)
  with torch.no_grad():
    out = reference(
      torch.from_numpy(x.transpose(0, 3, 1, 2)),
      interpolate_pos_encoding=True,
      output_hidden_states=True,
    )
  ours, states = siglip2.SiglipEncoder(config).apply(
    {"params": params}, x, hidden_states=True
  )
  close(ours, out.last_hidden_state)
  close(states, torch.stack(out.hidden_states))


def test_naflex_equals_transformers():
  """Two aspect ratios in one padded batch, against one call per picture."""
  transformers = pytest.importorskip("transformers")
  reference = transformers.Siglip2VisionModel(
    transformers.Siglip2VisionConfig(
      **VISION, num_patches=36, patch_size=4, attn_implementation="eager"
    )
  ).eval()
  randomise(reference, 2)
  config = ours_config(4, 6, "bilinear_antialias")
  model = siglip2.SiglipEncoder(config)
  params = siglip_params(reference, config)
  rng = np.random.default_rng(0)
  grids, most = [(3, 7), (8, 4)], 32
  pictures = [
    rng.uniform(-1, 1, (1, 4 * h, 4 * w, 3)).astype(np.float32)
    for h, w in grids
  ]
  patches = np.zeros((2, most, 48), np.float32)
  mask = np.zeros((2, most), np.int32)
  for i, (h, w) in enumerate(grids):
    patches[i, : h * w] = siglip2.patches(pictures[i], 4).reshape(-1, 48)
    mask[i, : h * w] = 1
  with torch.no_grad():
    out = reference(
      pixel_values=torch.from_numpy(patches),
      pixel_attention_mask=torch.from_numpy(mask),
      spatial_shapes=torch.tensor(grids),
    ).last_hidden_state
  for i, (h, w) in enumerate(grids):
    ours = model.apply({"params": params}, pictures[i])
    close(ours[0], out[i, : h * w])
