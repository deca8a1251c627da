"""Qwen3 folders: both dialects of the config, names, counts, round trips."""

import dataclasses
import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.convert import files, qwen3, table
from emma_jax.convert.table import ConversionError
from tests import neutral

FOUR_B = dict(  # transformers 4, as published
  architectures=["Qwen3ForCausalLM"],
  attention_bias=False,
  attention_dropout=0.0,
  bos_token_id=151643,
  eos_token_id=151645,
  head_dim=128,
  hidden_act="silu",
  hidden_size=2560,
  initializer_range=0.02,
  intermediate_size=9728,
  max_position_embeddings=40960,
  max_window_layers=36,
  model_type="qwen3",
  num_attention_heads=32,
  num_hidden_layers=36,
  num_key_value_heads=8,
  rms_norm_eps=1e-06,
  rope_scaling=None,
  rope_theta=1000000,
  sliding_window=None,
  tie_word_embeddings=True,
  torch_dtype="bfloat16",
  transformers_version="4.51.0",
  use_cache=True,
  use_sliding_window=False,
  vocab_size=151936,
)
DIALECT_5 = {
  k: v
  for k, v in FOUR_B.items()
  if k not in ("rope_theta", "rope_scaling", "torch_dtype")
} | dict(
  dtype="bfloat16",
  layer_types=["full_attention"] * 36,
  rope_parameters={"rope_theta": 1000000, "rope_type": "default"},
  transformers_version="5.2.0",
)
TINY = neutral.qwen3_config(
  vocab_size=11,
  width=6,
  mlp_width=10,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  rope_theta=5e6,
  norm_eps=1e-5,
  tie_embeddings=True,
)
UNTIED = dataclasses.replace(TINY, tie_embeddings=False)


@pytest.mark.parametrize("config", [FOUR_B, DIALECT_5], ids=["v4", "v5"])
def test_both_dialects_say_the_same(config: dict):
  assert qwen3.config_from_hf(config) == qwen3.QWEN3_4B


@pytest.mark.parametrize(
  "change, theta",
  [
    (dict(rope_theta=5000000), 5e6),
    (dict(rope_theta=None, rope_parameters={"rope_theta": 5e6}), 5e6),
    (dict(rope_scaling={"type": "default"}), 1e6),
    (
      dict(
        rope_theta=None,
        rope_parameters={
          "full_attention": {"rope_type": "default", "rope_theta": 7e5}
        },
      ),
      7e5,
    ),
  ],
)
def test_theta_comes_from_the_config(change: dict, theta: float):
  assert qwen3.config_from_hf(FOUR_B | change).rope_theta == theta


