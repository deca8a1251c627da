"""A set cut in two: whole, disjoint, the same in any order, by pictures."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from emma_jax.data.curation import held_out
from emma_jax.data.ingest import job, part
from emma_jax.data.records import schema
from emma_jax.data.records.source import RecordsSource
from emma_jax.structs import Drawing, Editing, Understanding
from tests.data import made


def _cut(folder: Path, which: str, out: Path, **changes) -> list:
  settings = dict(task="understanding", share=0.25, most=100) | changes
  settings = {"tasks": (settings["task"],)} | settings
  maker = held_out.Split(
    base=part.Recipe(form="", tokenizer=made.TOKENIZER), part=which, **settings
  )
  inputs = [f"records:{folder}"]
  job.run(job.Job(inputs=inputs, out=str(out), maker=maker, workers=0))
  source = RecordsSource(str(out))
  return [source[i] for i in range(len(source))]


def _questions(count: int) -> list[schema.Stored]:
  """Two questions about each picture, and two of text alone."""
  pictures = [made.picture((i, 5, 9)) for i in range(count)]
  asked = [
    Understanding(pictures=(picture,), turns=((f"{n}?", "red"),), id=f"{i}.{n}")
    for i, picture in enumerate(pictures)
    for n in range(2)
  ]
  asked += [
    Understanding(pictures=(), turns=((f"{n}?", "blue"),), id=f"t.{n}")
    for n in range(2)
  ]
  drawn = Drawing(prompt="red", picture=pictures[0], id="d")
  return [schema.Stored(record=record) for record in (*asked, drawn)]


@pytest.mark.smoke
def test_the_two_parts_are_the_task_and_share_no_picture(tmp_path):
  stored = _questions(6)
  made.dataset(tmp_path / "in", stored, shards=2)
  parts = {
    name: _cut(tmp_path / "in", name, tmp_path / name)
    for name in ("train", "held_out")
  }
  ids = {name: {r.id for r in found} for name, found in parts.items()}
  assert ids["train"] | ids["held_out"] == {
    one.record.id for one in stored if one.record.id != "d"
  }
  assert not ids["train"] & ids["held_out"]
  pictures = [
    {r.pictures for r in found if r.pictures} for found in parts.values()
  ]
  assert not pictures[0] & pictures[1]
  # A quarter of 14 is 4, and pictures stay with both their questions.
  assert 4 <= len(ids["held_out"]) <= 5
  # Another order, another number of shards: the same cut.
  made.dataset(tmp_path / "again", stored[::-1])
  again = _cut(tmp_path / "again", "held_out", tmp_path / "out")
  assert {r.id for r in again} == ids["held_out"]


def test_one_picture_is_never_held_out(tmp_path):
  """There would be nothing to train on."""
  stored = [s for s in _questions(1) if s.record.id.startswith("0")]
  made.dataset(tmp_path / "in", stored)
  assert len(_cut(tmp_path / "in", "train", tmp_path / "train")) == 2
  with pytest.raises(job.TooManyRejected, match="None of 2 rows"):
    _cut(tmp_path / "in", "held_out", tmp_path / "held_out")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("most", [0, 3, 1000])
def test_how_many(share, most):
  """At least a picture where any are wanted; at most the share and `most`, but
  for the records of one picture; never all."""
  rng = np.random.default_rng(0)
  keys = rng.integers(0, 40, 100).astype(np.uint64)
  shown = np.stack([np.arange(100), np.zeros(100), keys], 1).astype(np.uint64)
  chosen = held_out.choose(shown, share, most)
  count, largest = (
    np.isin(keys, chosen).sum(),
    np.bincount(keys.astype(int)).max(),
  )
  wanted = min(most, max(1, round(share * 100))) if share else 0
  assert len(chosen) < len(np.unique(keys))
  if not wanted:
    assert count == 0
  elif share < 1:
    assert wanted <= count < wanted + largest


def _all_tasks(pictures: list[bytes], edits: list) -> list[schema.Stored]:
  """A drawing and two questions of each picture, and edits of some to some."""
  records: list = []
  for i, picture in enumerate(pictures):
    records.append(Drawing(prompt="red", picture=picture, id=f"d{i}"))
    records += [
      Understanding(
        pictures=(picture,), turns=((f"{n}?", "red"),), id=f"u{i}{n}"
      )
      for n in range(2)
    ]
  records += [
    Editing(
      sources=(pictures[a],),
      instruction="x",
      target=pictures[b],
      id=f"e{a}.{b}",
    )
    for a, b in edits
  ]
  return [schema.Stored(record=record) for record in records]


TASKS = ("understanding", "drawing", "editing")
EDITS = {
  "a ring": [(i, (i + 1) % 12) for i in range(12)],
  "of one picture": [(0, i) for i in range(1, 12)],
  "each to each": [(a, b) for a in range(12) for b in range(12) if a != b],
}


@pytest.mark.smoke
@pytest.mark.parametrize("edits", EDITS)
def test_no_task_is_trained_on_what_another_holds_out(tmp_path, edits):
  """All records are somewhere, each task has both parts, and of the pictures
  that were chosen none is in a record that is trained on."""
  pictures = [made.picture((i, 5, 9)) for i in range(12)]
  stored = _all_tasks(pictures, EDITS[edits])
  made.dataset(tmp_path / "in", stored, shards=3)
  parts: dict[str, list] = {"train": [], "held_out": []}
  for task in TASKS:
    for name, found in parts.items():
      of = _cut(
        tmp_path / "in",
        name,
        tmp_path / f"{name}-{task}",
        task=task,
        tasks=TASKS,
        share=0.15,
      )
      assert of and {record.task for record in of} == {task}
      found += of
  ids = {name: [r.id for r in found] for name, found in parts.items()}
  assert sorted(ids["train"] + ids["held_out"]) == sorted(
    one.record.id for one in stored
  )
  shown = [set(schema.pictures_of(record)) for record in parts["train"]]
  held_out = [record for record in parts["held_out"]]
  drawn = {r.picture for r in held_out if r.task == "drawing"}
  asked = {p for r in held_out if r.task == "understanding" for p in r.pictures}
  assert drawn == asked and len(drawn) >= 2
  assert not any(drawn & pictures for pictures in shown)
  assert all(set(schema.pictures_of(record)) & drawn for record in held_out)


@pytest.mark.parametrize("changes", [{"share": 1.5}, {"most": -1}])
def test_shares_that_are_none(changes):
  split = held_out.Split(
    base=part.Recipe(form="", tokenizer=made.TOKENIZER),
    task="drawing",
    tasks=("drawing",),
    part="train",
    share=0.1,
    most=1,
  )
  with pytest.raises(job.ConversionError, match="share"):
    dataclasses.replace(split, **changes)
