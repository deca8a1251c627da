import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import viescore
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols.edit_cases import (
  BLUE,
  GREEN,
  HTML,
  item,
  picture,
  score,
  seen,
)

pytestmark = pytest.mark.smoke
ITEM = item("ps_human")
REFUSED = Reply(status="refused", error="content filter")


def said(*scores: float) -> str:
  return json.dumps({"score": scores, "reasoning": "x"})


@pytest.mark.parametrize(
  "impl, prefix", [("step1x", ""), ("lmms_eval", "lmms_")]
)
def test_two_good_replies(impl, prefix):
  replies = {f"{prefix}sc": said(8, 9), f"{prefix}pq": said(7, 6)}
  found, judge = score("gedit", impl, ITEM, replies)
  golden = viescore.rate(
    lambda text, pictures: said(8, 9) if len(pictures) == 2 else said(7, 6), "x"
  )
  assert found.value == golden.overall == math.sqrt(48)
  assert found.parts == {"SC": 8, "PQ": 6} and not found.failure
  assert judge.names == [f"{prefix}sc", f"{prefix}pq"]
  semantics, quality = judge.calls
  assert semantics.text == viescore.prompt("sc").replace(
    "<instruction>", "make it {blue}"
  )
  assert quality.text == viescore.prompt("pq")


def test_the_edit_is_shown_at_the_sources_size():
  replies = {"sc": said(8), "pq": said(7)}
  _, judge = score("gedit", "step1x", ITEM, replies)
  semantics, quality = (list(map(seen, c.pictures)) for c in judge.calls)
  assert semantics == [("JPEG", (64, 48), "r"), ("JPEG", (64, 48), "b")]
  assert quality == semantics[1:]
  assert {c.options["max_tokens"] for c in judge.calls} == {1400}


def test_the_judge_sees_the_second_picture_of_two_and_it_is_upright():
  both = item("ps_human", picture(), picture((30, 50), GREEN, turned=6))
  _, judge = score("gedit", "step1x", both, {"sc": said(8), "pq": said(7)})
  assert list(map(seen, judge.calls[0].pictures)) == [
    ("JPEG", (50, 30), "g"),
    ("JPEG", (50, 30), "b"),
  ]


def test_lmms_shows_both_at_one_area():
  wide = picture((400, 100), BLUE)
  replies = {"lmms_sc": said(8), "lmms_pq": said(7)}
  _, judge = score("gedit", "lmms_eval", ITEM, replies, made=[wide])
  sizes = [viescore.lmms_dimensions(x)[:2] for x in (64 / 48, 4)]
  assert [seen(p)[:2] for p in judge.calls[0].pictures] == [
    ("PNG", size) for size in sizes
  ]
  assert list(map(seen, judge.calls[1].pictures)) == [("PNG", sizes[1], "b")]
  assert judge.calls[0].options == {"max_tokens": 512, "temperature": 0.1}


def test_extreme_ratios_are_shown_too():
  replies = {"lmms_sc": said(8), "lmms_pq": said(7)}
  line = picture((1200, 1), BLUE)
  found, _ = score("gedit", "lmms_eval", ITEM, replies, made=[line])
  assert not found.failure


@pytest.mark.parametrize("bad", ["I cannot.", HTML, '{"score": ["8"]}', "{"])
def test_both_are_asked_again_once(bad):
  replies = {"sc": bad, "pq": said(9), "sc/1": said(4), "pq/1": said(4)}
  found, judge = score("gedit", "step1x", ITEM, replies)
  assert (found.value, found.failure) == (4, "")
  assert judge.names == ["sc", "pq", "sc/1", "pq/1"]


@pytest.mark.parametrize(
  "bad",
  ["I cannot.", HTML, said(11), said(-1), said(), '{"score": NaN}', "[08, 9]"],
)
def test_unparsable_twice_is_a_failure_and_no_score(bad):
  replies = dict.fromkeys(("pq", "pq/1"), bad) | {
    "sc": said(9),
    "sc/1": said(9),
  }
  found, judge = score("gedit", "step1x", ITEM, replies)
  assert (found.value, found.failure) == (0, "judge:unparsable")
  assert not found.parts
  assert len(judge.calls) == 4


