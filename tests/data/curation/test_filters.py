"""Filters count what they leave out, and never guess a score."""

import dataclasses
import json

import pytest

from emma_jax.data.curation import answers, filters
from emma_jax.data.ingest import part
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Drawing
from tests.data import made
from tests.data.curation import common


@pytest.fixture
def folder(tmp_path):
  """Drawings a to e of 32x32, 32x64, ... 32x160 pixels."""
  stored = [
    schema.Stored(
      record=Drawing(
        prompt=f"no {name}",
        id=name,
        picture=made.picture("red", 32, 32 * (i + 1)),
      ),
      provenance={"row": f"old.jsonl:{i}"},
    )
    for i, name in enumerate("abcde")
  ]
  return made.dataset(tmp_path / "set", stored, shards=2)


def _filter(**more) -> filters.Filter:
  return filters.Filter(base=common.recipe(), **more)


@pytest.mark.smoke
@pytest.mark.parametrize(
  "limits, kept",
  [
    ({"min_side": 32}, "acebd"),
    ({"min_side": 33}, ""),
    ({"max_side": 96}, "acb"),
    ({"min_pixels": 32 * 96}, "ced"),
    ({"max_aspect": 2.0}, "ab"),
    ({"tasks": ("editing",)}, ""),
  ],
)
def test_sizes(folder, tmp_path, limits, kept):
  """Input order is a c e | b d: two shards."""
  out = tmp_path / "out"
  if not kept:
    with pytest.raises(ConversionError, match="None of 5 rows"):
      common.run(_filter(**limits), folder, out=out)
    return
  found, card = common.run(_filter(**limits), folder, out=out)
  assert "".join(common.ids(found)) == kept
  assert found[0].provenance["row"].startswith("old.jsonl:")
  left = card.provenance.get("left out", {})
  assert sum(left.values()) == 5 - len(kept) == len(common.notes(out))
  assert set(left) <= set(limits) and card.rejected == 0


def test_scores_select_are_noted_and_provenance_is_a_chain(folder, tmp_path):
  rule = common.scores(tmp_path / "s.jsonl", a=1, b=5.5, c=None, d=9, e=5)
  rule = dataclasses.replace(rule, minimum=5, maximum=8)
  found, card = common.run(
    _filter(scores=(rule,)), folder, out=tmp_path / "out", workers=2
  )
  assert common.ids(found) == ["c", "e", "b"]
  assert [s.provenance.get("score") for s in found] == [None, 5.0, 5.5]
  assert card.provenance["left out"] == {"score": 2}
  assert card.provenance["inputs"][0]["name"] == "made"
  assert card.provenance["settings"]["scores"][0]["minimum"] == 5
  again, _ = common.run(
    _filter(
      scores=(
        filters.ScoreRule(
          name="score", answers=answers.Noted("score"), minimum=5.2
        ),
      ),
      missing="drop",
    ),
    tmp_path / "out",
    out=tmp_path / "again",
  )
  assert common.ids(again) == ["b"]


@pytest.mark.parametrize("missing, kept", [("drop", "aeb"), ("keep", "aebd")])
def test_a_missing_score_is_an_error_unless_told(
  folder, tmp_path, missing, kept
):
  rule = dataclasses.replace(
    common.scores(tmp_path / "s.jsonl", a=1, b=1, c=0, e=1), minimum=1
  )
  with pytest.raises(ConversionError, match="no line of the id 'd'.*--missing"):
    common.run(_filter(scores=(rule,)), folder, out=tmp_path / "out")
  found, card = common.run(
    _filter(scores=(rule,), missing=missing), folder, out=tmp_path / "other"
  )
  assert "".join(common.ids(found)) == kept
  assert card.provenance["left out"].get("no score", 0) == (missing == "drop")


@pytest.mark.parametrize(
  "lines, words",
  [
    (['{"id": "a", "score": 1}', '{"id": "a", "score": 2}'], "two different"),
    (['{"score": 1}'], ":1 is no answer"),
    (["[1]"], "is no answer"),
  ],
)
def test_files_of_scores_that_are_none(folder, tmp_path, lines, words):
  path = made.jsonl(tmp_path / "s.jsonl", *lines)
  rule = filters.ScoreRule(
    name="score", answers=answers.Precomputed(path=str(path))
  )
  with pytest.raises(ConversionError, match=words):
    common.run(_filter(scores=(rule,)), folder, out=tmp_path / "out")


