"""An import beside dumped tensors: layouts, inputs, and what is compared."""

from pathlib import Path

import jax
import numpy as np
import pytest

from emma_jax.convert import check, dcae, qwen3, siglip
from tests.goldens import dcae as dcae_golden
from tests.goldens import qwen3 as qwen3_golden
from tests.goldens import siglip as siglip_golden
from tests.tiny import QUICK


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  """`check` compiles each program for one run."""
  own = jax.jit
  monkeypatch.setattr(
    jax, "jit", lambda f, **k: own(f, **k, compiler_options=QUICK)
  )


def apply(module, params, *inputs, **options):
  with jax.default_matmul_precision("highest"):
    return jax.jit(lambda p, *x: module.apply({"params": p}, *x, **options))(
      params, *inputs
    )


def errors(family: str, folder: Path, reference: dict) -> dict[str, float]:
  return {c.name: c.error for c in check.check(family, folder, reference)}


def first(x) -> np.ndarray:
  """Channels after the pictures, as in torch."""
  return np.moveaxis(np.asarray(x), -1, 1)


def test_a_decoder_with_mask_and_positions(tmp_path: Path):
  """Padded places are undefined and left out; positions are as given."""
  folder = qwen3_golden.write(tmp_path, "untied")
  module, params = qwen3.load(folder)
  tokens = qwen3_golden.tokens("untied")
  mask = np.ones_like(tokens)
  mask[0, :4] = 0
  position = np.maximum(mask.cumsum(1) - 1, 0)
  logits, hidden = map(
    np.asarray,
    (apply(module, params, tokens, position, mask)[i] for i in (0, 1)),
  )
  given = {"input_ids": tokens, "attention_mask": mask}
  wild = np.where(mask[..., None] > 0, logits, 7e3)
  # A wrong value in a place that counts shows, in units of the maximum there.
  wild[0, 4, 2] += 0.5 * np.abs(logits[mask > 0]).max()
  reference = given | {"logits": wild, "hidden_states.1": hidden[1]}
  found = errors("qwen3", folder, reference)
  assert set(found) == {"logits", "hidden_states.1"}
  assert 0.3 < found["logits"] <= 0.51 and found["hidden_states.1"] < 1e-6
  # Twice the distance is another text.
  apart = errors("qwen3", folder, reference | {"position_ids": 2 * position})
  assert apart["hidden_states.1"] > 1e-3


def test_a_vision_model_by_pictures_of_torch_s_layout(tmp_path: Path):
  folder = siglip_golden.write(tmp_path, "patch14")
  module, params = siglip.load(folder)
  pixels = siglip_golden.pixels("check", (45, 99))
  out = apply(module, params, pixels)
  reference = {
    "pixel_values": first(pixels),
    "last_hidden_state": np.asarray(out.patches_PTD),
    "pooler_output": np.asarray(out.pooled_PD),
  }
  reference |= {
    f"hidden_states.{i}": np.asarray(x) for i, x in enumerate(out.states_ZPTD)
  }
  found = errors("siglip2", folder, reference)
  assert set(found) == set(reference) - {"pixel_values"}
  assert max(found.values()) < 1e-6
  with pytest.raises(check.ReferenceError, match="give whole pictures"):
    check.check("siglip2", folder, {"pixel_values": np.zeros((1, 4, 9))})


def test_an_autoencoder_by_raw_latents(tmp_path: Path):
  """Without the scaling factor; each input alone is enough."""
  folder = dcae_golden.write(tmp_path, "lite")
  module, params = dcae.load(folder)
  picture = dcae_golden.picture("lite")
  raw = np.asarray(apply(module, params, picture, method="encode"))
  made = np.asarray(apply(module, params, raw, method="decode"))
  coded = {"pixel_values": first(picture), "latent": first(raw)}
  decoded = {"latent": first(raw), "sample": first(made)}
  for reference, names in ((coded, {"latent"}), (decoded, {"sample"})):
    found = errors("dcae", folder, reference)
    assert set(found) == names and max(found.values()) < 1e-6
  with pytest.raises(check.ReferenceError, match="lacks the input 'pixel"):
    check.check("dcae", folder, {"latent": first(raw)})
  with pytest.raises(check.ReferenceError, match="lacks the input 'latent'"):
    check.check("dcae", folder, {"sample": first(made)})
  with pytest.raises(check.ReferenceError, match="shape .* the import gives"):
    check.check("dcae", folder, coded | {"latent": raw})
