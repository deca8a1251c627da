"""Outputs and gradients of every module are what they were."""

import pytest

from tests import fixed
from tests.goldens import (
  adapters,
  autoencoder,
  decoder,
  emma,
  initializers,
  layers,
  store,
  vision,
)

FAMILIES = {
  "layers": layers,
  "decoder": decoder,
  "vision": vision,
  "autoencoder": autoencoder,
  "adapters": adapters,
  "emma": emma,
}
SHALLOW = ("layers", "adapters")
# What is summed in float32 and rounded once: no other order of sums shows, but
# a rounding in another place does.
ONCE = (
  "rms_norm/bfloat16",
  "layer_norm/bfloat16",
  "norm_rope/bfloat16",
  "attention/bfloat16",
)


def tolerance(family: str, case: str) -> store.Tolerance:
  if case.endswith("/bfloat16"):
    if family in ("autoencoder", "adapters"):
      return fixed.CHAINED
    return fixed.ROUNDED if case in ONCE else store.BFLOAT16
  return store.FLOAT32 if family in SHALLOW else fixed.DEEP


SMOKE = (("layers", "rms_norm/bfloat16"), ("emma", "paper"))


@pytest.mark.parametrize(
  "family, case",
  [
    pytest.param(
      family, case, marks=[pytest.mark.smoke] * ((family, case) in SMOKE)
    )
    for family, module in FAMILIES.items()
    for case in module.CASES
  ],
)
def test_numbers_stay(family: str, case: str):
  module = FAMILIES[family]
  store.check(
    family, case, module.CASES[case](), tolerance(family, case), module.KEPT
  )


@pytest.mark.parametrize("case", initializers.CASES)
def test_weights_start_as_they_did(case: str):
  store.check("initializers", case, initializers.CASES[case](), store.EXACT)
