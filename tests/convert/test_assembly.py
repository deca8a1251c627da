"""EMMA put together from published folders is those parts, bit for bit."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.build import session as build_session
from emma_jax.cli import convert as cli
from emma_jax.convert import assembly, check, dcae, qwen3, siglip
from emma_jax.models import masks
from emma_jax.models.llm import Llm
from emma_jax.models.qwen3 import Qwen3, Qwen3Config
from emma_jax.models.siglip2_vision import SiglipVisionConfig
from tests import neutral, tiny


def randomly(shapes: dict, seed: int) -> dict:
  rng = np.random.default_rng(seed)
  return rules.unflatten(
    {
      path: (rng.normal(size=x.shape) * 0.2 + 1.0).astype(np.float32)
      for path, x in sorted(shapes.items())
    }
  )


@pytest.fixture(scope="module")
def config():
  return build_model.emma_config(tiny.model())


@pytest.fixture(scope="module")
def folders(config, tmp_path_factory):
  """Three folders of the micro sizes, every weight at random."""
  root = tmp_path_factory.mktemp("published")
  names = Qwen3Config.__dataclass_fields__
  llm = neutral.qwen3_config(**{n: getattr(config.llm, n) for n in names})
  qwen3.save(root / "qwen3", llm, randomly(qwen3.shapes(llm), 0))
  vision = SiglipVisionConfig(encoder=config.vision.encoder)
  siglip.save(root / "siglip2", vision, randomly(siglip.shapes(vision), 1))
  parts = randomly(dcae.leaf_shapes(config.autoencoder), 2)
  C = config.autoencoder.latent_channels
  parts["latent"] = {
    "shift": np.zeros(C, np.float32),
    "scale": np.full(C, 0.5, np.float32),
  }
  dcae.save(root / "dcae", config.autoencoder, parts)
  return dict(
    qwen3_folder=root / "qwen3",
    siglip2_folder=root / "siglip2",
    dcae_folder=root / "dcae",
  )


@pytest.fixture(scope="module")
def made(config, folders):
  return assembly.assemble(
    config, **folders, dtype="float32", key=jax.random.key(0)
  )


def test_every_parameter_is_there_and_accounted_for(config, made):
  params, origins = made
  shapes = rules.flatten(tiny.shapes())
  flat = rules.flatten(params)
  assert {k: x.shape for k, x in flat.items()} == {
    k: x.shape for k, x in shapes.items()
  }
  total = sum(int(np.prod(x.shape)) for x in shapes.values())
  assert sum(o.parameters for o in origins) == total
  random = {o.subtree.split("/")[0] for o in origins if "random" in o.source}
  assert random == {"adapters", "heads", "vision"}
  assert {
    o.subtree
    for o in origins
    if "random" in o.source and o.subtree.startswith("vision")
  } == {"vision/router"}


def test_what_came_from_where(folders, made):
  """Every line's source and count, against the folders' own leaves."""
  want = {}
  for folder, module, prefix in (
    ("siglip2_folder", siglip, "vision"),
    ("dcae_folder", dcae, "autoencoder"),
  ):
    for path, leaf in rules.flatten(module.load(folders[folder])[1]).items():
      if path.startswith("head/"):
        continue  # EMMA has none
      top, size, layers = path.split("/")[0], leaf.size, len(leaf)
      for name, share in (
        [("lower", 1), ("versatile", 1), ("stem", 1)]
        if top == "blocks"
        else [(top, layers)]
      ):
        key = (f"{prefix}/{name}", str(folders[folder]))
        want[key] = want.get(key, 0) + size // layers * share
  decoder = rules.flatten(qwen3.load(folders["qwen3_folder"])[1])
  source = str(folders["qwen3_folder"])
  for path, leaf in decoder.items():
    name = path.removeprefix("layers/block/")
    if name == path:
      for part in (
        ("norm_und", "norm_gen")
        if path.startswith("norm/")
        else (path.split("/")[0],)
      ):
        want[f"llm/{part}", source] = leaf.size
      continue
    shared = name.startswith("qk/")  # in the one shallow layer of three
    for branch in ("shared",) if shared else ("und", "gen"):
      key = f"llm/shallow/{branch}", source
      want[key] = want.get(key, 0) + leaf.size // 3
    for branch in ("und", "gen"):
      key = f"llm/deep/{branch}", source
      want[key] = want.get(key, 0) + leaf.size // 3 * 2
  flat = rules.flatten(made[0])
  for path in flat:
    if path.startswith(("adapters/", "heads/", "vision/router/")):
      key = "/".join(path.split("/")[:2]), "random (new in EMMA)"
      want[key] = want.get(key, 0) + flat[path].size
  assert {(o.subtree, o.source): o.parameters for o in made[1]} == want


def test_tower_and_autoencoder_are_the_published_ones(folders, made):
  """Blocks in their order: the first are below the experts."""
  tower = made[0]["vision"]
  _, params = siglip.load(folders["siglip2_folder"])
  for name in ("embed", "post_norm"):
    jax.tree.map(np.testing.assert_array_equal, tower[name], params[name])
  for i, part in enumerate(("lower", "versatile")):
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_array_equal(x[0], y[i]),
      tower[part],
      params["blocks"],
    )
  _, params = dcae.load(folders["dcae_folder"])
  jax.tree.map(np.testing.assert_array_equal, made[0]["autoencoder"], params)


def test_what_is_new_goes_by_the_key(config, folders, made):
  """And all but the latents' statistics has the dtype that was asked for."""
  params, _ = assembly.assemble(
    config, **folders, dtype="bfloat16", key=jax.random.key(5)
  )
  flat = rules.flatten(params)
  exact = {"autoencoder/latent/shift", "autoencoder/latent/scale"}
  assert {p for p, x in flat.items() if x.dtype == np.float32} == exact
  assert {x.dtype for p, x in flat.items() if p not in exact} == {
    jnp.dtype("bfloat16")
  }
  own = rules.flatten(made[0])  # by another key
  for path, x in flat.items():
    if re.fullmatch(assembly.NEW, path):
      same = np.array_equal(x.astype(np.float32), own[path])
      assert same == (np.ptp(own[path]) == 0), path  # zeros and ones alone


