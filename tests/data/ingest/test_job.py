"""Conversions: equal however they run, and whole or not there."""

import dataclasses
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from PIL import Image
import pytest

from emma_jax import locks
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.ingest import part
from emma_jax.data.loading import sources
from emma_jax.data.loading.sources import JsonlSource
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.data.records.source import RecordsSource
from tests.data import made


def _input(folder: Path, count: int = 20) -> str:
  """Captions in lines; line 4 has no picture, line 8 no caption."""
  (folder / "a.png").write_bytes(made.noise())
  rows = [{"image": "a.png", "caption": f"no {i}"} for i in range(count)]
  rows[3]["image"], rows[7]["caption"] = "lost.png", " "
  return str(made.jsonl(folder / "rows.jsonl", *rows))


def _job(folder: Path, out: str = "out", **more) -> job_lib.Job:
  return job_lib.Job(
    inputs=[_input(folder)],
    out=str(folder / out),
    rows_per_shard=6,
    maker=part.Recipe(form="", tokenizer=made.TOKENIZER),
    **{"workers": 0} | more,
  )


def _files(folder: Path) -> dict[str, bytes]:
  return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("workers, requests", [(0, 5), (2, 4)])
def test_rows_made_at_a_time_change_nothing(tmp_path, workers, requests):
  """Makers that wait for servers run in threads; the bytes are the same."""
  job_lib.run(_job(tmp_path, "one"))
  job_lib.run(_job(tmp_path, "many", workers=workers, requests=requests))
  one, many = (_files(tmp_path / name) for name in ("one", "many"))
  same = [n for n in one if n not in ("README.md", "dataset.json")]
  assert {n: one[n] for n in same} == {n: many[n] for n in same}
  cards = [json.loads(f["dataset.json"]) for f in (one, many)]
  assert cards[0] | {"name": ""} == cards[1] | {"name": ""}


def test_a_conversion_accounts_for_every_row(tmp_path):
  states = []
  card = job_lib.run(_job(tmp_path), states.append)
  source = RecordsSource(str(tmp_path / "out"))
  assert len(source) == card.records == 18 and card.rejected == 2
  assert [source[i].prompt for i in range(4)] == [
    "no 0",
    "no 1",
    "no 2",
    "no 4",
  ]
  assert source.stored(0).provenance["row"].endswith("rows.jsonl:1")
  notes = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
  assert [json.loads(n)["where"].split(":")[-1] for n in notes] == ["4", "8"]
  assert "no such picture 'lost.png'" in notes[0] and "empty" in notes[1]
  assert states[-1][:4] == (4, 4, 20, 2) and states[-1].rows_known == 20
  assert not (tmp_path / "out.partial").exists()
  assert not (tmp_path / "out" / ".work").exists()
  with pytest.raises(job_lib.ConversionError, match="exists"):
    job_lib.run(_job(tmp_path))


def test_edits_of_too_many_sources_are_left_out_and_counted(tmp_path):
  """X2I2 with 0, 1, 2 and 9 inputs: a drawing, two edits, and one left out."""
  (tmp_path / "a.png").write_bytes(made.noise())
  rows = [
    {"instruction": f"do {n}", "input_images": ["a.png"] * n}
    | {"output_image": "a.png", "id": f"{n}"}
    for n in (0, 1, 2, 9)
  ]
  path = str(made.jsonl(tmp_path / "rows.jsonl", *rows))
  recipe = part.Recipe(form="", tokenizer=made.TOKENIZER, max_sources=8)
  job = job_lib.Job(
    inputs=[path], out=str(tmp_path / "out"), maker=recipe, workers=0
  )
  card = job_lib.run(job)
  assert card.rejected == 0 and card.provenance["left out"] == {"sources": 1}
  assert card.tasks == {"drawing": 1, "editing": 2}
  (note,) = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
  assert json.loads(note) == {
    "where": f"{path}:4",
    "reason": "9 sources of an edit, 8 are the most; raise --max-sources",
    "left_out": "sources",
  }
  source = RecordsSource(str(tmp_path / "out"))
  assert [len(source[i].sources) for i in (1, 2)] == [1, 2]
  assert source.lengths.pictures.tolist() == [1, 2, 3]
  # Two marks a picture more; their tokens are a run's.
  tokens = source.lengths.text_tokens()
  assert tokens[2] - tokens[1] == 2
  # A limit is the conversion's: what is made of records keeps them all.
  again = dataclasses.replace(
    job, inputs=[f"records:{tmp_path / 'out'}"], out=str(tmp_path / "again")
  )
  again = dataclasses.replace(
    again, maker=dataclasses.replace(recipe, max_sources=None)
  )
  assert job_lib.run(again).tasks == card.tasks


