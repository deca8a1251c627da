"""Mistakes of who packs weights are one line, and nothing is lost unsaid."""

from pathlib import Path

import numpy as np
import pytest

from emma_jax.build import sections
from emma_jax.checkpoints.weight_files import load_weights, save_weights
from emma_jax.cli import pack
from tests import tiny


def run(path: Path, *more: str) -> int:
  out = path.with_name("out.safetensors")
  return pack.main(["model", f"--workdir={path}", f"--out={out}", *more])


@pytest.fixture
def trained(tmp_path: Path):
  """A function that writes the micro model with another leaf."""

  def write(leaf: np.ndarray) -> Path:
    params = tiny.params() | {"heads": dict(tiny.params()["heads"])}
    params["heads"]["velocity"] = dict(params["heads"]["velocity"])
    params["heads"]["velocity"]["kernel"] = leaf
    config = sections.plain(tiny.config()) | {"stages": {"a": {"steps": 1}}}
    meta = {"config": config, "fingerprints": {}, "stage": "a"}
    meta |= {"stage_step": 1, "router_trained": False}
    save_weights(tmp_path / "w.safetensors", params, meta)
    return tmp_path / "w.safetensors"

  return write


LEAF = (
  np.random.default_rng(0)
  .normal(size=np.shape(tiny.shapes()["heads"]["velocity"]["kernel"]))
  .astype(np.float32)
)


def test_a_missing_run_is_one_line(tmp_path, capsys):
  assert run(tmp_path / "none") == 2
  assert "none" in capsys.readouterr().err


def test_what_becomes_0_in_float16_is_counted(trained, capsys):
  leaf = LEAF.copy()
  leaf[:2, 1] = 1e-9
  path = trained(leaf)
  assert run(path) == 0
  said = capsys.readouterr().out
  assert "2 weights in 1 arrays are too small for float16" in said
  assert "in heads/velocity/kernel; --dtype float32 keeps them" in said
  assert run(path, "--dtype=float32") == 0
  assert "too small" not in capsys.readouterr().out
  packed, _ = load_weights(path.with_name("out.safetensors"))
  np.testing.assert_array_equal(packed["heads"]["velocity"]["kernel"], leaf)


def test_a_leaf_that_float16_would_lose_is_refused(trained, capsys):
  path = trained(LEAF * np.float32(1e-9))
  assert run(path) == 2
  error = capsys.readouterr().err
  assert "heads/velocity/kernel: float16 would change it by" in error
  assert "--dtype float32" in error
  assert not path.with_name("out.safetensors").exists()
  assert run(path, "--dtype=float32") == 0
