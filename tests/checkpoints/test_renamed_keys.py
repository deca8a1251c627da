"""Old configs are read with today's keys; today's are left as they are."""

import importlib.resources
import json
import pathlib

import pytest
import safetensors

from configs import defaults, reference, stages, tiny, world_autoencoder
from emma_jax.build import sections
from emma_jax.checkpoints import locate, renamed_keys
from emma_jax.checkpoints.integrity import config_differences
from emma_jax.training import loop


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


def before_renaming() -> dict:
  """As commit a6fb85d wrote it: json.dumps(build.plain(tiny.get_config()))."""
  file = pathlib.Path(__file__).parent / "data" / "tiny_before_renaming.json"
  return json.loads(file.read_text())


def test_the_config_of_an_older_run_is_the_one_of_today():
  saved = before_renaming()
  today = sections.plain(tiny.get_config())
  differences = config_differences(saved, today)
  assert differences  # it is an older one
  current = renamed_keys.current(saved)
  # What such runs did by themselves, and go on to do; of today's it is not.
  today["data"] |= {"fit": "pad_learned", "max_crop": 0.0}
  left = config_differences(current, today)
  assert {line.split(":")[0] for line in left} == SINCE


# What has been given another value, or was added, since then: a stage balances
# STEM and general pictures, and measures what it has learned; a run is looked
# at before a stage ends.
SINCE = {
  "data.sources.understanding_general",
  "evaluate.router.samples",
  "evaluate.router.sources",
  "stages.4b_router.mixture",
  "train.sample_every",
  "train.sample_tokens",
  "train.validate_every",
  "train.validate_samples",
}


def shipped(name: str) -> dict:
  """The config of a shipped file, as it was written."""
  file = importlib.resources.files("emma_jax.assets") / locate.SHIPPED[name]
  with (
    importlib.resources.as_file(file) as path,
    safetensors.safe_open(path, framework="numpy") as weights,
  ):
    return json.loads(weights.metadata()["emma"])["metadata"]["config"]


@pytest.mark.parametrize(
  "name, config",
  [("reference", reference), ("world_autoencoder", world_autoencoder)],
)
def test_a_shipped_files_config_has_the_keys_of_today(name, config):
  """But for those that a continued run may change anyway, and for sources,
  which are names of data."""
  today = sections.plain(config.get_config())
  lacking = lambda saved: [
    line
    for line in config_differences(saved, today, loop.FREE_KEYS)
    if "checkpoint absent" in line and not line.startswith("data.sources.")
  ]
  assert lacking(shipped(name)) and not lacking(
    renamed_keys.current(shipped(name))
  )


@pytest.mark.parametrize("key", renamed_keys.ADDED)
def test_every_added_key_is_one_of_today_that_a_kept_file_lacks(key):
  *outer, last = key.replace("*", "3_quality").split(".")
  today = tiny.get_config()
  for name in outer:
    today = today[name]
  assert last in today
  kept = [before_renaming(), *map(shipped, locate.SHIPPED)]
  assert any(_lacks(saved, key.split(".")) for saved in kept)


def _lacks(section: dict, path: list[str]) -> bool:
  """Whether a section on the path is there without the key."""
  name, *rest = path
  if not rest:
    return name not in section
  names = section if name == "*" else {name} & section.keys()
  return any(_lacks(section[n], rest) for n in names)


def test_a_key_that_is_there_stays():
  saved = {"data": {"codec": "fast"}, "evaluate": {}}
  completed = renamed_keys.current(saved)
  assert completed["data"]["codec"] == "fast"
  assert completed["data"]["packing_groups"] == 1
  completed["evaluate"]["sources"]["drawing"] = "jsonl:x"  # not the next one's
  assert renamed_keys.current(saved)["evaluate"]["sources"] == {}
  assert saved == {"data": {"codec": "fast"}, "evaluate": {}}


def test_a_stage_without_tasks_gets_no_weights_of_tasks():
  plain = sections.plain(world_autoencoder.get_config())
  assert renamed_keys.current(plain) == plain


def test_names_that_are_alike_elsewhere_stay():
  other = {"parts": 1, "model": {"parts": 2, "data": {"parts": 3}}}
  assert renamed_keys.current(other) == other
  stage = {"stages": {"a": {"hand_over": "raw", "inner": {"hand_over": 1}}}}
  found = renamed_keys.current(stage)["stages"]["a"]
  assert found["next_stage_weights"] == "raw" and "hand_over" not in found
  assert found["inner"] == {"hand_over": 1}


def test_a_key_by_both_names_is_refused():
  both = {"data": {"parts": 1, "packing_groups": 2}}
  with pytest.raises(ValueError, match="packing_groups is there twice"):
    renamed_keys.current(both)
  same = renamed_keys.current({"data": {"parts": 2, "packing_groups": 2}})
  assert same["data"]["packing_groups"] == 2 and "parts" not in same["data"]


def test_who_trained_the_router_is_said_by_todays_name():
  said = renamed_keys.current_meta
  assert said({"routed": True}) == {"router_trained": True}
  for stage, trained in (("4b_router", True), ("3_quality", False)):
    assert said({"stage": stage})["router_trained"] == trained
    other = {"stage": stage, "router_trained": not trained}
    assert said(other) == other
  assert said({"step": 7}) == {"step": 7}  # an autoencoder's file


def test_a_new_section_gets_its_own_new_keys(monkeypatch):
  monkeypatch.setitem(renamed_keys.ADDED, "stages.*.task_weights.more", 2.0)
  saved = {"stages": {"a": {"text_weight": 1.0}, "b": {"task_weights": {}}}}
  stages = renamed_keys.current(saved)["stages"]
  assert stages["a"]["task_weights"]["more"] == 2.0
  assert stages["b"]["task_weights"] == {"more": 2.0}
