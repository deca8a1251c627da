"""Held-out pictures: each labelled one in one batch, the others counted."""

import dataclasses

import numpy as np
import pytest

from emma_jax.data.loading.held_out import HeldOutPictures, LeftOut
from emma_jax.data.pictures.images import BadRecord
from emma_jax.structs import Drawing, Understanding
from tests import neutral, tiny
from tests.data import made


class Records(list):
  """A source; an exception stands for a record that raises it."""

  def __getitem__(self, index):
    record = super().__getitem__(index)
    if isinstance(record, Exception):
      raise record
    return record


def question(value: int, stem: int, pictures: int = 1) -> Understanding:
  shown = np.full((tiny.HEIGHT, tiny.WIDTH, 3), value, np.uint8)
  turns = (("red red red?", "blue"),)
  return Understanding(pictures=(shown,) * pictures, turns=turns, stem=stem)


GOOD = Records(question(i, i % 2) for i in range(1, 8))
BAD = Records(
  [
    question(100, -1),
    BadRecord("a.jsonl:2", "no JSON"),
    question(101, 1, pictures=3),
    question(102, 0, pictures=0),
    Drawing(prompt="red"),
    question(103, 1, pictures=2),
  ]
)


def held_out(samples: int, rows=range(2), **opened) -> HeldOutPictures:
  size = dict(height=tiny.HEIGHT, width=tiny.WIDTH)
  return HeldOutPictures(
    sources=opened,
    samples=samples,
    to_sample=neutral.to_sample(
      tokenizer=made.TOKENIZER, framing=neutral.framing(**size)
    ),
    layout=tiny.layout(und_tokens=5, und_pictures=2, references=0, targets=0),
    rows=rows,
  )


def seen(pictures: HeldOutPictures) -> tuple[list[tuple[int, int]], LeftOut]:
  """(colour, label) of every picture, in order; what was left out."""
  left, found = LeftOut(), []
  for batch in pictures.batches(left):
    assert batch.stem_BN.shape == (len(pictures.rows), 2)
    for at in zip(*np.nonzero(batch.und_valid_BN)):
      colour = batch.und_pixels_BNYXC[at].ravel()[0]
      found.append((int(colour), int(batch.stem_BN[at])))
  return found, left


def test_every_labelled_picture_is_seen_once_and_the_rest_is_counted():
  found, left = seen(held_out(100, good=GOOD, bad=BAD))
  want = [(i, i % 2) for i in range(1, 8)] + [(103, 1)] * 2
  assert sorted(found) == want
  assert left == LeftOut(unlabelled=3, broken=1, oversized=1)


def test_as_many_of_each_source_evenly_spread():
  found, left = seen(held_out(6, good=GOOD, more=GOOD))
  assert sorted(found) == sorted([(1, 1), (3, 1), (5, 1)] * 2)
  assert left == LeftOut()


def test_hosts_share_the_rows_of_each_batch():
  whole, _ = seen(held_out(100, good=GOOD))
  parts = [seen(held_out(100, range(i, i + 1), good=GOOD))[0] for i in (0, 1)]
  assert sorted(parts[0] + parts[1]) == sorted(whole)
  assert all(parts)


def test_a_label_outside_of_the_set_is_a_broken_record():
  to_sample = held_out(1, good=GOOD).to_sample
  with pytest.raises(BadRecord, match="STEM label is 5, none of"):
    to_sample(dataclasses.replace(GOOD[0], stem=5))
