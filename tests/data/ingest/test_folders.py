"""What people have becomes the same records, whichever way it is kept."""

import json
import os
from pathlib import Path
import unicodedata
import zipfile

import pytest

from emma_jax.data.ingest import containers, job, part, sequences
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records.source import RecordsSource
from tests.data import made

CAPTIONS = {"a": "a cat", "b": 'a "dog", and\na bird', "c/d": "ein Bär"}
PICTURES = {key: made.noise(40, 50 + i) for i, key in enumerate(CAPTIONS)}


def _write(folder: Path, files: dict[str, bytes | str]) -> Path:
  for name, data in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
  return folder


def _pictures() -> dict[str, bytes | str]:
  return {f"{key}.png": data for key, data in PICTURES.items()}


def _beside(end: str) -> dict[str, bytes | str]:
  text = json.dumps if end == "json" else str
  wrap = (lambda c: {"caption": c}) if end == "json" else str
  return _pictures() | {
    f"{k}.{end}": text(wrap(c)) for k, c in CAPTIONS.items()
  }


def _table(sign: str, picture: str, caption: str) -> str:
  quoted = lambda text: '"' + text.replace('"', '""') + '"'
  lines = [f"{picture}{sign}{caption}"]
  lines += [f"{k}.png{sign}{quoted(c)}" for k, c in CAPTIONS.items()]
  return "\r\n".join(lines) + "\r\n"


def _lines(picture: str, caption: str) -> str:
  rows = [{picture: f"{k}.png", caption: c} for k, c in CAPTIONS.items()]
  return "".join(json.dumps(row) + "\n" for row in rows)


def _parquet(folder: Path) -> Path:
  table = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
  from pyarrow import parquet

  images = [
    {"bytes": data, "path": f"{key}.png"} for key, data in PICTURES.items()
  ]
  rows = {"image": images, "text": list(CAPTIONS.values())}
  folder.mkdir(parents=True, exist_ok=True)
  parquet.write_table(table.table(rows), folder / "x.parquet")
  return folder / "x.parquet"


def _zipped(folder: Path, root: str = "") -> Path:
  path = folder.parent / f"{folder.name}.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
    for name in sorted(folder.rglob("*")):
      out.write(name, root + str(name.relative_to(folder)))
  return path


def _spelled(form: str) -> dict[str, str]:
  """CAPTIONS by keys with accents, as a Mac (NFD) or others (NFC) do."""
  return {unicodedata.normalize(form, f"é{k}"): c for k, c in CAPTIONS.items()}


FOLDERS = {
  **{f"beside {end}": _beside(end) for end in ("txt", "caption", "json")},
  "metadata.jsonl": _pictures()
  | {"metadata.jsonl": _lines("file_name", "text")},
  "metadata.csv": _pictures()
  | {"metadata.csv": _table(",", "file_name", "text")},
  "a table of any name": _pictures()
  | {"my.tsv": _table("\t", "image", "caption")},
  "texts of the pictures' whole names": _pictures()
  | {"a.png.txt": CAPTIONS["a"], "b.png.caption": CAPTIONS["b"]}
  | {"c/d.png.json": json.dumps({"caption": CAPTIONS["c/d"]})},
  "shards of a table": _pictures()
  | {
    f"train-{i:05d}-of-00003.jsonl": json.dumps(
      {"image": f"{k}.png", "text": c}
    )
    for i, (k, c) in enumerate(CAPTIONS.items())
  },
}
TOPS = ("source", "target")
FILES = {
  "csv": ("x.csv", _table(",", "image", "caption")),
  "csv of semicolons": ("x.csv", _table(";", "file_name", "prompt")),
  "tsv": ("x.tsv", _table("\t", "image", "text")),
}


def _read(path: Path, rows: int = 100) -> list[tuple[str, object]]:
  options = sequences.Options()
  parts = containers.split(str(path), rows, options)
  return [x for p in parts for x in containers.read(p, options)]


def _job(path: Path, out: Path, **more) -> job.Job:
  recipe = part.Recipe(form="", tokenizer=made.TOKENIZER)
  return job.Job(
    inputs=[str(path)],
    out=str(out),
    maker=recipe,
    workers=0,
    rows_per_shard=2,
    **more,
  )


