import json

import pytest

from emma_jax.benchmarks import judges, runs, settings, suite
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.build import config_file

pytestmark = pytest.mark.smoke


def config(*names: str, **values) -> dict:
  """Of the paper, some sets, with values changed."""
  c = config_file.load("benchmarks/paper")
  for name in names:
    for key, value in values.items():
      with c.unlocked():
        c.sets[name][key] = value
  return c.to_dict()


@pytest.mark.parametrize("name", ["paper", "full", "extras"])
def test_every_config_names_what_there_is(name):
  """Sets, splits and judges; and all keys of a judge are its maker's."""
  c = config_file.load(f"benchmarks/{name}").to_dict()
  for one in settings.chosen(c):
    assert one.judge in ("", *c["judges"])
    assert bool(one.judge) <= bool(one.benchmark.judge)
    assert one.impls[0] == one.impl and len(one.impls) == len(set(one.impls))
    assert one.benchmark.task != "ask" or one.max_tokens > 0


def test_the_full_config_has_sixteen_sets():
  c = config_file.load("benchmarks/full").to_dict()
  names = {one.benchmark.name for one in settings.chosen(c)}
  assert len(names) == 16
  extras = config_file.load("benchmarks/extras").to_dict()
  more = {name.partition(":")[0] for name in extras["sets"]}
  assert names | more == set(suite.benchmarks())


def test_a_set_may_be_there_twice_with_other_splits():
  chosen = settings.chosen(config(), "geneval,geneval:long")
  assert [(x.name, x.split) for x in chosen] == [
    ("geneval", "test"),
    ("geneval:long", "long"),
  ]


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(impl="vlmeval"), "sets.mmmu.impl='vlmeval' is unknown; there are vl"),
    (dict(prompt="mine"), "sets.mmmu.prompt='mine' is unknown"),
    (dict(split="testing"), "sets.mmmu: MMMU has no split 'testing'"),
    (dict(fallback="random"), "wrong, seeded_random"),
    (dict(limit=-1), "sets.mmmu.limit=-1 must not be negative"),
    (dict(size=(64,)), "must be \\(height, width\\)"),
  ],
)
def test_a_value_that_cannot_be_is_named(changes, message):
  with pytest.raises(BadSettings, match=message):
    settings.chosen(config("mmmu", **changes), "mmmu")


def test_a_set_that_the_config_lacks_is_named():
  with pytest.raises(BadSettings, match="No section sets.gqa; the config has"):
    settings.chosen(config(), "mmmu,gqa")


def test_everything_but_the_scoring_decides_predictions():
  """By enumeration of a set's fields."""
  (one,) = settings.chosen(config(), "mmmu")
  scoring = {
    *("name", "title", "benchmark", "impl", "judge", "guess", "quirks"),
    *("limit", "data"),
  }
  assert set(one.__dataclass_fields__) - scoring <= set(one.asked())


def changed(where: str, key: str, value) -> dict:
  """The paper's config with a key of a section set, or added."""
  c = config()
  section = c
  for part in where.split(".") if where else ():
    section = section[part]
  section[key] = value
  return c


@pytest.mark.parametrize(
  "where, key, value, message",
  [
    ("", "max_fialed", 0.1, "config has no max_fialed"),
    ("", "max_failed", -3.0, "a share, from 0 to 1"),
    ("", "max_failed", 2.0, "a share, from 0 to 1"),
    ("", "concurrency", 0, "concurrency=0 must be at least 1"),
    ("", "rows", 0, "rows=0 must be at least 1"),
    ("", "sets", 3, "config.sets=3 has to be dict"),
    ("sets", "mmmu", {"limit": 3}, "sets.mmmu lacks enabled, split"),
    ("sets", "mmmu", None, "sets.mmmu=None is no section"),
    ("sets.mmmu", "limt", 3, "sets.mmmu has no limt; there are enabled"),
    ("sets.mmmu", "limit", "3", "sets.mmmu.limit='3' has to be int"),
    ("sets.mmmu", "limit", True, "sets.mmmu.limit=True has to be int"),
    ("sets.mmmu", "judge", None, "sets.mmmu.judge=None has to be str"),
    ("sets.mmmu.sampling", "stepz", 3, "sets.mmmu.sampling has no stepz"),
    ("sets.mmmu.sampling", "steps", 3.5, "sampling.steps=3.5 has to be"),
  ],
)
def test_keys_and_kinds_that_cannot_be_are_named(where, key, value, message):
  """Also of sections that a user's file adds past the defaults."""
  with pytest.raises(BadSettings, match=message):
    settings.chosen(changed(where, key, value))


