"""What is written comes back; whatever else is read is a BadRecord."""

import dataclasses
import json
import struct

import numpy as np
import pytest

from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import STEM_UNKNOWN, Drawing, Editing, Understanding
from tests.data import made

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("stored", made.samples(), ids=lambda s: s.task)
def test_round_trip(stored: schema.Stored):
  data = schema.encode(stored)
  assert schema.decode(data) == stored
  assert schema.encode(schema.decode(data)) == data


def test_the_header_is_json_that_people_can_read():
  data = schema.encode(made.samples()[0])
  (length,) = struct.unpack_from("<I", data, 4)
  header = json.loads(data[8 : 8 + length])
  assert header["turns"] == [["<image>red?\n<image>", "nö 红"], ["b?", "y"]]
  assert header["stem"] is True and header["provenance"]["score"] == 0.5
  assert data[8 + length :] == b"".join(made.samples()[0].pictures)
  assert "红".encode() in data


def test_no_damage_gets_through_as_another_exception():
  """Every byte of the header is changed, and the record cut at every length."""
  stored = made.samples()[0]
  data = schema.encode(stored)
  head = len(data) - sum(map(len, stored.pictures))
  rng = np.random.default_rng(0)
  outcomes = set()
  for i in range(head):
    broken = bytearray(data)
    broken[i] ^= int(rng.integers(1, 256))
    for candidate in (bytes(broken), data[:i]):
      try:
        schema.decode(candidate, "here")
        outcomes.add("another text")
      except BadRecord as error:
        assert error.where == "here"
        outcomes.add("bad")
  assert outcomes == {"bad", "another text"}
  with pytest.raises(BadRecord, match="bytes of pictures"):
    schema.decode(data[:-1])


def _header(**changes) -> bytes:
  header = {"task": "drawing", "id": "a", "prompt": "red", "pictures": [1]}
  text = json.dumps(header | changes).encode()
  return struct.pack("<4sI", b"EMR1", len(text)) + text + b"x"


@pytest.mark.parametrize(
  "data, reason",
  [
    (b"", "too few"),
    (b"EMR2" + _header()[4:], "begins with b'EMR2'"),
    (_header(task="singing"), "'singing' is unknown"),
    (_header(pictures=[2]), "1 bytes of pictures, 2 expected"),
    (_header(pictures=[-1, 2]), "not lengths"),
    (_header(pictures=[True]), "not lengths"),
    (_header(pictures="x"), "not lengths"),
    (_header(task="editing"), "1 pictures in a record of editing"),
    (_header(task="text"), "1 pictures in a record of text"),
    (_header(task="understanding"), "'turns' is missing"),
    (_header(task="understanding", turns=[["q"]]), "wrong types"),
    (_header(task="understanding", turns=[["q", 1]]), "pairs of texts"),
    (_header(task="understanding", turns=[]), "without turns"),
    (_header(task="understanding", turns=[["q", " "]]), "answer 0 is empty"),
    (_header(task="understanding", turns=[["<image><image>", "a"]]), "2 <im"),
    (_header(task="understanding", turns=[["q", "a"]], stem=7), "stem is 7"),
    (_header(prompt="\n"), "the caption is empty"),
    (_header(prompt=None), "the caption is None"),
    (_header(weight=-1), "weight -1"),
    (_header(weight=float("nan")), "weight"),
    (_header(weight="much"), "'much', not a number"),
    (_header(provenance=[1]), "wrong types"),
  ],
)
def test_hostile_headers(data: bytes, reason: str):
  with pytest.raises(BadRecord, match=reason):
    schema.decode(data, "here")


def test_an_edit_of_one_source_has_the_bytes_it_always_had():
  record = Editing(sources=(b"abc",), instruction="do", target=b"de", id="e")
  data = schema.encode(schema.Stored(record=record))
  header = b'{"task":"editing","id":"e","instruction":"do","pictures":[3,2]}'
  assert data == b"EMR1" + struct.pack("<I", len(header)) + header + b"abcde"
  more = dataclasses.replace(record, sources=(b"abc", b"f", b"gh"))
  back = schema.decode(schema.encode(schema.Stored(record=more)))
  assert back.record == more and back.pictures == (b"abc", b"f", b"gh", b"de")
  alone = header.replace(b"[3,2]", b"[5]  ")
  with pytest.raises(BadRecord, match="1 pictures in a record of editing"):
    schema.decode(data.replace(header, alone), "here")
  with pytest.raises(ValueError, match="no source; give it one or more"):
    Editing(sources=(), instruction="do")
  with pytest.raises(TypeError, match="bytes; make it a tuple"):
    Editing(sources=b"abc", instruction="do")


def test_keys_of_later_versions_are_passed_over():
  assert schema.decode(_header(colour="new")).record.prompt == "red"


def test_text_that_is_not_unicode_is_not_written():
  record = Drawing(prompt="\ud800", picture=b"x", id="a")
  with pytest.raises(BadRecord, match="not Unicode"):
    schema.encode(schema.Stored(record=record))


@pytest.mark.parametrize(
  "record",
  [
    Drawing(prompt="red"),
    Drawing(prompt="red", picture=b""),
    Drawing(prompt="red", picture="a.png"),
    Editing(sources=(b"x",), instruction="do"),
    Understanding(pictures=(b"x",), turns=(("q", None),)),
  ],
)
def test_what_only_sampling_may_have_is_not_written(record):
  with pytest.raises(BadRecord):
    schema.encode(schema.Stored(record=record))


def test_a_label_that_is_none_is_not_stored():
  stored = made.samples()[0]
  record = dataclasses.replace(stored.record, stem=7)
  with pytest.raises(BadRecord, match="label 7"):
    schema.encode(dataclasses.replace(stored, record=record))


def test_an_unknown_stem_stays_unknown():
  stored = made.samples()[0]
  record = dataclasses.replace(stored.record, stem=STEM_UNKNOWN)
  data = schema.encode(dataclasses.replace(stored, record=record))
  back = schema.decode(data)
  assert back.record.stem == STEM_UNKNOWN


def test_a_header_that_is_too_long_is_not_parsed(monkeypatch):
  data = schema.encode(made.samples()[2])
  monkeypatch.setattr(schema, "MAX_HEADER", 20)
  with pytest.raises(BadRecord, match="bytes exceeds 20"):
    schema.decode(data)
