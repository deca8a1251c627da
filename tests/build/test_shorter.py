"""Fewer steps, fewer stages: schedules stay valid, mistakes name what to do."""

import math

import pytest

from emma_jax.build import config_file, shorter
from emma_jax.build import run as build_run
from emma_jax.build.sections import ConfigError

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
  "name, most", [("tiny", 1), ("tiny", 10), ("smoke", 10**9), ("emma_4b", 1)]
)
def test_every_config_shrinks_to_a_valid_run(name, most):
  config = config_file.load(name)
  whole = {k: dict(s) for k, s in config.stages.items()}
  shorter.steps(config, most)
  run = build_run.run(config, data=False)
  for stage in run.stages:
    before = whole[stage.name]
    assert stage.steps == min(most, before["steps"])
    assert stage.optimizer.warmup_steps <= stage.steps
    assert bool(stage.optimizer.warmup_steps) == bool(before["warmup_steps"])
    assert 0 <= stage.ema_decay <= before["ema_decay"]
    if most >= before["steps"]:
      assert dict(config.stages[stage.name]) == before


def test_shares_of_the_stage_stay():
  config = config_file.load("tiny", {"stages.3_quality.ema_decay": "0.9"})
  shorter.steps(config, 150)  # of 1,500: a tenth
  stage = config.stages["3_quality"]
  assert (stage.steps, stage.warmup_steps) == (150, 5)
  assert math.isclose(stage.ema_decay, 0.9**10)


def test_a_planned_stage_still_follows_from_its_samples():
  config = config_file.load("emma_4b:stage1")
  (stage,) = config.stages.values()
  assert stage.measure_rows
  shorter.steps(config, 12)
  samples = stage.rows * stage.row_samples
  assert round(stage.stage_samples / samples) == stage.steps == 12
  assert stage.half_life >= 1 and stage.warmup_samples >= 1


def test_stages_are_chosen_in_the_configs_order():
  config = config_file.load("tiny")
  shorter.stages(config, ["1_pretraining", "0_alignment"])
  assert list(config.stages) == ["0_alignment", "1_pretraining"]
  build_run.run(config, data=False)


@pytest.mark.parametrize(
  "names, words",
  [
    (["1_pretrain"], "Did you mean 1_pretraining?"),
    ([], "name some of 0_alignment"),
    (["2_finetuning"], "goes on from the weights of 1_pretraining"),
  ],
)
def test_stages_that_cannot_be(names, words):
  with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
    shorter.stages(config_file.load("tiny"), names)


def test_no_steps_are_refused():
  with pytest.raises(ConfigError, match="--max_steps 0: .* at least 1"):
    shorter.steps(config_file.load("tiny"), 0)


def test_a_warm_up_that_is_too_long_names_the_keys_and_the_flag():
  config = config_file.load("tiny", {"stages.0_alignment.steps": "10"})
  with pytest.raises(
    ConfigError,
    match=r"config.stages.0_alignment.warmup_steps=30 .* "
    r"config.stages.0_alignment.steps=10.*--max_steps 10",
  ):
    build_run.run(config, data=False)
