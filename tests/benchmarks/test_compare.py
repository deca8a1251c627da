import json

import pytest

from emma_jax import paired
from emma_jax.benchmarks import compare, results
from emma_jax.benchmarks.records import BadRun
from tests.benchmarks import finished
from tests.benchmarks.finished import Finished

pytestmark = pytest.mark.smoke


@pytest.fixture
def runs(tmp_path, monkeypatch):
  """Two empty runs on the same data."""
  finished.charts(tmp_path / "data", 120)
  finished.edits(tmp_path / "data")
  finished.editing(monkeypatch, finished.rate)
  made = [Finished(tmp_path / x, tmp_path / "data") for x in ("a", "b")]
  for one in made:
    one.config["max_failed"] = 0.2
  return made


def compared(runs, only="") -> list[compare.Row]:
  a, b = (results.read(one.save()) for one in runs)
  return compare.compare(a, b, only)


def test_a_difference_and_its_test(runs):
  """12 of 120 answers that b has right and a has wrong."""
  a, b = runs
  a.add("chartqa", finished.says(wrong=range(24)))
  b.add("chartqa", finished.says(wrong=range(12)))
  (row,) = compared(runs)
  assert row.comparison is not None
  assert row.comparison.difference.value == pytest.approx(0.1)
  # Six pages of two questions each change for the better: 2 of 2^6 flips.
  assert row.comparison.test == "permutation"
  assert row.comparison.p == row.adjusted == pytest.approx(2 / 64)
  assert row.verdict == "better"
  text = "\n".join(compare.lines([row], "A", "B"))
  assert "80.0    90.0    +10.0" in text and "better" in text
  (back,) = compared([b, a])
  assert back.verdict == "worse"


def test_what_is_open_says_how_many_items_would_decide(runs):
  a, b = runs
  a.add("chartqa", finished.says(wrong=[0, 3, 4, 9]))
  b.add("chartqa", finished.says(wrong=[0, 3, 11]))
  (row,) = compared(runs)
  assert row.comparison and row.comparison.needed
  assert row.verdict == f"undecided, needs n = {row.comparison.needed:,}"
  assert row.comparison.needed > 120


def test_the_same_run_does_not_differ(runs):
  for one in runs:
    one.add("chartqa", finished.says(wrong=range(5)))
    one.add("gedit", finished.edited, reply=finished.rating, judge="r")
  rows = compared(runs)
  assert [row.verdict for row in rows] == ["no difference"] * 2
  assert all(row.comparison and row.comparison.p == 1 for row in rows)


def test_p_is_corrected_for_all_sets(runs):
  a, b = runs
  a.add("chartqa", finished.says(wrong=range(24)))
  b.add("chartqa", finished.says(wrong=range(12)))
  for one in runs:
    one.add("gedit", finished.edited, reply=finished.rating, judge="r")
  row, other = compared(runs)
  assert row.comparison and row.comparison.p == pytest.approx(2 / 64)
  assert row.adjusted == pytest.approx(2 * 2 / 64)
  assert row.verdict == "undecided"  # by itself it would be decided
  assert other.adjusted == 1
  (alone,) = compared(runs, "chartqa")
  assert alone.verdict == "better"


@pytest.mark.parametrize(
  "changes, why",
  [
    ({"split": "val"}, "split"),
    ({"impl": "lmms_eval"}, "implementation"),
    ({"prompt_sha256": "0"}, "prompts"),
    ({"prompt": "plain"}, "prompts"),
    ({"quirks": True}, "official quirks"),
    ({"guess": True}, "fallback"),
    ({"repeats": 2}, "repeats"),
    ({"data": {"limit": 100}}, "limit"),
    ({"data": {"files": [{"name": "x", "size": 1}]}}, "data files"),
    ({"judge": {"identity": {"model": "other"}}}, "judge"),
    (
      {"judge": {"answered_as": {"gpt-2": 3}}, "split": "val"},
      "split, judge, as it answered",
    ),
  ],
)
def test_another_yardstick_is_not_compared(runs, changes, why):
  a, b = runs
  a.add("chartqa", finished.says())
  a.sets[0]["judge"]["answered_as"] = {"gpt-1": 3}
  b.sets = json.loads(json.dumps(a.sets))
  for key, value in changes.items():
    nested = b.sets[0][key] | value if isinstance(value, dict) else value
    b.sets[0][key] = nested
  (row,) = compared(runs)
  assert row.comparison is None and row.adjusted is None
  assert row.verdict == f"not comparable: {why}"
  assert why in "\n".join(compare.lines([row], "A", "B"))


def test_a_judge_that_was_not_needed_is_no_other_judge(runs):
  """Rules read all answers of one run; the other asked about a few."""
  for one in runs:
    one.add("chartqa", finished.says())
  runs[1].sets[0]["judge"]["answered_as"] = {"gpt-1": 3}
  (row,) = compared(runs)
  assert row.verdict == "no difference"


def test_settings_of_the_model_are_a_note(runs):
  for one, steps in zip(runs, (10, 50)):
    sampling = {**finished.defaults.a_set().sampling.to_dict(), "steps": steps}
    one.add("chartqa", finished.says(), sampling=sampling, limit=40)
  (row,) = compared(runs)
  assert row.comparison and row.notes == ["steps 10 and 50", "partial"]


def test_sets_that_one_run_lacks(runs):
  a, b = runs
  for one in runs:
    one.add("chartqa", finished.says())
  b.add("gedit", finished.edited, reply=finished.rating, judge="r")
  rows = compared(runs)
  assert rows[1].verdict == f"not in {a.out}"
  with pytest.raises(BadRun, match=r"no results of 'mmmu'; it has chartqa, ge"):
    compared(runs, "mmmu")


def test_no_score_is_not_compared(runs):
  a, b = runs
  a.add("chartqa", finished.says())
  b.add("chartqa", lambda item, repeat: {"status": "empty"})
  (row,) = compared(runs)
  assert "no score in" in row.verdict and "120 of 120 failed" in row.verdict


def test_outcomes_of_another_aggregation_are_refused(runs):
  for one in runs:
    one.add("chartqa", finished.says())
  path = runs[0].out / "chartqa" / "outcomes.jsonl"
  path.write_text("".join(path.read_text().splitlines(True)[1:]))
  with pytest.raises(BadRun, match="119 outcomes of chartqa.*made of 120"):
    compared(runs)


def test_weights_count_in_tests_as_they_do_in_scores():
  """Texts of more words weigh more: the difference is that of the means."""
  a = {"x": 0.0, "y": 1.0, "z": 1.0}
  b = {"x": 1.0, "y": 0.5, "z": 1.0}
  weights = {"x": 8.0, "y": 1.0, "z": 1.0}
  found = paired.compare(a, b, weights=weights, seed=0)
  assert found.difference.value == pytest.approx((8 - 0.5) / 10)
  # Flips of 8 and -0.5: |8 - .5| and |8 + .5| are as far out, both ways.
  assert found.p == 1.0 and found.test == "permutation"
  strata = {"x": "s", "y": "t", "z": "t"}
  found = paired.compare(
    a, b, strata=strata, strata_weights={"s": 1, "t": 3}, seed=0
  )
  assert found.difference.value == pytest.approx(1 / 4 - 0.75 * 0.25)
  gate = paired.gate(b, a, ({}, {}), weights=weights, margin=0, seed=0)
  assert gate.difference.value == pytest.approx(0.75)
