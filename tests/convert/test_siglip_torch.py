"""Imported SigLIP models equal transformers', and exports load there."""

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import safetensors.numpy

from emma_jax.convert import files, siglip, table
from emma_jax.models import experts, naflex, siglip2

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.convert import siglip_reference as reference

GRIDS = [(5, 5), (3, 8), (7, 2), (1, 1)]


def close(ours, theirs, tolerance=reference.TOLERANCE, valid=None) -> None:
  assert reference.show(reference.errors(ours, theirs, valid)) < tolerance


@pytest.mark.parametrize(
  "patch_size, image_size, sizes",
  [
    (16, 48, [(48, 48), (80, 80), (32, 16)]),  # native, up, down and oblong
    (14, 47, [(47, 47), (45, 99), (29, 33)]),  # pixels left over
  ],
  ids=["patch16", "patch14"],
)
def test_fixed_resolution(tmp_path, patch_size, image_size, sizes):
  """Every hidden state, patches and pooled output at several sizes."""
  model = reference.fixed(patch_size, image_size)
  model.save_pretrained(tmp_path)
  module, params = siglip.load(tmp_path)
  for i, size in enumerate(sizes):
    x = reference.pixels(2, *size, 3, seed=i)
    ours = reference.run(module, params, x)
    close(reference.named(ours), reference.of_fixed(model, x))


def test_naflex_padded(tmp_path):
  """Different aspect ratios in one batch, one picture per row."""
  model = reference.flexible()
  model.save_pretrained(tmp_path)
  module, params = siglip.load(tmp_path)
  batch = reference.Padded.of(GRIDS, 28)
  theirs = reference.of_flexible(model, batch.patches_PTC, batch.grids_P2)
  ours = reference.run_padded(module, params, batch)
  close(ours, theirs, valid=batch.valid_PT)
  # One picture alone, from its pixels.
  h, w = GRIDS[1]
  alone = reference.run(
    module, params, reference.pixels(1, 4 * h, 4 * w, 3, seed=1)
  )
  theirs = {
    k: x[1:2] if x.ndim == 2 else x[1:2, : h * w] for k, x in theirs.items()
  }
  close(reference.named(alone), theirs)


def test_naflex_packed(tmp_path):
  """All pictures in one row equal the reference's padded batch."""
  model = reference.flexible()
  model.save_pretrained(tmp_path)
  module, params = siglip.load(tmp_path)
  batch = reference.Padded.of(GRIDS, 28)
  theirs = reference.of_flexible(model, batch.patches_PTC, batch.grids_P2)
  cut = [x[:n] for x, n in zip(batch.patches_PTC, batch.grids_P2.prod(1))]
  row = np.concatenate([*cut, np.full((9, 48), 0.7, np.float32)])
  ours = reference.named(
    reference.run(
      naflex.PackedVision(module.config),
      params,
      row[None],
      batch.grids_P2[None],
    )
  )
  used = len(row) - 9
  ours = {k: x[0] if k == "pooled" else x[0, :used] for k, x in ours.items()}
  theirs = {
    k: x if k == "pooled" else x[batch.valid_PT] for k, x in theirs.items()
  }
  close(ours, theirs)


def test_fixed_resolution_packed(tmp_path):
  """Bicubic positions from traced sizes."""
  model = reference.fixed(16, 48)
  model.save_pretrained(tmp_path)
  module, params = siglip.load(tmp_path)
  sizes = [(48, 48), (80, 32), (16, 64)]
  pictures = [reference.pixels(*s, 3, seed=i) for i, s in enumerate(sizes)]
  row, grids = naflex.pack(pictures, 16, 27, 4)
  packed = naflex.PackedVision(module.config)
  out = reference.run(packed, params, row[None], grids[None])
  found = naflex.unpack(np.asarray(out.patches_PTD[0]), grids)
  for i, picture in enumerate(pictures):
    theirs = reference.of_fixed(model, picture[None])
    ours = {
      "patches": found[i].reshape(1, -1, 24),
      "pooled": np.asarray(out.pooled_PD[:, i]),
    }
    close(ours, {k: theirs[k] for k in ours})


