import dataclasses

import pytest

from emma_jax.judge import base

pytestmark = pytest.mark.smoke

CALL = base.Call(id="a/1/0/x", text="Is it red?", pictures=(b"one", b"two"))


def test_everything_but_the_id_of_a_call_decides_its_reply():
  """By enumeration of the fields: what has none is no part of the key."""
  other = {
    "text": "Is it blue?",
    "system": "You judge.",
    "pictures": (b"two", b"one"),
    "options": {"temperature": 1.0},
    "attempt": 1,
    "text_first": True,
  }
  assert {"id", *other} == {f.name for f in dataclasses.fields(base.Call)}
  key = base.key_of({"model": "m"}, CALL)
  for name, value in other.items():
    changed = dataclasses.replace(CALL, **{name: value})
    assert base.key_of({"model": "m"}, changed) != key, name
  assert base.key_of({"model": "m"}, dataclasses.replace(CALL, id="b")) == key
  assert base.key_of({"model": "n"}, CALL) != key


def test_replies_of_a_file_are_of_a_calls_id():
  """It may say one thing of a first picture, another of a second like it."""
  again = dataclasses.replace(CALL, id="a/1/1/x")
  by_id = {"by_id": True}
  assert base.key_of(by_id, CALL) != base.key_of(by_id, again)