def test_workers_change_nothing(tmp_path):
  job_lib.run(_job(tmp_path, "one"))
  job_lib.run(_job(tmp_path, "two", workers=2))
  one, two = _files(tmp_path / "one"), _files(tmp_path / "two")
  for name in ("README.md", "dataset.json"):  # they tell the folder's name
    one[name] = one[name].replace(b'"one"', b'"two"')
    one[name] = one[name].replace(b"# one", b"# two")
  assert one == two


def test_what_was_done_is_not_done_again(tmp_path, monkeypatch):
  reference = _job(tmp_path, "whole")
  job_lib.run(reference)
  job = _job(tmp_path)
  real, calls = part.convert, []

  def stop_at_third(a_part, *arguments):
    calls.append(a_part.first)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return real(a_part, *arguments)

  monkeypatch.setattr(job_lib.part_lib, "convert", stop_at_third)
  with pytest.raises(KeyboardInterrupt):
    job_lib.run(job)
  assert not (tmp_path / "out").exists()
  with pytest.raises(job_lib.ConversionError, match="other inputs or options"):
    other = dataclasses.replace(job.maker, weight=2.0)
    job_lib.run(dataclasses.replace(job, maker=other))
  job_lib.run(job)
  assert calls == [0, 6, 12, 12, 18]
  whole, out = _files(tmp_path / "whole"), _files(tmp_path / "out")
  assert {k: v for k, v in whole.items() if "part" in k} == {
    k: v for k, v in out.items() if "part" in k
  }


def test_rows_that_were_rejected_before_count_too(tmp_path, monkeypatch):
  """Two of the first twelve, and two of the next six after a stop."""
  job = _job(tmp_path)
  rows = [
    {
      "image": "a.png" if i not in (3, 7, 12, 13) else "lost.png",
      "caption": f"no {i}",
    }
    for i in range(20)
  ]
  made.jsonl(tmp_path / "rows.jsonl", *rows)
  monkeypatch.setattr(job_lib, "_MIN_SEEN", 1)
  real = part.convert

  def stop_at_12(a_part, *arguments):
    if a_part.first == 12:
      raise KeyboardInterrupt
    return real(a_part, *arguments)

  with monkeypatch.context() as stopping:
    stopping.setattr(job_lib.part_lib, "convert", stop_at_12)
    with pytest.raises(KeyboardInterrupt):
      job_lib.run(job)
  with pytest.raises(job_lib.ConversionError, match="4 of 18 rows are rej"):
    job_lib.run(job)


PROGRAM = """
import sys, time
from emma_jax.data.ingest import part
from emma_jax.data.pictures.images import load_picture
real = part.size_of
def slow(*arguments):
  time.sleep(0.05)
  return real(*arguments)
part.size_of = slow
from emma_jax.cli import common, data
sys.exit(common.run(data.main, sys.argv[1:]))
"""


def test_kill_9_in_the_middle(tmp_path, repo):
  """What is left is taken up; no shard is half, none is twice."""
  rows = _input(tmp_path, 40)
  command = [
    "convert",
    rows,
    "--out",
    str(tmp_path / "out"),
    "--rows-per-shard",
    "10",
    "--workers",
    "0",
  ]
  work = tmp_path / "out.partial" / ".work"
  command = [sys.executable, "-c", PROGRAM, *command]
  running = subprocess.Popen(command, cwd=repo)
  for _ in range(1200):
    if len(list(work.glob("done-*.json"))) >= 2 or running.poll() is not None:
      break
    time.sleep(0.05)
  os.kill(running.pid, signal.SIGKILL)
  running.wait()
  assert not (tmp_path / "out").exists()
  kept = {p: p.stat().st_mtime_ns for p in work.glob("done-*.json")}
  assert 2 <= len(kept) < 4
  inodes = {
    i: (work.parent / f"part-{i:05d}.array_record").stat().st_ino
    for i in range(len(kept))
  }
  subprocess.run(command, cwd=repo, check=True)
  out = tmp_path / "out"
  source = RecordsSource(str(out))
  wanted = [f"no {i}" for i in range(40) if i not in (3, 7)]
  assert [source[i].prompt for i in range(len(source))] == wanted
  assert not list(out.glob("*.tmp"))
  assert all(
    (out / f"part-{i:05d}.array_record").stat().st_ino == node
    for i, node in inodes.items()
  )


