import dataclasses
import math

import pytest

from emma_jax.benchmarks import published
from emma_jax.benchmarks.data import sets
from emma_jax.benchmarks.published import UNKNOWN, Published
from emma_jax.benchmarks.suite import MODULES

pytestmark = pytest.mark.smoke

MMMU = Published(
  model="M",
  set="mmmu",
  split="val",
  metric="overall",
  impl="vlmevalkit",
  value=60.0,
  source="s",
  judge="gpt-1",
  prompts="vlmevalkit",
  rewritten="no",
)


def entry(score=50.0, half=3.0, **changes):
  number = {
    "impl": "vlmevalkit",
    "score": score,
    "ci95": None if score is None else [score - half, score + half],
    "partial": False,
    "unit": "%",
  }
  return {
    "set": "mmmu",
    "split": "val",
    "impl": "vlmevalkit",
    "prompt": "vlmevalkit",
    "judge": {
      "name": "j",
      "identity": {"model": "alias"},
      "answered_as": {"gpt-1": 3},
    },
    "numbers": [number | changes.pop("number", {})],
  } | changes


@pytest.fixture
def rows(monkeypatch):
  def give(*found):
    monkeypatch.setattr(published, "rows", lambda: found)

  return give


def test_the_papers_own_mean():
  """The rows are the numbers its mean is of; OCRBench's points as a tenth."""
  emma = {
    r.set: r.value
    for r in published.rows()
    if r.model == "EMMA" and r.metric == "overall" and r.set != "geneval"
  }
  mean = emma.pop(published.MEAN)
  of_hundred = emma | {"ocrbench": emma["ocrbench"] / 10}
  for name in ("dpg", "gedit"):
    del of_hundred[name]
  assert len(of_hundred) == 11
  assert round(math.fsum(of_hundred.values()) / 11, 1) == mean


def test_rows_are_of_sets_and_splits_that_there_are():
  seen = set()
  for row in published.rows():
    assert row.source and row.rewritten in ("yes", "no", UNKNOWN)
    known = sets.SETS.get(row.set)
    if row.set != published.MEAN:
      assert known or row.set.partition("_")[0] in MODULES, row.set
    if known and row.split != UNKNOWN:
      assert row.split in known.splits, row
    key = dataclasses.astuple(dataclasses.replace(row, value=0.0))
    assert key not in seen, row
    seen.add(key)


@pytest.mark.parametrize(
  "score, verdict, mark", [(50.0, "below", "wrong"), (70.0, "above", "right")]
)
def test_a_difference_outside_of_the_interval_counts(
  rows, score, verdict, mark
):
  rows(MMMU)
  (found,) = published.beside(entry(score))
  assert (found.verdict, found.mark) == (verdict, mark)
  assert found.difference == score - 60


def test_a_difference_within_the_interval_does_not(rows):
  rows(MMMU)
  (found,) = published.beside(entry(58.0))
  assert (found.verdict, found.mark) == ("within the interval", "")


@pytest.mark.parametrize(
  "theirs, ours, why",
  [
    ({"judge": "gpt-2"}, {}, "judge"),
    ({"split": "dev"}, {}, "split"),
    ({"impl": "original"}, {}, "implementation"),
    ({"prompts": "plain"}, {}, "prompts"),
    ({"judge": "none"}, {}, "judge"),
    ({"judge": UNKNOWN, "split": UNKNOWN}, {}, "split and judge not stated"),
    ({"split": UNKNOWN, "judge": "x"}, {}, "judge, split not stated"),
    ({}, {"number": {"partial": True}}, "partial"),
    ({}, {"score": None}, "no score"),
  ],
)
def test_what_is_not_alike_is_grey(rows, theirs, ours, why):
  rows(dataclasses.replace(MMMU, **theirs))
  (found,) = published.beside(entry(**ours))
  assert found.verdict == f"not comparable: {why}"
  assert found.mark == "grey"


def test_a_judge_is_who_answered_or_else_who_was_asked():
  one = entry()
  assert published.judges(one) == {"gpt-1"}
  one["judge"]["answered_as"] = {"": 2}
  assert published.judges(one) == {"alias"}
  one["judge"] = {"name": "", "identity": {}, "answered_as": {}}
  assert published.judges(one) == {"none"}


def test_rewritten_prompts_stand_beside_rewritten_ones():
  def values(split):
    one = entry(set="geneval", split=split)
    return {x.row.value for x in published.beside(one) if x.row.model == "EMMA"}

  assert values("test") == {0.91}
  assert values("long") == {0.93}
