from concurrent import futures
import dataclasses
import math
import threading
import time

import numpy as np
import pytest

from emma_jax import stats
from emma_jax.benchmarks import (
  aggregate,
  asked,
  decide,
  folders,
  numbers,
  records,
  scored,
  suite,
)
from emma_jax.benchmarks.items import BadItem
from emma_jax.benchmarks.records import Outcome, Prediction
from emma_jax.benchmarks.suite import Score
from emma_jax.judge.base import Call, JudgeError, Reply, key_of
from tests import local_server
from tests.benchmarks import toy
from tests.judge import common

pytestmark = pytest.mark.smoke

ITEMS = [toy.item(n) for n in range(8)]
JUDGED = toy.benchmark(score=toy.judged, judge="rating", lowest=-1.0)


class Scripted:
  """Replies by call id; counts what it is asked."""

  def __init__(self, replies=(), name="m"):
    self.replies, self.name = dict(replies), name
    self.asked: list[str] = []
    self._lock = threading.Lock()

  def identity(self):
    return {"model": self.name}

  def ask(self, call: Call) -> Reply:
    with self._lock:
      self.asked.append(call.id)
    found = self.replies.get(call.id, "7")
    if isinstance(found, Exception):
      raise found
    return found if isinstance(found, Reply) else Reply(text=found, model="s")


def begin(tmp_path, settings, texts, statuses=(), of=ITEMS):
  """A folder with predictions, as `predict` leaves it."""
  folders.begin(str(tmp_path), {})
  place = folders.SetFolder(str(tmp_path), settings.name)
  decides = {"weights": "w"}
  made_with = records.digest(decides)
  place.note(settings, decides, toy.source(of))
  statuses = dict(statuses)
  with records.Appender(place.part(0)) as out:
    out.add(
      [
        Prediction(
          id=item.id,
          repeat=0,
          key=asked.of(item, settings).key(made_with, item.id, 0),
          settings=made_with,
          prompt="p",
          status=statuses.get(item.id, "ok"),
          text=texts.get(item.id, "red"),
        )
        for item in of
        if statuses.get(item.id) != "missing"
      ]
    )
  return place


def begin_judged(tmp_path) -> tuple:
  """Settings and place of answers that are all different."""
  settings = toy.settings(JUDGED, judge="j")
  return settings, begin(tmp_path, settings, {x.id: x.id for x in ITEMS})


def judge(settings, place, by, **more) -> decide.Asked:
  given = dict(concurrency=3, stop=lambda: False, tell=lambda _, done: None)
  return decide.judge(toy.source(ITEMS), settings, place, by, **(given | more))


def score(settings, place, by=None, max_failed=0.02) -> dict:
  return aggregate.aggregate(
    toy.source(ITEMS),
    settings,
    place,
    by.identity() if by else {},
    max_failed=max_failed,
    seed=0,
  )


def headline(found: dict) -> dict:
  return found["numbers"][0]


# ---------------------------------------------------------------- no judge


def test_right_and_wrong_answers_are_a_share_with_an_interval(tmp_path):
  settings = toy.settings(toy.benchmark())
  place = begin(tmp_path, settings, {"n/1": "blue", "n/2": "blue"})
  number = headline(score(settings, place))
  assert number["score"] == pytest.approx(75.0)
  assert (number["n_expected"], number["n_scored"]) == (8, 8)
  assert number["groups"] == 4
  low, high = number["ci95"]
  assert low < 75 < high
  assert number["ci_method"] == "wilson, 4 clusters"
  assert number["failures"] == {} and number["reason"] == ""


def test_failures_are_wrong_counted_and_too_many_give_no_score(tmp_path):
  settings = toy.settings(toy.benchmark())
  failing = {"n/0": "crashed", "n/1": "missing", "n/2": "unreadable"}
  place = begin(tmp_path, settings, {}, failing)
  number = headline(score(settings, place, max_failed=0.5))
  assert number["score"] == pytest.approx(62.5)
  assert number["score_if_failures_dropped"] == pytest.approx(100)
  assert number["failures"] == {
    "predict:crashed": 1,
    "predict:missing": 1,
    "predict:unreadable": 1,
  }
  number = headline(score(settings, place))
  assert number["score"] is None and number["ci95"] is None
  assert "3 of 8 failed" in number["reason"]


