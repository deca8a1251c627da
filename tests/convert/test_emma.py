"""A whole EMMA's export without torch: bits, names, refusals.

What the exported code computes: test_emma_goldens, test_emma_torch.
"""

import ast
import json
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import exchange
from emma_jax.build import model as build_model
from emma_jax.build import session as build_session
from emma_jax.convert import emma as convert
from emma_jax.convert import emma_names
from emma_jax.convert.files import Folder, FolderError
from tests import tiny
from tests.convert.exported import SHOWN, config, export, save
from tests.data import qwen

FRAMING = build_session.framing(config())


@pytest.mark.parametrize("variant", SHOWN)
def test_import_undoes_export_bit_for_bit(tmp_path, variant):
  export(tmp_path, variant, step=7)
  found = convert.load(tmp_path)
  chex.assert_trees_all_equal(found.params, tiny.params(variant))
  assert (found.config, found.step, found.route) == (
    config(variant),
    7,
    "versatile",
  )
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    "config.json",
    "emma_torch",
    "model.safetensors",
    "tokenizer.json",
  ]


def test_names_and_layouts_are_those_of_pytorch(tmp_path):
  folder = Folder.open(export(tmp_path))
  width, mlp, semantic = 32, 48, 16
  expected = {
    "llm.embed.weight": (1024, width),
    "llm.shallow.0.shared.qk.k.weight": (16, width),
    "llm.deep.1.gen.o.weight": (width, 32),
    "llm.deep.1.gen.mlp.down.weight": (width, mlp),
    "llm.norm_und.weight": (width,),
    "vision.embed.weight": (semantic, 3, 16, 16),
    "vision.stem.0.attention.query.weight": (semantic, semantic),
    "adapters.und.fuse.fc1.weight": (width, 4 * semantic + tiny.CHANNELS),
    "autoencoder.encoder.stage5.block0.conv.depth.weight": (64, 1, 3, 3),
    "autoencoder.encoder.stage1.block0.conv1.weight": (8, 8, 3, 3),
    "autoencoder.latent.shift": (tiny.CHANNELS,),
    "heads.velocity.weight": (tiny.CHANNELS, width),
  }
  assert {name: folder.shape(name) for name in expected} == expected
  q = folder.read("llm.deep.1.und.qk.q.weight")
  ours = tiny.params()["llm"]["deep"]["und"]["qk"]["q"][1]
  np.testing.assert_array_equal(q, ours.reshape(32, -1).T)


def test_bfloat16_survives(tmp_path):
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny.params())
  save(tmp_path, config(), params)
  found = convert.load(tmp_path).params
  assert found["llm"]["embed"].dtype == jnp.bfloat16
  chex.assert_trees_all_equal(found, params)


def test_what_cannot_be_exported_is_refused(tmp_path):
  good, params = config(), tiny.params()
  model = good["model"]

  def attempt(
    message, error=convert.ExportError, config=good, params=params, **options
  ):
    with pytest.raises(error, match=message):
      save(tmp_path / "out", config, params, framing=FRAMING, **options)
    assert not (tmp_path / "out").exists()

  attempt(
    "only a whole EMMA",
    config=good | {"model": model | {"kind": "autoencoder"}},
  )
  attempt("vocab", config=good | {"model": model | {"llm": {}}})
  attempt("steps", config=good | {"sample": {}})
  attempt(
    "codec='fast'", config=good | {"data": good["data"] | {"codec": "fast"}}
  )
  attempt("route='elsewhere'", route="elsewhere")
  less = dict(params, heads={})
  attempt("heads/velocity/kernel", convert.table.ConversionError, params=less)
  with pytest.raises(FolderError, match="format None"):
    (tmp_path / "config.json").write_text("{}")
    export(tmp_path / "x")
    (tmp_path / "x" / "config.json").write_text("{}")
    convert.load(tmp_path / "x")


