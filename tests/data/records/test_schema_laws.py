"""Records, lengths and latents come back from the disk, whatever they hold."""

import dataclasses
import json
import struct

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import latents, schema
from emma_jax.data.records.lengths import Length, Lengths
from emma_jax.data.records.source import shown
from emma_jax.structs import Drawing, Editing, Understanding
from tests.laws import laws

TEXT = (
  st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
  .filter(str.strip)
  .filter(lambda x: "<image>" not in x)
)
BYTES = st.binary(min_size=1, max_size=20)
PROVENANCE = st.dictionaries(
  TEXT,
  TEXT
  | st.integers(-(2**40), 2**40)
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.booleans()
  | st.none(),
  max_size=3,
)
WEIGHT = st.sampled_from([1.0, 0.0, 0.1, 2, 1000]) | st.floats(0, 1000)


@st.composite
def stored(draw) -> schema.Stored:
  name = draw(TEXT)
  kind = draw(st.sampled_from(schema.TASKS))
  if kind == "drawing":
    record = Drawing(prompt=draw(TEXT), picture=draw(BYTES), id=name)
  elif kind == "editing":
    record = Editing(
      sources=tuple(draw(st.lists(BYTES, min_size=1, max_size=3))),
      instruction=draw(TEXT),
      target=draw(BYTES),
      id=name,
    )
  else:
    pictures = draw(st.lists(BYTES, min_size=1, max_size=3))
    pictures = () if kind == "text" else tuple(pictures)
    turns = draw(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
    if pictures and draw(st.booleans()):
      first, answer = turns[0]
      turns[0] = first + "<image>" * len(pictures), answer
    record = Understanding(
      pictures=pictures,
      turns=tuple(turns),
      stem=draw(st.sampled_from([-1, 0, 1])),
      id=name,
    )
  return schema.Stored(
    record=record, weight=draw(WEIGHT), provenance=draw(PROVENANCE)
  )


@laws(60)
@given(stored(), BYTES)
def test_a_record_comes_back_and_nothing_more_is_accepted(one, more):
  """Neither bytes behind it nor bytes that are missing."""
  data = schema.encode(one)
  back = schema.decode(data)
  assert back == one and back.task == one.task
  assert schema.encode(back) == data
  for wrong in (data + more, data[:-1]):
    with pytest.raises(BadRecord):
      schema.decode(wrong, "here")
  # A picture's length that is said to be another.
  magic, size = struct.unpack_from("<4sI", data)
  header = json.loads(data[8 : 8 + size])
  if header.get("pictures"):
    header["pictures"][-1] += 1
    text = json.dumps(header).encode()
    with pytest.raises(BadRecord, match="bytes of pictures"):
      schema.decode(
        struct.pack("<4sI", magic, len(text)) + text + data[8 + size :]
      )


@laws(40)
@given(
  st.lists(
    st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=4
  ),
  st.sampled_from(latents.DTYPES),
  BYTES,
)
def test_latents_come_back_and_nothing_more_is_accepted(grids, dtype, more):
  """Within the stored type's rounding; float32 exactly."""
  rng = np.random.default_rng(len(grids))
  given_ = [
    None if g is None else rng.normal(size=(*g, 2)).astype(np.float32)
    for g in grids
  ]
  data = latents.encode(given_, dtype)
  step = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8}[dtype]
  for a, b in zip(latents.decode(data), given_, strict=True):
    assert (a is None) == (b is None)
    if b is not None:
      assert a.dtype == np.float32 and a.shape == b.shape
      np.testing.assert_allclose(a, b, rtol=step, atol=0)
  whole = more * 4  # of any type's size
  for wrong in (data + whole, data + more[:1], data[:-1], b"EML2" + data[4:]):
    with pytest.raises(BadRecord):
      latents.decode(wrong, "here")


LENGTH = st.builds(
  Length,
  task=st.sampled_from(schema.TASKS),
  stem=st.integers(-1, 1),
  weight=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
  turn_tokens=st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=4
  ).map(tuple),
  sizes=st.lists(
    st.tuples(st.integers(1, 9999), st.integers(1, 9999)), max_size=3
  ).map(tuple),
)


@laws(40)
@given(st.lists(LENGTH, min_size=1, max_size=6), st.integers(1, 5))
def test_lengths_come_back_in_any_parts(rows, most):
  table = Lengths.of(rows, "t")
  assert [table[i] for i in range(len(table))] == rows
  for turns in (None, most):
    assert table.text_tokens(turns).tolist() == [
      sum(map(sum, r.turn_tokens[:turns])) for r in rows
    ]
  parts = Lengths.joined([Lengths.of(rows[:1], "t"), Lengths.of(rows[1:], "t")])
  for field in dataclasses.fields(Lengths):
    np.testing.assert_array_equal(
      getattr(parts, field.name), getattr(table, field.name)
    )


def test_lengths_come_back_from_the_disk(tmp_path):
  rows = [
    Length(
      task="text",
      stem=-1,
      weight=0.1,
      turn_tokens=((3, 4),),
      sizes=((70_000, 2),),
    )
  ]
  Lengths.of(rows, "ß").save(tmp_path / "a.npz")
  back = Lengths.load(tmp_path / "a.npz")
  assert back.tokenizer == "ß" and back[0].sizes == ((70_000, 2),)
  assert back[0].weight == np.float32(0.1)
  np.savez(tmp_path / "b.npz", task=np.zeros(1))
  with pytest.raises(ValueError, match="no side file of lengths"):
    Lengths.load(tmp_path / "b.npz")


@pytest.mark.parametrize("kind, most", [(np.float64, 30), (np.float32, 2)])
def test_weights_in_tenths_show_exactly_what_they_sum_to(kind, most):
  """Ten of 0.1 show one record, though their sum is 0.9999999999999999.

  Side files hold float32, whose error reaches a record's last place later.
  """
  for tenths in range(1, 20):
    for tens in range(1, most + 1):
      weights = np.full(10 * tens, tenths / 10, kind)
      assert shown(weights).size == tens * tenths


@laws(40)
@given(st.lists(st.sampled_from([0, 0.1, 0.3, 0.5, 1, 1.7, 2, 3]), max_size=30))
def test_what_an_epoch_shows_by_the_running_sum(weights):
  """In exact tenths."""
  want, before = [], 0
  for i, weight in enumerate(weights):
    total = before + round(10 * weight)
    want += [i] * (total // 10 - before // 10)
    before = total
  assert shown(np.array(weights, np.float32)).tolist() == want