def test_answers_that_were_cut_are_scored_and_counted(tmp_path):
  settings = toy.settings(toy.benchmark())
  place = begin(tmp_path, settings, {}, {"n/0": "truncated"})
  found = score(settings, place)
  assert found["predictions"]["truncated"] == 1
  assert headline(found)["score"] == 100


def test_a_rule_that_cannot_take_an_answer_fails_it_alone(tmp_path):
  def picky(case):
    if case.made[0].text == "worse":
      raise KeyError("letter")
    return toy.same(case)

  settings = toy.settings(toy.benchmark(score=picky))
  place = begin(tmp_path, settings, {"n/3": "worse"})
  number = headline(score(settings, place, max_failed=0.5))
  assert number["failures"] == {"scorer:KeyError": 1}


def test_without_references_nothing_is_scored(tmp_path):
  settings = toy.settings(toy.benchmark())
  items = [toy.item(0, answers=())]
  place = begin(tmp_path, settings, {}, of=items)
  with pytest.raises(suite.NoAnswers, match="no answers in this split"):
    aggregate.aggregate(
      toy.source(items), settings, place, {}, max_failed=0.1, seed=0
    )


def test_two_items_of_one_id_are_refused(tmp_path):
  with pytest.raises(BadItem, match=r"the id 'n/1'"):
    list(scored.chosen(toy.source([ITEMS[1], ITEMS[1]]), 0))


def test_outcomes_are_written_item_by_item(tmp_path):
  settings = toy.settings(toy.benchmark(impls=("exact", "other")))
  place = begin(tmp_path, settings, {"n/1": "blue"})
  score(settings, place)
  lines = list(records.load(Outcome, place.outcomes))
  assert len(lines) == 16
  assert {x.impl for x in lines} == {"exact", "other"}
  assert [x.id for x in lines if not x.score] == ["n/1", "n/1"]


def test_a_drawn_picture_that_changed_is_refused(tmp_path):
  settings = toy.settings(toy.benchmark("draw"), repeats=1)
  place = begin(tmp_path, settings, {})
  drawn = Prediction(
    id="n/0",
    repeat=0,
    key="k",
    settings="s",
    prompt="p",
    picture="pictures/a.png",
    sha256="0" * 64,
  )
  (tmp_path / "toy" / "pictures").mkdir()
  (tmp_path / "toy" / "pictures" / "a.png").write_bytes(b"other")
  seen = dataclasses.replace(settings, benchmark=JUDGED)
  with pytest.raises(records.BadRun, match=r"a\.png is not the picture"):
    scored.of_item(
      ITEMS[0], {("n/0", 0): drawn}, seen, "exact", place, Scripted().ask
    )


# ------------------------------------------------------------- with a judge


def test_a_judges_marks_are_the_score(tmp_path):
  settings, place = begin_judged(tmp_path)
  by = Scripted({"toy/n/0/0/rate": "3"})
  done = judge(settings, place, by)
  assert (done.calls, done.cached, done.statuses) == (8, 0, {"ok": 8})
  found = score(settings, place, by)
  assert headline(found)["score"] == pytest.approx(100 * (0.7 * 7 + 0.3) / 8)
  assert headline(found)["parts"] == {"raw": 1.0}
  assert found["judge"]["answered_as"] == {"s": 8}


def test_nothing_is_asked_twice(tmp_path):
  settings, place = begin_judged(tmp_path)
  judge(settings, place, Scripted())
  again = Scripted()
  done = judge(settings, place, again)
  assert (again.asked, done.cached) == ([], 8)


def test_a_refusal_and_a_reply_without_sense_are_failures_not_low(tmp_path):
  settings, place = begin_judged(tmp_path)
  by = Scripted(
    {
      "toy/n/0/0/rate": Reply(status="refused", error="filter"),
      "toy/n/1/0/rate": "<html>",
      "toy/n/2/0/rate": Reply(status="unreachable", error="429"),
    }
  )
  judge(settings, place, by)
  number = headline(score(settings, place, by, max_failed=0.5))
  assert number["failures"] == {
    "judge:refused": 1,
    "judge:unparsable": 1,
    "judge:unreachable": 1,
  }
  assert number["score_if_failures_dropped"] == pytest.approx(70)
  assert number["score"] == pytest.approx(100 * (0.7 * 5 - 3) / 8)


