"""Edits are proposed, carried out, checked and turned around."""

import pytest

from emma_jax.data.curation import answers, edits, instructions, proposals
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing
from tests.data import made
from tests.data.curation import common
from tests.data.curation.fake_server import Fake, png, serve
from tests.data.curation.test_remote import paint

WIDE = (64, 40)


def _draw(name: str, picture: bytes, **noted) -> schema.Stored:
  return schema.Stored(
    record=Drawing(prompt="p", picture=picture, id=name), provenance=noted
  )


def _file(path, **values) -> answers.Precomputed:
  made.jsonl(path, *({"id": k, **v} for k, v in values.items()))
  return answers.Precomputed(path=str(path))


def test_an_instruction_and_what_undoes_it_are_noted(tmp_path):
  folder = made.dataset(
    tmp_path / "set",
    [*(_draw(name, made.picture()) for name in "abcd"), made.samples()[3]],
  )
  file = _file(
    tmp_path / "i.jsonl",
    a={"instruction": " add a hat ", "reverse": "remove the hat"},
    b={"instruction": "add a dog"},
    c={"instruction": "加一顶帽子"},
    d={"instruction": None},
  )
  maker = lambda missing: proposals.Propose(
    base=common.recipe(), answers=file, missing=missing
  )
  found, card = common.run(maker("drop"), folder, out=tmp_path / "out")
  assert [s.provenance for s in found] == [
    {"instruction": "add a hat", "reverse_instruction": "remove the hat"},
    {"instruction": "add a dog"},
  ]
  assert card.provenance["left out"] == {
    "no drawing": 1,
    "no instruction": 1,
    "not English": 1,
  }
  with pytest.raises(ConversionError, match="--missing drop"):
    maker("keep")


def _text(path, **more) -> proposals.ProposeText:
  return proposals.ProposeText(
    base=common.recipe(), answers=_file(path, a={}), **more
  )


def test_edits_of_text_are_what_the_rules_read(tmp_path):
  """Whatever words: the instruction names them, and its reverse undoes it."""
  one = _text(tmp_path / "t.jsonl", remove=0.5)
  removed = 0
  for n, old in enumerate(("SALE", "Grand Opening", "50% OFF", "Exit")):
    for name in (f"{n}x", f"{n}y", f"{n}z", f"{n}u"):
      noted = one.edit([old], name)
      edit = instructions.text_edit(noted["instruction"])
      back = instructions.text_edit(noted["reverse_instruction"])
      assert edit is not None and edit.old == old
      assert back == instructions.TextEdit(edit.new, edit.old)
      removed += edit.new is None
      if edit.new:
        assert edit.new in one.phrases
        assert not instructions.contains([edit.new], old)
        assert abs(len(edit.new) - len(old)) <= 2
  assert 0 < removed < 16
  assert _text(tmp_path / "t.jsonl", remove=0.0).edit(["A B"], "q") == _text(
    tmp_path / "t.jsonl", remove=0.0
  ).edit(["A B"], "q")


@pytest.mark.parametrize(
  "text, texts, fits",
  [
    ("SALE", ["SALE", "now"], True),
    ("SALE", ["SALE", "sale!"], False),  # which one would be meant?
    ("出口", ["出口"], False),
    ("one two three four five six", ["one two three four five six"], False),
    ('say "hi"', ['say "hi"'], False),
    ("123", ["123"], False),
  ],
)
def test_which_texts_are_edited(tmp_path, text, texts, fits):
  assert _text(tmp_path / "t.jsonl").fits(text, texts) == fits


def test_from_words_to_checked_pairs(tmp_path):
  """Read, replaced by an editing model, read again, turned around."""
  fake = Fake()
  said = {"a": "SALE", "b": "Bakery", "c": "出口"}
  folder = made.dataset(
    tmp_path / "set", [_draw(k, fake.say(v, WIDE)) for k, v in said.items()]
  )
  read = _file(
    tmp_path / "r.jsonl", **{k: {"texts": [v]} for k, v in said.items()}
  )
  _, card = common.run(
    proposals.ProposeText(base=common.recipe(), answers=read, remove=0.0),
    folder,
    out=tmp_path / "proposed",
  )
  assert card.provenance["left out"] == {"no text to edit": 1}
  with serve(fake) as url:
    edited, _ = common.run(
      proposals.ApplyEdits(base=common.recipe(), painter=paint(url, tmp_path)),
      tmp_path / "proposed",
      out=tmp_path / "edited",
    )
  assert fake.asked == {"/v1/images/edits": 2}
  new = {}
  for stored in edited:
    record = stored.record
    assert isinstance(record, Editing)
    edit = instructions.text_edit(record.instruction)
    assert record.source == fake.say(said[record.id], WIDE)
    assert record.target == fake.say(edit.new, WIDE)
    assert stored.provenance["edited_by"] == "p"
    new[record.id] = edit.new
  wrong = {"a": new["a"], "b": "Bakey"}
  ocr = _file(
    tmp_path / "o.jsonl",
    **{k: {"source": [said[k]], "target": [v]} for k, v in wrong.items()},
  )
  pairs, card = common.run(
    edits.EditPairs(base=common.recipe(), ocr=ocr),
    tmp_path / "edited",
    out=tmp_path / "pairs",
  )
  assert common.ids(pairs) == ["a", "a-reversed"]
  assert pairs[1].provenance["reversed_by"] == "row"
  assert pairs[1].record.instruction == (
    f'Replace the text "{new["a"]}" with "SALE".'
  )
  assert card.provenance["left out"] == {"ocr": 1}


def test_results_of_another_shape_and_refusals_are_counted(tmp_path):
  reply = lambda size: Fake().made(png("red", size), None)
  import json

  answers_of = iter(
    [
      (200, json.dumps(reply((64, 64))).encode(), {}),
      (400, b'{"error": {"code": "content_policy_violation"}}', {}),
      (422, b"", {}),
    ]
  )
  fake = Fake(fail=lambda n, path: next(answers_of))
  picture = made.picture("red", 20, 40)
  folder = made.dataset(
    tmp_path / "set",
    [
      *(_draw(n, picture, instruction=f"add {n}") for n in "abc"),
      _draw("d", picture),
      _draw("e", picture, instruction="add a"),  # as asked for "a"
    ],
  )
  with serve(fake) as url:
    maker = lambda missing: proposals.ApplyEdits(
      base=common.recipe(), painter=paint(url, tmp_path), missing=missing
    )
    with pytest.raises(ConversionError, match="None of 5 rows"):
      common.run(maker("drop"), folder, out=tmp_path / "out")
    assert fake.number == 3
    kinds = sorted(
      json.loads(line)["left_out"]
      for file in (tmp_path / "out.partial" / ".work").glob("rejected-*")
      for line in file.read_text().splitlines()
    )
    assert kinds == [
      "aspect ratio",
      "aspect ratio",
      "no instruction",
      "no result",
      "refused",
    ]
    with pytest.raises(ConversionError, match="--missing drop"):
      common.run(maker("error"), folder, out=tmp_path / "error")
