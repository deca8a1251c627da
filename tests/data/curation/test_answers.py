"""Files of answers: a number and its digits are one id."""

import dataclasses
import doctest

import numpy as np
import pytest

from emma_jax.data.curation import answers
from emma_jax.data.ingest.job import ConversionError
from tests.data import made
from tests.data.curation import common


def _index(path, *rows):
  return answers._index(str(made.jsonl(path, *rows)))


def test_docstrings():
  assert doctest.testmod(answers).failed == 0


@pytest.mark.parametrize("first, second", [(7, "7"), ("7", 7), (7, 7)])
def test_a_number_and_its_digits_are_one_id(tmp_path, first, second):
  rows = [{"id": first, "score": 1}, {"id": second, "score": 2}]
  with pytest.raises(ConversionError, match=r"two different.* id .*7"):
    _index(tmp_path / "a.jsonl", *rows)
  same = [row | {"score": 1} for row in rows]
  assert _index(tmp_path / "b.jsonl", *same).shape == (2, 2)


@pytest.mark.parametrize("wrong", [7.0, True, None, [7], {"a": 7}])
def test_other_types_are_no_ids(tmp_path, wrong):
  with pytest.raises(ConversionError, match=r"a.jsonl:2 .*neither a text nor"):
    _index(tmp_path / "a.jsonl", {"id": 7}, {"id": wrong})


@pytest.mark.parametrize("name", [8, "8"])
def test_answers_are_found_by_either(tmp_path, name):
  folder = made.dataset(tmp_path / "set", made.samples()[:1])
  (held,) = common.read(folder)
  path = made.jsonl(
    tmp_path / "a.jsonl", {"id": name, "score": 1, "note": "a\u2028b"}
  )
  index = tmp_path / "index.npy"
  np.save(index, answers._index(str(path)))
  found = answers.Precomputed(path=str(path), index=str(index))
  record = dataclasses.replace(held.record, id="8")
  row = found.answer(dataclasses.replace(held, record=record), "w")
  assert row["score"] == 1 and row["note"] == "a\u2028b"
