"""launch/dump_reference.py writes what `emma-convert check` finds equal.

Skipped without torch.
"""

import importlib.util
import pathlib

import numpy as np
import pytest

from emma_jax.cli import convert as cli

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch

from tests.convert import dcae_pairs, reference_qwen3, siglip_reference

FILE = pathlib.Path(__file__).parents[2] / "launch" / "dump_reference.py"


@pytest.fixture(scope="module")
def dump():
  spec = importlib.util.spec_from_file_location("dump_reference", FILE)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _made(kind: str):
  if kind == "qwen3":
    return reference_qwen3.reference("tied")
  if kind == "fixed":
    return siglip_reference.fixed(patch_size=4, image_size=20)
  if kind == "naflex":
    return siglip_reference.flexible()
  return dcae_pairs.pair("sana").reference


@pytest.mark.parametrize(
  "kind, family, compared",
  [
    ("qwen3", "qwen3", ["logits", "hidden_states.0", "hidden_states.3"]),
    ("fixed", "siglip2", ["last_hidden_state", "pooler_output"]),
    ("naflex", "siglip2", ["last_hidden_state", "hidden_states.2"]),
    ("sana", "dcae", ["latent", "sample"]),
  ],
)
def test_what_it_dumps_is_what_check_reads(
  kind, family, compared, dump, tmp_path, capsys
):
  folder, file = tmp_path / "model", tmp_path / "reference.npz"
  _made(kind).save_pretrained(folder)
  of = ["--family", family, "--folder", str(folder)]
  small = ["--tokens", "8", "--side", "32"]
  assert dump.main([*of, *small, "--out", str(file)]) == 0
  told = capsys.readouterr().out.splitlines()[-1].split()
  assert told[:2] == ["emma-convert", "check"]
  assert cli.main(told[1:]) == 0
  shown = capsys.readouterr().out
  assert all(f"{name} " in shown for name in compared) and "Equal." in shown
  with np.load(file) as found:
    wrong = dict(found)
  wrong[compared[-1]] = wrong[compared[-1]] * np.float32(1.001)
  np.savez(file, **wrong)
  assert cli.main(told[1:]) == 1
  assert compared[-1] in capsys.readouterr().out.splitlines()[-1]


def test_it_says_what_is_missing(dump, tmp_path, capsys):
  out = ["--out", str(tmp_path / "a.npz")]
  argv = ["--family", "qwen3", "--folder", str(tmp_path), *out]
  assert dump.main(argv) == 2
  assert "emma-convert parts" in capsys.readouterr().err
  (tmp_path / "config.json").write_text("{}")
  assert dump.main([*argv, "--side", "33"]) == 2
  assert "multiple of 32" in capsys.readouterr().err
