"""Files that are not what their names say: one sentence, quickly, in no space.

Each is met by `emma-convert check`, which reads the folder first.
"""

from collections.abc import Callable
import json
import os
from pathlib import Path
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest

from emma_jax.cli import convert as cli
from emma_jax.convert import assembly, dcae, files, qwen3, siglip
from emma_jax.convert.fields import ConfigError
from emma_jax.convert.table import ConversionError
from tests.convert import published
from tests.convert.hostile import FAMILIES

QWEN3 = FAMILIES["qwen3"]
MODEL, CONFIG = "model.safetensors", "config.json"
INDEX = "model.safetensors.index.json"
MOST = 100 << 20  # bytes that a refusal may take


def header(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
  text = entries if type(entries) is bytes else json.dumps(entries).encode()
  length = len(text) if length is None else length
  return length.to_bytes(8, "little") + text + data


def one(dtype: Any = "F32", shape: Any = (1,), span: Any = (0, 4)) -> dict:
  return {"a": {"dtype": dtype, "shape": shape, "data_offsets": span}}


def weights(content: bytes) -> Callable[[Path], None]:
  return lambda folder: (folder / MODEL).write_bytes(content) and None


def config(content: bytes) -> Callable[[Path], None]:
  return lambda folder: (folder / CONFIG).write_bytes(content) and None


def sharded(change: Callable[[Path, dict], Any]) -> Callable[[Path], None]:
  """Three shards, with a change of the folder and of its index."""

  def harm(folder: Path) -> None:
    (folder / MODEL).unlink()
    published.write(folder, QWEN3.config, QWEN3.tensors, shards=3)
    index = json.loads((folder / INDEX).read_text())
    text = change(folder, index)
    (folder / INDEX).write_text(text or json.dumps(index))

  return harm


def repeated(folder: Path, index: dict) -> None:
  """Each shard holds the first tensor, and the index has it once."""
  name = next(iter(QWEN3.tensors))
  for file in sorted(folder.glob("*-of-*")):
    part = published.safetensors.numpy.load_file(file)
    part[name] = QWEN3.tensors[name]
    published.safetensors.numpy.save_file(part, file)


def moved(where: str) -> Callable[[Path, dict], None]:
  def change(folder: Path, index: dict) -> None:
    names = index["weight_map"]
    names |= dict.fromkeys(names, where)

  return change


def loop(name: str) -> Callable[[Path], None]:
  def harm(folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder / f"{name}.2")
    (folder / f"{name}.2").symlink_to(folder / name)

  return harm


def pipe(name: str) -> Callable[[Path], None]:
  def harm(folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)

  return harm


def folder_at(name: str) -> Callable[[Path], None]:
  def harm(folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()

  return harm


def renamed(name: str) -> Callable[[Path], None]:
  return lambda folder: (folder / MODEL).rename(folder / name) and None


def quantised(folder: Path) -> None:
  """As GPTQ stores a matrix: packed integers, scales and zeros."""
  tensors = dict(QWEN3.tensors)
  name = "model.layers.0.mlp.up_proj"
  del tensors[f"{name}.weight"]
  tensors[f"{name}.qweight"] = np.zeros((3, 40), np.int32)
  tensors[f"{name}.qzeros"] = np.zeros((1, 5), np.int32)
  tensors[f"{name}.scales"] = np.ones((1, 40), np.float16)
  QWEN3.write(folder, tensors=tensors)


def whole(folder: Path) -> bytes:
  return (folder / MODEL).read_bytes()


TEXT = json.dumps(QWEN3.config)
HUGE = 1 << 61
# What happened to a folder -> words of the refusal.
FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
  # config.json
  "config dropped": (lambda f: (f / CONFIG).unlink(), "is missing"),
  "config empty": (config(b""), "not readable JSON"),
  "config cut": (config(TEXT[:99].encode()), "not readable JSON"),
  "config is null": (config(b"null"), "no JSON object"),
  "config is a list": (config(b"[]"), "no JSON object"),
  "config of NaN": (
    config(TEXT.replace("0.01", "NaN").encode()),
    "NaN is no JSON",
  ),
  "config of Infinity": (config(b'{"a": -Infinity}'), "-Infinity is no JSON"),
  "config of 1e999": (
    config(TEXT.replace("0.01", "1e999").encode()),
    "rms_norm_eps=inf must be a number",
  ),
  "config in UTF-16": (config(TEXT.encode("utf-16")), "not UTF-8"),
  "config with a mark": (config(TEXT.encode("utf-8-sig")), "BOM"),
  "config in Latin-1": (config(b'{"a": "\xe9"}'), "not UTF-8"),
  "config of a key twice": (
    config(TEXT.replace("{", '{"hidden_size": 8, ', 1).encode()),
    "'hidden_size' stands in it twice",
  ),
  "config too deep": (config(b"[" * 200_000), "nested too deeply"),
  "config of a long number": (config(b"1" * 9_999), "not readable JSON"),
  "config is a folder": (folder_at(CONFIG), "is no file"),
  "config is a loop": (loop(CONFIG), "not readable JSON"),
  "config is a pipe": (pipe(CONFIG), "is no file"),
  # safetensors
  "weights dropped": (lambda f: (f / MODEL).unlink(), "holds no safetensors"),
  "weights empty": (weights(b""), "is empty; download it again"),
  "weights cut": (lambda f: weights(whole(f)[:-1])(f), "where there must be"),
  "weights longer": (
    lambda f: weights(whole(f) + b"\0")(f),
    "where there must be",
  ),
  "weights are a text": (weights(b"version https://git-lfs"), "Git LFS"),
  "weights are a folder": (folder_at(MODEL), "it is no file"),
  "weights are a loop": (loop(MODEL), "is a link to .*, which is not there"),
  "weights are a pipe": (pipe(MODEL), "it is no file"),
  "header beyond the file": (
    weights(header(one(), b"\0" * 4, length=10**6)),
    "a header of 1000000 bytes in a file of",
  ),
  "header of 2**63 bytes": (
    weights(header(one(), b"\0" * 4, length=1 << 63)),
    "a header of 9223372036854775808 bytes",
  ),
  "header is no JSON": (weights(header(b"{" * 9)), "not a whole safetensors"),
  "header is a list": (weights(header([])), "no JSON object"),
  "header too deep": (weights(header(b"[" * 200_000)), "nested too deeply"),
  "header not UTF-8": (weights(header(b'{"\xff": 1}')), "not a whole"),
  "header of a name twice": (
    weights(header(b'{"a": 1, "a": 2}')),
    "'a' stands in it twice",
  ),
  "entry is null": (weights(header({"a": None})), "described by no object"),
  "entry without a place": (
    weights(header({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4)),
    "a lies at None",
  ),
  "entry without a dtype": (
    weights(header(one(dtype=None), b"\0" * 4)),
    "a has no dtype",
  ),
  "huge shape": (
    weights(header(one(shape=[HUGE, HUGE]), b"\0" * 4)),
    "cannot be bytes 0 to 4",
  ),
  "huge shape and place": (
    weights(header(one(shape=[HUGE // 4], span=(0, HUGE)), b"\0" * 4)),
    "bytes where there must be",
  ),
  "huge empty shape": (
    weights(header(one(shape=[0, HUGE], span=(0, 0)))),
    "unknown .*: a",
  ),
  "negative shape": (
    weights(header(one(shape=[-1, -1]), b"\0" * 4)),
    r"has the shape \[-1, -1\]",
  ),
  "shape of fractions": (
    weights(header(one(shape=[1.0]), b"\0" * 4)),
    r"has the shape \[1.0\]",
  ),
  "shape of a text": (weights(header(one(shape="1"))), "has the shape 1"),
  "place backwards": (
    weights(header(one(span=(4, 0)), b"\0" * 4)),
    "cannot be bytes 4 to 0",
  ),
  "fp8": (
    weights(header(one("F8_E4M3", (4,)), b"\0" * 4)),
    "F8_E4M3, 8-bit floating point.*an fp8 checkpoint.*bfloat16",
  ),
  "fp4": (
    weights(header(one("F4", (8,)), b"\0" * 4)),
    "an fp4 checkpoint.*bfloat16",
  ),
  "complex": (weights(header(one("C64", (1,)))), "and only F64, .* are read"),
  "GPTQ": (quantised, "qweight are what quantised checkpoints hold.*bfloat16"),
  "llama.cpp": (renamed("model-Q4_K_M.gguf"), "quantised, for llama.cpp"),
  "torch": (renamed("pytorch_model.bin"), "which only torch reads"),
  # shards
  "index without files": (
    sharded(lambda f, i: [p.unlink() for p in f.glob("*-of-*")] and None),
    "which .* lacks; get them",
  ),
  "index of one file too many": (
    sharded(lambda f, i: i["weight_map"].update(x="y.safetensors")),
    "names y.safetensors, which",
  ),
  "index to elsewhere": (
    sharded(moved("../model.safetensors")),
    "would lie outside",
  ),
  "index to the root": (sharded(moved("/etc/passwd")), "would lie outside"),
  "index of numbers": (
    sharded(lambda f, i: i.update(weight_map={"a": 8})),
    "no map of names to files",
  ),
  "index of NaN": (
    sharded(lambda f, i: '{"weight_map": NaN}'),
    "NaN is no JSON",
  ),
  "index of a name twice": (
    sharded(lambda f, i: '{"weight_map": {"a": "b", "a": "c"}}'),
    "'a' stands in it twice",
  ),
  "a tensor in every shard": (sharded(repeated), "only the shard has model.em"),
  "two indices": (
    sharded(
      lambda f, i: (f / "x.safetensors.index.json").write_text("{}") and None
    ),
    "cannot tell which weights are meant",
  ),
}


@pytest.mark.parametrize("harm, words", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_is_refused_in_a_sentence(tmp_path, capsys, harm, words):
  folder = QWEN3.write(tmp_path / "f")
  harm(folder)
  reference = tmp_path / "r.npz"
  np.savez(reference, input_ids=np.ones((1, 3), int))
  argv = ["check", "--family", "qwen3", "--folder", str(folder)]
  tracemalloc.start()
  try:
    code = cli.main([*argv, "--reference", str(reference)])
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  error = capsys.readouterr().err
  assert code == 2 and error.startswith("error: ") and "Traceback" not in error
  assert re.search(words, error, re.S), error
  assert str(folder) in error and peak < MOST


@pytest.mark.parametrize("name", ["loop", "file", "x" * 300, "a\0b"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str):
  (tmp_path / "loop").symlink_to(tmp_path / "loop")
  (tmp_path / "file").write_text("")
  with pytest.raises(files.FolderError, match="not a folder|cannot be read"):
    files.Folder.open(tmp_path / name)


GIANTS: dict[str, dict[str, Any]] = {
  "qwen3": dict(
    vocab_size=1 << 24,
    hidden_size=1 << 17,
    intermediate_size=1 << 20,
    num_hidden_layers=1024,
    num_attention_heads=4096,
    num_key_value_heads=4096,
    head_dim=4096,
  ),
  "naflex": dict(
    hidden_size=1 << 16,
    num_hidden_layers=1024,
    num_attention_heads=4096,
    num_patches=1 << 18,
    patch_size=256,
  ),
  "sana": {
    f"{side}_{key}": value
    for side in ("encoder", "decoder")
    for key, value in dict(
      block_types="EfficientViTBlock",
      block_out_channels=[1 << 15] * 10,
      layers_per_block=[64] * 10,
      qkv_multiscales=[[5, 5, 5]] * 10,
    ).items()
  },
}


@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_is_not_traced_for_a_small_file(tmp_path, monkeypatch, name):
  """The largest sizes that a config.json may say, in front of other weights."""
  family = FAMILIES[name]
  own = "leaf_shapes" if name == "sana" else "shapes"
  monkeypatch.setattr(
    family.module, own, lambda *_: pytest.fail("the giant was traced")
  )
  folder = family.write(tmp_path, config=family.config | GIANTS[name])
  with pytest.raises(ConversionError, match="missing.*and [0-9]+ more"):
    family.module.open_folder(folder)


def test_a_null_section_is_an_empty_one():
  """As in transformers; and all that is taken for it is told."""
  family = FAMILIES["patch14"]
  both = [
    family.reader(family.config | {"vision_config": own}, "f")
    for own in (None, {})
  ]
  assert both[0] == both[1] and "leaves out 11 of its keys" in both[0][1]


# ---------------------------------------------------------------- all parts


def test_all_headers_are_read_before_any_tensor(tmp_path, monkeypatch):
  """A mistake in the last folder is found before the first one is loaded."""
  monkeypatch.setattr(
    files.Folder, "read", lambda *_: pytest.fail("a tensor was read")
  )
  names = {"qwen3": "qwen3", "siglip2": "patch14", "dcae": "sana"}
  bad = {"scaling_factor": "0.41407"}
  for part, name in names.items():
    own = bad if part == "dcae" else {}
    FAMILIES[name].write(tmp_path / part, config=FAMILIES[name].config | own)
  with pytest.raises(ConfigError, match=r"dcae/config.json: scaling_factor="):
    assembly.assemble(
      None,
      **{f"{part}_folder": tmp_path / part for part in names},
      dtype="float32",
      key=None,
    )


def test_a_folder_of_another_part_is_refused_by_name(tmp_path: Path):
  for name in ("qwen3", "patch14", "sana"):
    FAMILIES[name].write(tmp_path / name)
  for module, own in ((qwen3, "qwen3"), (siglip, "patch14"), (dcae, "sana")):
    for name in ("qwen3", "patch14", "sana"):
      if name == own:
        module.open_folder(tmp_path / name)
        continue
      said = {
        "qwen3": "says 'Qwen3ForCausalLM'",
        "patch14": "says 'siglip'",
        "sana": "_class_name says 'AutoencoderDC'|does not say which",
      }[name]
      with pytest.raises(ConfigError, match=said):
        module.open_folder(tmp_path / name)
