"""A chat answers as if it were asked at once, and reads nothing twice."""

import numpy as np
from PIL import Image
import pytest

from emma_jax.api.model import Model
from emma_jax.data.pictures.images import BadRecord
from emma_jax.sampling import talk
from emma_jax.sampling.context import SampleError
from tests.sampling import small

QUESTIONS = ("what?", "why is it?", "and where?")


@pytest.fixture(scope="module")
def model() -> Model:
  return Model(small.session())


@pytest.mark.smoke
def test_answers_are_those_of_one_request_and_only_news_are_read(model):
  picture = small.picture(0)
  (wanted,) = model.session.ask([[picture]], [QUESTIONS])
  chat = model.chat()
  chat.show(picture)
  read = []
  said = []
  for question in QUESTIONS:
    said.append(chat.say(question))
    read.append(chat.tokens_read)
  assert said == wanted
  # Behind the first question no picture is read again.
  first, *later = np.diff([0, *read])
  assert all(0 < n < first for n in later)
  assert [turn.text for turn in chat.history[1:]] == [
    text for pair in zip(QUESTIONS, wanted) for text in pair
  ]


def test_a_full_cache_is_read_anew_with_the_same_answers(model, monkeypatch):
  picture = small.picture(0)
  (wanted,) = model.session.ask([[picture]], [QUESTIONS])
  monkeypatch.setattr(talk, "_ROOM", 16)
  monkeypatch.setattr(talk, "static_size", lambda n, unit=1: 16)
  chat = model.chat()
  said = [
    chat.say(q, picture if not i else None) for i, q in enumerate(QUESTIONS)
  ]
  assert said == wanted


def test_pictures_come_in_and_out_and_the_latest_is_in_view(model):
  chat = model.chat(seed=3)
  drawn = chat.draw("red")
  assert np.array_equal(drawn, model.draw("red", seed=3))
  assert chat.say("what?") == model.ask(drawn, "what?")
  edited = chat.edit("do")
  assert np.array_equal(edited, model.edit(drawn, "do", seed=4))
  assert edited.size == drawn.size and chat.picture is edited
  assert chat.say("what?") == model.ask(edited, "what?")  # a new view
  own = Image.fromarray(small.picture(5, 40, 70))
  assert chat.say("what?", own) == model.ask(own, "what?")
  roles = "".join(turn.role[0] for turn in chat.history)
  assert roles == "umumumumuum"
  assert "[picture of 40x70]" in repr(chat)


def test_two_pictures_in_view_are_those_of_one_question(model):
  one, two = small.picture(0), small.picture(1)
  chat = model.chat(pictures=2)
  chat.show(one)
  chat.show(two)
  assert chat.say("what?") == model.ask((one, two), "what?")


def test_a_chat_without_a_picture(model):
  chat = model.chat()
  assert chat.picture is None
  assert chat.say("what?") == model.ask(None, "what?")


def test_what_cannot_be_said(model):
  chat = model.chat()
  for call, words in (
    (lambda: chat.say(""), "empty"),
    (lambda: chat.say(["a"]), "one question at a time"),
    (lambda: chat.say("a <image>"), "marks a picture"),
    (lambda: chat.edit("do"), "no picture to edit"),
    (lambda: chat.draw(["a"]), "one picture at a time"),
    (lambda: chat.draw("a", seed=[1, 2]), "give one seed"),
    (lambda: chat.say("", small.picture(0)), "empty"),
    (lambda: chat.say("a <image>", small.picture(0)), "marks a picture"),
    (lambda: chat.show(b"GIF"), "cannot read"),
  ):
    with pytest.raises((SampleError, BadRecord), match=words):
      call()
  assert not chat.history and chat.picture is None
  assert chat.say("what?") == model.ask(None, "what?")


def test_what_is_interrupted_has_not_happened(model, monkeypatch):
  one, two = small.picture(0), small.picture(1)
  chat = model.chat()
  first = chat.say("what?", one)
  before = repr(chat)
  with monkeypatch.context() as patch:

    def stop(*_, **__):
      raise KeyboardInterrupt

    patch.setattr(talk.text, "answer", stop)
    with pytest.raises(KeyboardInterrupt):
      chat.say("and where?", two)
  assert repr(chat) == before
  (wanted,) = model.session.ask([[one]], [["what?", "and where?"]])
  assert [first, chat.say("and where?")] == wanted
  with pytest.raises(RuntimeError, match="mine"):

    def raises(*_):
      raise RuntimeError("mine")

    chat.draw("red", on_progress=raises)
  assert np.array_equal(chat.draw("red"), model.draw("red", seed=0))


def test_a_picture_is_kept_as_it_was_shown(model, tmp_path):
  path, pixels = tmp_path / "a.png", small.picture(0)
  Image.fromarray(pixels).save(path)
  given = pixels.copy()
  for shown, spoil in (
    (str(path), lambda: path.write_bytes(b"another")),
    (given, lambda: given.fill(0)),
  ):
    chat = model.chat()
    chat.show(shown)
    spoil()
    assert chat.say("what?") == model.ask(pixels, "what?")
    edited = chat.edit("do")
    assert np.array_equal(edited, model.edit(pixels, "do"))
  with pytest.raises(BadRecord, match="broken.png"):
    (tmp_path / "broken.png").write_bytes(b"x")
    chat.show(tmp_path / "broken.png")
