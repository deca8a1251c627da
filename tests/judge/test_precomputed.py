import dataclasses
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.judge import precomputed
from emma_jax.judge.base import Call, JudgeError, Reply
from emma_jax.judge.precomputed import NoJudge, Precomputed
from tests.judge.common import CALL

pytestmark = pytest.mark.smoke


def written(path, *lines) -> str:
  text = "".join(
    line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines
  )
  path.write_text(text, encoding="utf-8")
  return str(path)


def called(name: str) -> Call:
  return dataclasses.replace(CALL, id=name)


def test_replies_of_a_file(tmp_path):
  path = written(
    tmp_path / "replies.jsonl",
    {"call": "b", "text": "Yes", "model": "m", "finish": "length"},
    "\n",
    {"call": "ä", "text": "", "logprobs": {"Yes": -0.5}},
    json.dumps({"call": "c", "refused": "a filter"}),  # without a newline
  )
  one = Precomputed(path)
  assert one.ask(called("b")) == Reply(
    text="Yes", model="m", finish="length", tries=0
  )
  assert one.ask(called("ä")) == Reply(logprobs={"Yes": -0.5}, tries=0)
  refused = one.ask(called("c"))
  assert (refused.status, refused.error) == ("refused", "a filter")
  absent = one.ask(called("d"))
  assert (absent.status, absent.text) == ("absent", "")
  assert path in absent.error and "'d'" in absent.error


def test_an_empty_file_has_no_replies(tmp_path):
  one = Precomputed(written(tmp_path / "none.jsonl"))
  assert one.ask(CALL).status == "absent"


@given(
  names=st.lists(
    st.text(min_size=1).filter(lambda s: s.isprintable()), unique=True
  ),
  few=st.booleans(),
)
@settings(
  max_examples=40,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_line_is_found_also_among_equal_hashes(
  tmp_path, monkeypatch, names, few
):
  if few:
    monkeypatch.setattr(precomputed, "_hash", lambda name: len(name) % 2)
  lines = [{"call": name, "text": f"of {name}"} for name in names]
  one = Precomputed(written(tmp_path / "replies.jsonl", *lines))
  for name in names:
    assert one.ask(called(name)).text == f"of {name}"
  assert one.ask(called("another\n")).status == "absent"


@pytest.mark.parametrize(
  "line, words",
  [
    ("{", "no reply such as"),
    ("[]\n", "not an object"),
    ({"text": "Yes"}, 'needs "call"'),
    ({"call": "", "text": "Yes"}, 'needs "call"'),
    ({"call": "b"}, '"text" and "refused"'),
    ({"call": "b", "text": "Yes", "refused": "no"}, '"text" and "refused"'),
    ({"call": 7, "text": "Yes"}, "call is 7"),
    ({"call": "b", "text": None}, "text is None"),
    ({"call": "b", "text": "Yes", "logprob": {}}, "it has ..logprob.."),
    ({"call": "b", "text": "Yes", "logprobs": {"a": "b"}}, "logprobs is"),
    ({"call": "b", "text": "Yes", "logprobs": {"a": 0.5}}, "up to 0"),
  ],
)
def test_a_damaged_line_is_named(tmp_path, line, words):
  path = written(tmp_path / "r.jsonl", {"call": "a", "text": "x"}, "\n", line)
  with pytest.raises(ValueError, match=f"{path}, line 3.*{words}"):
    Precomputed(path)


def test_two_lines_of_one_call_are_named(tmp_path):
  same = {"call": "a", "text": "x"}
  path = written(tmp_path / "r.jsonl", {"call": "b", "text": "x"}, same, same)
  with pytest.raises(ValueError, match=f"{path}, lines 2 and 3.*'a'. Delete"):
    Precomputed(path)


def test_the_identity_is_of_what_the_file_holds(tmp_path):
  line = {"call": "a", "text": "x"}
  one = Precomputed(written(tmp_path / "one.jsonl", line)).identity()
  assert Precomputed(written(tmp_path / "two.jsonl", line)).identity() == one
  other = Precomputed(written(tmp_path / "two.jsonl", line | {"text": "y"}))
  assert other.identity() != one


def test_a_file_that_changes_under_way_ends_the_run(tmp_path):
  path = tmp_path / "r.jsonl"
  one = Precomputed(written(path, {"call": "a", "text": "x"}))
  for now in ({"call": "b", "text": "x"}, "torn"):
    written(path, now)
    with pytest.raises(JudgeError, match="changed while"):
      one.ask(called("a"))
  path.unlink()
  with pytest.raises(JudgeError, match="changed while"):
    one.ask(called("a"))


def test_nobody_is_absent():
  assert NoJudge().ask(CALL).status == "absent"
  assert NoJudge().identity() == {"kind": "none"}
