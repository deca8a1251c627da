import xml.etree.ElementTree as ET

import pytest

from emma_jax.benchmarks import gates, results
from emma_jax.benchmarks.gates import Check
from emma_jax.benchmarks.records import BadRun
from tests.benchmarks import finished
from tests.benchmarks.finished import Finished

pytestmark = pytest.mark.smoke


@pytest.fixture
def runs(tmp_path, monkeypatch):
  """The new and the old run, both empty."""
  finished.charts(tmp_path / "data", 120)
  finished.edits(tmp_path / "data", 40)
  finished.editing(monkeypatch, finished.rate)
  made = [Finished(tmp_path / x, tmp_path / "data") for x in ("new", "old")]
  for one in made:
    one.config["max_failed"] = 0.2
  return made


def checked(runs, **options) -> list[Check]:
  new, old = (results.read(one.save()) for one in runs)
  return gates.check(new, old, **options)


@pytest.mark.parametrize(
  "wrong, margin, status",
  [
    (range(12), 1.0, "passed"),  # as before
    (range(6), 0.0, "passed"),  # better
    (range(14), 1.0, "passed"),  # one page: open
    (range(40), 1.0, "failed"),
    (range(40), 40.0, "passed"),
  ],
)
def test_worse_by_more_than_the_margin_fails(runs, wrong, margin, status):
  new, old = runs
  old.add("chartqa", finished.says(wrong=range(12)))
  new.add("chartqa", finished.says(wrong=wrong))
  (found,) = checked(runs, margin=margin)
  assert found.status == status, found
  assert "was 90.0" in found.message
  assert gates.exit_code([found]) == (status == "failed")


def test_a_point_is_a_hundredth_of_the_scale(runs):
  """GEdit's scores are 0..10: a margin of 1 is .1, and half a point less on
  every picture is too much for it, and not for 6."""
  new, old = runs
  old.add("gedit", finished.edited, reply=finished.rating, judge="r")

  def lower(call):
    found = finished.rating(call)
    if found.status != "ok":
      return found
    return type(found)(text=str(max(0.0, float(found.text) - 0.5)))

  new.add("gedit", finished.edited, reply=lower, judge="r")
  # Another reply, and the same judge.
  for one in runs:
    one.sets[0]["judge"]["answered_as"] = {"judge-1": 80}
  (found,) = checked(runs, margin=1.0)
  assert found.status == "failed" and "margin -0.1" in found.message
  (found,) = checked(runs, margin=6.0)
  assert found.status == "passed" and "margin -0.6" in found.message


@pytest.mark.parametrize(
  "change, word",
  [
    ({"impl": "lmms_eval"}, "implementation"),
    ({"prompt_sha256": "0"}, "prompts"),
    ({"split": "val"}, "split"),
  ],
)
def test_another_yardstick_is_an_error(runs, change, word):
  for one in runs:
    one.add("chartqa", finished.says())
  runs[0].sets[0] |= change
  (found,) = checked(runs)
  assert found.status == "error" and word in found.message
  assert gates.exit_code([found]) == 2


def test_fewer_items_are_an_error(runs):
  new, old = runs
  old.add("chartqa", finished.says())
  new.add("chartqa", finished.says(), limit=60)
  (found,) = checked(runs)
  assert found.status == "error" and "items: 0 are new, 60" in found.message


def test_sets_that_came_and_went(runs):
  new, old = runs
  for one in runs:
    one.add("chartqa", finished.says())
  new.add("gedit", finished.edited, reply=finished.rating, judge="r")
  found = checked(runs)
  assert [x.status for x in found] == ["passed", "skipped"]
  assert gates.exit_code(found) == 0
  found = checked([old, new])  # the new run has lost one
  assert [x.status for x in found] == ["passed", "error"]
  assert gates.exit_code(found) == 2
  assert gates.exit_code(checked([old, new], only="chartqa")) == 0
  with pytest.raises(BadRun, match="no results of 'gedit'"):
    checked(runs, only="gedit")


def test_a_run_that_lost_its_score_fails(runs):
  new, old = runs
  old.add("chartqa", finished.says())
  new.add("chartqa", lambda item, repeat: {"status": "empty"})
  (found,) = checked(runs)
  assert found.status == "failed" and "120 of 120 failed" in found.message
  (found,) = checked([old, new])
  assert found.status == "error"


def test_nothing_checked_is_no_pass():
  assert gates.exit_code([]) == 2
  assert gates.exit_code([Check(name="a", status="skipped", message="")]) == 2


def test_a_negative_margin(runs):
  with pytest.raises(ValueError, match="is not a number from 0 on"):
    checked(runs, margin=-1)


def test_junit_is_xml_that_counts(tmp_path):
  """Whatever a message holds."""
  ugly = "<&\"'> \x00\x1b é\ud800 ]]>"
  checks = [
    Check(name="a", status="passed", message="fine"),
    Check(name="b", status="failed", message=ugly),
    Check(name="c", status="error", message="changed"),
    Check(name="d", status="skipped", message="new"),
  ]
  path = tmp_path / "deep" / "gate.xml"
  gates.junit(checks, str(path))
  root = ET.parse(path).getroot()
  (group,) = root
  assert root.tag == "testsuites" and group.tag == "testsuite"
  for each in (root, group):
    counts = {
      k: each.get(k) for k in ("tests", "failures", "errors", "skipped")
    }
    assert counts == dict(tests="4", failures="1", errors="1", skipped="1")
  cases = {case.get("name"): case for case in group}
  assert [x.tag for x in cases["a"]] == ["system-out"]
  failure = cases["b"].find("failure")
  assert failure is not None
  assert failure.get("message") == failure.text == "<&\"'> �� é� ]]>"
  assert cases["c"].find("error") is not None
  assert cases["d"].find("skipped") is not None
