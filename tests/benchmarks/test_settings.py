import pytest

from emma_jax.benchmarks import settings, suite
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
