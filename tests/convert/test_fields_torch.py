"""The defaults in our tables are those of the reference implementations."""

import inspect
import json

import pytest

from emma_jax.convert import dcae_config, qwen3_config, siglip_config

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch


def given(table) -> dict:
  """Key -> default, of those that name a source."""
  return {f.key: f.default for f in table if f.source}


@pytest.mark.parametrize(
  "table, name",
  [
    (qwen3_config.FIELDS, "Qwen3Config"),
    (siglip_config.fields_of("siglip"), "SiglipVisionConfig"),
    (siglip_config.fields_of("siglip2"), "Siglip2VisionConfig"),
  ],
)
def test_transformers(table, name: str):
  reference = getattr(transformers, name)()
  assert given(table)
  for key, value in given(table).items():
    assert getattr(reference, key) == value, key
    assert all(name in f.source for f in table if f.source)


def test_diffusers():
  signature = inspect.signature(diffusers.AutoencoderDC.__init__).parameters
  assert set(given(dcae_config.FIELDS)) == set(signature) - {
    "self",
    "scaling_factor",
  }
  for key, value in given(dcae_config.FIELDS).items():
    assert signature[key].default == value, key


def test_what_is_required_is_always_written(tmp_path):
  """By the libraries' own `save_pretrained`: no file of theirs is refused."""
  transformers.Qwen3Config(head_dim=16, hidden_size=64).save_pretrained(
    tmp_path
  )
  written = json.loads((tmp_path / "config.json").read_text())
  for field in qwen3_config.FIELDS:
    assert not field.required or field.key in written, field.key
  assert "rope_theta" in written["rope_parameters"]
