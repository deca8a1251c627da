"""Which records a run looks at, and that it never trains on them."""

import pytest

from configs import stages
from emma_jax.build import held_out
from emma_jax.build.sections import ConfigError
from tests import tiny


def config(**sources):
  c = tiny.config()
  c.train.update(validate_every=1, evaluate=False)
  c.data.sources = sources or dict(
    understanding="world:understanding:train",
    drawing="world:drawing_shapes:train:100",
  )
  c.stages = {
    "1_pretraining": stages.stage(
      "1_pretraining",
      samples_per_batch=2,
      rows=2,
      und_tokens=96,
      und_pictures=1,
      targets=1,
      mixture=((0.0, dict.fromkeys(c.data.sources, 1.0)),),
    )
  }
  return c


def test_the_world_has_its_own_split():
  found, without = held_out.specs(config())
  assert found == {
    "understanding": "world:understanding:test",
    "drawing": "world:drawing_shapes:test",
  }
  assert not without


def test_files_are_looked_at_where_held_out_ones_are_named(tmp_path):
  c = config(drawing="jsonl:a.jsonl", editing="jsonl:b.jsonl")
  assert held_out.specs(c) == ({}, ["drawing", "editing"])
  c.evaluate.sources = dict(editing="jsonl:c.jsonl")
  c.train.validate_sources = dict(drawing="records:held_out")
  found, without = held_out.specs(c, "1_pretraining")
  assert found == {"drawing": "records:held_out", "editing": "jsonl:c.jsonl"}
  assert not without


def test_files_without_held_out_ones_are_told_of_and_not_trained_ones_taken():
  made, notes = held_out.batches(
    config(drawing="jsonl:a.jsonl"), "1_pretraining"
  )
  assert made is None and len(notes) == 1
  assert "1_pretraining" in notes[0] and "drawing" in notes[0]
  assert "train.validate_sources" in notes[0]


@pytest.mark.parametrize(
  "sources, words",
  [
    (dict(drawing="world:drawing_shapes:train:100"), "are trained on"),
    (dict(drawing="records:/no/such"), "/no/such"),
    (dict(drawing="moon:x"), "moon"),
    (dict(painting="world:drawing:test"), "painting"),
  ],
)
def test_records_that_cannot_be_looked_at_are_a_mistake(sources, words):
  c = config()
  c.train.validate_sources = sources
  with pytest.raises(ConfigError, match=words) as error:
    held_out.batches(c, "1_pretraining")
  assert "validate_sources" in str(error.value)


def test_files_of_the_evaluation_alone_may_be_missing_where_it_is_off():
  c = config(drawing="jsonl:a.jsonl")
  c.evaluate.sources = dict(drawing="jsonl:/no/such.jsonl")
  made, notes = held_out.batches(c, "1_pretraining")
  assert made is None and "drawing" in notes[0]
  c.train.evaluate = True
  with pytest.raises(ConfigError, match="/no/such.jsonl"):
    held_out.batches(c, "1_pretraining")


def test_off_opens_nothing():
  c = config(drawing="jsonl:/no/such.jsonl")
  c.train.validate_every = 0
  assert held_out.batches(c, "1_pretraining") == (None, ())
  c.train.update(validate_every=1, validate_samples=0)
  with pytest.raises(ConfigError, match="validate_samples=0"):
    held_out.batches(c, "1_pretraining")


def test_a_batch_is_a_micro_batch_of_the_stage():
  """So that its forward pass fits wherever the training's does."""
  c = config()
  c.stages["1_pretraining"].update(rows=4, accumulation=2)
  made, _ = held_out.batches(c, "1_pretraining")
  assert made is not None and made.layout.rows == 2
  assert made.to_sample.text_dropout == 0
