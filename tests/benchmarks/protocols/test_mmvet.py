"""MM-Vet: what the judge is asked, how often, and what becomes of replies."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import prompt_texts, registry
from emma_jax.judge.base import Call, Reply
from tests.benchmarks.protocols.answered import case, item, value, values
from tests.laws import laws

pytestmark = pytest.mark.smoke
BENCHMARK = suite.find("mmvet")
TEMPERATURES = {
  "vlmevalkit": [0.0, 0.5, 1.0, 1.5, 2.0],
  "original": [0.0, 0.0, 0.5, 1.0, 1.5],
}
TOKENS = {"vlmevalkit": 2048, "original": 3}
AGAIN = "\nPredict the correctness of the answer (digit): "

each_impl = pytest.mark.parametrize("impl", BENCHMARK.impls)


def scripted(
  replies: Sequence[str], seen: list[Call]
) -> Callable[[Call], Reply]:
  """A judge with these replies, one a call."""

  def judge(call: Call) -> Reply:
    seen.append(call)
    return Reply(text=replies[len(seen) - 1])

  return judge


@each_impl
@pytest.mark.parametrize(
  "replies",
  [
    ["0.4"],
    ["1.5", "0.5"],
    ["x", "good", "nothing", "-1", "1.0"],
    ["nan", "0.0"],
    ["0.7\n", "never"],
  ],
)
def test_the_judge_is_asked_until_it_gives_a_number(impl, replies):
  seen: list[Call] = []
  got = value("mmvet", impl, item("a"), "b", judge=scripted(replies, seen))
  wanted = next(
    i for i, r in enumerate(replies) if r[:1] in "01" and r != "1.5"
  )
  assert got == float(replies[wanted])
  assert [c.attempt for c in seen] == list(range(wanted + 1))
  for call, temperature in zip(seen, TEMPERATURES[impl]):
    assert call.options == {
      "temperature": temperature,
      "max_tokens": TOKENS[impl],
    }
    assert not call.pictures and not call.system


def test_first_word_or_whole_reply():
  replies = ["0.7 | good", "1.0"]
  for impl, wanted in (("original", 0.7), ("vlmevalkit", 1.0)):
    judge = scripted(replies, [])
    assert value("mmvet", impl, item("a"), "b", judge=judge) == wanted


@each_impl
@pytest.mark.parametrize(
  "replies", [["0.3"], ["x", "0.7 | good", "0.2"], ["2", "", " 1"], ["0.9 "]]
)
def test_scores_are_the_scorers_own(impl, replies):
  scorer = registry.find("MM-Vet", "judge_parse", impl)
  wanted = scorer(judge_outputs=replies)
  seen: list[Call] = []
  endless = [*replies, *["?"] * 5]
  try:
    got = value("mmvet", impl, item("a"), "b", judge=scripted(endless, seen))
  except suite.NoReply:
    got = 0.0
  assert (got, len(seen)) == (wanted["score"], wanted["calls"])
  if impl == "vlmevalkit":
    temperatures = [call.options["temperature"] for call in seen]
    assert temperatures == wanted["temperatures"]


@each_impl
def test_five_replies_without_a_number_are_a_failure(impl):
  seen: list[Call] = []
  judge = scripted(["?"] * 5 + ["1.0"], seen)
  with pytest.raises(suite.NoReply, match="unparsable.*'\\?'") as caught:
    value("mmvet", impl, item("a"), "b", judge=judge)
  assert caught.value.kind == "unparsable" and len(seen) == 5


@each_impl
@pytest.mark.parametrize("status", ["refused", "unreachable", "absent"])
def test_who_refuses_is_not_asked_again(impl, status):
  seen: list[Call] = []

  def judge(call: Call) -> Reply:
    seen.append(call)
    return Reply(text="x") if len(seen) == 1 else Reply(status=status)

  with pytest.raises(suite.NoReply, match=status) as caught:
    value("mmvet", impl, item("a"), "b", judge=judge)
  assert caught.value.kind == status and len(seen) == 2


def test_what_the_judge_is_asked():
  """The authors' table to the letter, and VLMEvalKit's with broken lines."""
  asked = {}
  for impl in BENCHMARK.impls:
    seen: list[Call] = []
    of = item("x<AND>y<OR>z", question="q?")
    value("mmvet", impl, of, "b", judge=scripted(["?", "1"], seen))
    asked[impl] = [call.text for call in seen]
  row = "\nq? | x <AND> y <OR> z | b | "
  original = prompt_texts.read("mmvet_judge") + row
  assert asked["original"] == [original, original + AGAIN]
  vlmevalkit = prompt_texts.read("mmvet_judge_vlmevalkit") + row
  assert asked["vlmevalkit"] == [vlmevalkit] * 2
  assert original.split() == vlmevalkit.split()


def test_repeats_and_implementations_are_calls_of_their_own():
  names, contents = set(), []
  for impl in BENCHMARK.impls:
    seen: list[Call] = []
    judge = scripted(["?", "0.5", "1"], seen)
    assert values("mmvet", impl, item("a"), "b", "c", judge=judge) == [0.5, 1]
    assert [call.id for call in seen] == [
      f"mmvet/7/0/{impl}",
      f"mmvet/7/0/{impl}/1",
      f"mmvet/7/1/{impl}",
    ]
    names |= {call.id for call in seen}
    contents += [str(call.content()) for call in seen]
  assert len(names) == len(set(contents)) == 6


@each_impl
@laws(60)
@given(st.lists(st.text("0.1 |-naif", max_size=5), min_size=5, max_size=5))
def test_a_rating_is_bounded_or_a_failure(impl, replies):
  try:
    got = value("mmvet", impl, item("a"), "b", judge=scripted(replies, []))
  except suite.NoReply as error:
    assert error.kind == "unparsable"
  else:
    again = value("mmvet", impl, item("a"), "b", judge=scripted(replies, []))
    assert BENCHMARK.lowest <= got == again <= 1.0


@pytest.mark.parametrize(
  "meta, columns",
  [
    ({"capability": "ocr,math"}, {"ocr", "math"}),
    ({"category": "math,ocr"}, {"ocr", "math"}),
    ({"capability": ["math", "ocr"]}, {"ocr", "math"}),
    ({"category": "rec"}, {"rec"}),
  ],
)
def test_capabilities(meta, columns):
  """One column each; the order in the data makes no other integration."""
  found = dict(BENCHMARK.categories(item("a", **meta)))
  assert found.pop("integration") in ("ocr_math", "rec")
  assert found == dict.fromkeys(columns, "yes")


def test_items_without_answers_or_with_several():
  assert BENCHMARK.categories(item("a")) == {}
  assert BENCHMARK.judge == "rating" and not BENCHMARK.fallback
  with pytest.raises(suite.NoAnswers, match="mmvet, item 7"):
    value("mmvet", "original", item(), "b")
  with pytest.raises(ValueError, match="item 7: 2 answers; the judge is shown"):
    value("mmvet", "original", item("a", "b"), "b")


def test_what_a_table_loses_is_lost_only_where_it_is_asked_for():
  for impl, quirks, shown in (
    ("vlmevalkit", True, "| nan | nan |"),
    ("vlmevalkit", False, "| None | NA |"),
    ("original", True, "| None | NA |"),
  ):
    seen: list[Call] = []
    one = case(
      "mmvet",
      impl,
      item("None"),
      "NA",
      judge=scripted(["1"], seen),
      quirks=quirks,
    )
    assert [s.value for s in BENCHMARK.score(one)] == [1.0]
    assert seen[0].text.rstrip().endswith(shown)