def _converted(path: Path, out: Path, **more) -> RecordsSource:
  job.run(_job(path, out, **more))
  return RecordsSource(str(out))


def _check_captions(source: RecordsSource) -> None:
  records = [source[i] for i in range(len(source))]
  assert {r.prompt: r.picture for r in records} == {
    CAPTIONS[k]: PICTURES[k] for k in CAPTIONS
  }


@pytest.mark.smoke
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_captions(tmp_path, kind, zipped):
  """Each gives the same records, in a zip as out of it, in any parts."""
  path = _write(tmp_path / "in", FOLDERS[kind] | {".DS_Store": b"x"})
  _write(path, {"._a.png": b"mac", "__MACOSX/b.txt": "x", "README.txt": "x"})
  if zipped:
    path = _zipped(path, "my_pictures/")
  _check_captions(_converted(path, tmp_path / "out"))
  whole = _read(path)
  assert [str(x) for x in _read(path, 1)] == [str(x) for x in whole]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("kind", ["txt", "metadata.jsonl", "target"])
def test_accents_apart_or_as_one_are_one_name(tmp_path, kind, forms, zipped):
  """A Mac's names look like those of a table and are other bytes."""
  pictures, texts = map(_spelled, forms)
  one = dict(zip(pictures, PICTURES.values()))
  if kind == "txt":
    files = {f"{k}.png": p for k, p in one.items()}
    files |= {f"{k}.txt": c for k, c in texts.items()}
  elif kind == "target":
    files = {f"{top}/{k}.png": p for k, p in one.items() for top in TOPS}
    files |= {f"{k}.txt": c for k, c in texts.items()}
  else:
    files = {f"{k}.png": p for k, p in one.items()}
    files["metadata.jsonl"] = "".join(
      json.dumps({"file_name": f"{k}.png", "text": c}) + "\n"
      for k, c in texts.items()
    )
  path = _write(tmp_path / "in", files)
  path = _zipped(path) if zipped else path
  source = _converted(path, tmp_path / "out", max_rejected=0)
  text = "instruction" if kind == "target" else "prompt"
  picture = "target" if kind == "target" else "picture"
  records = [source[i] for i in range(len(source))]
  assert {getattr(r, text): getattr(r, picture) for r in records} == {
    CAPTIONS[k]: PICTURES[k] for k in CAPTIONS
  }


@pytest.mark.parametrize("kind", FILES)
def test_tables(tmp_path, kind):
  name, text = FILES[kind]
  path = _write(tmp_path / "in", _pictures() | {name: "\ufeff" + text}) / name
  _check_captions(_converted(path, tmp_path / "out"))


def test_parquet_alone_and_in_a_zip(tmp_path):
  path = _parquet(tmp_path / "in")
  _check_captions(_converted(path, tmp_path / "one"))
  _check_captions(_converted(_zipped(tmp_path / "in"), tmp_path / "two"))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
  "names", [("source", "target", ""), ("before", "after", "instructions/")]
)
def test_folders_of_edits(tmp_path, names, zipped):
  source, target, text = names
  files: dict[str, bytes | str] = {}
  for key, data in PICTURES.items():
    files |= {f"{source}/{key}.png": data, f"{target}/{key}.png": made.noise(9)}
    files[f"{text}{key}.txt"] = CAPTIONS[key]
  path = _write(tmp_path / "in", files)
  out = _converted(_zipped(path) if zipped else path, tmp_path / "out")
  records = [out[i] for i in range(len(out))]
  assert {r.instruction: r.sources for r in records} == {
    CAPTIONS[k]: (PICTURES[k],) for k in CAPTIONS
  }
  assert {r.target for r in records} == {made.noise(9)}


@pytest.mark.parametrize("root", ["", "mine/"])
def test_folders_of_edits_in_several_folders(tmp_path, root):
  files: dict[str, bytes | str] = {"other/lost.png": made.noise(7)}
  for home, key in (("s1", "a"), ("s2/x", "a"), ("s2/x", "b")):
    files |= {
      f"{home}/source/{key}.png": PICTURES[key],
      f"{home}/target/{key}.png": made.noise(9),
      f"{home}/{key}.txt": f"{home} {key}",
    }
  files = {root + name: data for name, data in files.items()}
  path = _write(tmp_path / "in", files)
  assert _bad(path) == {"lost.png": "neither in source/ nor in target/"}
  out = _converted(path, tmp_path / "out", max_rejected=0.3)
  records = [out[i] for i in range(len(out))]
  assert {(r.id, r.instruction, r.sources) for r in records} == {
    ("s1/a", "s1 a", (PICTURES["a"],)),
    ("s2/x/a", "s2/x a", (PICTURES["a"],)),
    ("s2/x/b", "s2/x b", (PICTURES["b"],)),
  }


