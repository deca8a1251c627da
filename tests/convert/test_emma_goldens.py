"""Sampling gives what the exported PyTorch code gave, with no torch installed.

The golden also holds a digest of that code: a change of it asks for a golden
made anew, and so for a comparison with what is here.
"""

import numpy as np
import pytest

from emma_jax.build import session as build_session
from emma_jax.sampling import image
from emma_jax.sampling.session import Session
from tests.goldens import emma_torch as golden
from tests.goldens import store

# Velocities are weighted by up to 8 and summed over three steps.
TOLERANCE = store.Tolerance(of_largest=1e-4)


@pytest.fixture(scope="module")
def session() -> Session:
  return build_session.session(
    golden.config(), golden.params(), "golden", 0, batch=4
  )


def check(case: str, made: dict, tolerance=TOLERANCE):
  store.check(
    "emma_torch", case, made, tolerance, golden.KEPT, golden.TOLERANCES
  )


def test_the_pytorch_code_is_the_one_the_golden_was_made_with():
  want = store.read("emma_torch")["file"]["implementation"]
  assert golden.digest() == want, (
    "emma_torch does something else than when its golden was made. With "
    "torch installed: python -m tests.goldens emma_torch; then this file's "
    "tests compare what it gives with what the sampling here gives."
  )


def test_the_export_writes_the_same_tensors(tmp_path):
  """Names, layouts and bits, by part."""
  check("export", golden.exported(tmp_path))


@pytest.mark.parametrize("route", ["versatile", "stem"])
def test_the_same_answers(session, route):
  own = (
    session
    if route == "versatile"
    else build_session.session(
      session.config, session.params, "stem", 0, route=route, batch=4
    )
  )
  (said,) = own.ask(
    [[golden.picture()]], [golden.QUESTIONS], max_tokens=golden.ANSWER
  )
  check(f"ask {route}", {str(i): x for i, x in enumerate(said)})


@pytest.fixture
def made(monkeypatch) -> dict:
  """Filled with the first picture of a request, and its latents."""
  found = {}
  sample, decode = image.sample_latents, image.decode

  def sampled(*args):
    x = sample(*args)
    found["latents"] = np.asarray(x[0])
    return x

  def decoded(*args):
    x, finite = decode(*args)
    found["picture"] = np.asarray(x[0], np.float32) / np.float32(255)
    return x, finite

  monkeypatch.setattr(image, "sample_latents", sampled)
  monkeypatch.setattr(image, "decode", decoded)
  return found


def test_the_noise_is_the_same():
  tasks = ("drawing", "editing")
  check("start", {t: golden.start(t) for t in tasks}, store.FLOAT32)


def test_the_same_drawing(session, made):
  (picture,) = session.draw([golden.PROMPT], seed=golden.SEED)
  np.testing.assert_array_equal(picture, np.round(255 * made["picture"]))
  check("draw", made)


@pytest.mark.parametrize("name", golden.GUIDANCE)
def test_the_same_edit(session, made, name):
  """In "image" the contexts without the instruction outweigh the first."""
  text, image_guidance = golden.GUIDANCE[name]
  count = session.runner.batch  # what tests of sampling have compiled
  session.edit(
    [golden.picture()] * count,
    [golden.INSTRUCTION] * count,
    text_guidance=text,
    image_guidance=image_guidance,
    seed=golden.SEED,
  )
  check(f"edit {name}", made)
