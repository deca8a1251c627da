"""Folders as strangers bring them: read exactly, or refused with what to do.

Each is made of a whole folder by what a program, a shell or a download does to
one; the text says what it is and what to give instead.
"""

from collections.abc import Callable
import json
from pathlib import Path
import re
import shutil
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from emma_jax import rules
from emma_jax.cli import convert as cli
from emma_jax.convert import casting, qwen3
from emma_jax.convert.casting import BadValues
from emma_jax.convert.fields import ConfigError
from emma_jax.convert.files import FolderError
from emma_jax.convert.table import ConversionError
from tests.convert import hostile, published
from tests.convert.hostile import FAMILIES, Family

QWEN3, SIGLIP, DCAE = (FAMILIES[name] for name in ("qwen3", "patch14", "sana"))
MODEL, CONFIG = "model.safetensors", "config.json"
DRAWN = "diffusion_pytorch_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n"
PAGE = "<!DOCTYPE html>\n<html><body>Log in</body></html>"


@pytest.fixture(autouse=True, scope="module")
def shapes_once():
  with hostile.shapes_once():
    yield


def leaves(family: Family, folder: Path) -> dict[str, np.ndarray]:
  opened = family.module.open_folder(folder)
  params = family.module.built(opened)[1]
  return {k: np.asarray(x) for k, x in rules.flatten(params).items()}


def same(family: Family, folder: Path, whole: Path) -> None:
  """What is read of the folder is what is read of a whole one."""
  found = leaves(family, folder)
  want = leaves(family, family.write(whole))
  assert found.keys() == want.keys()
  for name, x in want.items():
    np.testing.assert_array_equal(found[name], x, err_msg=name)


# --------------------------------------------------------------------- names


def before(prefix: str) -> Callable[[str], str]:
  return lambda name: prefix + name


# Who saved the tensors -> (family, what became of a name, words).
RENAMED: dict[str, tuple[Family, Callable[[str], str], str]] = {
  "DistributedDataParallel": (QWEN3, before("module."), "'module.' in them"),
  "torch.compile": (QWEN3, before("_orig_mod."), "'_orig_mod.' in them"),
  "both": (QWEN3, before("module._orig_mod."), "'_orig_mod.' and 'module.'"),
  "FSDP": (QWEN3, before("_fsdp_wrapped_module."), "'_fsdp_wrapped_module.'"),
  "a compiled part": (
    QWEN3,
    lambda name: name.replace("model.", "model._orig_mod.", 1),
    "'_orig_mod.' in them",
  ),
  "checkpointed layers": (
    QWEN3,
    lambda name: re.sub(r"(\d)\.", r"\1._checkpoint_wrapped_module.", name),
    "'_checkpoint_wrapped_module.' in them",
  ),
  "PEFT": (QWEN3, before("base_model.model."), "'base_model.model.' in them"),
  "TRL": (QWEN3, before("pretrained_model."), "'pretrained_model.' in them"),
  "the base model": (
    QWEN3,
    lambda name: name.removeprefix("model."),
    "names without 'model.'; add it",
  ),
  "a tower within": (
    SIGLIP,
    before("model.vision_tower."),
    "'model.vision_tower.vision_model.' in them",
  ),
  "DC-AE in DDP": (DCAE, before("module."), "'module.' in them"),
  "a pipeline's part": (DCAE, before("vae."), "'vae.' in them"),
}


@pytest.mark.parametrize("family, rename, words", RENAMED.values(), ids=RENAMED)
def test_wrapped_names_come_with_the_line_that_mends_them(
  tmp_path, family, rename, words
):
  """And the line does: what is saved by it is read exactly."""
  tensors = {rename(name): x for name, x in family.tensors.items()}
  folder = family.write(tmp_path / "f", tensors=tensors)
  with pytest.raises(ConversionError, match=words) as error:
    family.module.open_folder(folder)
  (code,) = re.findall(r"again: (\{.*tensors\.items\(\)\})\.", str(error.value))
  mended = eval(code, {"tensors": tensors})
  same(family, family.write(tmp_path / "g", tensors=mended), tmp_path / "h")


def without(part: str) -> Callable[[dict], dict]:
  return lambda tensors: {k: x for k, x in tensors.items() if part not in k}