@pytest.mark.parametrize("family", ["fixed", "flexible"])
def test_whole_models_with_text_in_shards(tmp_path, family):
  """SiglipModel: prefix, ignored text tower and scalars, nested config."""
  name = "Siglip" if family == "fixed" else "Siglip2"
  vision = getattr(reference, family)()
  config = getattr(transformers, f"{name}Config")(
    text_config=reference.WORDS, vision_config=vision.config.to_dict()
  )
  model = getattr(transformers, f"{name}Model")(config)
  model.vision_model.load_state_dict(vision.state_dict())
  model.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
  assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
  vision.save_pretrained(tmp_path / "alone")
  whole, ours = siglip.load(tmp_path / "whole")
  alone, same = siglip.load(tmp_path / "alone")
  names = [
    *files.Folder.open(tmp_path / "whole").names(),
    *files.Folder.open(tmp_path / "alone").names(),
  ]
  assert "vision_model.head.probe" in names and "head.probe" in names
  assert whole == alone
  jax.tree.map(np.testing.assert_array_equal, ours, same)


def test_without_a_head(tmp_path):
  model = reference.fixed(16, 48, vision_use_head=False)
  model.save_pretrained(tmp_path)
  module, params = siglip.load(tmp_path)
  assert "head" not in params
  x = reference.pixels(1, 48, 48, 3)
  out = reference.run(module, params, x)
  assert out.pooled_PD is None
  close(reference.named(out), reference.of_fixed(model, x))


