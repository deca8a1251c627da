"""Commands that ask a server, as a person gives them, against one of ours."""

import json

import pytest

from emma_jax.cli import common, data
from emma_jax.data.records import schema
from emma_jax.data.records.source import RecordsSource
from emma_jax.structs import Drawing, Editing, Understanding
from tests.data import made
from tests.data.curation.fake_server import Fake, serve


def _run(*argv) -> int:
  return common.run(data.main, list(map(str, argv)))


def _records(folder) -> list:
  source = RecordsSource(str(folder))
  return [source.stored(i) for i in range(len(source))]


@pytest.fixture
def fake():
  one = Fake()
  with serve(one):
    yield one


@pytest.fixture
def flags(fake, tmp_path):
  return (
    *("--workers", 0, "--requests", 3, "--url", fake.url, "--model", "m"),
    *("--cache", tmp_path / "replies", "--price", "2,30"),
  )


@pytest.fixture
def folder(fake, tmp_path):
  draw = lambda name, picture: schema.Stored(
    record=Drawing(prompt=f"old {name}", picture=picture, id=name)
  )
  return made.dataset(
    tmp_path / "set",
    [draw("a", fake.say("SALE")), draw("b", made.picture("red", 64, 64))],
  )


def test_a_dry_run_first(fake, flags, folder, tmp_path, capsys):
  for command in (
    ("recaption", folder, "--answers", "ask"),
    ("label-portrait", folder, "--answers", "ask"),
    ("propose-edits", folder, "--answers", "ask"),
    ("filter", folder, "--score", "aesthetic=ask"),
    ("select", folder, "--score", "quality=ask", "--count", 1),
    ("label-stem", folder, "--answers", "ask"),
    ("apply-edits", folder),
    ("generate-text", "--count", 2),
    ("check-text", folder, "--answers", "ask"),
  ):
    out = tmp_path / "none"
    assert _run(*command, "--out", out, *flags, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "2 rows go in." in said and "at most 2 calls of m" in said, command
    assert "cost 0." in said and "Nothing was asked" in said
  assert fake.number == 0 and not list(tmp_path.glob("none*"))


def test_captions_and_portraits(fake, flags, folder, tmp_path, capsys):
  new = tmp_path / "new"
  assert (
    _run("recaption", folder, "--out", new, "--answers", "ask", *flags) == 0
  )
  said = capsys.readouterr().out
  assert "caption: 2 calls of m, 200 tokens in, 20 out, cost 0.001" in said
  assert _records(new)[0].provenance["caption_before"] == "old a"
  assert (new / "calls.jsonl").is_file()
  asked = tmp_path / "asked"
  assert _run("recaption", new, "--out", asked, "--as-questions", *flags) == 0
  assert isinstance(_records(asked)[1].record, Understanding)
  labels = tmp_path / "labels"
  assert (
    _run("label-portrait", new, "--out", labels, "--answers", "ask", *flags)
    == 0
  )
  known = {s.record.id: s.provenance["portrait"] for s in _records(labels)}
  assert known["b"] == "portrait"  # red is what ours takes for one
  kept = tmp_path / "kept"
  assert (
    _run("filter", labels, "--out", kept, "--noted", "portrait=portrait") == 0
  )
  assert [s.record.id for s in _records(kept)] == [
    k for k, v in known.items() if v == "portrait"
  ]


def test_labels_by_rule_and_by_a_server(fake, flags, tmp_path, capsys):
  """A chart is general or STEM by the reading; what no rule knows is asked."""
  talk = lambda name, part, text: schema.Stored(
    record=Understanding(
      pictures=(made.picture(),), turns=((text, "y"),), id=name
    ),
    provenance={"data_source": part},
  )
  folder = made.dataset(
    tmp_path / "talk",
    [talk("a", "chartqa", "what?"), talk("b", "mine", "the triangle's area?")],
  )
  for reading, wanted in (("figure", [0, 1]), ("summary", [1, 1])):
    out = tmp_path / reading
    command = ("label-stem", folder, "--out", out, "--answers", "ask")
    assert _run(*command, "--reading", reading, *flags) == 0
    assert [s.record.stem for s in _records(out)] == wanted
  assert fake.number == 2  # each reading has a prompt of its own
  assert "2 stem" in capsys.readouterr().out


def test_edits_of_pictures_and_of_text(fake, flags, folder, tmp_path, capsys):
  for kind, more in (("any", ()), ("text", ("--text", "--remove", 0))):
    proposed, edited, pairs = (
      tmp_path / f"{step}-{kind}" for step in ("proposed", "edited", "pairs")
    )
    ask = ("--answers", "ask", *flags)
    assert _run("propose-edits", folder, "--out", proposed, *ask, *more) == 0
    assert _run("apply-edits", proposed, "--out", edited, *flags) == 0
    assert all(isinstance(s.record, Editing) for s in _records(edited))
    check = ("--ocr", "ask") if kind == "text" else ()
    assert _run("edit-pairs", edited, "--out", pairs, *check, *flags) == 0
  assert "no text" in capsys.readouterr().out  # red says nothing
  pair, back = _records(tmp_path / "pairs-text")
  assert pair.record.instruction.startswith('Replace the text "SALE" with')
  assert back.record.source == pair.record.target
  assert back.record.instruction.endswith('with "SALE".')


def test_words_by_a_generator(fake, flags, tmp_path):
  drawn, read = tmp_path / "drawn", tmp_path / "read"
  (tmp_path / "p.txt").write_text("OPEN\nExit\n")
  assert (
    _run(
      *("generate-text", "--count", 4, "--out", drawn, *flags),
      *("--phrases", tmp_path / "p.txt", "--max-texts", 1),
    )
    == 0
  )
  assert (
    _run("check-text", drawn, "--out", read, "--answers", "ask", *flags) == 0
  )
  assert {s.provenance["texts"][0]["text"] for s in _records(read)} <= {
    "OPEN",
    "Exit",
  }


def test_rewritten_prompts(fake, flags, tmp_path, capsys):
  path = made.jsonl(tmp_path / "g.jsonl", {"tag": "colors", "prompt": "a cat"})
  out = tmp_path / "out.jsonl"
  flags = flags[2:]  # no processes
  assert _run("rewrite-prompts", path, "--out", out, *flags, "--dry-run") == 0
  assert fake.number == 0 and "at most 1 calls" in capsys.readouterr().out
  assert _run("rewrite-prompts", path, "--out", out, *flags) == 0
  said = capsys.readouterr().out
  assert "1 prompts rewritten, 0 kept" in said and "rewrite: 1 calls" in said
  assert json.loads(out.read_text()) == {
    "tag": "colors",
    "prompt": "a cat, in great detail",
    "original_prompt": "a cat",
  }
  assert _run("rewrite-prompts", path, "--out", out, *flags) == 2
  assert "exists" in capsys.readouterr().err
  again = ("rewrite-prompts", path, "--out", tmp_path / "x", *flags)
  assert _run(*again, "--missing", "drop") == 2


def test_a_chain_dry_run_and_whole(fake, folder, tmp_path, capsys):
  command = [
    *("chain", "--config", "data/synthetic_edits", "--out", tmp_path / "out"),
    *("--workers", 0, folder, "--config.steps.2_size.min_side=8"),
    *(f"--config.servers.{s}.url={fake.url}" for s in ("vlm", "editor")),
    "--config.servers.vlm.price.input=2",
    "--config.servers.vlm.price.output=30",
    "--config.servers.editor.price.picture=0.04",
    "--config.steps.5_pairs.min_judge=1",
  ]
  assert _run(*command, "--dry-run") == 0
  said = capsys.readouterr().out
  assert "3_instruction (to do): 1 records go in" in said
  assert "edit: at most 1 calls of Qwen/Qwen-Image-Edit-2509" in said
  assert "Nothing was sent or written." in said
  assert fake.number == 0 and not (tmp_path / "out").exists()
  assert _run(*command) == 0
  said = capsys.readouterr().out
  assert "5_pairs*" in said and "1_convert" in said
  report = json.loads((tmp_path / "out" / "chain.json").read_text())
  assert report["steps"][-1]["records_out"] == 4
  assert report["cost spent"] > 0
  assert f"Wrote {tmp_path / 'out' / 'chain.json'}" in said
  asked = fake.number
  assert _run(*command) == 0 and fake.number == asked


@pytest.mark.parametrize(
  "argv, words",
  [
    (["--config", "tiny"], "is no chain"),
    (["--config", "data/stem", "lost.jsonl"], "No such file"),
    (["--config", "data/laion", "--config.steps.2_size.by=me"], "No such file"),
    (["--config", "data/rendered_text", "--requests", "0"], "at least 1"),
    (["--config", "data/rendered_text", "--config.licence"], "needs a value"),
  ],
)
def test_mistakes_of_a_chain(tmp_path, argv, words, capsys):
  assert _run("chain", "--out", tmp_path / "x", *argv) == 2
  said = capsys.readouterr().err
  assert words in said and "Traceback" not in said
