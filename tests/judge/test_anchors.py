import dataclasses
import re

import pytest

from emma_jax.judge import anchors
from emma_jax.judge.anchors import Anchor
from emma_jax.judge.base import Call, JudgeError, Reply
from emma_jax.judge.cached import Cached
from tests.judge.common import Counted, picture

pytestmark = pytest.mark.smoke


def anchor(name: str, reply: str, text: str = "", **more) -> Anchor:
  return Anchor(call=Call(id=name, text=text, **more), reply=reply, model="m")


def numbers(one: Anchor, reply: str) -> list[float]:
  found = [float(n) for n in re.findall(r"-?\d+\.?\d*|nan", reply)]
  if not found:
    raise ValueError(f"no number in {reply!r}")
  return found


def test_the_mean_is_of_all_numbers_that_can_be_compared():
  judge = Counted(model="m-2")
  found = anchors.drift(
    judge,
    [
      anchor("a", "SC 7, PQ 8", "SC 6, PQ 8"),
      anchor("b", "5", "7"),
      anchor("c", "5", "I can't say."),
      anchor("d", "5", "5 or 6"),
      anchor("e", "5", "nan"),
    ],
    numbers,
    threads=4,
  )
  assert (found.n, found.mean_abs_diff) == (2, (1 + 0 + 2) / 3)
  assert found.failed.keys() == {"c", "d", "e"}
  assert found.failed["c"].startswith("unparsable: no number in")
  assert found.failed["d"] == "2 numbers in place of 1"
  assert found.models == ("m-2",)


def test_a_judge_that_says_the_same_has_not_moved():
  same = [anchor(str(n), str(n), str(n)) for n in range(5)]
  found = anchors.drift(Counted(), same, numbers)
  assert (found.n, found.mean_abs_diff, found.failed) == (5, 0.0, {})


def test_what_gives_no_reply_is_no_number():
  judge = Counted(status="refused", text="", error="a filter")
  found = anchors.drift(judge, [anchor("a", "5")], numbers)
  assert (found.n, found.mean_abs_diff) == (0, None)
  assert found.failed == {"a": "refused: a filter"}
  assert anchors.drift(judge, [], numbers).mean_abs_diff is None


def test_anchors_are_asked_anew_where_replies_are_kept(tmp_path):
  one = Cached(Counted(), str(tmp_path))
  mine = anchor("a", "5", "6")
  one.ask(mine.call)
  one.judge.reply = {"text": "8"}
  assert one.ask(mine.call).text == "6"
  assert anchors.drift(one, [mine], numbers).mean_abs_diff == 3.0


def test_a_judge_that_cannot_be_asked_ends_it():
  class Fails(Counted):
    def ask(self, call) -> Reply:
      raise JudgeError("no key")

  with pytest.raises(JudgeError, match="no key"):
    anchors.drift(Fails(), [anchor(str(n), "5") for n in range(9)], numbers, 2)


def kept() -> list[Anchor]:
  return [
    anchor("a", "ä 5", "Same?", pictures=(picture("red"), picture("blue"))),
    anchor(
      "b", "6", system="S", options={"temperature": 0.5}, attempt=2,
      pictures=(picture("red"),),
    ),
  ]  # fmt: skip


def test_anchors_come_back_as_they_were(tmp_path):
  path = str(tmp_path / "anchors.jsonl")
  anchors.save(path, kept())
  assert anchors.load(path) == kept()
  # A picture that two of them show is there once.
  assert len(list((tmp_path / "anchors.jsonl.pictures").iterdir())) == 2


def test_damaged_anchors_are_named(tmp_path):
  path = tmp_path / "anchors.jsonl"
  anchors.save(str(path), kept())
  text = path.read_text()
  first = text.splitlines()[0]
  for wrong, words in (
    ("{", "line 1"),
    ("{}\n", "has to have"),
    (text.replace('"reply": "6"', '"reply": 6'), r"line 2: \['reply'\]"),
    (f"{first}\n{first}\n", "line 2: a second anchor 'a'"),
  ):
    path.write_text(wrong)
    with pytest.raises(ValueError, match=words):
      anchors.load(str(path))
  path.write_text(text)
  for file in (tmp_path / "anchors.jsonl.pictures").iterdir():
    file.write_bytes(picture("green"))
  with pytest.raises(ValueError, match="has been changed"):
    anchors.load(str(path))


def test_what_anchors_are_compared_with_does_not_reach_the_judge():
  judge = Counted()
  mine = dataclasses.replace(anchor("a", "5", "7"), model="other")
  anchors.drift(judge, [mine], numbers)
  assert judge.asked == [mine.call]
