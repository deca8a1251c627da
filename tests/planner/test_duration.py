"""What a stage takes is steps times seconds, over the shapes of its rows."""

import dataclasses

import pytest

from emma_jax.build import config_file, sections
from emma_jax.planner import duration, row_shapes
from tests.goldens import plans

pytestmark = pytest.mark.smoke


def test_steps_times_seconds():
  plan = plans.made(step_seconds_estimate=2.0, mfu_estimate=0.4)
  found = duration.of([plan], chips=256)
  steps = plan.recipe.steps
  assert found.seconds == 2.0 * steps
  assert found.chip_hours == pytest.approx(2.0 * steps * 256 / 3600)
  assert found.mfu == pytest.approx(0.4) and "an MFU of 0.40" in found.method


def test_the_issues_own_line():
  found = duration.Duration(
    stage="1_pretraining",
    steps=244_140,
    step_seconds=2.49,
    chips=256,
    mfu=0.5,
    method="",
  )
  assert str(found) == ("244,140 steps x 2.49 s = 7.04 days, 43,200 chip-hours")


def test_an_mfu_that_was_measured_stands_for_the_estimate():
  plan = plans.made(step_seconds_estimate=2.0, mfu_estimate=0.4)
  found = duration.of([plan], chips=256, mfu=0.2)
  assert found.step_seconds == pytest.approx(4.0) and found.mfu == 0.2


def test_each_shape_counts_for_its_share_of_the_steps():
  """The mean step, and an MFU by which it is found again."""
  short = plans.made(step_seconds_estimate=1.0, mfu_estimate=0.2, share=0.75)
  long = plans.made(step_seconds_estimate=3.0, mfu_estimate=0.5, share=0.25)
  found = duration.of([long, short], chips=1)
  assert found.step_seconds == pytest.approx(1.5)
  assert found.mfu == pytest.approx((0.75 * 0.2 + 0.25 * 3 * 0.5) / 1.5)


def test_what_does_not_fit_takes_nothing():
  fits = plans.made()
  large = dataclasses.replace(fits, fits=False, step_seconds_estimate=0.0)
  assert duration.of([fits, large], chips=1) is None
  assert duration.of([plans.made(recipe=None)], chips=1) is None


def test_shares_of_a_stages_rows_sum_to_one():
  """By the phases of its mixture, equal rows together."""
  config = sections.plain(config_file.load("emma_4b:stage2"))
  shapes = row_shapes._shapes(config, "2_finetuning")
  assert len(shapes) > 1
  assert sum(share for _, share, _ in shapes) == pytest.approx(1)
  starts = [start for start, *_ in config["stages"]["2_finetuning"]["mixture"]]
  for start, share, _ in shapes:
    assert start in starts and share > 0
  (one,) = row_shapes._shapes(config, "nowhere")
  assert one[1] == 1