@pytest.mark.parametrize(
  "section, key",
  [
    *(
      ("data", k)
      for k in (
        "height",
        "width",
        "native",
        "min_tokens",
        "max_tokens",
        "codec",
      )
    ),
    *(
      ("sample", k)
      for k in (
        "steps",
        "shift",
        "text_guidance",
        "edit_text_guidance",
        "edit_image_guidance",
        "max_tokens",
      )
    ),
  ],
)
def test_a_config_without_what_sampling_needs_is_refused(
  tmp_path, section, key
):
  c = config()
  c = c | {section: {k: v for k, v in c[section].items() if k != key}}
  with pytest.raises(convert.ExportError, match=f"{section} lacks .*'{key}'"):
    save(tmp_path / "out", c, {}, framing=FRAMING)


@pytest.mark.parametrize("route", ["versatile", "stem", "router"])
def test_the_route_is_kept(tmp_path, route):
  assert convert.load(export(tmp_path, route=route)).route == route


def test_a_tower_without_experts_has_one_route(tmp_path):
  with pytest.raises(convert.ExportError, match="route='stem' is no expert"):
    export(tmp_path / "out", "und_decoupled_no_experts", route="stem")


def test_theirs_says_the_names_and_shapes_that_are_written(tmp_path):
  folder = Folder.open(export(tmp_path))
  sizes = convert.model_config(config()["model"])
  assert emma_names.theirs(sizes) == {
    name: folder.shape(name) for name in folder.names()
  }


def test_a_field_that_the_file_does_not_know_is_refused(monkeypatch):
  sizes = convert.model_config(config()["model"])
  convert._check_supported(sizes)
  known = convert._HONOURED[convert.LlmConfig]
  monkeypatch.setitem(
    convert._HONOURED, convert.LlmConfig, known.replace("rope_theta", "")
  )
  with pytest.raises(convert.ExportError, match="LlmConfig.rope_theta=10000"):
    convert._check_supported(sizes)


def test_the_exported_code_stands_alone(tmp_path):
  used = set()
  for path in (export(tmp_path) / "emma_torch").iterdir():
    assert path.suffix == ".py" and len(path.read_text().splitlines()) < 300
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        used |= {alias.name.split(".")[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and node.level == 1:
        assert path.with_name(f"{node.module}.py").is_file()
      elif isinstance(node, ast.ImportFrom):
        assert not node.level
        used.add(node.module.split(".")[0])
  used -= set(sys.stdlib_module_names) | {"tokenizers"}  # large models only
  assert used == {"PIL", "safetensors", "torch"}


def test_an_export_brings_its_own_vocabulary(tmp_path):
  """The file that it was made of lies on another machine."""
  pytest.importorskip("tokenizers")
  given = qwen.write(tmp_path / "qwen", "qwen.tiktoken", qwen.full_size())
  c = config()
  c["data"] = c["data"] | {"tokenizer": f"qwen3:{given}"}
  c["model"] = c["model"] | {"llm": c["model"]["llm"] | {"vocab_size": 151936}}
  params = tiny.filled(build_model.model(c["model"]).shapes)
  source = build_session.Source(
    config=c, params=params, name="mine", step=3, route="versatile"
  )
  exchange.export(source, "emma", tmp_path / "out", expert="versatile")
  wanted = build_data.tokenizer(c["data"], c["model"])
  (given / "qwen.tiktoken").unlink()
  found = build_session.read(str(tmp_path / "out"))
  assert build_data.tokenizer(found.config["data"], c["model"]) == wanted
  chex.assert_trees_all_equal(found.params, params)


def test_older_exports_are_read(tmp_path):
  export(tmp_path)
  about = json.loads((tmp_path / "config.json").read_text())
  for key in ("framing", "answer_ids"):
    del about[key]
  about["format"] = "emma-torch-1"
  (tmp_path / "config.json").write_text(json.dumps(about))
  chex.assert_trees_all_equal(convert.load(tmp_path).params, tiny.params())
