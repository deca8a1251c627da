"""Servers that fail, refuse, charge: what is tried again, kept, and counted."""

import base64
from concurrent import futures
import json
import time

import pytest

from emma_jax.data.curation import answers, client, painter
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.judge import ledger
from emma_jax.structs import Drawing
from tests.data import made
from tests.data.curation.fake_server import Fake, serve
from tests.local_server import chat, error

DRAWING = schema.Stored(
  record=Drawing(prompt="red", picture=made.picture(), id="d")
)
PRICE = ledger.Price(2.0, 30.0)
# 100 tokens in at 2 and 10 out at 30 a million.
COST = (100 * 2.0 + 10 * 30.0) / 1e6


def ask(url: str, folder, **more) -> client.Client:
  return client.Client(
    **{
      "url": url,
      "model": "m",
      "prompt": 'Reply: {"caption": "..."}',
      "cache": str(folder / "replies"),
      "pause": 0.001,
      "tries": 3,
      "ledger": str(folder / ledger.LEDGER),
      "price": PRICE,
    }
    | more
  )


def paint(url: str, folder, **more) -> painter.Painter:
  return painter.Painter(
    **{
      "url": url,
      "model": "p",
      "cache": str(folder / "replies"),
      "pause": 0.001,
      "tries": 3,
      "ledger": str(folder / ledger.LEDGER),
      "price": ledger.Price(picture=0.04),
    }
    | more
  )


def bill(folder, name: str = "answer") -> ledger.Spent:
  return ledger.spent(str(folder / ledger.LEDGER))[name]


def first(*failures):
  """These, then the right answers."""
  return lambda n, path: failures[n - 1] if 0 < n <= len(failures) else None


@pytest.mark.parametrize(
  "failure, reason",
  [
    (error(429), "429"),
    (error(500), "500"),
    ((200, b'{"choices": [', {}), "malformed"),
    ((200, b'{"choices": []}', {}), "malformed"),
    ((200, b"{}", {"Content-Length": "90"}), "connection"),  # cut short
  ],
)
def test_what_is_tried_again_and_counted(tmp_path, failure, reason):
  fake = Fake(fail=first(failure))
  with serve(fake) as url:
    found = ask(url, tmp_path).answer(DRAWING, "here")
  assert found["caption"].startswith("A plain picture")
  assert fake.number == 2
  spent = bill(tmp_path)
  assert spent.failed == {reason: 1}
  assert (spent.calls, spent.input_tokens, spent.output_tokens) == (1, 100, 10)
  assert spent.cost == pytest.approx(COST)


def test_a_server_says_when_to_come_back(tmp_path):
  """Its seconds count, not ours: the pause would be a minute."""
  late = {"Retry-After": "0.2"}
  fake = Fake(fail=first(error(429, **late)))
  with serve(fake) as url:
    start = time.monotonic()
    ask(url, tmp_path, pause=60.0).answer(DRAWING, "here")
  assert 0.2 <= time.monotonic() - start < 30


def test_an_exhausted_quota_ends_the_run_at_once(tmp_path):
  fake = Fake(fail=first(*[error(429, "insufficient_quota")] * 3))
  with serve(fake) as url, pytest.raises(ConversionError, match="429"):
    ask(url, tmp_path).answer(DRAWING, "here")
  assert fake.number == 1


@pytest.mark.parametrize(
  "failure, paid",
  [
    (error(400, "content_policy_violation"), 0),
    (error(400, "moderation_blocked"), 0),
    (chat("", "content_filter"), 1),
    (chat(None, refusal="I will not."), 1),
  ],
)
def test_a_refusal_is_kept(tmp_path, failure, paid):
  """It would be refused again, and a refusal may cost."""
  fake = Fake(fail=first(failure))
  with serve(fake) as url:
    for _ in range(2):
      with pytest.raises(answers.Refused, match="refuse"):
        ask(url, tmp_path).answer(DRAWING, "here")
  assert fake.number == 1
  assert bill(tmp_path).calls == paid


def test_a_bad_request_is_asked_again_by_the_next_run(tmp_path):
  fake = Fake(fail=first(error(400)))
  with serve(fake) as url:
    with pytest.raises(answers.NoAnswer, match="400") as found:
      ask(url, tmp_path).answer(DRAWING, "here")
    assert not isinstance(found.value, answers.Refused)
    ask(url, tmp_path).answer(DRAWING, "here")
  assert fake.number == 2


def test_a_reply_cut_short_is_paid_and_no_answer(tmp_path):
  fake = Fake(fail=first(chat('{"caption": "x"} and', "length")))
  with serve(fake) as url:
    for _ in range(2):
      with pytest.raises(answers.NoAnswer, match="max_tokens"):
        ask(url, tmp_path).answer(DRAWING, "here")
  assert fake.number == 1 and bill(tmp_path).calls == 1


def test_equal_questions_at_the_same_time_are_one(tmp_path):
  """And a server that has moved is the same one, under its name."""
  fake = Fake()
  with serve(fake) as url:
    one = ask(url, tmp_path, known_as="vlm")
    with futures.ThreadPoolExecutor(8) as pool:
      found = list(pool.map(lambda _: one.answer(DRAWING, "here"), range(8)))
    assert fake.number == 1 and all(f == found[0] for f in found)
    ask(url, tmp_path).answer(DRAWING, "here")
    assert fake.number == 2  # by its address it is another
  moved = ask("http://127.0.0.1:9/v1", tmp_path, known_as="vlm")
  assert moved.answer(DRAWING, "here") == found[0]


