"""The judge against a server of this machine that misbehaves as told."""

import base64
import dataclasses
import io
import math
import re
import socket
import time

from PIL import Image
import pytest

from emma_jax.judge.base import Call, JudgeError
from tests.judge.common import CALL, USAGE, judge, picture
from tests.local_server import Script, chat, completion, error, serve

pytestmark = pytest.mark.smoke
HTML = (200, b"<html>Sign in</html>", {"Content-Type": "text/html"})


def ask(*replies, call: Call = CALL, **more):
  """(reply, what was asked)."""
  script = Script(*replies)
  with serve(script) as url:
    return judge(url, **more).ask(call), script.asked


# -------------------------------------------------------------------- requests


def test_what_is_asked(monkeypatch):
  monkeypatch.setenv("A_KEY_OF_TESTS", "secret\n")  # as files end
  call = Call(
    id="a",
    text="Same?",
    system="You judge.",
    pictures=(picture("red"), picture("blue", kind="JPEG")),
    options={"temperature": 0.5, "top_logprobs": 3, "stop": ["\n"]},
  )
  reply, (asked,) = ask(chat("Yes"), call=call, seed=7, extra={"top_p": 0.9})
  assert asked.path == "/v1/chat/completions"
  assert asked.headers["Authorization"] == "Bearer secret"
  system, user = asked.body.pop("messages")
  assert asked.body == {
    "model": "m",
    "temperature": 0.5,
    "max_tokens": 32,
    "seed": 7,
    "top_p": 0.9,
    "stop": ["\n"],
    "logprobs": True,
    "top_logprobs": 3,
  }
  assert system == {"role": "system", "content": "You judge."}
  *shown, said = user["content"]
  assert said == {"type": "text", "text": "Same?"}
  for part, data, kind in zip(shown, call.pictures, ("png", "jpeg")):
    encoded = base64.b64encode(data).decode()
    assert part["image_url"]["url"] == f"data:image/{kind};base64,{encoded}"
  assert reply.text == "Yes"


def test_a_question_without_pictures_is_a_text_and_without_a_key_has_none(
  monkeypatch,
):
  monkeypatch.delenv("A_KEY_OF_TESTS", raising=False)
  _, (asked,) = ask(chat("Yes"))
  assert asked.body["messages"] == [{"role": "user", "content": "Is it red?"}]
  assert "Authorization" not in asked.headers
  assert not {"seed", "logprobs", "top_logprobs"} & asked.body.keys()


def test_a_key_that_a_model_does_not_know_is_left_out_of_every_call():
  extra = {"max_tokens": None, "temperature": None, "max_completion_tokens": 99}
  call = dataclasses.replace(CALL, options={"max_tokens": 3, "temperature": 1})
  _, (asked,) = ask(chat("Yes"), call=call, extra=extra)
  assert asked.body.keys() == {"model", "messages", "max_completion_tokens"}


def test_pictures_come_before_the_text_or_behind_it():
  call = dataclasses.replace(CALL, pictures=(picture(),) * 2)
  for first, kinds in (
    (False, ["image_url", "image_url", "text"]),
    (True, ["text", "image_url", "image_url"]),
  ):
    asked_call = dataclasses.replace(call, text_first=first)
    _, (asked,) = ask(chat("Yes"), call=asked_call)
    content = asked.body["messages"][0]["content"]
    assert [part["type"] for part in content] == kinds


def test_pictures_are_sent_as_large_as_the_judge_wants_them():
  call = dataclasses.replace(CALL, pictures=(picture(size=(400, 100)),))
  _, (asked,) = ask(chat("Yes"), call=call, picture_format="jpeg", side=40)
  url = asked.body["messages"][0]["content"][0]["image_url"]["url"]
  head, _, data = url.partition(",")
  image = Image.open(io.BytesIO(base64.b64decode(data)))
  assert head == "data:image/jpeg;base64" and image.size == (40, 10)


def test_a_picture_that_cannot_be_read_fails_its_call_alone():
  call = dataclasses.replace(CALL, pictures=(b"no picture",))
  reply, asked = ask(chat("Yes"), call=call)
  assert reply.status == "unreachable" and "a picture" in reply.error
  assert not asked and reply.tries == 0


# --------------------------------------------------------------------- replies


def test_what_is_kept_of_a_reply():
  choice = {"message": {"content": "Yes"}, "finish_reason": "length"}
  reply, _ = ask(completion(choice, model="m-2026-01-02"))
  assert (reply.status, reply.text, reply.finish) == ("ok", "Yes", "length")
  assert (reply.model, reply.usage) == ("m-2026-01-02", USAGE)
  assert (reply.tries, reply.error, reply.logprobs) == (1, "", {})
  assert 0 < reply.seconds < 5 and reply.date.endswith("+00:00")


def test_log_probabilities_are_of_the_first_token():
  top = [("Yes", -0.5), (" yes", -2.0), ("\ufffd", -3.0), ("\ufffd", -3.0)]
  tops = [{"token": t, "logprob": p} for t, p in [*top, ("No", -math.inf)]]
  first = {"token": "Yes", "logprob": -0.5, "top_logprobs": tops}
  choice = {"message": {"content": ""}, "logprobs": {"content": [first, {}]}}
  reply, (asked,) = ask(completion(choice), top_logprobs=5)
  assert asked.body["logprobs"] is True and asked.body["top_logprobs"] == 5
  assert reply.status == "ok"
  assert reply.logprobs.keys() == {"Yes", " yes", "\ufffd"}
  assert reply.logprobs["Yes"] == -0.5
  # Two tokens of one text: either of them.
  assert reply.logprobs["\ufffd"] == pytest.approx(-3 + math.log(2))


