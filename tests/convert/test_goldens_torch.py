"""The goldens are what the installed torch, transformers and diffusers give."""

import importlib

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch

from tests.goldens import store


@pytest.mark.parametrize("family", ["qwen3", "siglip", "dcae", "emma_torch"])
def test_the_golden_is_what_the_reference_gives(family: str):
  module = importlib.import_module(f"tests.goldens.{family}")
  cases = module.cases()
  assert cases.keys() == store.read(family).keys()
  for case, tree in cases.items():
    tolerance = store.BFLOAT16 if "bfloat16" in case else store.FLOAT32
    others = getattr(module, "TOLERANCES", {})
    store.check(family, case, tree, tolerance, module.KEPT, others)
    floats = [x for x in tree.values() if isinstance(x, np.ndarray)]
    # What is zero or the same everywhere compares nothing.
    assert all(np.std(x) > 1e-3 for x in floats if x.size > 1), case
