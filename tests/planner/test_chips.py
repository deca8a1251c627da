"""Chips are what data sheets say, topologies what their names say."""

import math

import pytest

from emma_jax.planner import chips
from tests.goldens import machines, store

pytestmark = pytest.mark.smoke


def test_chips_are_as_they_were():
  """Every number of every chip, and the text that XLA reads of a GPU."""
  store.check("machines", "chips", machines.every_chip(), store.EXACT)


@pytest.mark.parametrize(
  "name, slices, sizes, devices, text",
  [
    ("v5e:16x16", 1, (16, 16), 256, "v5e:16x16"),
    ("v5p:4x4x8", 1, (4, 4, 8), 128, "v5p:4x4x8"),
    ("v6e:16x16", 2, (16, 16), 512, "2 x v6e:16x16"),
    ("tpu7x:2x2x1", 3, (2, 2, 1), 24, "3 x tpu7x:2x2x1"),
    ("h100:8", 1, (8,), 8, "h100:8"),
    ("a100:16", 1, (16,), 16, "a100:16"),
    ("h200:3", 1, (3,), 3, "h200:3"),
  ],
)
def test_a_topologys_devices(name, slices, sizes, devices, text):
  found = chips.topology(name, slices)
  assert (found.sizes, found.slices, found.devices) == (sizes, slices, devices)
  assert found.chips == math.prod(sizes) * slices and str(found) == text


@pytest.mark.parametrize(
  "name, slices, said",
  [
    ("v5e:16", 1, "v5e has 2 axes"),
    ("v5e:4x4x4", 1, "v5e:4x4"),
    ("v5p:4x0x4", 1, "3 axes"),
    ("v5p", 1, "write v5p:4x4x4"),
    ("h100:12", 1, "a multiple of 8"),
    ("h100:8", 2, "slices=2"),
    ("v5e:4x4", 0, "slices=0"),
    ("v9:4", 1, "Unknown topology"),
  ],
)
def test_what_cannot_be_is_refused(name, slices, said):
  with pytest.raises(chips.PlanError, match=said):
    chips.topology(name, slices)
