"""Old configs are read by today's names; today's are left as they are."""

import json
import pathlib

import pytest

from configs import defaults, stages, tiny
from emma_jax.build import sections
from emma_jax.checkpoints import renamed_keys
from emma_jax.checkpoints.integrity import config_differences


def test_todays_configs_are_left_alone():
  for config in (tiny.get_config(), defaults.get_config()):
    plain = sections.plain(config)
    assert renamed_keys.current(plain) == plain


@pytest.mark.parametrize("old, new", renamed_keys.RENAMED.items())
def test_every_new_name_is_a_key_and_no_old_one_is(old, new):
  c = tiny.get_config()
  c.stages = {"3_quality": stages.stage("3_quality")}
  *outer, last = old.replace("*", "3_quality").split(".")
  section = c
  for name in outer:
    section = section[name]
  assert new in section and last not in section


def test_the_config_of_an_older_run_is_the_one_of_today():
  """As commit a6fb85d wrote it: json.dumps(build.plain(tiny.get_config()))."""
  file = pathlib.Path(__file__).parent / "data" / "tiny_before_renaming.json"
  saved = json.loads(file.read_text())
  today = sections.plain(tiny.get_config())
  differences = config_differences(saved, today)
  assert differences  # it is an older one
  left = config_differences(renamed_keys.current(saved), today)
  assert {line.split(":")[0] for line in left} == SINCE


# What has been given another value, or was added, since then: a stage balances
# STEM and general pictures, and measures what it has learned.
SINCE = {
  "data.sources.understanding_general",
  "evaluate.router.samples",
  "evaluate.router.sources",
  "stages.4b_router.mixture",
}


def test_names_that_are_alike_elsewhere_stay():
  other = {"parts": 1, "model": {"parts": 2, "data": {"parts": 3}}}
  assert renamed_keys.current(other) == other
  stage = {"stages": {"a": {"hand_over": "raw", "inner": {"hand_over": 1}}}}
  assert renamed_keys.current(stage) == {
    "stages": {"a": {"next_stage_weights": "raw", "inner": {"hand_over": 1}}}
  }


def test_a_key_by_both_names_is_refused():
  both = {"data": {"parts": 1, "packing_groups": 2}}
  with pytest.raises(ValueError, match="packing_groups is there twice"):
    renamed_keys.current(both)
  same = {"data": {"parts": 2, "packing_groups": 2}}
  assert renamed_keys.current(same) == {"data": {"packing_groups": 2}}


def test_who_trained_the_router_is_said_by_todays_name():
  said = renamed_keys.current_meta
  assert said({"routed": True}) == {"router_trained": True}
  for stage, trained in (("4b_router", True), ("3_quality", False)):
    assert said({"stage": stage})["router_trained"] == trained
    other = {"stage": stage, "router_trained": not trained}
    assert said(other) == other
  assert said({"step": 7}) == {"step": 7}  # an autoencoder's file