def test_two_at_once_are_refused(tmp_path):
  work = tmp_path / "out.partial" / ".work"
  other = locks.FolderLock(work, "emma-data")
  with pytest.raises(locks.InUse, match="in use by emma-data"):
    job_lib.run(_job(tmp_path))
  other.release()


def test_a_hopeless_input_stops_early(tmp_path, monkeypatch):
  rows = [{"image": "lost.png", "caption": "c"}] * 300
  path = made.jsonl(tmp_path / "rows.jsonl", *rows)
  recipe = part.Recipe(form="", tokenizer=made.TOKENIZER)
  job = job_lib.Job(
    inputs=[str(path)], out=str(tmp_path / "out"), maker=recipe, workers=0
  )
  with pytest.raises(job_lib.ConversionError, match="rows are rejected"):
    job_lib.run(job)
  few = made.jsonl(tmp_path / "few.jsonl", *rows[:3])
  job = job_lib.Job(
    inputs=[str(few)], out=str(tmp_path / "few"), maker=recipe, workers=0
  )
  with pytest.raises(job_lib.TooManyRejected, match="3 of 3 rows.*lost.png"):
    job_lib.run(job)
  none = made.jsonl(tmp_path / "none.jsonl", {"a": 1})
  job = job_lib.Job(
    inputs=[str(none)], out=str(tmp_path / "none"), maker=recipe, workers=0
  )
  with pytest.raises(job_lib.ConversionError, match=r"columns \['a'\]"):
    job_lib.run(job)


@pytest.mark.parametrize(
  "value, reason",
  [
    (None, "not a picture"),
    ("", "not a picture"),
    (5, "not a picture"),
    ("lost.png", "no such"),
    ("a\0b", "no such"),
    ("/dev/zero", "no such"),
    ({"bytes": None, "path": None}, "not a picture"),
    (Image.new("RGB", (9, 9)), r"decoded already; .*Image\(decode=False\)"),
    ("empty.png", "zero bytes"),
  ],
)
def test_values_that_are_no_pictures(tmp_path, value, reason: str):
  (tmp_path / "empty.png").write_bytes(b"")
  with pytest.raises(BadRecord, match=reason):
    part.encoded(value, "image", "here", str(tmp_path))


def test_pictures_in_every_form(tmp_path):
  data = made.noise()
  (tmp_path / "a.png").write_bytes(data)
  for value in (
    data,
    bytearray(data),
    "a.png",
    {"bytes": data, "path": None},
    {"bytes": None, "path": "a.png"},
  ):
    assert part.encoded(value, "image", "here", str(tmp_path)) == data


# ------------------------------------------------------- what is said of rows


def _convert(path: Path, **more) -> job_lib.Job:
  recipe = part.Recipe(
    form="", tokenizer=made.TOKENIZER, **more.pop("recipe", {})
  )
  more = {"out": str(path.parent / "set")} | more
  return job_lib.Job(inputs=[str(path)], maker=recipe, workers=0, **more)


def test_the_share_of_rejected_rows_holds_at_the_end(tmp_path):
  """33 of 46 are too few to end it early; the first two reasons are told."""
  (tmp_path / "a.png").write_bytes(made.picture())
  good = {"image": "a.png", "caption": "red"}
  bad = [{**good, "image": f"lost{i}.png"} for i in range(33)]
  path = made.jsonl(tmp_path / "a.jsonl", *[good] * 13, *bad)
  with pytest.raises(job_lib.TooManyRejected, match="33 of 46 rows") as error:
    job_lib.run(_convert(path))
  assert "lost0" in str(error.value) and "lost1" in str(error.value)
  assert "lost2" not in str(error.value) and not (tmp_path / "set").exists()
  # What is done is kept: a larger share takes it as it is.
  card = job_lib.run(_convert(path, max_rejected=0.75))
  assert (card.records, card.rejected) == (13, 33)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_one(tmp_path, share):
  path = made.jsonl(tmp_path / "a.jsonl", {})
  with pytest.raises(job_lib.ConversionError, match="no share"):
    _convert(path, max_rejected=share)


