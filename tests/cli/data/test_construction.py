"""The constructing commands, one after the other, as a person would."""

import json

import pytest

from emma_jax.cli import common, data
from emma_jax.data.curation import fonts
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.data.records.source import RecordsSource
from emma_jax.structs import Drawing, Editing, Understanding
from tests.data import made


def _run(*argv) -> int:
  return common.run(data.main, list(map(str, argv)))


def _ids(folder) -> list[str]:
  source = RecordsSource(str(folder))
  return [source[i].id for i in range(len(source))]


@pytest.fixture
def folder(tmp_path):
  """A small and a large drawing, twice; a question; an edit."""
  small, large = made.noise(40, 40), made.noise(80, 64)
  draw = lambda name, p: schema.Stored(
    record=Drawing(prompt=name, picture=p, id=name)
  )
  return made.dataset(
    tmp_path / "set",
    [
      draw("small", small),
      draw("large", large),
      draw("copy", large),
      schema.Stored(
        record=Understanding(
          pictures=(large,), turns=(("2 + 2?", "4"),), id="q"
        ),
        provenance={"data_source": "maths"},
      ),
      schema.Stored(
        record=Editing(
          sources=(small,), instruction="add a hat", target=large, id="e"
        )
      ),
    ],
  )


def test_one_after_the_other(folder, tmp_path, capsys):
  small = ("--workers", 0, "--out")
  scores = made.jsonl(
    tmp_path / "scores.jsonl",
    *(
      {"id": n, "score": i}
      for i, n in enumerate(("large", "copy", "q", "e", "small"))
    ),
  )
  assert (
    _run(
      "filter",
      folder,
      *small,
      tmp_path / "f",
      "--tasks",
      "drawing",
      "--min-side",
      50,
      "--score",
      f"quality={scores}",
      "--max",
      "quality=1",
    )
    == 0
  )
  assert "       1  min_side" in capsys.readouterr().out
  assert _ids(tmp_path / "f") == ["large", "copy"]
  assert _run("dedup", folder, *small, tmp_path / "d") == 0
  assert _ids(tmp_path / "d") == ["small", "large", "copy", "q", "e"]
  code = _run("dedup", folder, *small, tmp_path / "d2", "--text", "questions")
  assert code == 0  # captions may differ
  assert _ids(tmp_path / "d2") == ["small", "large", "q", "e"]
  assert (
    _run(
      "edit-pairs",
      folder,
      *small,
      tmp_path / "e",
      "--max-rejected",
      1,
      "--judge",
      scores,
      "--min-judge",
      3,
      "--missing",
      "keep",
    )
    == 0
  )
  assert _ids(tmp_path / "e") == ["e", "e-reversed"]
  capsys.readouterr()
  assert (
    _run(
      "select",
      tmp_path / "f",
      folder,
      *small,
      tmp_path / "s",
      "--score",
      f"quality={scores}",
      "--count",
      1,
    )
    == 0
  )
  assert _ids(tmp_path / "s") == ["small", "q", "e"]
  assert "1 of        5  drawing" in capsys.readouterr().out
  rules = tmp_path / "rules.json"
  rules.write_text(
    json.dumps([{"label": "stem", "field": "data_source", "matches": "maths"}])
  )
  assert (
    _run("label-stem", folder, *small, tmp_path / "l", "--rules", rules) == 0
  )
  assert capsys.readouterr().out.endswith("1 stem\n")
  assert (
    _run("convert", tmp_path / "e", tmp_path / "l", *small, tmp_path / "all")
    == 0
  )
  assert _ids(tmp_path / "all") == ["e", "e-reversed", "q"]
  for name in "fdesl":
    assert _run("validate", tmp_path / name) == 0


def test_synth_text(tmp_path):
  try:
    fonts.find("en")
  except ConversionError:
    pytest.skip("no fonts; install fonts-dejavu-core")
  (tmp_path / "p.txt").write_text("Only This\n\n")
  assert (
    _run(
      "synth-text",
      "--count",
      2,
      "--out",
      tmp_path / "w",
      "--sizes",
      "128x160",
      "--languages",
      "en",
      "--workers",
      0,
      "--phrases",
      f"en={tmp_path / 'p.txt'}",
    )
    == 0
  )
  source = RecordsSource(str(tmp_path / "w"))
  assert '"Only This"' in source[0].prompt
  assert source.lengths[0].sizes == ((128, 160),)
  assert _run("validate", tmp_path / "w") == 0


@pytest.mark.parametrize(
  "argv, words",
  [
    (["filter", "--score", "a"], "expected NAME=FILE"),
    (["filter", "--score", "a=lost"], "no such file"),
    (["filter", "--score", "a=ask"], "no base address"),
    (["filter", "--score", "a=ask", "--url", "http://x/v1"], "--model"),
    (["filter", "--min", "a=1"], "there is no --score a"),
    (["filter", "--min", "a=b"], "NAME=NUMBER"),
    (["dedup", "--radius", "40"], "0 to 31"),
    (["dedup", "--columns", "a=b"], "records are read already"),
    (["select", "--score", "a=noted", "--count", "-1"], "at least 0"),
    (["filter", "--noted", "portrait"], "KEY=VALUE"),
    (["filter", "--score", "a=ask", "--price", "1,2,3"], "--price"),
    (["filter", "--score", "a=ask", "--option", "x"], "KEY=JSON"),
    (["recaption"], "--answers or --as-questions"),
    (["apply-edits"], "no base address"),
    (["propose-edits", "--answers", "lost"], "no such file"),
    (["label-stem", "--rules", "lost"], "rules"),
    (["edit-pairs", "--reversals", "lost"], "no such file"),
  ],
)
def test_mistakes_get_a_line(folder, tmp_path, argv, words, capsys):
  command, *rest = argv
  assert _run(command, folder, "--out", tmp_path / "x", *rest) == 2
  said = capsys.readouterr().err
  assert words in said and "Traceback" not in said


@pytest.mark.parametrize(
  "argv, words",
  [
    (["--count", "0"], "at least 1"),
    (["--count", "1", "--sizes", "12"], "HEIGHTxWIDTH"),
    (["--count", "1", "--languages", "xx"], "Languages are"),
    (["--count", "1", "--phrases", "en=lost"], "lost"),
  ],
)
def test_mistakes_of_synth_text(tmp_path, argv, words, capsys):
  assert _run("synth-text", "--out", tmp_path / "x", *argv) == 2
  assert words in capsys.readouterr().err
