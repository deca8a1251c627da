"""Every key of an exported folder's config.json, spoilt in turn.

Exports travel, and people edit them: what does not fit is refused in a
sentence before any weight is read, and nothing ends in a stack trace.
"""

from collections.abc import Iterator
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from emma_jax.build import session as build_session
from emma_jax.checkpoints import locate
from emma_jax.checkpoints.integrity import CheckpointError
from emma_jax.convert import emma, files
from tests.convert.exported import export
from tests.convert.hostile import FAMILIES

DROPPED = object()  # in place of a value: without the key
# What a value becomes.
VALUES = {"dropped": DROPPED, "null": None, "a text": "x", "a list": []}
REFUSED = (ValueError, CheckpointError)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
  return export(tmp_path_factory.mktemp("exported") / "whole")


def paths(section: Any, at: tuple = ()) -> Iterator[tuple]:
  for key, value in section.items():
    yield (*at, key)
    if isinstance(value, dict):
      yield from paths(value, (*at, key))


def spoilt(about: dict, path: tuple, value: Any) -> dict:
  out = copy.deepcopy(about)
  *above, key = path
  section = out
  for name in above:
    section = section[name]
  if value is DROPPED:
    del section[key]
  else:
    section[key] = value
  return out


@pytest.mark.parametrize("change", VALUES)
def test_no_key_ends_in_a_stack_trace(whole, tmp_path, monkeypatch, change):
  monkeypatch.setattr(
    files.Folder, "read", lambda *_: pytest.fail("a weight was read")
  )
  # Tracing takes a second for each: what comes before it is looked at here.
  monkeypatch.setattr(emma.emma_names, "shapes", lambda sizes: {})
  about = json.loads((whole / "config.json").read_text())
  file = tmp_path / "config.json"
  (tmp_path / "model.safetensors").symlink_to(whole / "model.safetensors")
  sections = {k: about["config"][k] for k in ("model", "data", "sample")}
  wrong = []
  for path in (("config",), ("step",), ("route",), *paths(sections)):
    full = path if path[0] in about else ("config", *path)
    file.write_text(json.dumps(spoilt(about, full, VALUES[change])))
    try:
      build_session.config_of(str(tmp_path))
    except REFUSED:
      pass
    except Exception as error:
      name = ".".join(path)
      wrong.append(f"{name}: {type(error).__name__}: {error!s:.200}")
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("key", ["height", "native", "tokenizer"])
@pytest.mark.parametrize("value", [DROPPED, None, {}])
def test_the_key_and_the_file_are_named(whole, tmp_path, key, value):
  about = json.loads((whole / "config.json").read_text())
  (tmp_path / "model.safetensors").symlink_to(whole / "model.safetensors")
  file = tmp_path / "config.json"
  file.write_text(json.dumps(spoilt(about, ("config", "data", key), value)))
  with pytest.raises(CheckpointError, match=key) as error:
    locate.read(str(tmp_path))
  assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_sizes_of_no_model_are_refused(whole, tmp_path):
  about = json.loads((whole / "config.json").read_text())
  (tmp_path / "model.safetensors").symlink_to(whole / "model.safetensors")
  width = "config", "model", "llm", "width"
  for value, words in ((-32, "of no model"), ("32", "'32' must be a whole")):
    text = json.dumps(spoilt(about, width, value))
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
      locate.read(str(tmp_path))


def test_a_giant_is_refused_before_its_names_are_made(whole, monkeypatch):
  """A table of a thousand million layers would not fit any memory."""
  about = json.loads((whole / "config.json").read_text())
  giant = spoilt(about, ("config", "model", "llm", "num_layers"), 10**9)
  monkeypatch.setattr(files, "read_json", lambda path: giant)
  monkeypatch.setattr(
    emma.emma_names, "entries", lambda *_: pytest.fail("names were made")
  )
  with pytest.raises(CheckpointError, match="1,000,000,012 layers, and the fi"):
    locate.read(str(whole))


@pytest.mark.parametrize(
  "name, content, words",
  [
    ("model.safetensors", None, "has no metadata of emma_jax; of a folder"),
    ("w.npz", b"PK\3\4", "is no .safetensors file, and others are not read"),
    ("w.gguf", b"GGUF", "is no .safetensors file, and others are not read"),
    ("config.json", None, "is no .safetensors file"),
    ("a.safetensors", b"version https://git-lfs", "a Git LFS pointer"),
    ("b.safetensors", b"<!DOCTYPE html>", "a web page"),
    ("c.safetensors", b"", "is empty; download it again"),
  ],
)
def test_a_file_that_holds_no_weights_of_ours(whole, name, content, words):
  if content is not None:
    (whole / name).write_bytes(content)
  with pytest.raises(CheckpointError, match=words) as error:
    locate.read(str(whole / name))
  assert str(whole / name) in str(error.value)
  if content is not None:
    (whole / name).unlink()


def test_a_link_to_nothing_is_told(whole, tmp_path):
  (tmp_path / "config.json").symlink_to("../../blobs/x")
  with pytest.raises(locate.NoWeights, match="config.json .* a link to .*blob"):
    locate.read(str(tmp_path))


def test_a_part_is_no_whole(tmp_path):
  """A folder of Qwen3 in place of an EMMA's comes with what makes one of it."""
  for name in ("qwen3", "patch14", "sana"):
    FAMILIES[name].write(tmp_path / name)
    with pytest.raises(CheckpointError, match="None, not .*emma-convert init"):
      locate.read(str(tmp_path / name))
