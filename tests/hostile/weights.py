"""Folders of published weights, and files that are called weights of ours."""

from collections.abc import Iterator
import json
import pathlib
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy

from emma_jax import rules
from tests.cli import test_sample
from tests.convert import test_malformed
from tests.hostile.measured import Case
from tests.sampling import small


def folders(folder: pathlib.Path) -> Iterator[Case]:
  """Of Qwen3, met by `emma-convert check`."""
  np.savez(folder / "r.npz", input_ids=np.ones((1, 3), int))
  for i, (name, (harm, words)) in enumerate(test_malformed.FOLDERS.items()):
    harm(test_malformed.QWEN3.write(folder / str(i)))
    yield Case(
      name=name,
      command="emma-convert",
      argv=(
        *("check", "--family", "qwen3", "--folder", str(i)),
        *("--reference", "r.npz"),
      ),
      code=2,
      words=words,
    )


def files(folder: pathlib.Path) -> Iterator[Case]:
  """Met by `emma-sample draw`."""
  for name, (file, code, words) in _files(folder).items():
    yield Case(
      name=name,
      command="emma-sample",
      argv=(
        *("draw", "--checkpoint", file, "--prompt", "a"),
        *("--out", "o.png", "--steps", "1"),
      ),
      code=code,
      words=words,
    )


def _files(folder: pathlib.Path) -> dict[str, tuple[str, int, str]]:
  """What is wrong -> (a file's name, exit code, words)."""
  test_sample.saved(folder / "good.safetensors", _params())
  good = (folder / "good.safetensors").read_bytes()
  tensors = safetensors.numpy.load(good)
  size = int.from_bytes(good[:8], "little")
  meta = json.loads(good[8 : 8 + size])["__metadata__"]
  cut = {name: text[:-5] for name, text in meta.items()}
  huge = (1 << 60).to_bytes(8, "little")
  flipped = bytearray(good)
  flipped[-9] ^= 1
  (folder / "nothing").mkdir()
  none = "is not a readable weight file"
  contents = {
    "a file of no bytes": (b"", none),
    "a file of zeros": (bytes(9999), none),
    "a text": (b"a text\n" * 99, none),
    "a pickle": (b"\x80\x04N.", none),
    "cut": (good[: len(good) // 2], none),
    "a header of 2**60 bytes": (huge + good[8:], none),
    "a bit flipped": (bytes(flipped), "does not match the SHA-256"),
    "without metadata": (safetensors.numpy.save(tensors), none),
    "metadata cut": (safetensors.numpy.save(tensors, cut), none),
  }
  found = {}
  for i, (name, (content, words)) in enumerate(contents.items()):
    (folder / f"{i}.safetensors").write_bytes(content)
    found[name] = (f"{i}.safetensors", 65, words)
  nothing = {"an empty folder": ("nothing", 2, "No weights at nothing")}
  return found | _changed(folder) | nothing


def _params(**changes: Any) -> dict:
  """Weights of the small model; a change of None leaves the weight out."""
  flat = rules.flatten(small.random_params(small.config()["model"]))
  flat = {k: v for k, v in (flat | changes).items() if v is not None}
  return rules.unflatten(flat)


def _changed(folder: pathlib.Path) -> dict[str, tuple[str, int, str]]:
  """Whole files, with checksums, of weights that do not fit or are none."""
  name = "llm/norm_gen/scale"
  scale = rules.flatten(_params())[name]
  other = "heads/velocity/kernel: "
  broken = np.where(np.arange(len(scale)) == 3, np.nan, scale)
  weights = {
    "a tensor less": ({name: None}, 2, f"{name}: nothing, the model has"),
    "a tensor of another shape": (
      *({"heads/velocity/kernel": np.ones((3, 5), np.float32)}, 2),
      other + r"\[3, 5\], the model has",
    ),
    "a tensor of integers": ({name: scale.astype(np.int32)}, 2, name),
    "a tensor more": ({"llm/more": scale}, 2, "llm/more"),
    "a tensor with NaN": ({name: broken.astype(np.float32)}, 76, "NaN"),
    "a tensor with infinity": ({name: scale / 0}, 76, "infinite"),
    "a tensor of 1e38": ({name: scale * np.float32(1e38)}, 76, "infinite"),
  }
  found = {}
  # Files of another program: ours refuses to write such numbers.
  with (
    mock.patch("emma_jax.convert.casting.check_finite"),
    np.errstate(all="ignore"),
  ):
    for i, (what, (changes, code, words)) in enumerate(weights.items()):
      test_sample.saved(folder / f"c{i}.safetensors", _params(**changes))
      found[what] = (f"c{i}.safetensors", code, words)
  return found