def test_what_a_server_did_not_give_is_asked_again(tmp_path):
  settings, place = begin_judged(tmp_path)
  down = Reply(status="unreachable", error="429")
  judge(settings, place, Scripted({"toy/n/2/0/rate": down}))
  by = Scripted()
  judge(settings, place, by)
  assert by.asked == ["toy/n/2/0/rate"]
  number = headline(score(settings, place, by))
  assert number["score"] == pytest.approx(70)


def test_another_judge_has_said_nothing(tmp_path):
  """Replies of one judge are never taken for another's."""
  settings, place = begin_judged(tmp_path)
  judge(settings, place, Scripted())
  number = headline(score(settings, place, Scripted(name="n")))
  assert number["score"] is None
  assert number["failures"] == {"judge:absent": 8}


def test_a_judge_that_ends_the_run_loses_nothing(tmp_path):
  settings, place = begin_judged(tmp_path)
  by = Scripted({"toy/n/5/0/rate": JudgeError("quota")})
  with pytest.raises(JudgeError, match="quota"):
    judge(settings, place, by, concurrency=1)
  kept = decide.kept(place.judgements)
  assert len(kept) >= 5
  by = Scripted()
  judge(settings, place, by)
  assert len(by.asked) == 8 - len(kept)


def test_a_stop_between_items_loses_nothing(tmp_path):
  settings, place = begin_judged(tmp_path)
  left = iter([False] * 3 + [True] * 100)
  first = Scripted()
  with pytest.raises(records.Stopped):
    judge(settings, place, first, concurrency=1, stop=lambda: next(left))
  second = Scripted()
  judge(settings, place, second)
  assert sorted(first.asked + second.asked) == sorted(
    f"toy/{item.id}/0/rate" for item in ITEMS
  )


def test_a_stop_while_a_judge_tries_again_is_heard(tmp_path):
  """A server that says "in ten minutes" holds up no end."""
  settings, place = begin_judged(tmp_path)
  busy = local_server.error(429, **{"Retry-After": "600"})
  with local_server.serve(local_server.Script(busy)) as url:
    by = common.judge(url, retries=5)
    begun = time.monotonic()
    with pytest.raises(records.Stopped):
      judge(settings, place, by, stop=lambda: time.monotonic() > begun + 0.5)
  assert time.monotonic() < begun + 20


def test_a_server_that_gives_nothing_ends_the_run(tmp_path):
  """Not after hours, with a score of none; a reply begins the count anew."""
  _, place = begin_judged(tmp_path)
  down = Reply(status="unreachable", error="no route", tries=7)
  dead = {f"toy/{n}": down for n in range(99)}
  with (
    records.Appender(place.judgements) as out,
    pytest.raises(JudgeError, match="nothing to 32 calls in a row.*no route"),
  ):
    desk = decide.Desk(
      Scripted({**dead, "toy/20": "7"}), "j", out, place.judgements
    )
    for n in range(99):
      desk(Call(id=f"toy/{n}", text=str(n)))
  assert n == 20 + 32


def test_what_a_server_will_not_take_ends_nothing(tmp_path):
  """Some calls are too long for it, and may be many in a row."""
  _, place = begin_judged(tmp_path)
  rejected = Reply(status="unreachable", error="400", tries=1)
  with records.Appender(place.judgements) as out:
    desk = decide.Desk(
      Scripted({f"{n}": rejected for n in range(99)}), "j", out, ""
    )
    for n in range(99):
      desk(Call(id=f"{n}", text=str(n)))
  assert desk.asked.statuses == {"unreachable": 99}


def test_a_closed_desk_asks_nothing_more(tmp_path):
  _, place = begin_judged(tmp_path)
  by = Scripted()
  with records.Appender(place.judgements) as out:
    desk = decide.Desk(by, "j", out, place.judgements)
    desk(Call(id="a", text="a"))
    desk.close()
    assert desk(Call(id="a", text="a")).text == "7"
    with pytest.raises(records.Stopped):
      desk(Call(id="b", text="b"))
  assert by.asked == ["a"]


def test_results_tell_of_the_judge_whose_replies_count(tmp_path):
  """Not of one before it, nor of a filter that names no model."""
  settings, place = begin_judged(tmp_path)
  judge(settings, place, Scripted())
  refused = Reply(status="refused", error="filter")
  by = Scripted({"toy/n/0/0/rate": refused}, name="n")
  judge(settings, place, by)
  found = score(settings, place, by)["judge"]
  assert found["answered_as"] == {"s": 7}
  assert found["replies"] == {"ok": 7, "refused": 1}


