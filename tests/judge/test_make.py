import dataclasses
import json

import pytest

from emma_jax.judge import make as make_lib
from emma_jax.judge.cached import Cached
from emma_jax.judge.limited import Limited
from emma_jax.judge.make import KEYS, make
from emma_jax.judge.openai import OpenAIJudge
from emma_jax.judge.precomputed import NoJudge, Precomputed
from tests.judge.common import CALL
from tests.local_server import Script, chat, serve

pytestmark = pytest.mark.smoke


def section(**more):
  return {
    "kind": "openai",
    "base_url": "http://a/v1",
    "model": "m",
    "key_env": "",
    "temperature": 0.0,
    "max_tokens": 32,
    "picture_format": "as_is",
    "side": 0,
    "top_logprobs": 0,
    "seed": None,
    "extra": {},
    "retries": 2,
    "timeout": 5.0,
    "concurrency": 8,
    "price": {"input": None, "output": None},
    "max_calls": 0,
    "max_usd": 0.0,
  } | more


def test_a_section_has_a_key_for_each_setting_and_none_has_another_default():
  fields = {f.name: f for f in dataclasses.fields(OpenAIJudge) if f.init}
  assert set(fields) - {"pause"} <= set(KEYS["openai"])
  for name in set(fields) - {"pause"}:
    assert fields[name].default is dataclasses.MISSING, name
  assert section().keys() == {"kind", *KEYS["openai"]}


def test_kinds(tmp_path):
  path = tmp_path / "r.jsonl"
  path.write_text(json.dumps({"call": CALL.id, "text": "Yes"}) + "\n")
  assert isinstance(make({"kind": "none"}), NoJudge)
  one = make({"kind": "precomputed", "path": str(path)}, str(tmp_path / "kept"))
  assert isinstance(one, Precomputed) and one.ask(CALL).text == "Yes"
  # A whole section with another kind, as a flag makes it.
  one = make(section(kind="precomputed", path=str(path)))
  assert isinstance(one, Precomputed)
  assert isinstance(make(section()), OpenAIJudge)


def test_budgets_are_below_what_is_kept(tmp_path):
  price = {"input": 2.0, "output": 8.0}
  one = make(section(max_calls=3, max_usd=1.0, price=price), str(tmp_path))
  assert isinstance(one, Cached) and isinstance(one.judge, Limited)
  assert (one.judge.max_calls, one.judge.max_usd) == (3, 1.0)
  assert one.judge.price == make_lib.Price(2.0, 8.0)
  assert isinstance(one.judge.judge, OpenAIJudge)
  assert one.identity() == make(section()).identity()
  with serve(Script(chat("Yes"))) as url:
    one = make(section(base_url=url, max_calls=1), str(tmp_path))
    assert [one.ask(CALL).text for _ in range(3)] == ["Yes"] * 3


@pytest.mark.parametrize(
  "wrong, words",
  [
    ({}, "kind=None.*openai, precomputed, none"),
    ({"kind": "azure"}, "kind='azure'"),
    (section(retry=3), "no retry; there are kind, base_url"),
    ({"kind": "none", "url": ""}, "no url"),
    ({"kind": "precomputed"}, "needs path too"),
    ({"kind": "openai", "model": "m"}, "needs base_url, key_env, temperature"),
    (section(price=3.0), "price=3.0"),
    (section(price={"input": 1.0}), "input and output"),
    (section(price={"input": -1.0, "output": 1}), "price.input=-1.0"),
    (section(max_usd=1.0), "needs a price"),
    (section(max_calls=-1), "max_calls=-1"),
    (section(model=""), "model"),
    ("openai", "no dictionary"),
  ],
)
def test_wrong_sections(wrong, words):
  with pytest.raises(ValueError, match=words):
    make(wrong)
