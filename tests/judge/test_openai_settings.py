"""Settings of a judge: which decide a reply, are wrong, limit what."""

from concurrent import futures
import dataclasses
import json
import math
import time

import pytest

from emma_jax.judge.openai import OpenAIJudge
from tests.judge.common import CALL, judge, picture
from tests.local_server import Script, chat, serve

pytestmark = pytest.mark.smoke


def test_settings_are_in_the_identity_and_the_way_there_is_not():
  """By enumeration of the fields."""
  one = judge("http://a/v1")
  free = dict(
    base_url="http://b/v1",
    key_env="B",
    retries=9,
    timeout=9.0,
    concurrency=9,
    pause=9.0,
  )
  decisive = dict(
    model="n",
    temperature=0.5,
    max_tokens=9,
    picture_format="png",
    side=9,
    top_logprobs=9,
    seed=9,
    extra={"top_p": 0.5},
  )
  fields = {f.name for f in dataclasses.fields(OpenAIJudge) if f.init}
  assert fields == free.keys() | decisive.keys()
  for name, value in free.items():
    assert judge("http://a/v1", **{name: value}).identity() == one.identity()
  seen = [one.identity()]
  for name, value in decisive.items():
    seen.append(judge("http://a/v1", **{name: value}).identity())
  assert len({json.dumps(identity) for identity in seen}) == len(seen)
  whole = judge("http://a/v1", temperature=0).identity()
  assert json.dumps(whole) == json.dumps(one.identity())


@pytest.mark.parametrize(
  "key, value, words",
  [
    ("base_url", "localhost:8000", "no address"),
    ("base_url", "http://a/v1/chat/completions", "before"),
    ("model", "", "model"),
    ("picture_format", "gif", "'gif' is none of as_is, png, jpeg"),
    ("max_tokens", 0, "max_tokens=0"),
    ("side", -1, "side=-1"),
    ("retries", 1.5, "retries=1.5"),
    ("timeout", 0, "timeout=0"),
    ("extra", {"stream": True}, "stream"),
    ("extra", 5, "extra=5"),
  ],
)
def test_wrong_settings(key, value, words):
  with pytest.raises(ValueError, match=words):
    judge("http://a/v1", **{key: value})


def test_no_more_calls_at_a_time_than_said():
  class Slow(Script):
    now = most = 0

    def post(self, *request):
      with self._lock:
        self.now += 1
        self.most = max(self.most, self.now)
      time.sleep(0.01)
      with self._lock:
        self.now -= 1
      return super().post(*request)

  script = Slow(chat("Yes"))
  with serve(script) as url, futures.ThreadPoolExecutor(8) as pool:
    one = judge(url, concurrency=2)
    replies = list(pool.map(lambda _: one.ask(CALL), range(12)))
  assert {r.text for r in replies} == {"Yes"} and script.most == 2


def test_tokens_at_the_most():
  one = judge("http://a/v1", side=280)
  call = dataclasses.replace(CALL, system="ä", options={"max_tokens": 5})
  read, written = one.most_tokens(call)
  assert read >= len("Is it red?") + 2 and written == 5
  large = dataclasses.replace(call, pictures=(picture(size=(4000, 4000)),))
  assert one.most_tokens(large)[0] == read + 1500  # at most 10 x 10 of 28
  whole = judge("http://a/v1").most_tokens(large)
  assert whole == (read + math.ceil(4000 / 28) ** 2, 5)
  extra = {"max_tokens": None, "max_completion_tokens": 4096}
  assert judge("http://a/v1", extra=extra).most_tokens(CALL)[1] == 4096
