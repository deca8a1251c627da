"""The best of every kind, and labels by rules and answers."""

import json

import pytest

from emma_jax.data.curation import answers, filters, selection
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Understanding
from tests.data import made
from tests.data.curation import common

RED = made.picture("red", 32, 32)


def _ask(name: str, kind: str | None = "ai2d", text="what?") -> schema.Stored:
  return schema.Stored(
    record=Understanding(pictures=(RED,), turns=((text, "y"),), id=name),
    provenance={"data_source": kind} if kind else {},
  )


def _draw(name: str) -> schema.Stored:
  return schema.Stored(record=Drawing(prompt="p", picture=RED, id=name))


def _select(rule, **more) -> selection.Select:
  return selection.Select(base=common.recipe(), score=rule, **more)


def test_groups_get_their_best(tmp_path):
  folder = made.dataset(
    tmp_path / "set",
    [
      _ask("a", "ai2d"),
      _ask("b", "ai2d"),
      _ask("c", "ai2d"),
      _ask("d", "dvqa"),
      _draw("e"),
      _draw("f"),
    ],
    shards=3,
  )
  rule = common.scores(tmp_path / "s.jsonl", a=1, b=3, c=2, d=0, e=5, f=6)
  found, card = common.run(
    _select(rule, count=1),
    folder,
    out=tmp_path / "out",
    workers=2,
    rows_per_shard=2,
  )
  assert sorted(common.ids(found)) == ["b", "f"]
  assert found[0].provenance["score"] in (3, 6)
  assert card.provenance["left out"] == {"not chosen": 4}
  with pytest.raises(ConversionError, match="provenance has no 'data_source'"):
    common.run(
      _select(rule, count=1, by="data_source"), folder, out=tmp_path / "by"
    )
  found, card = common.run(
    _select(
      rule,
      count=1,
      by="data_source",
      missing="drop",
      counts={"understanding/ai2d": 2},
    ),
    folder,
    out=tmp_path / "two",
  )
  assert sorted(common.ids(found)) == ["b", "c", "d"]
  assert card.provenance["left out"] == {"not chosen": 1, "no data_source": 2}
  groups = json.loads((tmp_path / "two" / selection.REPORT).read_text())
  assert groups["understanding/ai2d"] == {
    "records": 3,
    "chosen": 2,
    "lowest score": 2.0,
  }
  with pytest.raises(ConversionError, match="no group 'x'"):
    common.run(
      _select(rule, count=1, counts={"x": 2}), folder, out=tmp_path / "x"
    )


def test_ties_do_not_depend_on_the_order_of_inputs(tmp_path):
  names = [f"{i}" for i in range(12)]
  one = made.dataset(tmp_path / "one", [_ask(n) for n in names[:6]])
  two = made.dataset(tmp_path / "two", [_ask(n) for n in names[6:]])
  rule = common.scores(tmp_path / "s.jsonl", **dict.fromkeys(names, 1))
  a, _ = common.run(_select(rule, count=5), one, two, out=tmp_path / "a")
  b, _ = common.run(_select(rule, count=5), two, one, out=tmp_path / "b")
  assert len(a) == 5 and set(common.ids(a)) == set(common.ids(b))
  assert set(common.ids(a)) != set(names[:5])


def test_an_earlier_note_is_no_score_of_now(tmp_path):
  """A record without a score in the file is missing, whatever it was before."""
  stored = schema.Stored(record=_draw("a").record, provenance={"score": 9})
  folder = made.dataset(tmp_path / "set", [stored, _draw("b")])
  rule = common.scores(tmp_path / "s.jsonl", b=1)
  found, card = common.run(
    _select(rule, count=9, missing="drop"), folder, out=tmp_path / "out"
  )
  assert common.ids(found) == ["b"]
  assert card.provenance["left out"] == {"no score": 1}
  noted = filters.ScoreRule(name="score", answers=answers.Noted("score"))
  found, _ = common.run(
    _select(noted, count=9, missing="drop"), folder, out=tmp_path / "noted"
  )
  assert common.ids(found) == ["a"]
  with pytest.raises(ConversionError, match="--missing drop"):
    _select(rule, count=1, missing="keep")


def _label(**more) -> selection.LabelStem:
  return selection.LabelStem(base=common.recipe(), **more)


def test_labels_by_rules_then_by_answers(tmp_path):
  folder = made.dataset(
    tmp_path / "set",
    [
      _ask("a", "ai2d"),
      _ask("b", "photos", "the triangle's area?"),
      _ask("c", "photos"),
      _ask("d", None),
      _draw("e"),
      made.samples()[0],
    ],
  )
  rules = tmp_path / "rules.json"
  rules.write_text(
    json.dumps(
      [
        {"label": "stem", "field": "data_source", "matches": "^ai2d$"},
        {"label": "stem", "field": "text", "matches": r"\btriangle\b"},
        {"label": "general", "field": "data_source", "matches": "PHOTOS"},
      ]
    )
  )
  rules = selection.read_rules(str(rules))
  with pytest.raises(ConversionError, match="no rule holds"):
    common.run(_label(rules=rules), folder, out=tmp_path / "out")
  path = made.jsonl(tmp_path / "stem.jsonl", {"id": "d", "stem": False})
  file = answers.Precomputed(path=str(path))
  found, card = common.run(
    _label(rules=rules, answers=file), folder, out=tmp_path / "all"
  )
  assert [(s.record.id, s.record.stem) for s in found] == [
    ("a", 1),
    ("b", 1),
    ("c", 0),
    ("d", 0),
    ("u", 1),
  ]
  assert [s.provenance.get("stem_by") for s in found] == [
    "rule 0",
    "rule 1",
    "rule 2",
    "answer",
    None,
  ]
  assert card.provenance["left out"] == {"no question": 1}
  from emma_jax.data.records.source import RecordsSource

  lengths = RecordsSource(str(tmp_path / "all")).lengths
  assert selection.labels_of(lengths) == {"general": 2, "stem": 3}
  for missing, count in (("drop", 4), ("keep", 5)):
    found, _ = common.run(
      _label(rules=rules, missing=missing), folder, out=tmp_path / missing
    )
    assert len(found) == count


@pytest.mark.parametrize(
  "text",
  [
    "[]",
    "{",
    '[{"label": "maybe", "field": "id", "matches": "a"}]',
    '[{"label": "stem", "field": "id", "matches": "("}]',
    '[{"label": "stem"}]',
  ],
)
def test_rules_that_are_none(tmp_path, text):
  path = tmp_path / "rules.json"
  path.write_text(text)
  with pytest.raises(ConversionError, match="rules"):
    selection.read_rules(str(path))
