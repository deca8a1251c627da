import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.suite import Case, interleaved
from emma_jax.judge.base import Reply

PICTURES = tuple(Picture(f"row {n}", lambda n=n: bytes([n])) for n in (1, 2, 3))


@pytest.mark.parametrize(
  "text, expected, order",
  [
    ("plain", "<image><image><image>plain", "123"),
    ("a <image 2> b <image 1>", "<image>a <image> b <image>", "321"),
    ("<image 3><image 3>", "<image><image><image><image>", "1233"),
    ("<image 4> of <image 1>", "<image><image><image 4> of <image>", "231"),
  ],
)
def test_pictures_stand_where_the_text_names_them(text, expected, order):
  """None is lost: a picture without a place comes first."""
  made = interleaved(text, PICTURES)
  assert made.text == expected
  assert [p.bytes()[0] for p in made.pictures] == [int(x) for x in order]
  assert made.text.count("<image>") == len(made.pictures)


def case(reply: Reply, seen: list) -> Case:
  def judge(call):
    seen.append(call)
    return reply

  item = Item(id="7", group="7", question="?")
  return Case(set_name="s", item=item, made=(), impl="original", judge=judge)


def test_a_call_says_of_which_prediction_it_is():
  seen: list = []
  reply = case(Reply(text="yes"), seen).ask("sc", "Good?", [b"x"], repeat=2)
  assert reply.text == "yes"
  case(reply, seen).ask("sc", "Good?", attempt=1, temperature=0.5)
  assert [c.id for c in seen] == ["s/7/2/sc", "s/7/0/sc/1"]
  assert seen[0].pictures == (b"x",)
  assert seen[1].options == {"temperature": 0.5}


@pytest.mark.parametrize("status", ["refused", "unreachable", "absent"])
def test_without_a_reply_there_is_no_score(status):
  with pytest.raises(suite.NoReply, match=status) as caught:
    case(Reply(status=status), []).ask("sc", "Good?")
  assert caught.value.kind == status


def test_draws_are_of_the_item_alone():
  a = case(Reply(), []).random().random()
  assert a == case(Reply(text="x"), []).random().random()
  assert a != case(Reply(), []).random(1).random()


def test_no_benchmark_of_that_name():
  with pytest.raises(ValueError, match="No benchmark 'docvaq'; there are"):
    suite.find("docvaq")