def test_instructions_in_json(tmp_path):
  files = {"source/a.png": PICTURES["a"], "target/a.jpg": PICTURES["b"]}
  files |= {"a.json": '{"instruction": "turn it"}', "about.json": "{}"}
  out = _converted(_write(tmp_path / "in", files), tmp_path / "out")
  assert (len(out), out[0].instruction) == (1, "turn it")


def test_questions_in_a_table(tmp_path):
  table = "image,question,answer\na.png,What is it?,a cat\n,2+2?,4\n"
  path = _write(tmp_path, _pictures() | {"q.csv": table}) / "q.csv"
  out = _converted(path, tmp_path / "out")
  first, second = out[0], out[1]
  assert first.turns == (("What is it?", "a cat"),)
  assert (first.pictures, second.pictures) == ((PICTURES["a"],), ())


# ------------------------------------------------------------------ mistakes


def _bad(path: Path) -> dict[str, str]:
  """Of rows that cannot be used: the name's end -> why."""
  return {
    os.path.basename(where): row.reason
    for where, row in _read(path)
    if isinstance(row, BadRecord)
  }


ROWS = {
  "no caption": ({"x.png": b"p"}, "x", "no caption: a text of this name"),
  "no picture": ({"x.txt": "t"}, "x", "no picture of this name"),
  "another format": (
    {"x.txt": "t", "x.heic": b"p"},
    "x",
    "x.heic is of no format that is read; save it as",
  ),
  "two captions": (
    {"x.png": b"p", "x.txt": "t", "x.caption": "u"},
    "x",
    "two captions, x.caption and x.txt, that differ",
  ),
  "two captions, one in JSON": (
    {"x.png": b"p", "x.txt": "t", "x.json": '{"caption": "u"}'},
    "x",
    "two captions, of x.txt and the JSON",
  ),
  "two pictures": (
    {"x.png": b"p", "x.jpg": b"q", "x.txt": "t"},
    "x",
    "two pictures, x.jpg and x.png",
  ),
  "Latin-1": (
    {"x.png": b"p", "x.txt": "Bär".encode("latin-1")},
    "x",
    "x.txt is not UTF-8 (byte 0xe4); save it as UTF-8",
  ),
  "no JSON": ({"x.png": b"p", "x.json": "{"}, "x", "x.json: no JSON"),
  "a list": ({"x.png": b"p", "x.json": "[1]"}, "x", "is a list, not an object"),
  "a pointer": (
    {"x.png": b"p", "x.txt": "version https://git-lfs.github.com/spec/v1\n"},
    "x",
    "x.txt: it is a Git LFS pointer",
  ),
  "two of JSON": (
    {"x.png": b"p", "x.json": '{"text": "a"}', "x.png.json": '{"text": "b"}'},
    "x",
    "x.json and x.png.json differ in 'text'",
  ),
}


@pytest.mark.parametrize("name", ROWS)
def test_mistakes_in_a_row_leave_the_others(tmp_path, name):
  files, where, reason = ROWS[name]
  path = _write(tmp_path / "in", _beside("txt") | files)
  assert reason in _bad(path)[where]
  assert reason in _bad(_zipped(path))[where]
  assert sum(isinstance(row, dict) for _, row in _read(path)) == len(CAPTIONS)


def test_json_in_another_encoding_is_told_once(tmp_path):
  files = {"x.png": b"p", "x.json": '{"text": "\xe9"}'.encode("latin-1")}
  reason = _bad(_write(tmp_path / "in", files))["x"]
  assert reason.startswith("x.json is not UTF-8 (byte 0xe9); save it as UTF-8")