def test_a_reply_of_another_version_is_named(tmp_path):
  settings, place = begin_judged(tmp_path)
  judge(settings, place, Scripted())
  with open(place.judgements, "a") as file:
    file.write('{"call": "c", "key": "k", "judge": "j", "reply": {"no": 1}}\n')
  with pytest.raises(records.BadRun, match=r"jsonl, line 9: no reply of this"):
    score(settings, place, Scripted())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_a_failure(tmp_path, bad):
  def broken(case):
    return [Score(value=bad if m.text == "worse" else 1.0) for m in case.made]

  settings = toy.settings(toy.benchmark(score=broken))
  place = begin(tmp_path, settings, {"n/3": "worse"})
  number = headline(score(settings, place, max_failed=0.5))
  assert number["failures"] == {"scorer:ValueError": 1}


def test_an_answer_that_nobody_is_asked_about_is_wrong_not_failed(tmp_path):
  """Exact matching, as VLMEvalKit calls it; with a judge it is a failure."""

  def unread(case):
    return [Score(value=float(case.ask("match", "?").text == "A"))]

  benchmark = toy.benchmark(score=unread, judge="choice", fallback=True)
  settings = toy.settings(benchmark)
  place = begin(tmp_path, settings, {})
  number = headline(score(settings, place))
  assert (number["score"], number["unread"]) == (0, 8)
  assert number["failures"] == {}
  with_judge = dataclasses.replace(settings, judge="j")
  assert headline(score(with_judge, place))["score"] is None


def test_a_torn_reply_is_asked_again(tmp_path):
  settings, place = begin_judged(tmp_path)
  judge(settings, place, Scripted(), concurrency=1)
  with open(place.judgements, "rb+") as file:
    file.truncate(file.seek(0, 2) - 5)
  by = Scripted()
  judge(settings, place, by)
  assert len(by.asked) == 1
  assert len(decide.kept(place.judgements)) == 8


def test_a_reply_has_a_key_of_the_judge_and_the_call(tmp_path):
  settings, place = begin_judged(tmp_path)
  by = Scripted()
  judge(settings, place, by)
  call = Call(id="any", text="n/3")
  assert key_of(by.identity(), call) in decide.kept(place.judgements)


# ------------------------------------------------------------------ numbers


def outcome(n: int, value: float, **changes) -> Outcome:
  given = dict(id=str(n), repeat=0, impl="x", score=value, cluster=str(n))
  return Outcome(**(given | changes))


def number(outcomes, benchmark=None, **changes) -> numbers.Number:
  given = dict(impl="x", partial=False, judged=False, max_failed=0.02, seed=0)
  return numbers.number(
    outcomes, benchmark or toy.benchmark(), **(given | changes)
  )


def test_plain_shares_have_wilsons_interval():
  found = number([outcome(n, float(n < 88)) for n in range(100)])
  assert found.ci_method == "wilson"
  assert found.ci95 == pytest.approx((80.19, 92.99), abs=0.02)


def clustered(shares: list[float], each: int = 4) -> list[Outcome]:
  """Of each cluster so many answers, a share of them right."""
  return [
    outcome(each * c + k, float(k < share * each), cluster=str(c))
    for c, share in enumerate(shares)
    for k in range(each)
  ]


def test_clusters_are_worth_fewer_items():
  """All right or all wrong: as many items as there are clusters."""
  copies = number(clustered([1.0] * 88 + [0.0] * 12))
  assert copies.ci_method == "wilson, 100 clusters"
  assert copies.design_effect == pytest.approx(4, rel=0.05)
  assert copies.ci95 == pytest.approx((80.19, 92.99), abs=0.3)
  # Clusters that are more alike than chance has it are not worth more.
  even = number(clustered([0.75] * 24 + [0.5]))
  assert even.ci95 == pytest.approx(
    [100 * x for x in dataclasses.astuple(stats.wilson(74, 100))]
  )
  # Two, one of which is many: worth an item at least.
  two = clustered([1.0], 50) + [outcome(99, 0.0)]
  low, high = number(two).ci95
  assert 0 <= low < 98 < high <= 100


def test_intervals_of_a_rare_failure_hold_the_truth():
  """GenEval's easiest tag: 80 prompts, of which one or two fail, mostly as a
  whole. Percentiles of the bootstrap held it 85 times in 100."""
  rng = np.random.default_rng(5)
  held = 0
  for _ in range(100):
    chance = rng.beta(0.99, 0.01, 80)
    hits = rng.random((80, 4)) < chance[:, None]
    low, high = number(
      [
        outcome(4 * c + k, float(hits[c, k]), cluster=str(c))
        for c in range(80)
        for k in range(4)
      ]
    ).ci95
    held += low <= 99 <= high
  assert held >= 90


