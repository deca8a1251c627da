"""Outputs and gradients of every module are what they were."""

import pytest

from tests import fixed
from tests.goldens import layers, store

FAMILIES = {"layers": layers}
SHALLOW = ("layers",)


def tolerance(family: str, case: str) -> store.Tolerance:
  if case.endswith("/bfloat16"):
    return fixed.ROUNDED if family in SHALLOW else store.BFLOAT16
  return store.FLOAT32 if family in SHALLOW else fixed.DEEP


@pytest.mark.parametrize("family, case", [
    (family, case) for family, module in FAMILIES.items()
    for case in module.CASES])
def test_numbers_stay(family: str, case: str):
  module = FAMILIES[family]
  store.check(family, case, module.CASES[case](), tolerance(family, case),
              module.KEPT)