def test_replies_are_found_whatever_encodes_the_pictures(tmp_path, monkeypatch):
  """A key is of the stored picture: an upgrade may write other JPEG or PNG."""
  fake = Fake()
  with serve(fake) as url:
    one, two = ask(url, tmp_path), paint(url, tmp_path)
    one.answer(DRAWING, "here")
    two.edit(made.picture(), "add a hat", "here")
    assert fake.number == 2
    other = lambda *unused: pytest.fail("encoded for nothing")
    monkeypatch.setattr(client.Client, "_jpeg", other)
    monkeypatch.setattr(painter.Painter, "_png", other)
    one.answer(DRAWING, "here")
    two.edit(made.picture(), "add a hat", "here")
  assert fake.number == 2


def test_what_was_kept_and_not_yet_noted_is_billed_by_the_next_run(tmp_path):
  """Killed in between: the reply is used, and stands on the bill once."""
  fake = Fake()
  book = str(tmp_path / ledger.LEDGER)
  with serve(fake) as url:
    run = lambda: ask(url, tmp_path).billed(book)
    run().answer(DRAWING, "here")
    head, _ = (tmp_path / ledger.LEDGER).read_text().split("\n\n")
    (tmp_path / ledger.LEDGER).write_text(f"{head}\n")
    assert not ledger.spent(book)
    second = run()
    for one in (second, second, run()):
      one.answer(DRAWING, "here")
      assert bill(tmp_path).calls == 1
      assert bill(tmp_path).cost == pytest.approx(COST)
    # Another data set that finds it has not paid for it.
    other = str(tmp_path / "other.jsonl")
    ask(url, tmp_path).billed(other).answer(DRAWING, "here")
  assert fake.number == 1 and not ledger.spent(other)


def test_options_change_the_request(tmp_path):
  one = ask("http://a", tmp_path, options={"temperature": None, "top_p": 0.5})
  body = json.loads(one._body("a", (), "here"))
  assert "temperature" not in body and body["top_p"] == 0.5


# ----------------------------------------------------------------- pictures


@pytest.mark.parametrize("urls", [False, True])
def test_pictures_edited_and_drawn(tmp_path, urls):
  fake = Fake(urls=urls)
  with serve(fake) as url:
    one = paint(url, tmp_path, options={"size": "64x64"})
    for _ in range(2):
      edited, size = one.edit(
        made.picture("red", 40, 60), "add a ha\u00df", "w"
      )
      drawn, _ = one.draw('a sign that says "OPEN"', "w")
  assert size == (40, 60)
  assert made.Image.open(made.io.BytesIO(edited)).getpixel((0, 0)) == (
    0,
    255,
    255,
  )
  assert drawn == fake.say("OPEN")
  assert fake.number == 2
  spent = bill(tmp_path)
  assert (spent.calls, spent.pictures, spent.cost) == (2, 2, 0.08)


def test_what_a_form_holds():
  from tests.data.curation.fake_server import parse_form

  picture = made.noise(8, 8)
  body, kind = painter.form({"prompt": 'say "hä"', "n": "1"}, "image", picture)
  found = parse_form(body, kind)
  assert found == {"prompt": 'say "hä"'.encode(), "n": b"1", "image": picture}


def test_a_lost_address_is_not_paid_for_twice_in_a_run(tmp_path):
  """The picture is fetched again, not made again."""
  left = [error(503), error(503)]
  fake = Fake(
    fail=lambda n, path: left.pop() if n < 0 and left else None, urls=True
  )
  with serve(fake) as url:
    paint(url, tmp_path).draw('"A"', "w")
  assert fake.number == 1 and not left
  assert bill(tmp_path).failed == {"503": 2}


@pytest.mark.parametrize(
  "entry, words",
  [
    ({"b64_json": base64.b64encode(b"no picture").decode()}, "picture made"),
    ({"url": "file:///etc/passwd"}, "no address"),
  ],
)
def test_what_is_no_picture(tmp_path, entry, words):
  reply = (200, json.dumps({"data": [entry]}).encode(), {})
  fake = Fake(fail=first(*[reply] * 3))
  with serve(fake) as url, pytest.raises(answers.NoAnswer, match=words):
    paint(url, tmp_path).draw("a", "w")
  assert bill(tmp_path).calls == 1


def test_replies_without_pictures_are_tried_again(tmp_path):
  empty = (200, b'{"data": [{}]}', {})
  torn = (200, b'{"data": [{"b64_json": "%%%"}]}', {})
  fake = Fake(fail=first(empty, torn))
  with serve(fake) as url:
    paint(url, tmp_path).draw('"A"', "w")
  assert bill(tmp_path).failed == {"malformed": 2}


# ------------------------------------------------------------------- ledger


def test_a_ledger_adds_up_whatever_it_lacks(tmp_path):
  path = str(tmp_path / ledger.LEDGER)
  line = dict(name="a", model="m", key="k", pictures=0)
  ledger.note(path, **line, input_tokens=5, output_tokens=7, cost=0.5)
  with open(path, "ab") as file:
    file.write(b'{"name": "a", "mo')  # a loss of power
  ledger.note(path, **line, input_tokens=None, output_tokens=None, cost=None)
  found = ledger.spent(path)
  a = found["a"]
  assert (a.calls, a.input_tokens, a.output_tokens, a.cost) == (2, 5, 7, 0.5)
  assert (a.without_usage, a.without_price) == (1, 1)
  assert found["?"].failed == {"a torn line": 1}
  assert ledger.spent(str(tmp_path / "none")) == {}
