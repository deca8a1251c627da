"""Small sets and jobs for the tests of constructions."""

import json
from pathlib import Path
from typing import Any

from emma_jax.data.curation import base, filters
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.ingest import part
from emma_jax.data.records import schema
from emma_jax.data.records.source import RecordsSource
from tests.data import made


def recipe(**more: Any) -> part.Recipe:
  return part.Recipe(form="", tokenizer=made.TOKENIZER, **more)


def run(maker: base.Construction, *inputs: Any, out: Path, **more: Any):
  """Constructs; (the new set as a list, its card)."""
  card = job_lib.run(
    job_lib.Job(
      inputs=[f"records:{i}" if Path(i).is_dir() else str(i) for i in inputs],
      out=str(out),
      maker=maker,
      **{"workers": 0, "rows_per_shard": 3} | more,
    )
  )
  return read(out), card


def read(folder: Path) -> list[schema.Stored]:
  source = RecordsSource(str(folder))
  return [source.stored_row(i) for i in range(source.card.records)]


def ids(stored: list[schema.Stored]) -> list[str]:
  return [one.record.id for one in stored]


def notes(folder: Path) -> list[dict[str, Any]]:
  lines = (folder / "rejected.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def scores(path: Path, **values: Any) -> filters.ScoreRule:
  """A rule "score" of a file that gives these scores by id."""
  from emma_jax.data.curation import answers

  made.jsonl(path, *({"id": k, "score": v} for k, v in values.items()))
  return filters.ScoreRule(
    name="score", answers=answers.Precomputed(path=str(path))
  )