def test_und_branch_is_the_published_decoder(config, folders, made):
  module, params = qwen3.load(folders["qwen3_folder"])
  tokens = np.arange(12, dtype=np.int32).reshape(1, 12) * 7 % 1024
  logits, _ = jax.jit(lambda p: module.apply({"params": p}, tokens))(params)
  ids = masks.causal(jnp.ones_like(tokens), jnp.arange(12)[None])

  def ours(p):
    llm = Llm(config.llm)
    x = llm.apply({"params": p}, tokens, method=Llm.embed)
    und, _, _ = llm.apply({"params": p}, x, None, ids, None)
    return llm.apply({"params": p}, und, method=Llm.logits)

  got = jax.jit(ours)(made[0]["llm"])
  scale = np.abs(logits).max()
  np.testing.assert_allclose(got / scale, logits / scale, atol=5e-6)


def test_branches_and_experts_start_as_copies(made):
  flat = rules.flatten(made[0])
  gen = [p for p in flat if p.startswith("llm/") and "/gen/" in p]
  gen.append("llm/norm_gen/scale")
  assert len(gen) > 10
  for path in gen:
    und = flat[path.replace("gen", "und")]
    np.testing.assert_array_equal(flat[path], und, err_msg=path)
  for path in (p for p in flat if p.startswith("vision/stem/")):
    np.testing.assert_array_equal(
      flat[path], flat[path.replace("stem", "versatile")]
    )


@pytest.mark.parametrize("variant", ["paper", "all_shared", "all_decoupled"])
def test_und_branch_goes_out_as_it_came_in(variant, folders, config):
  c = build_model.emma_config(tiny.model(variant)).llm
  _, params = qwen3.load(folders["qwen3_folder"])
  emma = rules.unflatten(
    dict(
      (path.removeprefix("llm/"), leaf)
      for path, leaf in assembly._llm(
        c, qwen3.open_folder(folders["qwen3_folder"]).leaves
      )
    )
  )
  sizes, back = assembly.und_branch(c, emma)
  assert isinstance(Qwen3(sizes), Qwen3)
  want = rules.flatten(params)
  got = rules.flatten(back)
  assert set(got) == set(want)
  for path, leaf in got.items():
    np.testing.assert_array_equal(leaf, want[path])


def test_other_sizes_are_refused_with_the_list(folders):
  other = build_model.emma_config(tiny.model(mlp_width=40, rope_theta=5e6))
  with pytest.raises(assembly.AssemblyError) as error:
    assembly.assemble(other, **folders, dtype="float32", key=jax.random.key(0))
  assert "mlp_width: the folder has 48, the config 40" in str(error.value)
  assert "rope_theta" in str(error.value)


WRONG = {  # every size that decides what is computed, but those shapes show
  "llm": dict(
    rope_theta=5e6,
    norm_eps=1e-5,
    head_dim=8,
    num_kv_heads=2,
    num_heads=4,
    vocab_size=512,
    num_layers=4,
    width=64,
    tie_embeddings=True,
  ),
  "vision": dict(
    norm_eps=1e-5,
    num_heads=4,
    native_grid=4,
    position_resize="bilinear_antialias",
    num_layers=3,
  ),
  "autoencoder": dict(
    decoder_conv_act_fn="silu",
    encoder_out_shortcut=False,
    decoder_in_shortcut=False,
    attention_head_dim=4,
    decoder_act_fns=("relu",) * 6,
  ),
}


@pytest.mark.parametrize(
  "part, name",
  [(part, name) for part, changes in WRONG.items() for name in changes],
)
def test_each_size_is_compared(config, sizes, part, name):
  """The error names both values."""
  value = WRONG[part][name]
  if part == "vision":
    encoder = dataclasses.replace(config.vision.encoder, **{name: value})
    changed = dict(vision=dataclasses.replace(config.vision, encoder=encoder))
  else:
    own = dataclasses.replace(getattr(config, part), **{name: value})
    changed = {part: own}
  other = dataclasses.replace(config, **changed)
  with pytest.raises(
    assembly.AssemblyError,
    match=f"  {name}: the folder has .*, the config " + re.escape(repr(value)),
  ):
    assembly.same_sizes(other, *sizes)


