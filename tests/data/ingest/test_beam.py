"""A conversion on Beam's DirectRunner equals one in this process."""

import dataclasses

import pytest

from emma_jax.cli import common, data
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.ingest import part
from tests.data import made

CAPTIONS = [{"image": "a.png", "caption": f"no {i}"} for i in range(20)]


def _job(folder, out: str, **more) -> job_lib.Job:
  path = folder / "rows.jsonl"
  if not path.exists():
    (folder / "a.png").write_bytes(made.noise())
    rows = [dict(row) for row in CAPTIONS]
    rows[3]["image"], rows[7]["caption"] = "lost.png", " "
    made.jsonl(path, *rows)
  return job_lib.Job(
    inputs=[str(path)],
    out=str(folder / out),
    rows_per_shard=6,
    maker=part.Recipe(form="", tokenizer=made.TOKENIZER, dataset="same"),
    workers=0,
    **more,
  )


def _files(folder) -> dict[str, bytes]:
  return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def direct():
  pytest.importorskip("apache_beam", reason="needs the extra prep")
  from emma_jax.data.ingest import beam

  return beam.Execute(("--runner=DirectRunner",))


def test_the_same_bytes(tmp_path, direct):
  job_lib.run(_job(tmp_path, "one"))
  states = []
  card = job_lib.run(_job(tmp_path, "two", execute=direct), states.append)
  assert _files(tmp_path / "one") == _files(tmp_path / "two")
  assert card.rejected == 2 and states[-1][:4] == (4, 4, 20, 2)


def test_what_was_done_is_taken_up(tmp_path, direct, monkeypatch):
  """A run in processes, interrupted, goes on with Beam."""
  job_lib.run(_job(tmp_path, "whole"))
  job, real, calls = _job(tmp_path, "out"), part.convert, []

  def stop_at_third(a_part, *arguments):
    calls.append(a_part.first)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return real(a_part, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(job_lib.part_lib, "convert", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
      job_lib.run(job)
  kept = {
    p.name: p.stat().st_ino
    for p in (tmp_path / "out.partial").glob("*.array_record")
  }
  assert len(kept) == 2
  job_lib.run(dataclasses.replace(job, execute=direct))
  assert _files(tmp_path / "whole") == _files(tmp_path / "out")
  assert all(
    (tmp_path / "out" / name).stat().st_ino == inode
    for name, inode in kept.items()
  )


def test_the_fuse_and_constructions_work_there_too(tmp_path, direct):
  from emma_jax.data.curation import duplicates

  folder = made.dataset(tmp_path / "set", [*made.samples(), *made.samples()])
  maker = duplicates.Dedup(base=part.Recipe(form="", tokenizer=made.TOKENIZER))
  for out, more in (("a", {}), ("b", {"execute": direct})):
    job_lib.run(
      job_lib.Job(
        inputs=[f"records:{folder}"],
        out=str(tmp_path / out),
        workers=0,
        rows_per_shard=2,
        maker=maker,
        **more,
      )
    )
  a, b = _files(tmp_path / "a"), _files(tmp_path / "b")
  shards = [name for name in a if name.startswith("part")]
  assert shards and all(a[name] == b[name] for name in shards)
  rows = [{"image": "lost.png", "caption": "c"}] * 300
  path = made.jsonl(tmp_path / "bad.jsonl", *rows)
  job = dataclasses.replace(
    _job(tmp_path, "bad", execute=direct), inputs=[str(path)]
  )
  with pytest.raises(job_lib.ConversionError, match="rows are rejected"):
    job_lib.run(job)


def test_the_command(tmp_path, direct, capsys):
  _job(tmp_path, "x")
  argv = [
    "convert",
    str(tmp_path / "rows.jsonl"),
    "--out",
    str(tmp_path / "out"),
    "--beam=--runner=DirectRunner",
  ]
  assert common.run(data.main, argv) == 0
  assert "18 drawing" in capsys.readouterr().out


def test_without_beam_it_says_what_to_install(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
  _job(tmp_path, "x")
  argv = [
    "convert",
    str(tmp_path / "rows.jsonl"),
    "--out",
    str(tmp_path / "out"),
    "--beam",
    "",
  ]
  assert common.run(data.main, argv) == 2
  assert "extra `prep`" in capsys.readouterr().err