def test_a_refusal_is_a_kind_of_its_own_and_a_real_zero_is_none():
  replies = {"sc": REFUSED, "sc/1": REFUSED, "pq": said(9), "pq/1": said(9)}
  refused, _ = score("gedit", "step1x", ITEM, replies)
  assert (refused.value, refused.failure) == (0, "judge:refused")
  zero, _ = score("gedit", "step1x", ITEM, {"sc": said(0, 9), "pq": said(9)})
  assert (zero.value, zero.failure) == (0, "")
  again, _ = score("gedit", "step1x", ITEM, replies | {"sc/1": said(9)})
  assert (again.value, again.failure) == (9, "")


@pytest.mark.parametrize("status", ["absent", "unreachable"])
def test_without_a_judge_nothing_is_asked_again(status):
  gone = Reply(status=status)
  found, judge = score("gedit", "step1x", ITEM, {"sc": gone})
  assert found.failure == f"judge:{status}" and len(judge.calls) == 1


def test_a_file_without_second_replies_fails_by_the_first():
  found, _ = score("gedit", "step1x", ITEM, {"sc": "no", "pq": said(9)})
  assert found.failure == "judge:unparsable"
  found, _ = score("gedit", "step1x", ITEM, {"sc": REFUSED, "pq": said(9)})
  assert found.failure == "judge:refused"


def test_scores_are_made_up_only_where_that_is_asked_for():
  replies = dict.fromkeys(("sc", "sc/1", "pq", "pq/1"), "I cannot.")
  first, _ = score("gedit", "step1x", ITEM, replies, guess=True)
  again, _ = score("gedit", "step1x", ITEM, replies, guess=True)
  assert first == again and not first.failure
  assert set(first.parts.values()) <= set(range(11))
  broken = {f"{p}/{n}": "{broken, }" for p in ("sc", "pq") for n in range(10)}
  broken |= {"sc": "{broken, }", "pq": "{broken, }"}
  found, judge = score("gedit", "step1x", ITEM, broken, guess=True)
  assert found.failure == "judge:unparsable" and len(judge.calls) == 20


SCORES = st.lists(st.integers(0, 10), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None)
@given(
  SCORES.map(lambda x: said(*x)) | st.text('{}[]:",01 \nascore', max_size=40)
)
def test_any_reply_gives_a_score_in_bounds_or_a_failure(reply):
  replies = {"sc": reply, "sc/1": reply, "pq": said(7), "pq/1": said(7)}
  found, _ = score("gedit", "step1x", ITEM, replies)
  assert 0 <= found.value <= 10
  assert bool(found.parts) != bool(found.failure)


def test_types_are_averaged_by_the_headline_alone():
  found = suite.find("gedit")
  assert found.impls == ("step1x", "lmms_eval")
  assert found.stratum(ITEM, "step1x") == "ps_human"
  assert found.stratum(ITEM, "lmms_eval") == ""
  common = item("ps_human", Intersection_exist=True)
  assert [found.categories(x)["intersection"] for x in (ITEM, common)] == [
    "no",
    "yes",
  ]
  assert (found.scale, found.unit, found.lowest) == (1.0, "", 0.0)


def test_means_over_types_are_the_originals():
  """Scores, averaged as the strata say, against the original's own means."""
  found, rows, by_type = suite.find("gedit"), [], {}
  for n, name in enumerate([*viescore.TASK_TYPES, "ps_human", "ps_human"]):
    sc, pq = n % 11, (3 * n) % 11
    one, _ = score(
      "gedit", "step1x", item(name), {"sc": said(sc), "pq": said(pq)}
    )
    by_type.setdefault(found.stratum(item(name), "step1x"), []).append(
      one.value
    )
    rows.append(
      {
        "task_type": name,
        "sementics_score": one.parts["SC"],
        "quality_score": one.parts["PQ"],
        "intersection_exist": True,
        "instruction_language": "en",
      }
    )
  mean = sum(sum(x) / len(x) for x in by_type.values()) / len(by_type)
  golden = viescore.aggregate(rows, "en")["overall"]
  assert mean == pytest.approx(golden, abs=1e-12)
