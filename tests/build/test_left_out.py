"""A source that is left out is in no mixture and is not looked at either."""

import pytest

from emma_jax.build import config_file
from emma_jax.build import data as build_data
from emma_jax.build.sections import ConfigError


def _names(config) -> dict[str, set[str]]:
  return {
    name: {n for _, weights, *_ in stage.mixture for n in weights}
    for name, stage in config.stages.items()
  }


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["tiny", "files", "emma_4b:stage2,v5e-256"])
@pytest.mark.parametrize("gone", ["understanding", "drawing", "editing"])
def test_mixtures_follow_in_any_config(name, gone):
  whole = config_file.load(name)
  config = config_file.load(name, {f"data.sources.{gone}": "none"})
  assert gone not in config.data.sources and gone not in config.evaluate.sources
  for stage, names in _names(config).items():
    assert names == _names(whole)[stage] - {gone}
    for start, *_ in config.stages[stage].mixture[:1]:
      assert start == 0.0


def test_a_stage_with_nothing_left_is_told_when_it_is_to_be_trained():
  config = config_file.load("tiny", {"data.sources.understanding": "none"})
  section = config.stages["0_alignment"]
  with pytest.raises(ConfigError, match="leave the stage out"):
    build_data.phases(section, "stages.0_alignment")
  assert build_data.phases(config.stages["1_pretraining"], "x")


def test_what_is_left_out_was_there():
  """By a slip, the source that was meant would be trained on."""
  told = "there is no source 'understading'. Did you mean understanding?"
  with pytest.raises(ConfigError, match=told):
    config_file.load("files", {"data.sources.understading": "none"})
  config = config_file.load("files", {"data.sources.understanding": "None"})
  assert set(config.data.sources) == {"drawing", "editing"}


def test_nothing_left_at_all():
  every = {
    f"data.sources.{task}": "none"
    for task in ("understanding", "drawing", "editing")
  }
  with pytest.raises(ConfigError, match="no stage has a source any more"):
    config_file.load("files", every)


def test_held_out_records_stay_where_they_are_named():
  """What is no more trained may still be measured."""
  given = {
    "data.sources.drawing": "none",
    "evaluate.sources.drawing": "jsonl:x.jsonl",
    "evaluate.sources.editing": "none",
  }
  config = config_file.load("files", given)
  assert dict(config.evaluate.sources) == {
    "understanding": "jsonl:data/und_val.jsonl",
    "drawing": "jsonl:x.jsonl",
  }


def test_sections_and_mixtures_are_set_whole():
  config = config_file.load(
    "files",
    {
      "data.sources": "{'drawing': 'records:a', 'mine': 'records:b'}",
      "stages.3_quality.mixture": "drawing=2, mine=1",
      "optimizer": "{'b1': 0.5, 'clip_norm': 2.0}",
    },
  )
  assert dict(config.data.sources) == {
    "drawing": "records:a",
    "mine": "records:b",
  }
  assert config.stages["2_finetuning"].mixture == ((0.0, {"drawing": 1.0}),)
  quality = config.stages["3_quality"].mixture
  assert quality == ((0.0, {"drawing": 2.0, "mine": 1.0}),)
  assert (config.optimizer.b1, config.optimizer.clip_norm) == (0.5, 2.0)


@pytest.mark.parametrize(
  "key, value, told",
  [
    ("data.sources.drawng", "records:x", "Did you mean drawing"),
    ("optimizer", "{'b3': 1}", "optimizer.b3"),
    ("optimizer", "none", "several by a dict"),
    ("stages.3_quality.mixture", "drawing", "stages.3_quality.mixture"),
  ],
)
def test_what_cannot_be_set(key, value, told):
  with pytest.raises(ConfigError, match=told):
    config_file.load("files", {key: value})
