"""The commands of emma-data, on small sets of every task."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
from PIL import Image
import pytest

from configs import files as files_config
from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.cli import common, data
from emma_jax.cli.data import reading as data_reading
from emma_jax.data.records.card import Card
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests.data import made
from tests.pages import reading


def _run(*argv) -> int:
  return common.run(data.main, list(map(str, argv)))


@pytest.fixture
def folder(tmp_path):
  return made.dataset(tmp_path / "set", made.tasks_in_turn(), shards=2)


def test_convert_of_embedded_parquet(tmp_path, capsys):
  """LLaVA-OneVision's columns, with one broken picture among twelve."""
  pa = pytest.importorskip("pyarrow")
  import pyarrow.parquet as pq

  talk = [
    {"from": "human", "value": "<image>\nq"},
    {"from": "gpt", "value": "a"},
  ]
  rows = [
    {
      "id": f"{i}",
      "conversations": talk,
      "data_source": "made",
      "image": {"bytes": made.noise(kind="JPEG"), "path": f"{i}.jpg"},
    }
    for i in range(12)
  ]
  rows[5]["image"]["bytes"] = rows[5]["image"]["bytes"][:700]
  path = tmp_path / "train.parquet"
  pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
  out = tmp_path / "out"
  assert (
    _run(
      "convert",
      path,
      "--out",
      out,
      "--rows-per-shard",
      5,
      "--workers",
      0,
      "--licence",
      "CC0",
      "--stem",
      "stem",
    )
    == 0
  )
  assert "11 understanding" in capsys.readouterr().out
  source = RecordsSource(str(out))
  stored = source.stored(5)
  assert stored.record.id == "6" and stored.record.stem == 1
  assert stored.provenance == {"row": f"{path}[6]", "data_source": "made"}
  assert stored.record.pictures[0] == rows[6]["image"]["bytes"]
  note = json.loads((out / "rejected.jsonl").read_text())
  assert note["where"].endswith("[5]") and "truncated" in note["reason"]
  assert "CC0" in (out / "README.md").read_text()
  assert len(source.card.shards) == 3
  assert _run("validate", out) == 0


