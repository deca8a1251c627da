"""`emma-benchmark export`: from a run's folder to files that others take."""

import csv
import json
import shutil

import pytest

from configs.benchmarks import defaults
from emma_jax.benchmarks import folders, records, runs
from emma_jax.benchmarks.data import folder
from emma_jax.cli import benchmark
from tests import programs
from tests.benchmarks.toolkits import made

pytestmark = pytest.mark.smoke
HEAD = ("index", "question", "answer", "split")
ROWS = [(str(n), f"how many {n}?", str(n), "test_human") for n in range(3)]


@pytest.fixture
def run(tmp_path):
  """A run of ChartQA and MM-Vet, predicted by nobody in particular."""
  made.tsv(tmp_path, "ChartQA_TEST", "chartqa", HEAD, *ROWS)
  made.tsv(
    tmp_path,
    "MMVet",
    "mmvet",
    ("index", "question", "answer"),
    *[row[:3] for row in ROWS],
  )
  config = defaults.base()
  config.data = str(tmp_path)
  for name in ("chartqa", "mmvet"):
    config.sets[name] = defaults.a_set()
  out = str(tmp_path / "run")
  begun = runs.make_run(config.to_dict(), out)
  runs.begin(begun, {"weights": "w"})
  for one in begun.sets:
    source = folder.open_set(str(tmp_path), one.benchmark.name)
    place = folders.SetFolder(out, one.name)
    decides = one.asked()
    place.note(one, decides, source)
    with records.Appender(place.part(0)) as file:
      file.add(
        made.prediction(row[0], text=row[0], settings=records.digest(decides))
        for row in ROWS
      )
  return out


def export(run, tmp_path, *arguments) -> int:
  dest = ("--dest", str(tmp_path / "dest"))
  return benchmark.main(["export", run, *dest, *arguments])


def test_predictions_become_vlmevalkits_files(run, tmp_path, capsys):
  assert export(run, tmp_path, "--to", "vlmevalkit", "--model", "m") == 0
  first, second, command = capsys.readouterr().out.splitlines()
  assert "--data ChartQA_TEST MMVet --model m" in command
  assert first.endswith("m_ChartQA_TEST.tsv") and second.endswith("m_MMVet.tsv")
  with open(first, encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  assert [row["prediction"] for row in rows] == ["0", "1", "2"]


def test_a_target_takes_what_it_knows(run, tmp_path, capsys):
  assert export(run, tmp_path, "--to", "rrc") == 2
  assert "--to rrc takes no chartqa, mmvet" in capsys.readouterr().err
  chosen = ("--to", "mmvet", "--sets", "chartqa,mmvet")
  assert export(run, tmp_path, *chosen) == 2
  assert "--to mmvet takes no chartqa" in capsys.readouterr().err
  # Of MM-Vet there are 3 of 218 rows, which a server would not notice.
  assert export(run, tmp_path, "--to", "mmvet") == 2
  assert "has 3 of 218 rows" in capsys.readouterr().err
  # Rows of VLMEvalKit's table are none of lmms-eval's.
  assert export(run, tmp_path, "--to", "lmms") == 2
  assert "was read from tsv" in capsys.readouterr().err
  assert not (tmp_path / "dest").exists()


def test_answers_for_lmms_eval_are_by_its_rows(run, tmp_path, capsys):
  pa = pytest.importorskip("pyarrow", reason="needs the extra data")
  import pyarrow.parquet

  place = tmp_path / "hub" / "chartqa" / "data"
  place.mkdir(parents=True)
  rows = [
    {"type": "human_test", "question": q, "answer": a, "image": b"x"}
    for _, q, a, _ in ROWS
  ]
  pyarrow.parquet.write_table(
    pa.Table.from_pylist(rows), place / "test-0.parquet"
  )
  chosen = ("--sets", "chartqa", "--data", str(tmp_path / "hub"))
  assert export(run, tmp_path, "--to", "lmms", *chosen) == 0
  path, command = capsys.readouterr().out.splitlines()
  assert "--tasks chartqa --model_args replies=" in command
  with open(path, encoding="utf-8") as file:
    found = [json.loads(line) for line in file]
  assert found == [
    {"doc_id": n, "question": q, "response": str(n)}
    for n, (_, q, _, _) in enumerate(ROWS)
  ]


def test_predictions_of_other_settings_are_refused(run, tmp_path, capsys):
  more = ("--config.sets.chartqa.max_tokens=9", "--sets", "chartqa")
  assert export(run, tmp_path, "--to", "vlmevalkit", *more) == 2
  assert "made with other settings" in capsys.readouterr().err
  assert export(str(tmp_path / "none"), tmp_path, "--to", "rrc") == 2
  assert "run.json is not there" in capsys.readouterr().err


def test_no_jax_is_needed():
  """Nor what a toolkit brings along."""
  names = ("export", "lmms_eval", "vlmevalkit", "likelihood", "replies")
  program = f"""
import importlib
for name in {names}:
  importlib.import_module("emma_jax.benchmarks.toolkits." + name)
"""
  found = programs.loaded(program)
  assert not found & {"jax", "flax", "torch", "pandas"}


def test_a_later_stage_takes_the_sets_that_were_predicted(
  run, tmp_path, capsys
):
  """Without --sets; the config has more, which this folder does not."""
  shutil.rmtree(folders.SetFolder(run, "mmvet").path)
  to = ("--to", "vlmevalkit", "--model", "m")
  assert export(run, tmp_path, *to) == 0
  said = capsys.readouterr().out
  assert "ChartQA_TEST" in said and "MMVet" not in said
  assert export(run, tmp_path / "other", *to, "--sets", "mmvet") == 2
  assert "mmvet" in capsys.readouterr().err