@pytest.mark.parametrize(
  "name, data, words",
  [
    ("a.jsonl", b"{broken", "a.jsonl:1: no JSON"),
    ("a.jsonl", b"", "has no rows"),
    ("a.jsonl", b"\n \n", "has no rows"),
    ("a.json", b"", "has no rows"),
    ("a.json", b"[]", "has no rows"),
    ("a.json", b"[{]", "no JSON"),
    ("a.tar", b"this is no tar", "no tar"),
    ("a.tar", b"", "no tar: empty file"),
    ("a.tar", bytes(10240), "has no rows"),
    ("a.tar.gz", b"\x1f\x8b nothing", "the archive is damaged"),
    ("a.parquet", b"", "no Parquet file"),
    ("a.parquet", b"PAR1PAR1", "no Parquet file"),
    ("a.jsonl", '{"image": "a"}'.encode("utf-16"), "UTF-16"),
    ("a.jsonl", '{"image": "a"}'.encode("utf-16-be"), "UTF-16"),
    ("a.json", '[{"image": "a"}]'.encode("utf-16-le"), "UTF-16"),
    ("a.jsonl", b'{"image": "a"}\r{"image": "b"}\r', "CR alone"),
  ],
)
def test_a_file_without_rows_says_why(tmp_path, name, data, words):
  if name.endswith("parquet"):
    pytest.importorskip("pyarrow")
  path = tmp_path / name
  path.write_bytes(data)
  with pytest.raises(job_lib.ConversionError, match=words) as error:
    job_lib.run(_convert(path))
  assert "columns []" not in str(error.value)


def test_paths_do_not_leave_the_folder(tmp_path):
  """By dots, as absolute ones, or through links; refused and counted."""
  folder = tmp_path / "set"
  (folder / "deep").mkdir(parents=True)
  (tmp_path / "out.png").write_bytes(made.picture("blue"))
  (folder / "in.png").write_bytes(made.picture())
  (folder / "link.png").symlink_to(tmp_path / "out.png")
  (folder / "up").symlink_to(tmp_path)
  (folder / "own.png").symlink_to(folder / "in.png")
  inside = ["in.png", "deep/../in.png", "own.png", str(folder / "in.png")]
  outside = ["../out.png", str(tmp_path / "out.png"), "link.png", "up/out.png"]
  rows = [{"image": p, "caption": "c"} for p in (*inside, *outside)]
  path = made.jsonl(folder / "a.jsonl", *rows)
  card = job_lib.run(_convert(path, max_rejected=0.5, out=str(tmp_path / "1")))
  assert (card.records, card.rejected) == (4, 4)
  assert card.provenance["outside"] == 4
  notes = (tmp_path / "1" / "rejected.jsonl").read_text()
  assert notes.count("--allow-outside") == 4
  source = JsonlSource(str(path))
  for i, row in enumerate(rows):
    if row["image"] in inside:
      assert source[i].picture == str(folder / row["image"])
    else:
      with pytest.raises(BadRecord, match="jsonl-outside"):
        source[i]
  open_ = _convert(path, recipe={"allow_outside": True})
  card = job_lib.run(dataclasses.replace(open_, out=str(tmp_path / "2")))
  assert card.records == 8 and "outside" not in card.provenance
  assert (
    len(
      list(
        map(sources.open_source(f"jsonl-outside:{path}").__getitem__, range(8))
      )
    )
    == 8
  )


def test_numbers_that_are_none_stay_out_of_headers(tmp_path):
  (tmp_path / "a.png").write_bytes(made.picture())
  text = '{"image": "a.png", "caption": "c", "s": %s, "t": 1.5}'
  lines = [text % v for v in ("NaN", "Infinity", "-Infinity", "1e999", "2.5")]
  path = made.jsonl(tmp_path / "a.jsonl", *lines)
  job_lib.run(_convert(path, recipe={"keep": ("s", "t")}))
  source = RecordsSource(str(tmp_path / "set"))
  kept = [source.stored(i).provenance for i in range(5)]
  assert [p.get("s") for p in kept] == [None] * 4 + [2.5]
  assert all(p["t"] == 1.5 for p in kept)
  stored = source.stored(0)
  for value in (float("nan"), float("inf")):
    bad = dataclasses.replace(stored, provenance={"a": {"b": [value]}})
    with pytest.raises(BadRecord, match="no JSON can be made"):
      schema.encode(bad)