def test_means_of_strata_are_averaged():
  some = [outcome(n, 1.0, stratum="a") for n in range(9)]
  some += [outcome(9, 0.0, stratum="b")]
  benchmark = toy.benchmark(stratum=lambda item, impl: "")
  assert number(some, benchmark).score == pytest.approx(50)
  weighted = dataclasses.replace(
    benchmark, strata_weights={"a": 3.0, "b": 1.0, "none of these": 5.0}
  )
  assert number(some, weighted).score == pytest.approx(75)


def test_weights_count_words_and_none_leaves_out():
  some = [
    outcome(0, 1.0, weight=3.0),
    outcome(1, 0.0, weight=1.0),
    outcome(2, 0.0, weight=0.0),
  ]
  assert number(some).score == pytest.approx(75)


def test_without_any_weight_there_is_no_score():
  found = number([outcome(n, 1.0, weight=0.0) for n in range(3)])
  assert (found.score, found.ci95) == (None, None)
  assert "all have the weight 0" in found.reason


def test_what_few_groups_share_is_not_certain():
  """All right, or all wrong, in a few documents: Wilson's by the documents."""
  some = [outcome(n, 0.0, cluster="ab"[n % 2]) for n in range(8)]
  low, high = number(some).ci95
  assert low == 0 and high == pytest.approx(65.8, abs=0.1)
  alone = [outcome(n, n / 10, cluster="a") for n in range(8)]
  assert number(alone).ci95 is None
  strata = [outcome(n, n / 10, stratum=str(n)) for n in range(8)]
  assert number(strata).ci95 is None


def test_tables_have_a_row_for_each_value_of_a_column():
  some = [
    outcome(n, float(n % 2), categories={"half": "ab"[n // 4]})
    for n in range(8)
  ]
  rows = number(some).categories
  assert [(r["column"], r["value"], r["n"]) for r in rows] == [
    ("half", "a", 4),
    ("half", "b", 4),
  ]
  assert all(r["ci95"][0] <= r["score"] <= r["ci95"][1] for r in rows)


def test_results_of_sets_run_before_stay(tmp_path):
  folders.begin(str(tmp_path), {})
  aggregate.write(str(tmp_path), {}, [{"name": "a"}, {"name": "b"}])
  path = aggregate.write(str(tmp_path), {}, [{"name": "b", "new": 1}])
  found = folders.read_json(path, "")["sets"]
  assert found == [{"name": "a"}, {"name": "b", "new": 1}]
  aggregate.write(str(tmp_path), {}, [{"name": "a", "new": 2}, {"name": "c"}])
  found = folders.read_json(path, "")["sets"]
  assert [x["name"] for x in found] == ["a", "b", "c"]  # where they stood


def test_a_folder_of_another_version_or_of_other_files_is_refused(tmp_path):
  folders.write_json(str(tmp_path / "old" / "run.json"), {"format": 0})
  with pytest.raises(records.BadRun, match="format 0, this version has 1"):
    folders.begin(str(tmp_path / "old"), {})
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "notes.txt").write_text("x")
  with pytest.raises(records.BadRun, match="holds other files"):
    folders.begin(str(tmp_path / "mine"), {})
  with pytest.raises(records.BadRun, match="no benchmark has been run"):
    folders.check(str(tmp_path / "nothing"))
  with pytest.raises(records.BadRun, match="no folder can be made there"):
    folders.check_free(str(tmp_path / "mine" / "notes.txt"))


def test_processes_may_begin_one_folder_together(tmp_path):
  """One finds what another is just writing."""
  (tmp_path / "run.json.ab12.tmp").write_text("")
  folders.begin(str(tmp_path), {})
  with futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda n: folders.begin(str(tmp_path), {"n": n}), range(64)))
  assert folders.check(str(tmp_path))["format"] == records.FORMAT


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", "{"])
def test_a_file_of_a_run_that_is_damaged_is_named(tmp_path, content):
  path = tmp_path / "set.json"
  path.write_text(content)
  with pytest.raises(records.BadRun, match=r"set\.json is damaged"):
    folders.read_json(str(path), "", "asked")