def test_equal_captions_and_utf_16_are_no_mistakes(tmp_path):
  """What Windows' editor saves has a mark that tells it."""
  files = _beside("txt") | {"a.caption": " a cat\n"}
  files |= {"b.txt": CAPTIONS["b"].encode("utf-16")}
  _check_captions(_converted(_write(tmp_path / "in", files), tmp_path / "out"))


def test_broken_pictures_are_rejected_and_counted(tmp_path):
  files = _beside("txt") | {"x.png": PICTURES["a"][:90], "x.txt": "half"}
  path = _write(tmp_path / "in", files)
  with pytest.raises(job.TooManyRejected, match="1 of 4 rows .* truncated"):
    job.run(_job(path, tmp_path / "no"))
  out = _converted(path, tmp_path / "out", max_rejected=0.5)
  _check_captions(out)
  assert out.card.rejected == 1


def test_links_that_leave_the_folder_are_not_read(tmp_path):
  secret = tmp_path / "secret.txt"
  secret.write_text("password")
  path = _write(tmp_path / "in", _beside("txt"))
  (path / "x.png").write_bytes(PICTURES["a"])
  (path / "x.txt").symlink_to(secret)
  (path / "y.png").symlink_to(tmp_path / "outside.png")
  (tmp_path / "outside.png").write_bytes(PICTURES["a"])
  (path / "y.txt").write_text("y")
  (path / "more").symlink_to(tmp_path)
  bad = _bad(path)
  assert "outside" in bad["x"] and "link to a folder" in bad["more"]
  out = _converted(path, tmp_path / "out", max_rejected=0.6)
  _check_captions(out)
  assert out.card.provenance["outside"] == 1  # y, whose picture is told apart
  notes = (tmp_path / "out" / "rejected.jsonl").read_text()
  assert "password" not in notes and "y.png" in notes


def test_edits_that_lack_a_part(tmp_path):
  parts = {"source/a.png": b"p", "target/a.png": b"q", "a.txt": "t"}
  for missing, told in (
    ("source/a.png", "no picture in source/"),
    ("target/a.png", "no picture in target/"),
    ("a.txt", "no instruction"),
  ):
    files = {k: v for k, v in parts.items() if k != missing}
    files |= {k.replace("a.", "b."): v for k, v in parts.items()}
    path = _write(tmp_path / missing.replace("/", "_"), files)
    assert told in _bad(path)["a"]


FOLDER_MISTAKES = {
  "empty": ({".DS_Store": b"x"}, "has no files in it"),
  "no captions at all": (
    _pictures(),
    r"3 pictures and no captions: .*a.png and a.txt, .caption or .json",
  ),
  "neither": ({"a.doc": b"x", "b.psd": b"y"}, "its 2 files end in doc, psd"),
  "many tables": (
    {f"t-{i}.parquet": b"x" for i in range(3)},
    r"3 tables \(t-0.parquet.*such as '.*/\*.parquet'",
  ),
  "a table that is a pointer": (
    {"metadata.csv": "version https://git-lfs.github.com/spec/v1\noid\n"},
    "in/metadata.csv is a Git LFS pointer",
  ),
  "tables of splits": (
    {"t/train-0.csv": "x", "t/val-0.csv": "x", "t/notes.csv": "x"},
    r"several splits, .*train-0.csv, t/val-0.csv: convert each by itself",
  ),
  "tables below": (
    {f"d/t{i}.parquet": b"x" for i in range(2)},
    r"such as '.*/in/d/\*.parquet'",
  ),
  "archives": (
    {"a/0.tar": b"x", "a/1.tar": b"x", "stats.json": "[]", "s2.json": "[]"},
    r"archives in it, .* name them: '.*/in/a/\*.tar'",
  ),
  "save_to_disk": (
    {"data-00000-of-00001.arrow": b"x", "state.json": "{}", "i.json": "{}"},
    r"Arrow files, .*to_parquet\(",
  ),
  "two of metadata": (
    _pictures() | {"metadata.csv": "x", "metadata.jsonl": "{}"},
    "has metadata.csv and metadata.jsonl; keep one",
  ),
  "splits": (
    {"train/metadata.csv": "x", "test/metadata.csv": "x"},
    "several splits, test, train",
  ),
  "splits of captions": (
    {f"{s}/a.{e}": b"x" for s in ("train", "Val") for e in ("jfif", "txt")},
    "several splits, Val, train",
  ),
}


