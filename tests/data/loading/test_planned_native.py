"""Planned batches of native pictures, of two drawn sizes, latents stored."""

import chex
import jax
import numpy as np
import pytest

from emma_jax import sharding
from emma_jax.build import config_file, sections
from emma_jax.build import data as build_data
from emma_jax.checkpoints.weight_files import save_weights
from emma_jax.cli import common, data
from tests import tiny
from tests.data import recorded


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
  """Encoded folders, and the config of their planned stage."""
  root = tmp_path_factory.mktemp("native")
  sources = recorded.folders(root)
  (root / "c.py").write_text(
    "from tests.data import recorded\n"
    "def get_config():\n"
    f"  c = recorded.config({sources!r}, und_patches=96)\n"
    "  c.data.update(native=True, max_tokens=6, latents='stored',\n"
    "                text_dropout=0.0, reference_dropout=0.0)\n"
    "  return c\n"
  )
  save_weights(root / "w.safetensors", tiny.params(), {})
  argv = [
    "encode-latents",
    *(s.removeprefix("records:") for s in sources.values()),
    "--config",
    str(root / "c.py"),
    "--dtype",
    "float32",
    "--weights",
    str(root / "w.safetensors"),
  ]
  assert common.run(data.main, argv) == 0
  return sections.plain(config_file.load(str(root / "c.py")))


def test_batches_hold_what_was_planned_with_latents_of_their_size(config):
  source = build_data.batches(config, "3_quality")
  plan = source.plan
  tables = dict(zip(plan.drawer.names, plan.drawer.tables))
  sizes, grids = set(), set()
  for step in range(8):
    host, planned = source[step], plan.batch(step)
    assert not host.info.unusable and not host.info.packed.dropped
    batch, layout = host.batch, source.layout(step)
    T = layout.tokens_per_picture
    assert batch.gen_pixels_BMYXC.shape[2:4] == (layout.height, layout.width)
    assert batch.latents.gen_BMTC.shape[2] == T
    there = batch.latents.gen_BMTC[batch.gen_task_BM > 0]
    assert (np.abs(there).max(axis=(1, 2)) > 0).all()
    sizes.add((layout.height, layout.width))
    seen = batch.patches.grid_BN2[batch.und_valid_BN]
    grids |= set(map(tuple, seen.tolist()))
    for r, row in enumerate(planned.rows):
      used = sum(
        np.count_nonzero(ids.segment[r])
        for ids in (batch.und_ids, batch.gen_ids)
      )
      assert used == sum(tables[d.name].tokens[d.index] for d in row)
  assert sizes == set(recorded.BUCKETS)
  assert len(grids) > 2  # of pictures to understand: their own


def test_hosts_read_one_stream(config):
  whole = build_data.batches(config, "3_quality")[2]
  parts = [
    build_data.batches(config, "3_quality", share=sharding.Share(i, 2))[2]
    for i in (0, 1)
  ]
  joined = jax.tree.map(lambda *x: np.concatenate(x), *(p.batch for p in parts))
  chex.assert_trees_all_equal(
    dict(enumerate(jax.tree.leaves(joined))),
    dict(enumerate(jax.tree.leaves(whole.batch))),
  )
