import dataclasses
import json
import shutil

import pytest

from emma_jax.benchmarks import page, samples, suite
from emma_jax.benchmarks.records import BadRun, Outcome
from tests.benchmarks import finished
from tests.benchmarks.finished import Finished
from tests.pages import reading

pytestmark = pytest.mark.smoke

EVIL = "<script>alert(1)</script>\"' onload=x"


def read(out: str, data: str = "") -> tuple[str, reading.Page]:
  with open(page.write(out, data), encoding="utf-8") as file:
    text = file.read()
  return text, reading.check(text)


@pytest.fixture
def made(tmp_path, monkeypatch) -> Finished:
  """ChartQA, and edits, with answers and replies that attack the page."""
  finished.charts(tmp_path / "data")
  finished.edits(tmp_path / "data")
  finished.editing(monkeypatch, finished.rate)
  run = Finished(tmp_path / "out", tmp_path / "data")
  run.config["max_failed"] = 0.2
  say = finished.says(wrong=range(9), spaced=range(9, 12))

  def attack(item, repeat):
    return {"text": EVIL} if item.id == "020" else say(item, repeat)

  def reply(call):
    found = finished.rating(call)
    refused = found.status == "refused"
    return dataclasses.replace(found, error=EVIL) if refused else found

  run.add("chartqa", attack)
  run.add(
    "gedit",
    finished.edited,
    reply=reply,
    identity={"kind": "openai", "model": "gpt-x"},
    judge="rating",
  )
  return run


def test_the_page_holds_the_run(made):
  text, shown = read(made.save())
  number = made.sets[0]["numbers"][0]
  assert number["score"] == pytest.approx(100 * 27 / 40)
  for words in (
    *("runs/x, step 30", "w" * 16, "not recorded", "jax", "67.5"),
    "The same predictions under 3 implementations",
    "88.0not comparable: split, implementation and prompts not stated",
    "vlmevalkit",
    "pix2struct",
    "Relaxed accuracy (5%)",
    "How many of 0?\nAnswer the question using a single word or phrase.",
    "40 predictions; 10 a second; 25.0% of the time outside of the model; "
    "25.0% of the slots padding",
    "rating: asked gpt-x, answered as judge-1",
    "1,200 tokens in, 30 out",
    "Failed, judge:refused: 2",
    "half, the worst first",
    "parts",
    "half an interval is",
    "not resolvable on one of these sets",
    "arXiv 2512.04810v5",
  ):
    assert words in shown.text, words
  assert "rehearsal" not in shown.text
  assert "left out" not in shown.text
  assert len(text) < 1_000_000


def test_texts_of_others_are_texts(made):
  """`reading.check` finds any tag or attribute that they would make."""
  text, shown = read(made.save(checkpoint=f"runs/{EVIL}"))
  assert EVIL in shown.text
  assert "<script>" not in text
  assert shown.text.count(EVIL) >= 4  # title, answer, reply


def test_pictures_are_small_and_of_the_samples(made):
  _, shown = read(made.save())
  sources = [a["src"] for tag, a in shown.tags if tag == "img"]
  assert all(x.startswith("data:image/jpeg;base64,") for x in sources)
  # 12 drawn at random of each, ChartQA's 3 + 1 disputed ones, 12 edits and one
  # failure: all edits have a source and a drawing.
  assert len(sources) >= 12 + 2 * 12


@pytest.mark.parametrize(
  "identity, name", [({"kind": "detector"}, "detector"), ({"file": 1}, "r")]
)
def test_a_judge_that_is_no_model(made, identity, name):
  made.sets.clear()
  made.add(
    "gedit",
    finished.edited,
    reply=finished.rating,
    identity=identity,
    judge="r",
  )
  _, shown = read(made.save())
  assert f"r: asked {name}, answered as judge-1" in shown.text


def test_what_judges_cost_and_how_far_they_moved(made):
  """At the config's prices; without any it is not said."""
  assert "USD" not in read(made.save())[0]
  price = {"input": 2000.0, "output": 20000.0}
  made.config["judges"] = {"rating": {"kind": "openai", "price": price}}
  drift = {"n": 3, "anchors": 4, "mean_abs_diff": 0.25, "failed": {"a": "b"}}
  made.sets[1]["judge"]["anchors"] = drift
  text, _ = read(made.save())
  assert "30 out; 3.00 USD" in text
  assert "3 of 4 calls asked anew, moved by 0.25 in the mean; 1 failed" in text


def test_a_rehearsal_says_so(made):
  made.config["name"] = "smoke"
  _, shown = read(made.save())
  assert "A rehearsal: these scores mean nothing." in shown.text


def test_without_the_data_it_says_so(made):
  shutil.rmtree(made.data)
  out = made.save()
  _, shown = read(out)
  assert "Without questions, references and their pictures" in shown.text
  assert "How many of" not in shown.text
  assert "Most disputed" in shown.text  # answers are there
  finished.charts(made.data, 39)
  _, shown = read(out)
  assert "39 rows, and the run's had 40" in shown.text


