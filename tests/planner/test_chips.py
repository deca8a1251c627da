"""Chips are what data sheets say, topologies what their names say."""

import math

import pytest

from emma_jax.planner import chips

pytestmark = pytest.mark.smoke


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
    # As the cloud, shops and scripts of others call them.
    ("v5litepod-256", 1, (16, 16), 256, "v5e:16x16"),
    ("v5e:256", 1, (16, 16), 256, "v5e:16x16"),
    ("v6e-8", 2, (2, 4), 16, "2 x v6e:2x4"),
    ("v5p-128", 1, (4, 4, 4), 64, "v5p:4x4x4"),  # of cores
    ("v5p:64", 1, (4, 4, 4), 64, "v5p:4x4x4"),  # of chips
    ("v4-32", 1, (2, 2, 4), 16, "v4:2x2x4"),
    ("2xv6e-256", 1, (16, 16), 512, "2 x v6e:16x16"),
    ("8xH100", 1, (8,), 8, "h100:8"),
    ("a100", 1, (1,), 1, "a100:1"),
    ("A100-SXM4-40GB:2", 1, (2,), 2, "a100-40gb:2"),
    ("rtx4090", 1, (1,), 1, "rtx4090:1"),
    ("NVIDIA GeForce RTX 4090", 1, (1,), 1, "rtx4090:1"),
    ("RTX A6000", 1, (1,), 1, "a6000:1"),
    ("l4:4", 1, (4,), 4, "l4:4"),
    ("L40S", 1, (1,), 1, "l40s:1"),
  ],
)
def test_a_topologys_devices(name, slices, sizes, devices, text):
  found = chips.topology(name, slices)
  assert (found.sizes, found.devices) == (sizes, devices)
  assert str(found) == text
  assert found.chips == math.prod(sizes) * found.slices


@pytest.mark.parametrize(
  "name, slices, said",
  [
    ("v5e:12", 1, "named so have 1, 4, 8, 16"),
    ("v5p-127", 1, "named so have 8, 16"),
    ("2xv6e-8", 2, "leave out slices=2"),
    ("8xh100:8", 1, "counts twice"),
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


def test_every_slice_that_is_counted_has_as_many_chips():
  for kind in ("v4", "v5e", "v5p", "v6e", "tpu7x"):
    known = chips._FLAT if chips.CHIPS[kind].axes == 2 else chips._DEEP
    for count in known:
      assert chips.topology(f"{kind}:{count}").chips == count