@pytest.mark.parametrize("value", ["7", True, float("nan"), [1]])
def test_a_score_must_be_a_number(folder, tmp_path, value):
  rule = common.scores(tmp_path / "s.jsonl", **dict.fromkeys("abcde", value))
  with pytest.raises(ConversionError, match="not a number|not finite"):
    common.run(_filter(scores=(rule,)), folder, out=tmp_path / "out")


def test_scores_of_parquet_equal_those_of_lines(folder, tmp_path):
  pa = pytest.importorskip("pyarrow")
  import pyarrow.parquet as pq

  rows = [
    {"id": i, "score": s} for i, s in zip("abcde", [1.0, 2.0, 3.0, 4.0, 5.0])
  ]
  pq.write_table(pa.Table.from_pylist(rows), tmp_path / "s.parquet")
  made.jsonl(tmp_path / "s.jsonl", *rows)
  outs = []
  for kind in ("parquet", "jsonl"):
    rule = filters.ScoreRule(
      name="score",
      minimum=2.5,
      answers=answers.Precomputed(path=str(tmp_path / f"s.{kind}")),
    )
    found, _ = common.run(_filter(scores=(rule,)), folder, out=tmp_path / kind)
    outs.append([schema.encode(s) for s in found])
  assert outs[0] == outs[1] and len(outs[0]) == 3


def test_another_range_is_another_job(folder, tmp_path, monkeypatch):
  """What an interrupted filter left is not taken up with other settings."""
  out = tmp_path / "out"
  monkeypatch.setattr(filters.Filter, "of_size", lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    common.run(_filter(min_side=8), folder, out=out)
  monkeypatch.undo()
  with pytest.raises(ConversionError, match="other inputs or options"):
    common.run(_filter(min_side=16), folder, out=out)
  assert len(common.run(_filter(min_side=8), folder, out=out)[0]) == 5
  assert json.loads((out / "dataset.json").read_text())["rejected"] == 0


def test_joining_fills_in_what_records_do_not_say(tmp_path):
  """A label, a weight and an origin; what is there stays."""
  folder = made.dataset(tmp_path / "set", made.samples())
  found, _ = common.run(
    common.recipe(stem=0, weight=3.0, dataset="new"),
    folder,
    out=tmp_path / "out",
  )
  assert [s.weight for s in found] == [3, 3, 2, 3]
  assert [s.record.stem for s in found[:2]] == [1, 0]
  assert [s.provenance["dataset"] for s in found] == ["made", *["new"] * 3]


def test_joining_keeps_every_byte(folder, tmp_path):
  more = made.dataset(tmp_path / "more", made.samples())
  found, card = common.run(common.recipe(), folder, more, out=tmp_path / "out")
  both = common.read(folder) + common.read(more)
  assert [*map(schema.encode, found)] == [*map(schema.encode, both)]
  assert card.weighted and card.provenance["format"] == "records"


@pytest.mark.parametrize(
  "limits, kept",
  [
    (dict(min_side=20), True),
    (dict(min_side=21), False),
    (dict(max_side=40), True),
    (dict(max_side=39), False),
    (dict(min_pixels=800), True),
    (dict(min_pixels=801), False),
    (dict(max_aspect=2), True),
    (dict(max_aspect=1.99), False),
  ],
)
def test_sizes_at_their_limits_are_kept(limits, kept):
  """Of 20 x 40 pixels, whichever way it lies."""
  for y, x in ((20, 40), (40, 20)):
    out = _filter(**limits).of_size(y, x)
    assert (out is None) == kept
    assert kept or out.kind in limits


@pytest.mark.parametrize(
  "limits, kept",
  [
    (dict(minimum=0.5, maximum=0.5), True),
    (dict(minimum=0.51), False),
    (dict(maximum=0.49), False),
    ({}, True),
  ],
)
def test_scores_at_their_limits_are_kept(limits, kept):
  rule = filters.ScoreRule(name="s", answers=answers.Noted("n"), **limits)
  stored = dataclasses.replace(made.samples()[2], provenance={"n": 0.5})
  one, out = rule.check(part.Converted(stored, [(1, 1)]), "w", "error")
  assert (out is None) == kept and one.stored.provenance["s"] == 0.5
