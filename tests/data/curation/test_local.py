"""Edits checked on this machine: text edits by OCR, persons by their faces."""

import pytest

pytest.importorskip("rapidocr")
pytest.importorskip("dlib")
pytest.importorskip("skimage")

from emma_jax.build.sections import ConfigError
from emma_jax.cli import common as cli_common
from emma_jax.cli import data
from emma_jax.data.curation.answers import NoAnswer
from emma_jax.data.curation.local import Local
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing
from tests.data import made
from tests.data.curation import common
from tests.scorers import common as pictures
from tests.scorers import photos

SALE, OPEN = (
  made.encoded(pictures.written([(24, "harbour"), (24, word)], 140))
  for word in ("SALE", "OPEN")
)


def _edit(name, instruction, source, target) -> schema.Stored:
  return schema.Stored(
    record=Editing(
      sources=(source,), instruction=instruction, target=target, id=name
    )
  )


def test_edits_pass_or_not_without_a_server(tmp_path, capsys):
  portrait = photos.resized(photos.portrait(), 0.5)[:160]
  same, mirrored = made.encoded(portrait), made.encoded(portrait[:, ::-1])
  other = made.encoded(photos.stranger(1))
  replace = 'replace "SALE" with "OPEN"'
  folder = made.dataset(
    tmp_path / "set",
    [
      _edit("read", replace, SALE, OPEN),
      _edit("unread", replace, SALE, SALE),
      _edit("mirrored", "mirror it", same, mirrored),
      _edit("swapped", "mirror it", same, other),
      _edit("nobody", "make it red", made.picture("blue"), made.picture("red")),
    ],
  )
  out = tmp_path / "out"
  command = ["edit-pairs", folder, "--out", out, "--no-reverse", "--workers", 0]
  asked = [*command, "--ocr", "local", "--face", "local"]
  assert cli_common.run(data.main, [str(word) for word in asked]) == 0
  said = capsys.readouterr().out
  assert "1  ocr" in said and "1  face" in said
  kept = {one.record.id: one.provenance.get("face") for one in common.read(out)}
  assert set(kept) == {"read", "mirrored", "nobody"}
  assert kept["nobody"] is None and kept["mirrored"] > 0.6
  assert "the target lacks 'OPEN'" in str(common.notes(out)) or (
    "the target still has 'SALE'" in str(common.notes(out))
  )


def test_what_is_read_in_one_picture():
  record = Drawing(prompt="a sign", picture=SALE, id="a")
  stored = schema.Stored(record=record)
  assert Local("read").answer(stored, "a:1") == {"texts": ["harbour", "SALE"]}
  with pytest.raises(NoAnswer, match="face is of 2"):
    Local("face").answer(stored, "a:1")


def test_only_texts_and_faces(tmp_path, capsys):
  with pytest.raises(ConversionError, match="only ocr, read, face"):
    Local("judge")
  folder = made.dataset(tmp_path / "set", made.samples())
  command = ["edit-pairs", folder, "--out", tmp_path / "o", "--judge", "local"]
  assert cli_common.run(data.main, [str(word) for word in command]) == 2
  assert "judge cannot be answered on this machine" in capsys.readouterr().err


def test_a_chain_may_name_it():
  from emma_jax.build import chain as build_chain
  from emma_jax.build import config_file

  config = config_file.load("data/text_edits", {})
  bench = build_chain._Bench(build_chain.plain(config), "unused")
  assert bench.back_end("ocr", "local") == Local("ocr")
  with pytest.raises(ConfigError, match="nor local"):
    bench.back_end("ocr", "nobody")


def test_models_are_part_of_what_decides_a_set():
  one, two = Local("ocr").identity(), Local("face").identity()
  assert one["models"] and two["models"] and one != two