def test_a_whole_number_is_a_share_too():
  assert settings.chosen(changed("", "max_failed", 1))


@pytest.mark.parametrize(
  "section, message",
  [
    ({}, "kind=None"),
    (None, "kind=None"),
    ({"path": 3}, "judges.matching: "),
    ({"kind": "precomputed", "path": 3}, "judges.matching: "),
    ({"kind": "openai"}, "needs base_url, model"),
    ({"kind": "precomputed", "path": "/none"}, "No such file"),
    ({"kind": "precomputed", "path": "x", "pth": 1}, "has no pth"),
  ],
)
def test_judges_that_cannot_be_are_named(section, message):
  c = changed("judges", "matching", section)
  with pytest.raises(BadSettings, match=message):
    judges.judge_of(c, "matching", "")


def test_a_judge_that_is_not_there_is_named():
  with pytest.raises(BadSettings, match="no judges.nope; there are detector"):
    judges.judge_of(config(), "nope", "")


def test_a_detector_is_checked_with_its_anchors_before_it_is_asked(tmp_path):
  """Anchors of a server's judge are asked by the stage; a detector's by
  itself. Where only its identity is wanted, it looks at nothing."""
  detections = tmp_path / "detections.jsonl"
  detections.write_text("")
  section = {"kind": "detector", "detections": str(detections)}
  c = changed("judges", "detector", section | {"anchors": "/none"})
  with pytest.raises(BadSettings, match="/none"):
    judges.judge_of(c, "detector", "")
  assert judges.judge_of(c, "detector", "", asked=False).identity()


def test_all_problems_are_told_at_once(tmp_path):
  """Of data and of judges, before anything is loaded."""
  run = runs.make_run(config(), str(tmp_path / "out"), "", str(tmp_path))
  with pytest.raises(BadSettings) as error:
    runs.open_sources(run, judged=True)
  for word in ("ai2d: ", "geneval:long: ", "textvqa: ", "judges.rating: "):
    assert word in str(error.value)
  assert not (tmp_path / "out").exists()


def test_rows_that_are_no_items_are_told_with_the_rest(tmp_path):
  for name in ("mmstar", "chartqa"):
    (tmp_path / name).mkdir()
  row = {"id": "1", "question": "a", "options": {"A": "x"}, "answers": ["D"]}
  (tmp_path / "mmstar" / "items.jsonl").write_text(json.dumps(row) + "\n")
  (tmp_path / "chartqa" / "items.jsonl").write_text("")
  c = config("mmstar", "chartqa", limit=9)
  run = runs.make_run(c, "", "mmstar,chartqa", str(tmp_path))
  with pytest.raises(BadSettings) as error:
    runs.open_sources(run)
  assert "jsonl, line 1: the answer is 'D', but the opt" in str(error.value)
  assert "chartqa/items.jsonl: there is no item" in str(error.value)


def test_a_folder_of_data_that_was_named_is_remembered(tmp_path, monkeypatch):
  """Later stages find it, from another folder too."""
  monkeypatch.chdir(tmp_path)
  run = runs.make_run(config(), "out", "mmmu", "data")
  assert run.config["data"] == str(tmp_path / "data")
  assert run.sets[0].data == str(tmp_path / "data")
