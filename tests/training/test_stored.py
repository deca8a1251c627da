"""What was stored once is read for ever, and nothing in it changes unseen."""

import json
import pathlib

import chex
import pytest

from emma_jax import rules
from emma_jax.checkpoints import integrity, locate
from tests import neutral
from tests.goldens import checkpoint as goldens
from tests.goldens import store


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> pathlib.Path:
  return goldens.unpack(tmp_path_factory.mktemp("old"))


def test_a_folder_of_the_first_release_is_read_bit_for_bit(old):
  """Its names may have become others; its numbers have not."""
  wanted = goldens.filled(goldens.abstract())
  with neutral.checkpointer(old / "checkpoints") as checkpointer:
    assert checkpointer.steps() == [goldens.STEP]
    state, meta = checkpointer.restore(goldens.abstract())
  assert meta == goldens.META | {"router_trained": False}  # by its stage
  chex.assert_trees_all_equal(state, wanted)
  # What is stored of them is what is computed today.
  content = old / "checkpoints" / str(goldens.STEP) / "meta" / "metadata"
  stored = json.loads(content.read_text())
  assert stored == integrity.sealed(wanted, goldens.META)


def test_sampling_reads_an_old_folders_averaged_weights(old):
  found = locate.read(str(old))
  tree, meta = found.params, found.meta
  wanted = goldens.filled(goldens.abstract())
  found = rules.flatten(tree)
  expected = rules.flatten(wanted.params(averaged=True))
  assert found.keys() == expected.keys() and meta["stage"] == "3_quality"
  chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize("case", ["state", "beside", "checksums"])
def test_what_is_written_is_as_it_was(case):
  """Paths, shapes and dtypes of a state; keys and checksums beside it."""
  store.check("checkpoint", case, goldens.cases()[case], store.EXACT)