def more(**tensors: np.ndarray) -> Callable[[dict], dict]:
  return lambda own: own | tensors


def fused(tensors: dict) -> dict:
  out = dict(tensors)
  for i in range(3):
    own = f"model.layers.{i}.self_attn."
    parts = [out.pop(f"{own}{x}_proj.weight") for x in "qkv"]
    out[f"{own}qkv_proj.weight"] = np.concatenate(parts)
  return out


def adapted(tensors: dict) -> dict:
  """A model that PEFT has wrapped, saved as it stands."""
  out = {}
  for name, x in tensors.items():
    base = f"base_model.model.{name}".removesuffix(".weight")
    if "q_proj" in name:
      out[f"{base}.lora_A.default.weight"] = np.ones((2, x.shape[1]), x.dtype)
      base += ".base_layer"
    out[f"{base}.weight"] = x
  return out


ROPE = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(6, "f")
        for i in range(3)}  # fmt: skip
BIAS = {"model.layers.0.self_attn.q_proj.bias": np.ones(48, "f")}
SCALE = {"model.layers.0.self_attn.k_scale": np.ones((), "f")}
VISION = SIGLIP.config["vision_config"]
# What is wrong -> (family, change of config, of tensors, words).
UNFIT: dict[str, tuple[Family, dict, Callable[[dict], dict], str]] = {
  "an adapter unmerged": (QWEN3, {}, adapted, "adapter's.*merge_and_unload"),
  "fused matrices": (QWEN3, {}, fused, "qkv_proj.weight are of a layout that"),
  "scales of a cache": (QWEN3, {}, more(**SCALE), "k_scale are what quantised"),
  "RoPE's frequencies": (QWEN3, {}, more(**ROPE), "frequencies, which are no"),
  "fewer layers": (
    QWEN3,
    {"num_hidden_layers": 2},
    dict,
    "The files have layers that config.json does not count, 2; correct num_",
  ),
  "more layers": (
    QWEN3,
    {"num_hidden_layers": 5},
    dict,
    "config.json counts layers that the files do not have, 3 to 4; correct num",
  ),
  "no head": (
    QWEN3,
    {"tie_word_embeddings": False},
    dict,
    "output head alone is missing: set tie_word_embeddings to true",
  ),
  "no pooling head": (
    SIGLIP,
    {},
    without(".head."),
    "pooling head alone is missing: set vision_use_head to false",
  ),
  "an unused pooling head": (
    SIGLIP,
    {"vision_config": VISION | {"vision_use_head": False}},
    dict,
    "files have a pooling head.*set vision_use_head to true",
  ),
  "other code's names": (
    DCAE,
    {},
    lambda own: {k.replace("conv_in", "project_in"): x for k, x in own.items()},
    "mit-han-lab's own code; get the repository.*-diffusers",
  ),
}


@pytest.mark.parametrize("family, config, change, words", UNFIT.values(),
                         ids=UNFIT)  # fmt: skip
def test_what_does_not_fit_is_explained(
  tmp_path, family, config, change, words
):
  family.write(tmp_path, family.config | config, change(family.tensors))
  with pytest.raises(ConversionError, match=words):
    family.module.open_folder(tmp_path)


def test_nothing_is_explained_by_guess(tmp_path):
  """A bias in a first layer is no depth; and one name fits no renaming."""
  for i, extra in enumerate((BIAS, {"mtp.layers.0.x": np.ones(2, "f")})):
    QWEN3.write(tmp_path / str(i), tensors=QWEN3.tensors | extra)
    with pytest.raises(ConversionError) as error:
      QWEN3.module.open_folder(tmp_path / str(i))
    lines = str(error.value).splitlines()
    assert len(lines) == 4 and lines[-1].startswith("Nothing was converted.")


# ------------------------------------------------------------------- folders

Harm = Callable[[Path], Path | None]


def text(name: str, content: str) -> Harm:
  return lambda folder: (folder / name).write_text(content) and None


def renamed(name: str) -> Harm:
  return lambda folder: (folder / MODEL).rename(folder / name) and None


