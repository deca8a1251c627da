"""A row becomes a record: what of it counts, and what the recipe adds."""

import pytest

from emma_jax.data.ingest import part
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests.data import made

PICTURE = made.noise()


def stored(recipe_weight: float, **row):
  recipe = part.Recipe(
    form="captions", tokenizer=TinyTokenizer(), weight=recipe_weight
  )
  row = {"id": "a", "caption": "a red star", "image": PICTURE} | row
  found, sizes = part.stored_of(row, recipe, "set.jsonl:1", "set.jsonl")
  assert len(sizes) == 1
  return found


def test_a_rows_own_weight_wins():
  assert stored(2.0).weight == 2.0
  assert stored(2.0, weight=0.5).weight == 0.5
  assert stored(2.0, weight=0.0).weight == 0.0
  assert stored(2.0, weight=1.0).weight == 1.0


def test_a_weight_that_is_no_number_is_refused():
  with pytest.raises(BadRecord, match="weight is '3', not a number"):
    stored(1.0, weight="3")