@pytest.mark.parametrize("name", FOLDER_MISTAKES)
def test_mistakes_of_a_folder_say_what_would_make_it_right(tmp_path, name):
  files, told = FOLDER_MISTAKES[name]
  path = _write(tmp_path / "in", files)
  with pytest.raises(job.ConversionError, match=told):
    job.run(_job(path, tmp_path / "out"))
  assert not (tmp_path / "out.partial").exists()


TABLE_MISTAKES = {
  "no head": ("a.png,a cat\n", r"begins with a row, .* such as image,caption"),
  "a column twice": ("image,text,text\n", "names the column text twice"),
  "wrong columns": (
    "photo,description\na.png,a cat\n",
    r"columns \['description', 'photo'\].*perhaps --columns "
    "image=photo,caption=description",
  ),
  "UTF-16": ("image,text\n".encode("utf-16"), "UTF-16 or UTF-32; save it as"),
  "Latin-1 head": ("im\xe4ge,text\n".encode("latin-1"), "not UTF-8"),
  "no rows": ("image,caption\n", "has no rows"),
}


@pytest.mark.parametrize("name", TABLE_MISTAKES)
def test_mistakes_of_a_table(tmp_path, name):
  text, told = TABLE_MISTAKES[name]
  path = _write(tmp_path / "in", _pictures() | {"x.csv": text}) / "x.csv"
  with pytest.raises(job.ConversionError, match=told):
    job.run(_job(path, tmp_path / "out"))


def test_mistakes_in_rows_of_a_table(tmp_path):
  lines = [
    "image,caption,weight",
    "a.png,a cat,1",
    "a.png,a cat, black,1",  # a comma without quotes
    'a.png,"a "fat" cat",1',  # quotes that are not doubled
    "a.png,B\xe4r,1",
    "a.png,heavy,much",
    "lost.png,a cat,1",
    "a.png,,1",
    'a.png,"never closed,1',
    "a.png,swallowed,1",
  ]
  text = "\n".join(lines).encode("latin-1") + b"\n"
  path = _write(tmp_path, _pictures() | {"x.csv": text}) / "x.csv"
  _converted(path, tmp_path / "out", max_rejected=1.0)
  notes = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
  reasons = {json.loads(n)["where"][-2]: json.loads(n)["reason"] for n in notes}
  assert "4 cells for the 3 columns" in reasons["1"]
  assert "written twice" in reasons["2"]
  assert "not UTF-8 (byte 0xe4)" in reasons["3"]
  assert "could not convert string to float: 'much'" in reasons["4"]
  assert "no such picture 'lost.png'" in reasons["5"]
  assert "empty" in reasons["6"]
  assert 'quote (") that is not closed' in reasons["7"]
  assert len(notes) == 7


def test_pictures_that_no_row_of_metadata_names(tmp_path):
  files = FOLDERS["metadata.csv"] | {"x.png": b"p", "c/y.png": b"q"}
  path = _write(tmp_path / "in", files)
  for source in (path, _zipped(path)):
    bad = _bad(source)
    assert set(bad) == {"x.png", "y.png"}
    assert bad["x.png"] == "no row of metadata.csv names this picture"


def test_zips_that_are_not_to_be_trusted(tmp_path):
  path = tmp_path / "x.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
    out.writestr("a.png", PICTURES["a"])
    out.writestr("a.txt", "a cat")
    out.writestr("b.txt", "x" * (17 * 2**20))
    out.writestr("b.png", PICTURES["b"])
    link = zipfile.ZipInfo("c.txt")
    link.external_attr = 0o120777 << 16
    out.writestr(link, "/etc/passwd")
  bad = _bad(path)
  assert "above the" in bad["b"] and "a link" in bad["c.txt"]
  table = (
    _write(tmp_path, {"in/x.csv": "image,text\n../../etc/x.png,t\n"}) / "in"
  )
  _write(table, _pictures())
  with pytest.raises(job.TooManyRejected, match="is outside of"):
    job.run(_job(_zipped(table), tmp_path / "out"))
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(job.ConversionError, match="no zip archive, or damaged"):
    job.run(_job(path, tmp_path / "two"))