def linked(name: str) -> Harm:
  def harm(folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("../../blobs/x")

  return harm


def foreign(name: str) -> Harm:
  def harm(folder: Path) -> None:
    (folder / CONFIG).rename(folder / name)

  return harm


def moved(below: str) -> Harm:
  """The folder lies somewhere in the one that is given."""

  def harm(folder: Path) -> Path:
    target = folder.with_name("given") / below
    target.parent.mkdir(parents=True)
    shutil.move(folder, target)
    return folder.with_name("given")

  return harm


def unfinished(folder: Path) -> None:
  (folder / f"{MODEL}.aria2").write_bytes(b"x")


def in_parts(folder: Path) -> None:
  (folder / MODEL).unlink()
  (folder / "pytorch_model_fsdp_0").mkdir()
  (folder / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"x")


def in_cache(folder: Path) -> None:
  (folder / MODEL).unlink()
  cache = folder / ".cache" / "huggingface" / "download"
  cache.mkdir(parents=True)
  (cache / f"{MODEL}.abc.incomplete").write_bytes(b"")


def both_stems(folder: Path) -> None:
  shutil.copy(folder / MODEL, folder / DRAWN)


def shard_linked(folder: Path) -> None:
  (folder / MODEL).unlink()
  published.write(folder, QWEN3.config, QWEN3.tensors, shards=3)
  linked("model-00002-of-00003.safetensors")(folder)


FOLDERS: dict[str, tuple[Harm, str]] = {
  "a pointer for weights": (text(MODEL, POINTER), "LFS pointer.*git lfs pull"),
  "a pointer for config": (text(CONFIG, POINTER), "LFS pointer.*git lfs pull"),
  "a page for weights": (text(MODEL, PAGE), "a web page.*log in"),
  "a page for config": (text(CONFIG, PAGE), "a web page.*log in"),
  "an answer": (text(MODEL, '{"error": "gated"}'), "a server's answer.*gated"),
  "nothing came": (text(MODEL, ""), "is empty; download it again"),
  "only the size": (text(MODEL, "\0" * 999), "is zeros"),
  "a link to nothing": (linked(MODEL), "a link to .*blobs/x.*cp -rL"),
  "config is one": (linked(CONFIG), "a link to .*blobs/x.*cp -rL"),
  "a shard is one": (shard_linked, "00002-of.*a link to .*cp -rL"),
  "aria2 goes on": (unfinished, "is not finished, as model.safetensors.aria2"),
  "hf goes on": (in_cache, "incomplete, a download that is not finished"),
  "a browser's part": (renamed(f"{MODEL}.crdownload"), "not finished"),
  "torch.distributed": (in_parts, "__0_0.distcp, parts of torch.distributed"),
  "OpenVINO": (renamed("openvino_model.xml"), "a model of OpenVINO"),
  "an adapter": (foreign("adapter_config.json"), "is an adapter.*merge_and_un"),
  "a pipeline": (foreign("model_index.json"), "whole pipeline.*vae"),
  "open_clip": (foreign("open_clip_config.json"), "a model of open_clip"),
  "the folder above": (moved("Qwen3-4B"), "give one.*: .*given/Qwen3-4B"),
  "the cache": (moved("snapshots/1cfa"), "give one.*: .*/snapshots/1cfa"),
  "all caches": (moved("models--Q/snapshots/1"), "give one.*: .*/snapshots/1"),
  "two libraries'": (both_stems, "cannot tell which weights are meant"),
}


@pytest.mark.parametrize("harm, words", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_tells_what_it_is(tmp_path, harm, words):
  folder = QWEN3.write(tmp_path / "f")
  given = harm(folder) or folder
  with pytest.raises(FolderError, match=f"(?s){words}") as error:
    qwen3.open_folder(given)
  assert str(given) in str(error.value) and "\n" not in str(error.value)


def by_links(folder: Path) -> None:
  """As the hub's cache has it: a snapshot of links to blobs."""
  blobs = folder.with_name("blobs")
  blobs.mkdir()
  for name in (MODEL, CONFIG):
    shutil.move(folder / name, blobs / name)
    (folder / name).symlink_to(f"../blobs/{name}")


def variant(folder: Path) -> None:
  (folder / MODEL).unlink()
  tensors, stem = QWEN3.tensors, "model.fp16"
  published.write(folder, QWEN3.config, tensors, stem=stem, shards=2)
  index = folder / "model.fp16.safetensors.index.json"
  index.rename(folder / "model.safetensors.index.fp16.json")


def beside(folder: Path) -> None:
  ones = {"base_model.model.x.lora_A.weight": np.ones((2, 24), "f")}
  safetensors.numpy.save_file(ones, folder / "adapter_model.safetensors")
  shutil.copy(folder / MODEL, folder / "model.fp16.safetensors")


def wrong_size(folder: Path) -> None:
  (folder / MODEL).unlink()
  published.write(folder, QWEN3.config, QWEN3.tensors, shards=2)
  index = folder / f"{MODEL}.index.json"
  content = json.loads(index.read_text())
  content["metadata"]["total_size"] = 1
  index.write_text(json.dumps(content))


@pytest.mark.parametrize("change", [by_links, variant, beside, wrong_size])
def test_what_says_the_same_is_read(tmp_path, change):
  folder = QWEN3.write(tmp_path / "f")
  change(folder)
  same(QWEN3, folder, tmp_path / "whole")


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  QWEN3.write(tmp_path / "f")
  same(QWEN3, Path("~/f"), tmp_path / "whole")


def test_init_names_the_folder_in_the_cache(tmp_path, monkeypatch, capsys):
  """Not the tokenizer, which lies beside the config.json that is missing."""
  monkeypatch.setenv("HOME", str(tmp_path))
  QWEN3.write(tmp_path / "cache" / "snapshots" / "1cfa")
  argv = ["init", "--config", "configs/emma_0_6b.py", "--qwen3=~/cache"]
  argv += ["--siglip2", str(tmp_path), "--dcae", str(tmp_path)]
  assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 2
  error = capsys.readouterr().err
  assert f"give one of the folders in it that have: {tmp_path}/cache/" in error
  snapshot = argv[3] + "/snapshots/1cfa"
  argv[3] = snapshot
  assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 2
  assert "Download the tokenizer.json of the model" in capsys.readouterr().err
  (tmp_path / "cache/snapshots/1cfa/tokenizer.json").symlink_to("../blobs/x")
  assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 2
  assert "is a link to ../blobs/x" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------- values


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_matrix_of_zeros_was_never_downloaded(tmp_path, name, kind):
  """Of every tensor: matrices are refused, biases and scales may be 0."""
  family, wrong = FAMILIES[name], []
  for tensor, x in family.tensors.items():
    if x.ndim == 0:
      continue
    tensors = {k: v.astype(kind) if v.ndim else v
               for k, v in family.tensors.items()}  # fmt: skip
    tensors[tensor] = np.zeros_like(tensors[tensor])
    folder = family.write(tmp_path, tensors=tensors)
    opened, text = family.module.open_folder(folder), ""
    try:
      for _ in opened.leaves:
        pass
    except BadValues as error:
      text = str(error)
    left = any(t in tensor for t in ("text_model", "logit_"))
    if (x.ndim > 1 and not left) != (f"{tensor}: {x.size:,} of" in text):
      wrong.append(f"{tensor} {x.shape}: {text}")
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_a_hole_in_a_large_matrix_is_found(kind):
  """A piece of a download that never came, wherever it begins."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2048, 2048)).astype(jnp.dtype(kind))
  x[x == 0] = 1
  casting.check_filled("w", x, "r")
  x[:100] = 0  # as rows of tokens that no text has
  casting.check_filled("w", x, "r")
  x.reshape(-1)[1_500_000:3_700_000] = 0
  with pytest.raises(casting.BadValues, match="1,048,576 of 4,194,304.*are 0"):
    casting.check_filled("w", x, "r")


def test_rope_is_not_left_unscaled_without_a_word():
  """A factor whose type nobody wrote; with the type default it says nothing."""
  for scaling, fits in (
    ({"factor": 4.0}, False),
    ({"factor": 4.0, "rope_type": "yarn"}, False),
    ({"factor": 4.0, "rope_type": "default"}, True),  # as in transformers
    ({"factor": 1.0}, True),
  ):
    config: dict[str, Any] = QWEN3.config | {"rope_scaling": scaling}
    if fits:
      assert QWEN3.reader(config, "f") == QWEN3.reader(QWEN3.config, "f")
    else:
      with pytest.raises(ConfigError, match="is not implemented"):
        QWEN3.reader(config, "f")
