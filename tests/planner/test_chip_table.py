"""Chips are what data sheets say, and are found by a device's name."""

import pytest

from emma_jax.planner import chip_table
from tests.goldens import machines, store

pytestmark = pytest.mark.smoke


def test_chips_are_as_they_were():
  """Every number of every chip, and the text that XLA reads of a GPU."""
  store.check("machines", "chips", machines.every_chip(), store.EXACT)


def test_a_device_is_found_by_its_name():
  """Each GPU by the name in its description, and none by a part of another."""
  for name, chip in chip_table.CHIPS.items():
    if chip.platform == "cuda":
      found = chip_table.of_kind(chip_table._GPU_TARGETS[name]["name"])
      assert found is not None
      assert (found.peak_flops, found.platform) == (chip.peak_flops, "cuda")
  for kind, name in chip_table._KINDS.items():
    assert chip_table.of_kind(kind) is chip_table.CHIPS[name]
  for kind in ("NVIDIA L40", "cpu"):
    assert chip_table.of_kind(kind) is None
