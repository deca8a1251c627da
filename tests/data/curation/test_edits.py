"""Edit pairs: reversed, checked, and nothing made up."""

import dataclasses

import pytest

from emma_jax.data.curation import answers, edits, instructions
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Editing
from tests.data import made
from tests.data.curation import common

RED, BLUE = made.picture("red", 32, 40), made.picture("blue", 48, 32)


@pytest.mark.parametrize(
  "said, wanted",
  [
    ("add a hat to the man", "Remove the hat from the man."),
    ("Add an umbrella.", "Remove the umbrella."),
    ("add a man in a hat", "Remove the man in a hat."),
    ("put a cup next to the plate", "Remove the cup next to the plate."),
    ("remove the dog", "Add the dog."),
    ("Delete the sign from the wall", "Add the sign to the wall."),
    ("replace the cat with a dog", "Replace a dog with the cat."),
    (
      "change the color of the car from red to blue",
      "Change the colour of the car from blue to red.",
    ),
    ("turn the sky from grey to pink", "Change the sky from pink to grey."),
    (
      "change the text 'SALE' to 'OPEN NOW'",
      'Replace the text "OPEN NOW" with "SALE".',
    ),
    ("replace “你好” with “再见”", 'Replace the text "再见" with "你好".'),
    ('remove the word "not" from the sign', 'Add the text "not" to the sign.'),
    ('write "hi" on the wall', 'Remove the text "hi" from the wall.'),
    ("make the car red", None),
    ("zoom in", None),
    ("", None),
    ("add a hat and remove the dog", None),
    ("change the colour of the car to blue", None),
  ],
)
def test_rules_of_reversal(said, wanted):
  assert instructions.reverse(said) == wanted


@pytest.mark.parametrize(
  "said, old, new",
  [
    ('replace "a" with "b"', "a", "b"),
    ('remove the text "a"', "a", None),
    ('add the title "b" to the poster', None, "b"),
  ],
)
def test_edits_of_text(said, old, new):
  assert instructions.text_edit(said) == instructions.TextEdit(old, new)
  back = instructions.reverse(said)
  assert instructions.text_edit(back) == instructions.TextEdit(new, old)
  assert instructions.text_edit("add a dog") is None


def _edit(name: str, said: str = "add a hat", **provenance) -> schema.Stored:
  return schema.Stored(
    record=Editing(sources=(RED,), instruction=said, target=BLUE, id=name),
    provenance=provenance,
  )


def _pairs(**more) -> edits.EditPairs:
  return edits.EditPairs(base=common.recipe(), **more)


def _file(path, **lines) -> answers.Precomputed:
  made.jsonl(path, *({"id": k, **v} for k, v in lines.items()))
  return answers.Precomputed(path=str(path))


def test_reverse_pairs_swap_pictures_and_tell_whose_they_are(tmp_path):
  folder = made.dataset(
    tmp_path / "set", [_edit("a", source_set="x"), _edit("b", "make it nicer")]
  )
  found, card = common.run(_pairs(), folder, out=tmp_path / "out")
  assert common.ids(found) == ["a", "a-reversed", "b"]
  back = found[1]
  assert back.record == Editing(
    sources=(BLUE,), instruction="Remove the hat.", target=RED, id="a-reversed"
  )
  assert back.provenance == {
    "source_set": "x",
    "reversed_of": "a",
    "reversed_by": "rules",
  }
  assert card.provenance["left out"] == {"no reversal": 1}
  # The side file has the sizes the other way round, too.
  from emma_jax.data.records.source import RecordsSource

  lengths = RecordsSource(str(tmp_path / "out")).lengths
  assert lengths[0].sizes == lengths[1].sizes[::-1] == ((32, 40), (48, 32))
  again, _ = common.run(_pairs(), tmp_path / "out", out=tmp_path / "again")
  assert common.ids(again) == ["a", "a-reversed", "a-reversed", "b"]


def test_edits_of_several_sources_have_no_reverse_and_are_counted(tmp_path):
  two = _edit("b")
  two = dataclasses.replace(
    two, record=dataclasses.replace(two.record, sources=(RED, BLUE))
  )
  folder = made.dataset(tmp_path / "set", [_edit("a"), two])
  found, card = common.run(_pairs(), folder, out=tmp_path / "out")
  assert common.ids(found) == ["a", "a-reversed"]
  assert card.provenance["left out"] == {"several sources": 1}