def test_half_a_letter_can_be_written():
  """Of models that are cut in the middle of a letter."""
  reply, _ = ask(chat("a\ud83d b\U0001f600"))
  assert reply.text == "a\ufffd b\U0001f600"


# ------------------------------------- calls that come to nothing, or are late


@pytest.mark.parametrize(
  "replies, words",
  [
    ([HTML], "no chat completion.*<html>Sign in"),
    ([(200, b"", {})], "no chat completion.*begins b''"),
    ([(200, b'{"choices": [', {})], "no chat completion"),
    ([(200, b'{"choices": []}', {})], "no chat completion: IndexError"),
    ([(200, b'["choices"]', {})], "no chat completion"),
    ([(200, b"[" * 100_000, {})], "no chat completion"),
    ([(200, b'{"error": {"message": "overloaded"}}', {})], "overloaded"),
    ([chat("")], "the reply is empty"),
    ([chat(None)], "the reply is empty"),
    ([chat(["parts"])], "content is"),
    ([completion("no choice")], "no chat completion"),
    ([error(429, **{"Retry-After": "0"})], "429"),
    ([error(429, **{"Retry-After": "nan"})], "429"),
    ([error(503)], "503"),
    ([(500, b"{", {"Content-Length": "90"})], "500"),
    ([None], "RemoteDisconnected|ConnectionReset"),
    ([(200, b"{}", {"Content-Length": "90"})], "IncompleteRead"),
  ],
)
def test_a_server_that_fails_for_ever(replies, words):
  reply, asked = ask(*replies)
  assert reply.status == "unreachable" and reply.text == ""
  assert re.search(words, reply.error), reply.error
  assert "no reply in 3 tries" in reply.error
  assert len(asked) == reply.tries == 3


def test_a_server_that_fails_for_a_while():
  reply, asked = ask(error(429), None, chat("Yes"))
  assert (reply.status, reply.text, reply.tries) == ("ok", "Yes", 3)
  assert len(asked) == 3


def test_a_server_says_when_to_come_back():
  """Its seconds count, not ours: the pause would be a minute."""
  start = time.monotonic()
  reply, _ = ask(error(429, **{"Retry-After": "0.1"}), chat("Yes"), pause=60.0)
  assert reply.text == "Yes" and 0.1 <= time.monotonic() - start < 30


def test_pauses_double():
  reply, _ = ask(error(500), retries=4, pause=0.01)
  assert reply.tries == 5 and 0.15 <= reply.seconds < 5


def test_what_was_paid_for_and_was_nothing_is_counted():
  reply, _ = ask(chat(""), chat("Yes"))
  assert reply.usage == {k: 2 * v for k, v in USAGE.items()}


def test_a_reply_that_ends_in_its_thoughts_is_one():
  """It would be cut there again."""
  reply, asked = ask(chat(None, "length"))
  assert (reply.status, reply.text, reply.finish) == ("ok", "", "length")
  assert len(asked) == 1


def test_nobody_listens_and_silence():
  reply = judge("http://127.0.0.1:9/v1").ask(CALL)
  assert reply.status == "unreachable" and "refused" in reply.error
  with socket.socket() as deaf:
    deaf.bind(("127.0.0.1", 0))
    deaf.listen()
    url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
    reply = judge(url, timeout=0.05, retries=0).ask(CALL)
  assert reply.status == "unreachable" and "timed out" in reply.error


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_a_server_cannot_take_is_not_repeated(status):
  reply, asked = ask((status, b"too many pictures", {}))
  assert reply.status == "unreachable" and "too many pictures" in reply.error
  assert len(asked) == reply.tries == 1


@pytest.mark.parametrize(
  "refusal, words",
  [
    (error(400, "content_policy_violation"), "content_policy_violation"),
    (error(400, "content_filter"), "content_filter"),
    (chat("", "content_filter"), "content filter"),
    (chat(None, refusal="I will not."), "I will not."),
  ],
)
def test_a_refusal_is_no_reply_and_no_failure_of_the_server(refusal, words):
  reply, asked = ask(refusal)
  assert (reply.status, reply.text) == ("refused", "")
  assert words in reply.error and len(asked) == 1


@pytest.mark.parametrize(
  "reply, words",
  [
    (error(401), r"\$A_KEY_OF_TESTS"),
    (error(403), "access to m"),
    (error(404), "base_url"),
    (error(402), "account"),
    (error(429, "insufficient_quota"), "account"),
    (error(405), "405"),
  ],
)
def test_a_server_that_will_answer_nothing_ends_the_run(reply, words):
  script = Script(reply)
  with serve(script) as url:
    with pytest.raises(JudgeError, match=words) as found:
      judge(url).ask(CALL)
  assert len(script.asked) == 1
  assert "What is done is kept" in str(found.value)


def test_a_key_is_in_no_error(monkeypatch):
  monkeypatch.setenv("A_KEY_OF_TESTS", "sk-secret")
  reply, _ = ask((400, b"wrong key sk-secret", {}))
  assert "wrong key ***" in reply.error
