"""Captions anew, as questions, and labels noted; nothing is made up."""

import pytest

from emma_jax.data.curation import answers, captions, filters
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import STEM_SCIENCE, Drawing, Understanding
from tests.data import made
from tests.data.curation import common


def _set(folder):
  draw = lambda name: schema.Stored(
    record=Drawing(prompt=f"old {name}", picture=made.picture(), id=name)
  )
  return made.dataset(
    folder, [draw("a"), draw("b"), draw("c"), made.samples()[3]]
  )


def _file(path, **values) -> answers.Precomputed:
  made.jsonl(path, *({"id": k, **v} for k, v in values.items()))
  return answers.Precomputed(path=str(path))


def test_captions_are_replaced(tmp_path):
  file = _file(
    tmp_path / "c.jsonl",
    a={"caption": " new a "},
    b={"caption": "新 b"},
    c={"caption": None},
  )
  maker = lambda **more: captions.Recaption(
    base=common.recipe(), answers=file, **more
  )
  folder = _set(tmp_path / "set")
  with pytest.raises(ConversionError, match="caption is null"):
    common.run(maker(), folder, out=tmp_path / "error")
  found, card = common.run(maker(missing="drop"), folder, out=tmp_path / "drop")
  ((only,),) = [found]
  assert only.record.prompt == "new a"
  assert only.provenance["caption_before"] == "old a"
  assert card.provenance["left out"] == {
    "no caption": 1,
    "no drawing": 1,
    "not English": 1,
  }
  found, _ = common.run(
    maker(missing="keep", english=False), folder, out=tmp_path / "keep"
  )
  assert [s.record.prompt for s in found] == ["new a", "新 b", "old c"]


def test_captions_as_answers(tmp_path):
  folder = _set(tmp_path / "set")
  maker = captions.AsQuestions(base=common.recipe())
  found, card = common.run(maker, folder, out=tmp_path / "out")
  assert common.ids(found) == ["a", "b", "c"]
  for stored in found:
    assert isinstance(stored.record, Understanding)
    ((question, answer),) = stored.record.turns
    assert question in captions.QUESTIONS
    assert answer == f"old {stored.record.id}"
    assert stored.record.pictures == (made.picture(),)
  assert card.provenance["left out"] == {"no drawing": 1}
  with pytest.raises(ConversionError, match="needs a question"):
    captions.AsQuestions(base=common.recipe(), questions=())


def test_labels_are_noted_and_kept_apart(tmp_path):
  file = _file(
    tmp_path / "p.jsonl",
    a={"portrait": True},
    b={"portrait": False},
    c={"portrait": "yes"},
    e={"portrait": False},
  )
  maker = captions.Label(
    base=common.recipe(), name="portrait", answers=file, missing="drop"
  )
  found, card = common.run(
    maker, _set(tmp_path / "set"), out=tmp_path / "labelled"
  )
  assert [s.provenance["portrait"] for s in found] == [
    "portrait",
    "general",
    "general",
  ]
  assert card.provenance["left out"] == {"no portrait": 1}
  keep = filters.Filter(base=common.recipe(), noted={"portrait": "portrait"})
  found, card = common.run(keep, tmp_path / "labelled", out=tmp_path / "p")
  assert common.ids(found) == ["a"]
  assert card.provenance["left out"] == {"portrait": 2}


def test_a_filter_by_stem(tmp_path):
  folder = made.dataset(tmp_path / "set", made.samples())
  keep = lambda label: filters.Filter(base=common.recipe(), stem=label)
  found, card = common.run(keep("stem"), folder, out=tmp_path / "stem")
  assert [s.record.stem for s in found] == [STEM_SCIENCE]
  assert card.provenance["left out"] == {"stem": 3}
  with pytest.raises(ConversionError, match="none of"):
    keep("science")
