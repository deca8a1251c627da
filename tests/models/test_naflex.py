"""Native resolution: packed is alone, one program for all sizes."""

import functools

from flax.core import meta
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import naflex, resize
from emma_jax.models.siglip2_vision import SiglipVision, SiglipVisionConfig
from tests import neutral

TOLERANCE = 5e-6  # of the maximum
LENGTH, MOST, PATCH = 48, 4, 2
ROWS = [[(3, 3), (2, 7), (5, 4), (1, 1)], [(6, 8)], [(1, 9), (4, 4)]]


@functools.cache
def models(method: str):
  """(plain module, parameters, compiled packed call, list of its traces)."""
  config = SiglipVisionConfig(
    encoder=neutral.siglip_config(
      width=16,
      mlp_width=24,
      num_layers=2,
      num_heads=2,
      patch_size=PATCH,
      native_grid=3,
      position_resize=method,
    )
  )
  plain, packed = SiglipVision(config), naflex.PackedVision(config)
  shapes = meta.unbox(
    jax.eval_shape(plain.init, jax.random.key(0), jnp.zeros((1, 6, 6, 3)))
  )
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32), shapes
  )
  traces = []

  def call(patches_BWC, grids_BN2):
    traces.append(patches_BWC.shape)
    return packed.apply(params, patches_BWC, grids_BN2)

  return plain, params, jax.jit(call), traces


def pictures(grids, seed: int = 0) -> list[np.ndarray]:
  rng = np.random.default_rng(seed)
  return [
    rng.uniform(-1, 1, (PATCH * h, PATCH * w, 3)).astype(np.float32)
    for h, w in grids
  ]


def packed_rows(rows=ROWS) -> tuple[np.ndarray, np.ndarray]:
  made = [
    naflex.pack(pictures(r, i), PATCH, LENGTH, MOST) for i, r in enumerate(rows)
  ]
  return tuple(np.stack(x) for x in zip(*made))


@pytest.mark.parametrize("method", resize.METHODS)
def test_packed_is_alone(method):
  """Patches, pooled output and every hidden state of every picture."""
  plain, params, call, _ = models(method)
  apply = jax.jit(plain.apply)
  patches, grids = packed_rows()
  out = call(patches, grids)
  for b, row in enumerate(ROWS):
    parts = naflex.unpack(np.asarray(out.patches_PTD[b]), grids[b])
    first = naflex.unpack(np.asarray(out.states_ZPTD[0, b]), grids[b])
    last = naflex.unpack(np.asarray(out.states_ZPTD[-1, b]), grids[b])
    assert [x.shape[:2] for x in parts] == row
    for n, picture in enumerate(pictures(row, b)):
      alone = apply(params, picture[None])
      pairs = [
        (parts[n], alone.patches_PTD[0]),
        (first[n], alone.states_ZPTD[0, 0]),
        (last[n], alone.states_ZPTD[-1, 0]),
        (out.pooled_PD[b, n], alone.pooled_PD[0]),
      ]
      for ours, theirs in pairs:
        theirs = np.asarray(theirs)
        np.testing.assert_allclose(
          np.reshape(ours, theirs.shape),
          theirs,
          rtol=0,
          atol=TOLERANCE * np.abs(theirs).max(),
        )


def test_one_trace_for_all_sizes():
  _, _, call, traces = models("bicubic")
  patches, _ = packed_rows()
  for seed in range(6):
    rng = np.random.default_rng(seed)
    grids = rng.integers(1, 4, (len(ROWS), MOST, 2)).astype(np.int32)
    out = call(patches, grids)
    assert np.isfinite(out.patches_PTD).all()
  assert len(traces) == 1


def test_neither_padding_nor_neighbours_are_seen():
  """Changing the second picture and the padding leaves the first one."""
  _, _, call, _ = models("bilinear_antialias")
  patches, grids = packed_rows()
  first = call(patches, grids)
  other = patches.copy()
  other[0, 9:23] = 5.0  # (2, 7), after the nine patches of (3, 3)
  other[2, 25:] = 9.0  # padding
  second = call(other, grids)
  changed = np.abs(first.patches_PTD - second.patches_PTD).max(-1) > 0
  assert changed[0, 9:23].all() and changed[2, 25:].all()
  assert not changed[0, :9].any() and not changed[0, 23:].any()
  assert not changed[1].any() and not changed[2, :25].any()
  moved = np.abs(first.pooled_PD - second.pooled_PD).max(-1) > 0
  np.testing.assert_array_equal(
    moved, [[False, True, False, False], [False] * 4, [False] * 4]
  )
  np.testing.assert_array_equal(second.pooled_PD[1, 1:], 0)


def test_slots_are_as_drawn():
  place = naflex.slots(np.array([[[2, 3], [0, 0], [1, 2]]]), 10)
  np.testing.assert_array_equal(
    place.picture_BW, [[0] * 6 + [2] * 2 + [-1] * 2]
  )
  np.testing.assert_array_equal(
    place.cell_BW2[0],
    [
      [0, 0],
      [0, 1],
      [0, 2],
      [1, 0],
      [1, 1],
      [1, 2],
      [0, 0],
      [0, 1],
      [0, 0],
      [0, 0],
    ],
  )


@pytest.mark.parametrize("method", resize.METHODS)
@pytest.mark.parametrize("size", [(5, 5), (3, 8), (13, 2), (1, 40)])
def test_cells_of_a_resized_grid(method, size):
  """From traced sizes the same as from static ones; its own size exactly."""
  grid = np.random.default_rng(0).normal(size=(5, 5, 3)).astype(np.float32)
  cells = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
  cells = cells.reshape(1, -1, 2)
  ours = resize.resize_at(
    jnp.asarray(grid),
    jnp.asarray(cells),
    jnp.broadcast_to(jnp.asarray(size), cells.shape),
    method,
  )
  expected = np.asarray(resize.resize(grid, size, method)).reshape(1, -1, 3)
  np.testing.assert_allclose(ours, expected, atol=1e-6)
  if size == (5, 5):
    np.testing.assert_array_equal(ours, expected)


def test_what_a_row_cannot_hold_is_refused():
  with pytest.raises(ValueError, match="5 pictures"):
    naflex.pack(pictures([(1, 1)] * 5), PATCH, LENGTH, MOST)
  with pytest.raises(ValueError, match="need 49 slots, the row has 48"):
    naflex.pack(pictures([(7, 7)]), PATCH, LENGTH, MOST)


@pytest.mark.parametrize("size", [(480, 640), (31, 900), (16, 16), (9, 5000)])
def test_fit_fills_the_budget(size):
  height, width = naflex.fit(*size, patch_size=16, max_patches=256)
  assert not height % 16 and not width % 16
  assert height * width <= 256 * 16**2 < (height + 16) * (width + 16)