def test_a_group_that_is_scored_as_one_is_shown_whole(made, monkeypatch):
  """Two questions a page: 12 pages at random, and the first prompt."""
  find = suite.find

  def merge(some):
    return dataclasses.replace(some[0], id=some[0].cluster)

  paged = dataclasses.replace(find("chartqa"), merge=merge)
  monkeypatch.setattr(
    suite, "find", lambda name: paged if name == "chartqa" else find(name)
  )
  made.sets.clear()
  made.add("chartqa", finished.says())
  _, shown = read(made.save())
  assert shown.text.count("How many of") == 2 * 12 + 1
  assert sum(tag == "img" for tag, _ in shown.tags) == 2 * 12
  assert shown.text.count("answer") >= 2 * 12


def test_answers_that_no_rule_reads_are_no_failures(made, monkeypatch):
  find = suite.find

  def score(case):
    if case.item.id == "004":
      case.ask("which", "Which option?")
    return [suite.Score(value=1.0)]

  asks = dataclasses.replace(
    find("chartqa"), score=score, judge="choice", fallback=True
  )
  monkeypatch.setattr(
    suite, "find", lambda name: asks if name == "chartqa" else find(name)
  )
  made.sets.clear()
  made.add("chartqa", finished.says())
  _, shown = read(made.save())
  assert "1 unread, wrong: no judge" in shown.text
  assert "Unread, and no judge was asked: 1" in shown.text
  assert "Failed" not in shown.text


def test_data_may_be_elsewhere(made, tmp_path):
  out = made.save()
  made.data.rename(tmp_path / "moved")
  _, shown = read(out, str(tmp_path / "moved"))
  assert "How many of 0?" in shown.text
  assert "Without questions" not in shown.text


def test_no_score_is_marked_with_its_reason(made):
  made.sets.clear()
  made.add("chartqa", lambda item, repeat: {"status": "empty"}, limit=10)
  _, shown = read(made.save())
  assert "none" in shown.text
  assert "10 of 10 failed (predict:empty 10)" in shown.text
  assert "partial: 10 items" in shown.text
  assert "Failed, predict:empty: 10" in shown.text


def test_too_many_pictures_are_counted(made, monkeypatch):
  monkeypatch.setattr(page, "_PICTURES", 30_000)
  _, shown = read(made.save())
  assert "pictures are left out, to keep the page small" in shown.text
  size = sum(len(a["src"]) for tag, a in shown.tags if tag == "img")
  assert 10_000 < size <= 30_000


def test_a_damaged_picture_is_counted(made):
  for path in (made.data / "chartqa").glob("*.png"):
    path.write_bytes(b"no picture")
  _, shown = read(made.save())
  assert "pictures cannot be shown" in shown.text


def test_the_mean_of_eleven(made):
  """OCRBench's points count as a tenth; a partial set leaves no mean."""
  (one,) = [x for x in made.sets if x["name"] == "chartqa"]
  made.sets = []
  for name in page._ELEVEN:
    entry = json.loads(json.dumps(one)) | {"name": name, "title": name}
    if name == "ocrbench":
      entry["set"] = name
      for number in entry["numbers"]:
        for key in ("score", "standard_error"):
          number[key] *= 10
    made.sets.append(entry)
  (mean,) = page._mean(made.sets)
  assert (mean.score, mean.name) == ("67.5", "Mean of 11")
  error = one["numbers"][0]["standard_error"]
  low, high = mean.interval.strip("[]").split(", ")
  assert float(high) - float(low) == pytest.approx(
    2 * 1.96 * error / 11**0.5, abs=0.11
  )
  made.sets[3]["numbers"][0]["partial"] = True
  assert page._mean(made.sets) == []


def test_no_results_is_a_mistake_with_a_remedy(tmp_path):
  with pytest.raises(BadRun, match="no benchmark has been run"):
    page.write(str(tmp_path))


def outcome(id_: str, impl: str, score: float, **more) -> Outcome:
  return Outcome(id=id_, repeat=0, impl=impl, score=score, cluster=id_, **more)


def test_the_choice_is_seeded_and_disputes_come_by_their_size():
  ids = [f"{n:02d}" for n in range(50)]
  by_impl = {
    "a": [outcome(x, "a", int(x) / 50) for x in ids],
    "b": [outcome(x, "b", 0.0) for x in reversed(ids)],
  }

  def choose(seed):
    return samples.choose(by_impl, count=5, failures=3, seed=seed)

  first = choose("1")
  assert choose("1") == first
  assert choose("2").random != first.random
  assert len({x["a"].id for x in first.random}) == 5
  assert [x["a"].id for x in first.disputed] == ["49", "48", "47", "46", "45"]
  assert not first.failed


def test_failures_come_by_kind_a_few_of_each():
  by_impl = {
    "a": [
      outcome(str(n), "a", 0, failure=f"judge:{n % 2}" if n > 3 else "")
      for n in range(20)
    ]
  }
  found = samples.choose(by_impl, count=2, failures=3, seed="s")
  assert {k: len(v) for k, v in found.failed.items()} == {
    "judge:0": 3,
    "judge:1": 3,
  }
  assert not found.disputed