@pytest.mark.parametrize(
  "argv, words",
  [
    (["convert", "lost.jsonl", "--out", "x"], "No such file: lost.jsonl"),
    (["convert", "*.nothing", "--out", "x"], "No such file: *.nothing"),
    (["convert", "tfds:a", "--out", "x", "--tokenizer", "big"], "tokenizer"),
    (["convert", "tfds:a", "--out", "x", "--columns", "a"], "OURS=THEIRS"),
    (["stats", "nowhere"], "no data set"),
    (["stats", "world:drawing:train"], "has no end; say how many"),
    (["lengths", "nowhere", "--tokenizer", "tiny"], "no data set"),
    (["show", "nowhere", "--config", "files"], "does not open"),
    (["show", "--config", "files", "--stage", "9"], "2_finetuning"),
  ],
)
def test_mistakes_get_a_line(argv, words, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert _run(*argv) == 2
  said = capsys.readouterr().err
  assert words in said and "Traceback" not in said


def test_validate_finds_damage(folder, tmp_path, capsys):
  assert _run("validate", folder) == 0
  path = folder / "part-00001.array_record"
  damaged = bytearray(path.read_bytes())
  damaged[damaged.find(b'"red 3"') + 300] ^= 1
  path.write_bytes(damaged)
  report = tmp_path / "report.jsonl"
  assert _run("validate", folder, "--report", report) == 1
  out = capsys.readouterr().out
  assert "part-00001.array_record: the checksum" in out
  assert f"{path}[1]: cannot be read" in out
  assert "6 records, 2 errors" in out
  assert len(report.read_text().splitlines()) == 2
  assert _run("validate", folder, tmp_path / "none") == 1
  assert "does not open" in capsys.readouterr().out


def test_what_has_no_end_is_not_read_to_its_end(capsys):
  assert _run("validate", "world:drawing:train") == 1
  assert "world:drawing:train:1000" in capsys.readouterr().out
  assert _run("validate", "world:drawing:train:3") == 0
  assert "3 records, 0 errors" in capsys.readouterr().out


def test_validate_warns_of_chinese_in_drawings_and_edits(tmp_path, capsys):
  """In answers it belongs; elsewhere it is told, and no error."""
  question, text, drawing, edit = made.samples()
  chinese = dataclasses.replace(drawing.record, prompt="一个 red")
  mixed = made.dataset(
    tmp_path / "mixed",
    [question, text, drawing, edit]
    + [dataclasses.replace(drawing, record=chinese)] * 2,
  )
  assert _run("validate", mixed) == 0
  out = capsys.readouterr().out
  assert "6 records, 0 errors" in out
  assert "warning: 2 records of drawing hold Chinese" in out
  assert "records of editing hold" not in out
  english = made.dataset(tmp_path / "english", [question, text, drawing, edit])
  assert _run("validate", english) == 0
  assert "warning" not in capsys.readouterr().out


def test_validate_of_lines_and_of_wrong_side_files(
  folder, tmp_path, capsys, monkeypatch
):
  (tmp_path / "a.png").write_bytes(made.noise())
  path = made.jsonl(
    tmp_path / "a.jsonl", {"image": "a.png", "caption": "y"}, "{"
  )
  assert _run("validate", path) == 1
  assert f"{path}:2: no JSON" in capsys.readouterr().out
  # Side files of other records, with a card that believes them.
  card = Card.load(folder)
  one, two = card.shards
  (folder / one.lengths).write_bytes((folder / two.lengths).read_bytes())
  wrong = dataclasses.replace(one, lengths_sha256=two.lengths_sha256)
  dataclasses.replace(card, shards=(wrong, two)).save(folder)
  monkeypatch.setattr(build_data, "tokenizer", lambda data: made.TOKENIZER)
  assert _run("validate", folder) == 1
  assert "other lengths" in capsys.readouterr().out


def test_stats_count_and_draw(folder, tmp_path, capsys):
  out, numbers = tmp_path / "stats.html", tmp_path / "stats.json"
  assert _run("stats", folder, "--out", out, "--json", numbers) == 0
  found = json.loads(numbers.read_text())[str(folder)]
  assert found["tasks"] == {"understanding": 2, "drawing": 2, "editing": 2}
  assert found["pictures"] == {"1": 4, "2": 2}
  assert sum(found["resolutions"].values()) == 8
  assert found["aspects"] == {
    "1:2": 4,
    "2:3": 0,
    "square": 0,
    "5:4": 0,
    "3:2": 4,
  }
  assert found["picture_tokens"] == {"2-4": 8}
  assert found["total_text_tokens"] == (
    RecordsSource(str(folder)).lengths.text_tokens().sum()
  )
  text = reading.check(out.read_text()).text
  for heading in ("Samples", "Words", "What cropping and", "Near-copies"):
    assert heading in text
  assert "understanding: 2 (33.3%)" in capsys.readouterr().out


def test_names_and_texts_stay_texts_on_both_pages(tmp_path):
  evil = "<script>alert('x') & \"y\""
  place = made.dataset(
    tmp_path / f"set {evil}", made.tasks_in_turn(texts=evil), shards=1
  )
  stats, show = tmp_path / "stats.html", tmp_path / "show.html"
  assert _run("stats", place, "--out", stats) == 0
  assert evil in reading.check(stats.read_text()).text
  options = ("--config", "files", "--config.data.text_dropout=0")
  assert _run("show", place, *options, "--out", show) == 0
  text = reading.check(show.read_text()).text
  assert f"set {evil}" in text
  # Of the samples, token by token: nothing stands between two.
  assert f"what?{evil}" in text and f"blue 1{evil}" in text


def test_stats_of_lines_equal_those_of_their_records(tmp_path):
  (tmp_path / "a.png").write_bytes(made.noise(40, 60))
  rows = [{"image": "a.png", "caption": f"red {i}"} for i in range(5)]
  path = made.jsonl(tmp_path / "a.jsonl", *rows)
  assert _run("convert", path, "--out", tmp_path / "set", "--workers", 0) == 0
  numbers = tmp_path / "stats.json"
  assert _run("stats", path, tmp_path / "set", "--json", numbers) == 0
  a, b = json.loads(numbers.read_text()).values()
  assert a == b and a["records"] == 5


def test_lengths_for_another_tokenizer(folder, capsys, monkeypatch):
  before = RecordsSource(str(folder)).lengths
  other = TinyTokenizer(["what", "blue"])
  monkeypatch.setattr(build_data, "tokenizer", lambda data: other)
  assert _run("lengths", folder, "--tokenizer", "tiny") == 0
  source = RecordsSource(str(folder))
  assert source.lengths.tokenizer == other.fingerprint()
  assert source.card.tokenizer == other.fingerprint()
  assert source.lengths.tokenizer != before.tokenizer
  np.testing.assert_array_equal(source.lengths.sizes, before.sizes)
  assert not np.array_equal(source.lengths.turn_tokens, before.turn_tokens)
  assert _run("validate", folder) == 0


def test_show_draws_the_mask(folder, tmp_path):
  out = tmp_path / "show.html"
  assert (
    _run(
      "show",
      folder,
      "--config",
      "files",
      "--rows",
      1,
      "--out",
      out,
      "--config.data.text_dropout=0",
    )
    == 0
  )
  page = out.read_text()
  assert "What the model sees" in page and "part-0000" in page
  assert 'class="learned"' in page
  reading.check(page)
  drawn = re.search(
    r'alt="Attention[^"]*" src="data:image/png;base64,([^"]+)', page
  )
  image = Image.open(io.BytesIO(base64.b64decode(drawn[1])))
  mask = (np.asarray(image) != 255).any(-1)
  assert mask.any() and not mask.all() and mask.diagonal().all()


def test_records_and_lines_train_alike(tmp_path):
  """The same file as lines and as records gives the same batches."""
  (tmp_path / "a.png").write_bytes(made.noise(40, 60))
  rows = [{"image": "a.png", "caption": f"red {i}"} for i in range(5)]
  path = made.jsonl(tmp_path / "a.jsonl", *rows)
  assert _run("convert", path, "--out", tmp_path / "set", "--workers", 0) == 0
  config = sections.plain(files_config.get_config())
  config["stages"]["2_finetuning"]["mixture"] = [[0.0, {"a": 1.0}]]
  batches = []
  for spec in (f"jsonl:{path}", f"records:{tmp_path / 'set'}"):
    config["data"]["sources"] = {"a": spec}
    batches.append(build_data.batches(config, "2_finetuning")[1].batch)
  np.testing.assert_array_equal(batches[0].tokens_BU, batches[1].tokens_BU)
  np.testing.assert_array_equal(
    batches[0].gen_pixels_BMYXC, batches[1].gen_pixels_BMYXC
  )


@pytest.mark.parametrize(
  "name", ["a.zip", "b.json", "c.tar", "[d]", "e*", "with dataset.json"]
)
def test_a_folder_is_one_whatever_its_name_or_its_table(name, tmp_path):
  """A name that ends like a file's, or looks like a pattern; a table in it
  that is called as our card is."""
  folder = tmp_path / name
  folder.mkdir()
  (folder / "a.png").write_bytes(made.picture())
  row = {"image": "a.png", "caption": "red"}
  table = "dataset.json" if "dataset" in name else "x.json"
  (folder / table).write_text(json.dumps([row]))
  out = tmp_path / "out"
  assert _run("convert", folder, "--out", out) == 0
  assert RecordsSource(out)[0].prompt == "red"


@pytest.mark.parametrize("name", ["[a].jsonl", "a*.jsonl", "a?.jsonl"])
def test_a_file_is_one_though_its_name_looks_like_a_pattern(name, tmp_path):
  made.jsonl(tmp_path / name, {"image": "a.png", "caption": "red"})
  path = str(tmp_path / name)
  assert data_reading.files([path]) == [path]
