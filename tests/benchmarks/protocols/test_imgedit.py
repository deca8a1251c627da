from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import imgedit
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols.edit_cases import (
  BLUE,
  HTML,
  item,
  picture,
  score,
  seen,
)

pytestmark = pytest.mark.smoke
REPLY = "Brief reasoning: fine.\nCompliance: {}\nVisual: {}\nPhysical: {}"
IMPLS = {"original": "marks", "lmms_eval": "lmms_marks"}
MARK = st.integers(1, 5)
EACH = pytest.mark.parametrize("impl, part", IMPLS.items())


@EACH
def test_the_mean_of_three_marks(impl, part):
  found, judge = score(
    "imgedit", impl, item("add"), {part: REPLY.format(4, 3, 3)}
  )
  assert found.value == 10 / 3 and not found.failure
  assert found.parts == {"score1": 4, "score2": 3, "score3": 3}
  (call,) = judge.calls
  assert call.text == imgedit.judge_prompt("add", "make it {blue}")
  assert not call.system
  assert list(map(seen, call.pictures)) == [
    ("PNG", (64, 48), "r"),
    ("PNG", (100, 100), "b"),
  ]


def test_the_original_is_asked_as_it_is_and_lmms_by_its_settings():
  replies = dict.fromkeys(IMPLS.values(), REPLY.format(1, 1, 1))
  options, texts = [], []
  for impl in IMPLS:
    _, judge = score("imgedit", impl, item("replace"), replies)
    options.append(judge.calls[0].options)
    texts.append(judge.calls[0].text)
  assert options == [{}, {"max_tokens": 512, "temperature": 0.1}]
  assert texts[0] != texts[1] == texts[0].replace("’", "'")


def test_files_are_sent_as_they_are():
  made, source = picture((9, 9), BLUE), picture(kind="JPEG")
  _, judge = score(
    "imgedit",
    "original",
    item("add", source),
    {"marks": REPLY.format(1, 1, 1)},
    made=[made],
  )
  assert judge.calls[0].pictures == (source, made)


@settings(max_examples=40, deadline=None)
@given(st.tuples(MARK, MARK, MARK))
def test_rounded_as_the_golden_function_does_with_quirks_alone(marks):
  replies = dict.fromkeys(IMPLS.values(), REPLY.format(*marks))
  for impl in IMPLS:
    plain, _ = score("imgedit", impl, item("add"), replies)
    assert plain.value == sum(marks) / 3
    quirky, _ = score("imgedit", impl, item("add"), replies, quirks=True)
    golden = imgedit.parse(replies["marks"])
    assert quirky.value == (golden if impl == "original" else plain.value)


def test_readings_differ_as_the_golden_functions_do():
  text = REPLY.format(4, "3.", "5/5")
  replies = dict.fromkeys(IMPLS.values(), text)
  first, _ = score("imgedit", "original", item("add"), replies)
  other, _ = score("imgedit", "lmms_eval", item("add"), replies)
  assert first.value == imgedit.parse(text) == 4 and not first.parts
  assert other.value == sum(imgedit.lmms_parse(text)) / 3 == 4
  assert other.parts["score2"] == 3


@EACH
@pytest.mark.parametrize(
  "bad", ["I cannot.", HTML, "", "a: ²", REPLY.format(9, 9, 9)]
)
def test_what_cannot_be_read_counts_the_lowest_mark_and_says_so(
  impl, part, bad
):
  found, judge = score("imgedit", impl, item("add"), {part: bad})
  assert (found.value, found.failure) == (1, "judge:unparsable")
  assert not found.parts and len(judge.calls) == 1
  real, _ = score("imgedit", impl, item("add"), {part: REPLY.format(1, 1, 1)})
  assert (real.value, real.failure) == (1, "")


@EACH
@pytest.mark.parametrize("status", ["refused", "unreachable", "absent"])
def test_no_reply_is_a_kind_of_its_own(impl, part, status):
  found, _ = score("imgedit", impl, item("add"), {part: Reply(status=status)})
  assert (found.value, found.failure) == (1, f"judge:{status}")


def test_marks_beyond_the_scale_are_taken_with_quirks():
  replies = {"marks": REPLY.format(9, 9, 9)}
  found, _ = score("imgedit", "original", item("add"), replies, quirks=True)
  assert (found.value, found.failure) == (9, "")


@settings(max_examples=60, deadline=None)
@given(
  st.sampled_from(sorted(IMPLS)),
  st.text(max_size=40) | st.text(": 01239²\nab", max_size=40),
)
def test_any_reply_gives_a_score_in_bounds_or_a_failure(impl, reply):
  found, _ = score("imgedit", impl, item("add"), {IMPLS[impl]: reply})
  assert 1 <= found.value <= 5
  assert not found.failure or found.value == 1


def test_types_are_averaged_by_the_original_alone_under_todays_name():
  found = suite.find("imgedit")
  old = item("alter")
  assert found.stratum(old, "original") == "adjust"
  assert found.stratum(old, "lmms_eval") == ""
  assert found.categories(old) == {"category": "adjust"}
  assert (found.scale, found.unit, found.lowest) == (1.0, "", 1.0)
  _, judge = score("imgedit", "original", old, {})
  assert judge.calls[0].text == imgedit.judge_prompt("adjust", "make it {blue}")
