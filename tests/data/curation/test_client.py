"""The client against a server of this machine that misbehaves as told."""

import base64
import contextlib
import io

from PIL import Image
import pytest

from emma_jax.data.curation import answers, client, filters
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Editing
from tests import local_server
from tests.data import made
from tests.data.curation import common

EDIT = schema.Stored(
  record=Editing(
    sources=(made.picture("red", 40, 80),),
    instruction='say "hi" {prompt}',
    target=made.picture("blue", 40, 80),
    id="e",
  )
)


@contextlib.contextmanager
def server(*replies):
  """(base address, requests so far); a reply is a text, a status or bytes."""

  def made_of(reply):
    if isinstance(reply, str):
      return local_server.chat(reply)
    return (reply, b"", {}) if isinstance(reply, int) else (200, reply, {})

  script = local_server.Script(*(r and made_of(r) for r in replies))
  with local_server.serve(script) as url:
    yield url, script.asked


def _client(url: str, folder, **more) -> client.Client:
  return client.Client(
    **{
      "url": url,
      "model": "m",
      "prompt": "Judge {instruction}: {text}",
      "cache": str(folder / "cache"),
      "pause": 0.001,
      "tries": 3,
      "side": 32,
    }
    | more
  )


def test_what_is_asked(tmp_path, monkeypatch):
  monkeypatch.setenv("MY_KEY", "secret")
  with server('thinking {"a"... {"score": 7} done') as (url, asked):
    one = _client(url, tmp_path, key_env="MY_KEY")
    assert one.answer(EDIT, "here") == {"score": 7}
    assert one.answer(EDIT, "here") == {"score": 7}  # from the cache
  ((path, headers, body),) = asked
  assert path == "/v1/chat/completions" and body["model"] == "m"
  assert headers["Authorization"] == "Bearer secret"
  said, first, second = body["messages"][0]["content"]
  # A brace in the record's own text is no template.
  assert said["text"] == 'Judge say "hi" {prompt}: say "hi" {prompt}'
  for part, colour in ((first, 254), (second, 0)):
    url = part["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(url)))
    assert image.size == (32, 16)
    assert abs(image.getpixel((9, 9))[0] - colour) < 3
  assert "secret" not in "".join(
    p.read_text() for p in (tmp_path / "cache").rglob("*.json")
  )


def test_the_server_may_fail_for_a_while(tmp_path):
  with server(503, None, '{"score": 1}') as (url, asked):
    assert _client(url, tmp_path).answer(EDIT, "here") == {"score": 1}
  assert len(asked) == 3


@pytest.mark.parametrize(
  "reply, error, words",
  [
    (500, ConversionError, "no answer in 3 tries.*500"),
    (401, ConversionError, "401"),
    (b"<html>", ConversionError, "no chat completion"),
    (b'{"choices": []}', ConversionError, "no chat completion"),
    (400, answers.NoAnswer, "refuses it"),
    ("I can't.", answers.NoAnswer, "no JSON object"),
  ],
)
def test_what_is_no_answer(tmp_path, reply, error, words):
  with server(reply) as (url, _):
    with pytest.raises(error, match=words):
      _client(url, tmp_path).answer(EDIT, "here")


def test_nobody_listens_and_silence(tmp_path):
  with pytest.raises(ConversionError, match="no answer in 3 tries"):
    _client("http://127.0.0.1:9", tmp_path).answer(EDIT, "here")
  with pytest.raises(ConversionError, match="no base address"):
    _client("localhost:8000", tmp_path)
  import socket

  with socket.socket() as deaf:
    deaf.bind(("127.0.0.1", 0))
    deaf.listen()
    url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
    with pytest.raises(ConversionError, match="[tT]imed out|Timeout"):
      _client(url, tmp_path, timeout=0.05, tries=1).answer(EDIT, "here")


def test_a_filter_with_a_client_goes_on_where_the_server_died(tmp_path):
  """A run ends with the server; the next asks only what is not known."""
  folder = made.dataset(tmp_path / "set", made.samples())
  job = lambda url: filters.Filter(
    base=common.recipe(),
    scores=(
      filters.ScoreRule(
        name="judge", answers=_client(url, tmp_path), minimum=5
      ),
    ),
  )
  good = ['{"score": 6}', '{"score": 3}', '{"score": null}', '{"score": 9}']
  with server(*good[:2], 500, 500, 500, *good[2:]) as (url, asked):
    with pytest.raises(ConversionError, match="What is done is kept"):
      common.run(job(url), folder, out=tmp_path / "out")
    assert len(asked) == 5
    found, card = common.run(job(url), folder, out=tmp_path / "out")
    assert len(asked) == 7
  assert common.ids(found) == ["u", "d", "e"]
  assert card.provenance["left out"] == {"judge": 1}