@pytest.mark.parametrize("prefix", [siglip.PREFIX, ""])
@pytest.mark.parametrize("family", ["fixed", "flexible"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_exports_load_in_transformers(tmp_path, family, dtype, prefix):
  """Every tensor comes back bit for bit, and the config with its values."""
  model = getattr(reference, family)(layer_norm_eps=1e-5)
  model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "theirs")
  module, params = siglip.load(tmp_path / "theirs", dtype=None)
  assert params["embed"]["kernel"].dtype == jnp.dtype(dtype)
  siglip.save(tmp_path / "ours", module.config, params, prefix)
  back, info = type(model).from_pretrained(
    tmp_path / "ours", output_loading_info=True, dtype="auto"
  )
  assert not any(info.values()), info
  theirs, ours = model.state_dict(), back.state_dict()
  assert set(theirs) == set(ours)
  for name, x in theirs.items():
    assert ours[name].dtype == x.dtype and torch.equal(ours[name], x), name
  skip = {"_name_or_path", "architectures"}
  a, b = (
    {k: v for k, v in m.config.to_dict().items() if k not in skip}
    for m in (model, back)
  )
  assert a == b


@pytest.mark.parametrize("expert", ["versatile", "stem"])
def test_experts_go_out_to_transformers(tmp_path, expert):
  """An exported expert gives EMMA's features before the pixel shuffle."""
  model = reference.fixed(16, 64, num_hidden_layers=3)
  model.save_pretrained(tmp_path / "in")
  module, params = siglip.load(tmp_path / "in")
  config = experts.TowerConfig(
    encoder=module.config.encoder,
    experts=True,
    extra_experts=(),
    num_expert_layers=2,
    router_width=4,
    router_threshold=0.5,
  )
  tower = siglip.to_tower(params, config)
  tower["stem"] = jax.tree.map(lambda x: 1.25 * x, tower["stem"])
  siglip.save(
    tmp_path / "out",
    siglip.expert_config(config),
    siglip.from_tower(tower, config, expert),
  )
  back = transformers.SiglipVisionModel.from_pretrained(tmp_path / "out")
  x = reference.pixels(1, 64, 96, 3)
  with jax.default_matmul_precision("highest"):
    ours, _ = jax.jit(experts.VisionTower(config).apply, static_argnums=2)(
      {"params": tower}, x, expert
    )
  ours = siglip2.pixel_unshuffle(ours.reshape(1, 2, 3, -1)).reshape(1, -1, 24)
  theirs = reference.of_fixed(back, x)["patches"]
  close({"patches": np.asarray(ours)}, {"patches": theirs})


def test_bfloat16(tmp_path):
  """Ours in bfloat16 against theirs in float32, from the same weights."""
  model = reference.fixed(16, 48)
  model.to(torch.bfloat16).save_pretrained(tmp_path)
  module, params = siglip.load(tmp_path, dtype="bfloat16")
  x = np.asarray(jnp.asarray(reference.pixels(2, 80, 32, 3), jnp.bfloat16))
  out = reference.run(module, params, x)
  assert out.pooled_PD.dtype == jnp.bfloat16
  theirs = reference.of_fixed(model.float(), x.astype(np.float32))
  close(reference.named(out), theirs, tolerance=0.04)


def test_gradients(tmp_path):
  """Of a random projection of patches and pooled output, in every weight."""
  model = reference.fixed(14, 47, spread=2.0)
  model.save_pretrained(tmp_path / "weights")
  module, params = siglip.load(tmp_path / "weights")
  x = reference.pixels(2, 45, 60, 3)
  shape, pooled = (2, 12, 24), (2, 24)
  a, b = reference.pixels(*shape, seed=1), reference.pixels(*pooled, seed=2)

  def loss(params):
    out = module.apply({"params": params}, x)
    return jnp.sum(out.patches_PTD * a) + jnp.sum(out.pooled_PD * b)

  with jax.default_matmul_precision("highest"):
    ours = jax.jit(jax.grad(loss))(params)
  model.double()  # so that the error below is ours alone
  out = model(
    torch.from_numpy(x.transpose(0, 3, 1, 2)).double(),
    interpolate_pos_encoding=True,
  )
  total = (out.last_hidden_state * torch.from_numpy(a)).sum()
  (total + (out.pooler_output * torch.from_numpy(b)).sum()).backward()
  # Gradients are laid out like weights: the same table reads them.
  folder = tmp_path / "gradients"
  files.write_folder(
    folder,
    siglip.config_to_hf(module.config),
    [(k, v.grad.numpy()) for k, v in model.named_parameters()],
  )
  theirs = traverse_util.flatten_dict(siglip.load(folder)[1], sep="/")
  ours = traverse_util.flatten_dict(ours, sep="/")
  largest = max(np.abs(x).max() for x in theirs.values())
  found = {}
  for name, b in theirs.items():
    # A key's bias moves no softmax: its gradient is rounding alone.
    scale = largest if name.endswith("key/bias") else np.abs(b).max()
    off = float(np.abs(ours[name] - b).max() / scale)
    found[name] = off if np.isfinite(off) else np.inf
  assert reference.show(found) < reference.TOLERANCE


def test_the_tensors_of_another_family_are_refused(tmp_path):
  """Conv weights under a NaFlex config are mis-shaped, not reshaped."""
  model = reference.fixed(4, 20)
  model.save_pretrained(tmp_path / "a")
  tensors = safetensors.numpy.load_file(tmp_path / "a" / "model.safetensors")
  files.write_folder(
    tmp_path / "b", reference.flexible().config.to_dict(), tensors.items()
  )
  with pytest.raises(table.ConversionError, match="patch_embedding.weight"):
    siglip.load(tmp_path / "b")


@pytest.mark.parametrize("size", [(50, 31), (64, 64), (7, 90)])
def test_pictures_are_prepared_as_their_processor_does(size):
  processor = transformers.Siglip2ImageProcessorPil(
    patch_size=4, max_num_patches=20
  )
  rng = np.random.default_rng(0)
  picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
  theirs = processor(Image.fromarray(picture), return_tensors="np")
  height, width = naflex.fit(*size, patch_size=4, max_patches=20)
  resized = Image.fromarray(picture).resize(
    (width, height), Image.Resampling.BILINEAR
  )
  x = (np.asarray(resized, np.float32) / 255 - 0.5) / 0.5
  row, grids = naflex.pack([x], 4, 20, 1)
  np.testing.assert_array_equal(grids, theirs["spatial_shapes"])
  np.testing.assert_allclose(row, theirs["pixel_values"][0], atol=1e-6)
