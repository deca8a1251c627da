"""The shipped model answers, draws and edits as it did."""

import pytest

from tests.goldens import reference, store

# Half a level is what truncating instead of rounding shifts all pixels by; a
# sum in another order moves few of them, by one.
PIXELS = store.Tolerance(of_mean=1e-3)


@pytest.mark.parametrize("case", reference.CASES)
def test_the_shipped_model_stays(case: str):
  with reference.quick():
    made = reference.CASES[case]()
  store.check("reference", case, made, PIXELS, reference.KEPT)
