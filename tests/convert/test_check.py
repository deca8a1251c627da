"""An import beside dumped tensors: layouts, inputs, and what is compared."""

from pathlib import Path
import tracemalloc

import jax
import numpy as np
import pytest

from emma_jax.cli import convert as cli
from emma_jax.convert import check, dcae, qwen3, siglip
from tests.convert import hostile
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


def test_check_tells_what_no_shape_does(tmp_path: Path, capsys):
  """A square matrix that is transposed is imported, and found to differ."""
  family = hostile.FAMILIES["qwen3"]
  tokens = np.arange(8, dtype=np.int32)[None]
  folder = family.write(tmp_path / "f")
  module, params = qwen3.load(folder)
  logits, _ = apply(module, params, tokens)
  np.savez(tmp_path / "r.npz", input_ids=tokens, logits=logits)
  argv = ["check", "--family", "qwen3", "--folder", str(folder)]
  argv += ["--reference", str(tmp_path / "r.npz"), "--tolerance", "1e-3"]
  assert cli.main(argv) == 0
  tensors = dict(family.tensors)
  name = "model.layers.1.self_attn.k_proj.weight"
  assert tensors[name].shape == (24, 24)
  tensors[name] = np.ascontiguousarray(tensors[name].T)
  family.write(folder, tensors=tensors)
  assert cli.main(argv) == 1
  assert "DIFFERS" in capsys.readouterr().out


# ---------------------------------------------------- what is no reference


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
  """A folder, and a reference that it is equal to."""
  folder = hostile.FAMILIES["qwen3"].write(tmp_path_factory.mktemp("small"))
  module, params = qwen3.load(folder)
  tokens = np.arange(8, dtype=np.int32)[None]
  logits, hidden = map(np.asarray, apply(module, params, tokens))
  return folder, {
    "input_ids": tokens,
    "hidden_states.1": hidden[1],
    "logits": logits,
  }


def run(folder: Path, reference: Path, *more: str) -> int:
  argv = ["check", "--family", "qwen3", "--folder", str(folder)]
  return cli.main([*argv, "--reference", str(reference), *more])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["hidden_states.1", "logits"])
def test_what_is_not_finite_is_never_equal(
  small, tmp_path, capsys, name, value
):
  """Whichever comes first: Python's max keeps what NaN is compared with."""
  folder, reference = small
  bad = reference[name].copy()
  bad[0, 3, 2] = value
  np.savez(tmp_path / "r.npz", **(reference | {name: bad}))
  assert run(folder, tmp_path / "r.npz") == 1
  said = capsys.readouterr().out
  assert f"not equal: {name} by" in said and "Equal." not in said
  line = next(x for x in said.splitlines() if x.startswith(name))
  assert "inf  DIFFERS  1 of" in line and "of the reference are not" in line


def test_our_own_outputs_must_be_finite_too(small, monkeypatch):
  folder, reference = small
  bad = {"logits": np.full_like(reference["logits"], np.nan)}
  monkeypatch.setitem(check.FAMILIES, "qwen3", lambda *_: (bad, ""))
  (found,) = check.check("qwen3", folder, reference)
  assert found.error == np.inf and "of the import are not" in found.note


WRONG = {
  "ids beyond the vocabulary": (dict(input_ids=np.full((1, 8), 40)), "0 to 39"),
  "negative ids": (dict(input_ids=np.full((1, 8), -1)), "holds -1 to -1"),
  "ids as fractions": (dict(input_ids=np.ones((1, 8))), "as integers"),
  "ids without rows": (dict(input_ids=np.arange(8)), "give rows of tokens"),
  "no ids": (dict(input_ids=np.zeros((1, 0), int)), "give rows of tokens"),
  "a mask of 2": (dict(attention_mask=np.full((1, 8), 2)), "takes 0 to 1"),
  "a mask of zeros": (dict(attention_mask=np.zeros((1, 8), int)), "nothing co"),
  "another mask": (dict(attention_mask=np.ones((1, 9), int)), "must be of"),
  "other positions": (dict(position_ids=np.ones((2, 8), int)), "must be of"),
  "other logits": (dict(logits=np.ones((1, 8, 41))), "the reference has the"),
  "logits of words": (dict(logits=np.full((1, 8, 40), "x")), "not of numbers"),
}


@pytest.mark.parametrize("change, words", WRONG.values(), ids=WRONG)
def test_arrays_that_do_not_fit_are_named(
  small, tmp_path, capsys, change, words
):
  folder, reference = small
  np.savez(tmp_path / "r.npz", **(reference | change))
  assert run(folder, tmp_path / "r.npz") == 2
  error = capsys.readouterr().err
  assert words in error and next(iter(change)) in error


def test_what_else_is_in_a_reference_is_left_alone(small, tmp_path, capsys):
  folder, reference = small
  own = np.array(["a prompt", "another"])
  np.savez(tmp_path / "r.npz", **(reference | {"prompts": own}))
  assert run(folder, tmp_path / "r.npz") == 0
  assert capsys.readouterr().out.endswith("Equal.\n")


def test_an_array_that_unpacks_to_much_is_not_read(small, tmp_path, capsys):
  """Its shape is known, and no output has it."""
  folder, reference = small
  bomb = np.zeros((1, 50_000_000), np.float32)
  np.savez_compressed(tmp_path / "r.npz", **(reference | {"logits": bomb}))
  assert (tmp_path / "r.npz").stat().st_size < 1e6
  del bomb
  tracemalloc.start()
  try:
    assert run(folder, tmp_path / "r.npz") == 2
    assert tracemalloc.get_traced_memory()[1] < 1e8
  finally:
    tracemalloc.stop()
  assert "logits: the reference has the shape" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1", "x"])
def test_a_tolerance_is_a_share(tmp_path, capsys, text):
  with pytest.raises(SystemExit) as end:
    run(tmp_path, tmp_path, f"--tolerance={text}")
  assert end.value.code == 2
  assert "--tolerance" in capsys.readouterr().err


VISION = {
  "siglip2": ("patch14", {
    "channels": ((1, 4, 56, 56), "3 channels"),
    "too small": ((1, 3, 13, 13), "smaller than a patch of 14"),
    "none": ((0, 3, 56, 56), "3 channels"),
  }),
  "dcae": ("sana", {
    "channels": ((1, 4, 16, 16), "3 channels"),
    "odd sides": ((1, 3, 17, 16), "multiples of 4"),
  }),
}  # fmt: skip


@pytest.mark.parametrize("family", VISION)
def test_pictures_that_do_not_fit_are_refused(tmp_path: Path, family: str):
  name, cases = VISION[family]
  folder = hostile.FAMILIES[name].write(tmp_path)
  for shape, words in cases.values():
    with pytest.raises(check.ReferenceError, match=words):
      check.check(family, folder, {"pixel_values": np.zeros(shape)})
  x = np.full((1, 3, 56, 56), np.nan)
  with pytest.raises(check.ReferenceError, match="not finite"):
    check.check(family, folder, {"pixel_values": x})