@pytest.fixture(scope="module")
def sizes(folders):
  return (
    qwen3.open_folder(folders["qwen3_folder"]).config,
    siglip.open_folder(folders["siglip2_folder"]).config,
    dcae.open_folder(folders["dcae_folder"]).config,
  )


CONFIG = """
from tests import tiny

def get_config():
  return tiny.config()
"""


def test_init_export_and_check_from_the_command_line(
  folders, made, tmp_path, capsys
):
  file = tmp_path / "micro.py"
  file.write_text(CONFIG)
  argv = ["init", "--config", str(file), "--dtype", "float32"]
  for flag in ("qwen3", "siglip2", "dcae"):
    argv += [f"--{flag}", str(folders[f"{flag}_folder"])]
  argv += ["--out", str(tmp_path / "init")]
  assert cli.main(argv) == 0
  assert "random (new in EMMA)" in capsys.readouterr().out
  assert cli.main(argv) == 2  # nothing is written over
  assert "not empty" in capsys.readouterr().err
  found = build_session.read(str(tmp_path / "init"))
  want = rules.flatten(made[0])
  for path, leaf in rules.flatten(found.params).items():
    np.testing.assert_array_equal(leaf, want[path])
  for part, folder, name in (
    ("und", "qwen3_folder", "qwen3"),
    ("autoencoder", "dcae_folder", "dcae"),
  ):
    out = tmp_path / part
    assert (
      cli.main(
        [
          "export",
          part,
          "--checkpoint",
          str(tmp_path / "init"),
          "--out",
          str(out),
        ]
      )
      == 0
    )
    module = {"qwen3": qwen3, "dcae": dcae}[name]
    _, got = module.load(out)
    _, expected = module.load(folders[folder])
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["qwen3", "siglip2", "dcae"])
def test_init_writes_nothing_that_is_not_finite(
  folders, tmp_path, capsys, part, value
):
  file = tmp_path / "micro.py"
  file.write_text(CONFIG)
  bad = tmp_path / "bad"
  shutil.copytree(folders[f"{part}_folder"], bad)
  (weights,) = bad.glob("*.safetensors")
  tensors = safetensors.numpy.load_file(weights)
  name = sorted(tensors)[-1]
  tensors[name].reshape(-1)[-1] = value
  safetensors.numpy.save_file(tensors, weights)
  argv = ["init", "--config", str(file), "--out", str(tmp_path / "init")]
  for flag in ("qwen3", "siglip2", "dcae"):
    path = bad if flag == part else folders[f"{flag}_folder"]
    argv += [f"--{flag}", str(path)]
  assert cli.main(argv) == 2
  error = capsys.readouterr().err
  assert f"{bad}: {name}: 1 of" in error and "are not finite" in error
  assert not (tmp_path / "init").exists()


def test_defaults_that_are_taken_are_said(config, folders, tmp_path):
  """Where config.json is silent, with the values and whose they are."""
  silent = tmp_path / "dcae"
  shutil.copytree(folders["dcae_folder"], silent)
  written = json.loads((silent / "config.json").read_text())
  assert written.pop("decoder_conv_act_fn") == "relu"
  (silent / "config.json").write_text(json.dumps(written))
  said = []
  assembly.assemble(
    config,
    **folders | {"dcae_folder": silent},
    dtype="float32",
    key=jax.random.key(0),
    say=said.append,
  )
  assert said == [
    f"{silent}/config.json leaves out 1 of its keys, read as the reference"
    " implementation does: decoder_conv_act_fn='relu' (diffusers 0.42.1,"
    " AutoencoderDC)."
  ]


def test_check_finds_equal_and_different(folders, tmp_path, capsys):
  module, params = qwen3.load(folders["qwen3_folder"])
  tokens = np.arange(10).reshape(2, 5)
  with jax.default_matmul_precision("highest"):
    logits, hidden = module.apply({"params": params}, tokens)
  file = tmp_path / "reference.npz"
  np.savez(
    file, input_ids=tokens, logits=logits, **{"hidden_states.1": hidden[1]}
  )
  argv = [
    "check",
    "--family",
    "qwen3",
    "--folder",
    str(folders["qwen3_folder"]),
    "--reference",
    str(file),
  ]
  assert cli.main(argv) == 0
  assert "Equal." in capsys.readouterr().out
  np.savez(file, input_ids=tokens, logits=logits * 1.001)
  assert cli.main(argv) == 1
  assert "DIFFERS" in capsys.readouterr().out
  np.savez(file, input_ids=tokens)
  assert cli.main(argv) == 2
  assert "nothing of" in capsys.readouterr().err
  with pytest.raises(check.ReferenceError, match="family"):
    check.check("bert", tmp_path, {})