def test_rows_bring_their_reversal_and_a_file_the_others(tmp_path):
  (tmp_path / "r.png").write_bytes(RED)
  (tmp_path / "b.png").write_bytes(BLUE)
  row = dict(source="r.png", target="b.png")
  path = made.jsonl(
    tmp_path / "rows.jsonl",
    {
      **row,
      "id": "a",
      "instruction": "add a hat",
      "reverse_instruction": "no hat please",
    },
    {**row, "id": "b", "instruction": "make it night"},
    {**row, "id": "c", "instruction": "blur it"},
    {**row, "id": "d", "instruction": "sharpen it", "target": "lost.png"},
  )
  file = _file(
    tmp_path / "back.jsonl",
    b={"instruction": "make it day"},
    c={"instruction": None},
  )
  found, card = common.run(
    _pairs(reversals=file), path, out=tmp_path / "out", max_rejected=0.5
  )
  said = {
    s.record.id: (s.record.instruction, s.provenance.get("reversed_by"))
    for s in found
  }
  assert said == {
    "a": ("add a hat", None),
    "a-reversed": ("no hat please", "row"),
    "b": ("make it night", None),
    "b-reversed": ("make it day", "answer"),
    "c": ("blur it", None),
  }
  assert card.rejected == 1
  assert card.provenance["left out"] == {"no reversal": 1}


def test_judge_and_face(tmp_path):
  """Both directions are judged; null says that there are no faces."""
  folder = made.dataset(tmp_path / "set", [_edit(n) for n in "abcd"])
  judge = common.scores(
    tmp_path / "j.jsonl",
    **{
      "a": 9,
      "a-reversed": 8,
      "b": 9,
      "b-reversed": 2,
      "c": 1,
      "d": 9,
      "d-reversed": 9,
    },
  )
  face = common.scores(tmp_path / "f.jsonl", a=None, b=0.9, c=None, d=0.1)
  maker = _pairs(
    judge=dataclasses.replace(judge, name="judge", minimum=7),
    face=dataclasses.replace(face, name="face", minimum=0.6),
  )
  found, card = common.run(maker, folder, out=tmp_path / "out")
  assert common.ids(found) == ["a", "a-reversed", "b"]
  assert [s.provenance["judge"] for s in found] == [9, 8, 9]
  assert found[2].provenance["face"] == 0.9
  assert card.provenance["left out"] == {
    "face": 1,
    "judge": 1,
    "reverse: judge": 1,
  }


@pytest.mark.parametrize(
  "source, target, kept",
  [
    (["Big SALE!"], ["big open"], True),
    (["Big SALE!"], ["Sale"], False),  # the old word is still there
    (["Big"], ["open"], False),  # it never was
    (["sale"], ["opening"], False),  # no whole word
    (["sale open"], ["open"], False),  # the new word was there before
    (["sale"], [], False),
  ],
)
def test_ocr_of_text_edits(tmp_path, source, target, kept):
  folder = made.dataset(
    tmp_path / "set",
    [_edit("a", 'replace "SALE" with "OPEN"'), _edit("b", "add a hat")],
  )
  ocr = _file(tmp_path / "o.jsonl", a={"source": source, "target": target})
  found, _ = common.run(
    _pairs(ocr=ocr, reverse=False), folder, out=tmp_path / "out"
  )
  assert common.ids(found) == (["a", "b"] if kept else ["b"])


def test_new_words_may_hold_the_old_ones(tmp_path):
  folder = made.dataset(
    tmp_path / "set", [_edit("a", 'replace "cafe" with "cafe bar"')]
  )
  ocr = _file(
    tmp_path / "o.jsonl", a={"source": ["Cafe"], "target": ["Cafe Bar"]}
  )
  found, _ = common.run(_pairs(ocr=ocr), folder, out=tmp_path / "out")
  assert common.ids(found) == ["a", "a-reversed"]


def test_what_is_not_answered_and_what_is_no_edit(tmp_path):
  folder = made.dataset(
    tmp_path / "set", [_edit("a", 'remove "x"'), _edit("b"), made.samples()[2]]
  )
  ocr = _file(tmp_path / "o.jsonl", z={"source": [], "target": []})
  run = lambda name, **more: common.run(
    _pairs(ocr=ocr, **more), folder, out=tmp_path / name, max_rejected=1
  )
  with pytest.raises(ConversionError, match="no line of the id 'a'"):
    run("error")
  found, card = run("drop", missing="drop")
  assert common.ids(found) == ["b", "b-reversed"]
  assert card.provenance["left out"] == {"no ocr": 1} and card.rejected == 1
  assert "not of editing" in common.notes(tmp_path / "drop")[-1]["reason"]
  assert len(run("keep", missing="keep")[0]) == 4