def test_a_file_of_an_older_version_may_lack_the_newest_keys():
  few = "model_type vocab_size hidden_size intermediate_size rope_theta"
  few += " num_hidden_layers num_attention_heads num_key_value_heads head_dim"
  few += " rms_norm_eps tie_word_embeddings"
  sparse = {key: FOUR_B[key] for key in few.split()}
  assert qwen3.config_from_hf(sparse) == qwen3.QWEN3_4B


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(model_type="qwen2"), "says 'qwen2'.*'qwen3'; give the folder"),
    (dict(hidden_act="gelu"), "hidden_act='gelu'.*silu"),
    (dict(attention_bias=True), "attention_bias=True.*no bias"),
    (
      dict(use_sliding_window=True, sliding_window=512),
      "use_sliding_window=True.*set it to false",
    ),
    (
      dict(layer_types=["full_attention", "sliding_attention"]),
      "'sliding_attention'",
    ),
    (
      dict(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
      "rope_scaling=.*yarn.*4.0.*Set it to null",
    ),
    (
      dict(rope_parameters={"rope_type": "linear", "rope_theta": 1e6}),
      "rope_parameters=.*linear",
    ),
    (dict(rope_parameters={"partial_rotary_factor": 0.5}), "0.5"),
    (dict(partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
    (dict(rope_parameters={"rope_theta": 1e4}), "contradicts itself.*1000000"),
    (dict(quantization_config={"bits": 4}), "'bits': 4.*dequantised"),
    (dict(head_dim=None), "head_dim is null"),
    (dict(rope_theta=None), "rope_theta is missing.*5000000 for its 2507"),
  ],
)
def test_what_is_not_implemented_is_refused(change: dict, words: str):
  with pytest.raises(qwen3.ConfigError, match=words):
    qwen3.config_from_hf(FOUR_B | change)


@pytest.mark.parametrize("config", [TINY, UNTIED, qwen3.QWEN3_8B])
def test_the_written_config_reads_back(config: qwen3.Qwen3Config):
  written = json.loads(json.dumps(qwen3.config_to_hf(config)))
  assert qwen3.config_from_hf(written) == config
  # A reader of one dialect only must find the base too.
  for key in ("rope_theta", "rope_parameters"):
    part = {k: v for k, v in written.items() if k != key}
    assert qwen3.config_from_hf(part) == config


@pytest.mark.parametrize(
  "config, parameters, tensors",
  [
    (qwen3.QWEN3_0_6B, 596_049_920, 310),
    (qwen3.QWEN3_1_7B, 1_720_574_976, 310),
    (qwen3.QWEN3_4B, 4_022_468_096, 398),
    (qwen3.QWEN3_8B, 8_190_735_360, 399),
  ],
  ids=["0.6B", "1.7B", "4B", "8B"],
)
def test_published_sizes(config, parameters: int, tensors: int):
  """0.6B: 311 in the file, one of them the redundant head."""
  shapes = qwen3.shapes(config)
  assert sum(math.prod(s.shape) for s in shapes.values()) == parameters
  table = qwen3.entries(config)
  assert {entry.ours for entry in table} == set(shapes)
  assert sum(len(entry.theirs) for entry in table) == tensors


def params(config: qwen3.Qwen3Config, dtype: str = "float32") -> dict:
  rng = np.random.default_rng(0)
  return rules.unflatten(
    {
      path: rng.normal(size=s.shape).astype(jnp.dtype(dtype))
      for path, s in qwen3.shapes(config).items()
    }
  )


def same(a: dict, b: dict):
  a, b = rules.flatten(a), rules.flatten(b)
  assert set(a) == set(b)
  for path, x in a.items():
    assert x.dtype == b[path].dtype, path
    np.testing.assert_array_equal(x, b[path])


@pytest.mark.parametrize("config", [TINY, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("limit", [5e9, 500], ids=["single", "shards"])
def test_import_undoes_export_bit_for_bit(
  tmp_path: Path, config: qwen3.Qwen3Config, dtype: str, limit: float
):
  tree = params(config, dtype)
  qwen3.save(tmp_path, config, tree, max_shard_bytes=limit)
  module, got = qwen3.load(tmp_path, dtype=None)
  assert module.config == config
  same(got, tree)
  assert len(list(tmp_path.glob("*.index.json"))) == (limit == 500)
  assert files.Folder.open(tmp_path).config["dtype"] == dtype


def test_a_dtype_can_be_asked_for(tmp_path: Path):
  tree = params(TINY, "bfloat16")
  qwen3.save(tmp_path, TINY, tree, {"max_position_embeddings": 262144})
  folder = files.Folder.open(tmp_path)
  assert folder.config["max_position_embeddings"] == 262144
  _, got = qwen3.load(tmp_path)
  assert got["embed"].dtype == jnp.float32
  np.testing.assert_array_equal(got["embed"], tree["embed"].astype("float32"))


def with_head(path: Path, head: np.ndarray | None) -> dict:
  """A tied model whose file also holds `head` as lm_head.weight."""
  tree = params(TINY)
  source = path / "source"
  qwen3.save(source, TINY, tree)
  folder = files.Folder.open(source)
  tensors = {name: folder.read(name) for name in folder.names()}
  tensors["lm_head.weight"] = tree["embed"] if head is None else head
  files.write_folder(path / "with_head", folder.config, tensors.items())
  return tree


def test_a_redundant_head_is_one_parameter(tmp_path: Path):
  tree = with_head(tmp_path, None)
  same(qwen3.load(tmp_path / "with_head")[1], tree)


def test_a_head_that_differs_is_refused_with_its_value(tmp_path: Path):
  head = params(TINY)["embed"].copy()
  head[7, 3] = 2.5
  with_head(tmp_path, head)
  with pytest.raises(ConversionError, match=r"\[7, 3\] = 2.5 but .* to false"):
    qwen3.load(tmp_path / "with_head")


def test_a_head_of_another_size_is_refused(tmp_path: Path):
  with_head(tmp_path, np.zeros((3, 6), np.float32))
  with pytest.raises(ConversionError, match=r"\(3, 6\) must be a copy"):
    qwen3.load(tmp_path / "with_head")


@pytest.mark.parametrize("row", [4095, 4096, 4999])
def test_every_row_of_a_redundant_head_is_compared(tmp_path: Path, row: int):
  """The comparison goes part by part: 4096 rows at a time."""
  config = dataclasses.replace(TINY, vocab_size=5000, num_layers=1)
  tree = params(config)
  head = tree["embed"].copy()
  head[row, 5] += 1
  tensors = [
    *table.write(tree, qwen3.entries(config)),
    ("lm_head.weight", head),
  ]
  files.write_folder(tmp_path, qwen3.config_to_hf(config), tensors)
  with pytest.raises(ConversionError, match=rf"\[{row}, 5\] = "):
    qwen3.load(tmp_path)


def test_null_key_heads_are_as_many_as_queries():
  config = qwen3.config_from_hf(FOUR_B | {"num_key_value_heads": None})
  assert config.num_kv_heads == 32


def test_special_tokens_are_named_where_the_vocabulary_has_them():
  whole = qwen3.config_to_hf(qwen3.QWEN3_4B)
  for key in ("bos_token_id", "eos_token_id"):
    assert whole[key] == FOUR_B[key]
    assert key not in qwen3.config_to_hf(TINY)


def test_an_untied_model_needs_its_head(tmp_path: Path):
  qwen3.save(tmp_path, TINY, params(TINY), {"tie_word_embeddings": False})
  with pytest.raises(ConversionError, match="1 missing.*lm_head.weight"):
    qwen3.load(tmp_path)


def test_biases_are_not_dropped_in_silence(tmp_path: Path):
  qwen3.save(tmp_path / "a", TINY, params(TINY))
  folder = files.Folder.open(tmp_path / "a")
  tensors = [(name, folder.read(name)) for name in folder.names()]
  bias = "model.layers.0.self_attn.q_proj.bias"
  tensors.append((bias, np.zeros(16, np.float32)))
  files.write_folder(tmp_path / "b", folder.config, tensors)
  with pytest.raises(ConversionError, match=f"1 unknown.*{bias}"):
    qwen3.load(tmp_path / "b")
