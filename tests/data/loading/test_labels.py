"""Labels are counted before the first step, and a router without is refused."""

import dataclasses
import doctest

import numpy as np
import pytest

from emma_jax.data.loading import labels, sources
from emma_jax.data.loading.labels import LabelCounts, NoLabels
from emma_jax.data.records import schema
from emma_jax.data.records.lengths import Lengths
from emma_jax.data.records.source import RecordsSource
from emma_jax.structs import Drawing, Understanding
from tests.data import made

TURNS = (("red?", "red"),)


def question(stem: int, i: int = 0, pictures: int = 1) -> schema.Stored:
  shown = (made.picture(),) * pictures
  record = Understanding(pictures=shown, turns=TURNS, stem=stem, id=f"q{i}")
  return schema.Stored(record=record)


def records(folder, *codes: int) -> RecordsSource:
  stored = [question(code, i) for i, code in enumerate(codes)]
  return RecordsSource(str(made.dataset(folder, stored, shards=2)))


def lines(folder, *stems) -> sources.Source:
  (folder / "a.png").write_bytes(made.picture())
  said = (("human", "<image>\nred?"), ("gpt", "red"))
  talk = [{"from": who, "value": value} for who, value in said]
  row = {"image": "a.png", "conversations": talk}
  rows = [row if s is None else row | {"stem": s} for s in stems]
  return sources.open_source(f"jsonl:{made.jsonl(folder / 'q.jsonl', *rows)}")


def test_docstrings():
  assert doctest.testmod(labels).failed == 0


def test_records_are_counted_whole_by_picture_as_often_as_any_is_shown(
  tmp_path,
):
  stored = [question(1), question(0, 1, pictures=2), question(-1)]
  stored += [
    dataclasses.replace(question(1), weight=0.0),
    question(0, pictures=0),
    schema.Stored(record=Drawing(prompt="red", picture=made.picture())),
  ]
  source = RecordsSource(str(made.dataset(tmp_path / "r", stored, shards=2)))
  found = labels.count({"r": source})["r"]
  assert found == LabelCounts(stem=1, general=2, unlabelled=1)
  assert (found.labelled, found.pictures, found.both) == (3, 4, True)


def test_other_sources_are_read_until_both_classes_were_seen(tmp_path):
  for name in ("one", "two"):
    (tmp_path / name).mkdir()
  read = []

  class Watched:
    def __init__(self, source):
      self.source = source

    def __len__(self):
      return len(self.source)

    def __getitem__(self, i):
      read.append(i)
      return self.source[i]

  found = labels.count(
    {
      "one": Watched(lines(tmp_path / "one", *[None] * 3, *[True] * 5)),
      "two": Watched(lines(tmp_path / "two", False, *[None] * 7)),
      "drawing": sources.open_source("world:drawing:train"),
    }
  )
  assert found["one"] == LabelCounts(stem=1, unlabelled=3)
  assert found["two"].general == 1 and not found["drawing"].pictures
  assert read == [0, 0, 1, 1, 2, 2, 3]  # in turn


def test_sorted_lines_are_probed_all_over(tmp_path, monkeypatch):
  monkeypatch.setattr(labels, "PROBES", 4)
  source = lines(tmp_path, *[False] * 9, *[True] * 3)
  assert labels.count({"a": source})["a"] == LabelCounts(stem=1, general=3)


@pytest.mark.parametrize(
  "codes, said",
  [
    ((-1, -1), "0 STEM, 0 general and 2 unlabelled"),
    ((1, 1, -1), "2 STEM, 0 general and 1 unlabelled"),
    ((0,), "0 STEM, 1 general and 0 unlabelled"),
  ],
)
def test_unlabelled_sets_and_single_classes_are_refused_with_the_command(
  codes, said, tmp_path
):
  source = records(tmp_path / "r", *codes)
  with pytest.raises(NoLabels, match="emma-data label-stem") as error:
    labels.check({"r": source}, {"r": "records:here"}, "config.stages.x")
  assert said in str(error.value)
  assert str(error.value).startswith("config.stages.x has nothing")
  assert "r (records:here)" in str(error.value)
  labels.check(
    {"r": source, "other": records(tmp_path / "o", 0, 1)},
    {"r": "records:here", "other": "records:there"},
    "config.stages.x",
  )


def test_labels_outside_of_the_set_are_refused(tmp_path):
  source = records(tmp_path / "r", 1, 0)
  part = source.card.shards[0].lengths
  side = Lengths.load(tmp_path / "r" / part)
  other = dataclasses.replace(side, stem=np.full_like(side.stem, 7))
  other.save(tmp_path / "r" / part)
  with pytest.raises(NoLabels, match=r"labels \[7\] are none.*emma-data leng"):
    labels.check({"r": source}, {"r": "records:r"}, "config.stages.x")
  with pytest.raises(ValueError, match=r"labels \[-2, 3\] are none of"):
    LabelCounts.of([0, 3, -2])


def counts(stem=0, general=0, unlabelled=0) -> dict[str, int]:
  given = dict(stem=stem, general=general, unlabelled=unlabelled)
  return {f"labels/{k}": n for k, n in given.items()}


def test_a_stage_that_goes_without_ends_once_enough_were_seen():
  balance = labels.LabelBalance("4b_router", at_least=10)
  balance.add(counts(stem=4, unlabelled=5))
  again = labels.LabelBalance("4b_router", at_least=10)
  again.restore(balance.state())
  assert again.shares() == balance.shares()
  with pytest.raises(NoLabels, match="5 STEM, 0 general and 5 unlab.*label-st"):
    again.add(counts(stem=1))
  with pytest.raises(NoLabels):  # at the end, however few
    balance.check()
  balance.add(counts(general=4, unlabelled=1))
  balance.check()
  assert balance.shares() == {
    "labels/stem": 0.5,
    "labels/labelled": 8 / 14,
    "labels/pictures": 14,
  }
