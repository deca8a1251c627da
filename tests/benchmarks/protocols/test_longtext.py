from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.protocols import longtext
from emma_jax.benchmarks.scoring import longtext as scoring
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols import drawn

pytestmark = pytest.mark.smoke
QUICK = settings(max_examples=60, deadline=None)
(BENCHMARK,) = longtext.BENCHMARKS
WORDS = st.lists(st.sampled_from(["to", "be", "or", "not"]), min_size=1)


def item(*texts, language="en") -> Item:
  return Item(
    id="3",
    group="3",
    question="a sign",
    meta={
      "text": texts,
      "language": language,
      "category": "sign",
      "length": "short",
    },
  )


def test_each_picture_is_read_and_weighs_its_words():
  replies = ["To be, or NOT", "be be", "No text recognized.", "not"]

  def reader(call):
    assert call.text == scoring.READ_PROMPT
    assert call.options == {"max_tokens": 1024}
    repeat = int(call.id.removeprefix("longtext/3/").removesuffix("/read"))
    assert call.pictures == (drawn.picture(repeat),)
    return replies[repeat]

  found = drawn.scores(BENCHMARK, item("to be", "or not"), reader)
  assert drawn.values(found) == [1, 0.25, 0, 0.25]
  assert [s.weight for s in found] == [4] * 4


def test_chinese_counts_characters():
  sign = item("每日新鲜", language="zh")
  found = drawn.scores(BENCHMARK, sign, lambda call: "每 日", pictures=1)
  assert drawn.values(found) == [0.5] and found[0].weight == 4


def test_quirks_leave_what_the_reader_makes_up():
  sign = item("addcriterion")
  read = lambda quirks: drawn.values(
    drawn.scores(
      BENCHMARK, sign, lambda call: "addCriterion", quirks=quirks, pictures=1
    )
  )
  assert (read(True), read(False)) == ([1], [0])


def test_a_failure_weighs_as_much():
  sign = item("a b c")
  found = drawn.scores(BENCHMARK, sign, lambda call: Reply(status="refused"))
  assert drawn.failures(found) == ["judge:refused"] * 4
  assert [s.weight for s in found] == [3] * 4
  assert BENCHMARK.weight(sign) == 3


@pytest.mark.parametrize(
  "sign, message",
  [
    (item("..."), "'3' asks for no word"),
    (item("a", language="fr"), "language='fr'; en or zh is"),
    (Item(id="3", group="3", question="a"), "has no 'language' in its meta"),
  ],
)
def test_what_cannot_be_scored(sign, message):
  with pytest.raises(BadItem, match=message):
    drawn.scores(BENCHMARK, sign, lambda call: "a")


@QUICK
@given(st.lists(st.tuples(WORDS, st.lists(st.text(max_size=4))), min_size=1))
def test_the_weighted_mean_is_the_published_number(pairs):
  found, results = [], []
  for wanted, read in pairs:
    reply = " ".join([*wanted[::2], *read])
    text = " ".join(wanted)
    found += drawn.scores(
      BENCHMARK, item(text), lambda call, reply=reply: reply, pictures=1
    )
    cleaned = scoring.clean(reply, official_quirks=False)
    results.append({"ocr_gt": [text], "ocr_results": cleaned})
  assert all(0 <= value <= 1 for value in drawn.values(found))
  got = drawn.weighted_mean(found)
  assert got == pytest.approx(scoring.text_score(results, "en"))
