from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import imgedit
from tests.benchmarks import golden

QUICK = settings(max_examples=60, deadline=None)
MARK = st.integers(1, 5)
REPLY = "Brief reasoning: fine.\nCompliance: {}\nVisual: {}\nPhysical: {}"


def test_the_originals_numbers(shared_dir):
  found = golden.cases(shared_dir, "ImgEdit-Bench")
  assert found
  assert not golden.misses(found, imgedit.SCORERS)


@pytest.mark.parametrize("edit_type", [*imgedit.EDIT_TYPES, "alter"])
def test_every_type_has_a_prompt(edit_type):
  prompt = imgedit.judge_prompt(edit_type, "paint the door")
  assert "paint the door" in prompt
  assert "<edit_prompt>" not in prompt


def test_another_type_is_an_error():
  with pytest.raises(ValueError, match="'repaint' is no edit type"):
    imgedit.judge_prompt("repaint", "x")


@pytest.mark.smoke
@pytest.mark.parametrize(
  "text, original, lmms",
  [
    (REPLY.format(4, 3, 5), 4.0, (4, 3, 5)),
    (REPLY.format(4, "3.", "5/5"), 4.0, (4, 3, 5)),  # lines left out
    ("a: 1\nb: 2\nc: 2", 1.67, (1, 2, 2)),
    ("a: b: 4\nc: 2", 2.0, (0, 0, 0)),  # two colons
    ("Reason: 1\n" + REPLY.format(5, 5, 5), 4.0, (5, 5, 5)),  # a mark too many
    ("a:4\nb:4\nc:4", None, (4, 4, 4)),  # no space
    ("4\n3\n5", None, (4, 3, 5)),
    ("Score 4\nand 3 \nand 5", None, (4, 3, 5)),
    ("I cannot.", None, (0, 0, 0)),
    ("", None, (0, 0, 0)),
  ],
)
def test_replies(text, original, lmms):
  assert imgedit.parse(text) == original
  assert imgedit.lmms_parse(text) == lmms


def test_digits_that_are_no_number_break_as_in_the_original():
  with pytest.raises(ValueError):
    imgedit.parse("a: ²")


def test_no_reply_at_all_is_zero_in_lmms():
  assert imgedit.lmms_parse(None) == (0, 0, 0)


@QUICK
@given(st.tuples(MARK, MARK, MARK))
def test_marks_that_are_written_as_asked_are_read(marks):
  text = REPLY.format(*marks)
  assert imgedit.parse(text) == round(sum(marks) / 3, 2)
  assert imgedit.lmms_parse(text) == marks


@QUICK
@given(st.text(max_size=60) | st.text(": 0123\nab", max_size=60))
def test_marks_of_any_text_are_not_negative(text):
  assert min(imgedit.lmms_parse(text)) >= 0


def test_types_are_rounded_after_edits_were():
  meta = {str(i): {"edit_type": "add"} for i in range(3)}
  scores = {"0": 4.0, "1": 3.33, "2": 3.33, "unknown": 1.0}
  assert imgedit.type_average(scores, meta) == {"add": 3.55}
  assert imgedit.type_average({"0": 1.0}, {"0": {}}) == {}


def test_overall_is_the_mean_of_all_nine_types():
  types = dict.fromkeys(imgedit.EDIT_TYPES, 4.0) | {"add": 1.0}
  assert imgedit.overall(types) == pytest.approx(33 / 9)
  del types["adjust"]
  with pytest.raises(ValueError, match="adjust"):
    imgedit.overall(types)
  assert imgedit.overall(types | {"alter": 4.0}) == pytest.approx(33 / 9)


def test_lmms_counts_failures_as_zero():
  results = [{"score": 4.0}, {"score": 0.0}, {"other": 1}]
  assert imgedit.lmms_overall(results) == 2.0
  assert imgedit.lmms_overall([]) == 0.0


def test_uge_replies_on_one_line_are_left_out():
  results = {"1": "Brief reasoning: a. Score: 2.", "2": "Score: 3"}
  assert imgedit.uge_average(results) == 3.0
  assert imgedit.uge_average({"1": "no"}) is None


@QUICK
@given(
  st.dictionaries(st.text(max_size=3), st.floats(1, 5), min_size=1),
  st.randoms(use_true_random=False),
)
def test_the_order_of_edits_does_not_matter(scores, rng):
  meta = {key: {"edit_type": imgedit.EDIT_TYPES[len(key)]} for key in scores}
  keys = rng.sample(sorted(scores), len(scores))
  got = imgedit.type_average(scores, meta)
  again = imgedit.type_average({key: scores[key] for key in keys}, meta)
  assert again == pytest.approx(got, abs=0.0101)  # a rounding may tip over
  assert all(1 <= value <= 5 for value in got.values())
