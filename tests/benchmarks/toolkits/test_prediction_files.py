"""VLMEvalKit's files hold its own table and our answers, and score the same."""

import csv
import datetime
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.data.tables import Tsv
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.toolkits import prediction_files
from tests.benchmarks.toolkits import made
from tests.laws import laws

pytestmark = pytest.mark.smoke
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
HEAD = ("index", "question", "A", "B", "answer", "category", "l2_category")
ROWS = [
  ("1", 'which "one"?', "None", "red", "B", "a", "x"),
  ("2", "which\ttwo?", "blue", "NA", "A", "a", "y"),
  ("3", "is it?\nso", "007", "1.5", "A", "b", "y"),
]
ANSWERS = {"1": "B. red", "2": "The answer is\tA\r\n", "3": '"quoted"'}


def mmstar(tmp_path, answers=ANSWERS, **section):
  source = made.tsv(tmp_path, "MMStar", "mmstar", HEAD, *ROWS)
  return made.predicted(tmp_path, "mmstar", source, answers, **section)


def write(tmp_path, *sets, kind="tsv") -> list[str]:
  return prediction_files.write(
    sets, str(tmp_path / "out"), model="emma", kind=kind, now=NOW
  )


def columns(path: str) -> tuple[list[str], list[dict[str, str]]]:
  with open(path, encoding="utf-8", newline="") as file:
    head, *rows = csv.reader(file, delimiter="\t")
  return head, [dict(zip(head, row, strict=True)) for row in rows]


def test_a_file_is_where_vlmevalkit_looks_for_it(tmp_path):
  (path,) = write(tmp_path, mmstar(tmp_path))
  expected = "out/emma/T20260102-030405/emma_MMStar.tsv"
  assert path == str(tmp_path / expected)
  command = prediction_files.command("out", "emma", "tsv", [path])
  assert command.startswith("PRED_FORMAT=tsv python run.py --data MMStar --")


def test_it_holds_the_table_without_pictures_and_the_answers(tmp_path):
  (path,) = write(tmp_path, mmstar(tmp_path))
  head, rows = columns(path)
  assert head == [*HEAD, "prediction"]
  for row, given_row in zip(rows, ROWS, strict=True):
    assert tuple(row[name] for name in HEAD) == given_row
    assert row["prediction"] == ANSWERS[row["index"]]
  assert Tsv(path).column("prediction") == list(ANSWERS.values())


def test_the_answers_of_the_file_score_the_same(tmp_path):
  one = mmstar(tmp_path)
  (path,) = write(tmp_path, one)
  back = {row["index"]: row["prediction"] for row in columns(path)[1]}
  scores = made.scores(one)
  assert made.scores(mmstar(tmp_path, back)) == scores
  assert set(scores["vlmevalkit"]) == {0.0, 1.0}


TEXTS = st.text(st.sampled_from('aA1=.,"\t\n\r None世'), max_size=9)


@laws(30)
@given(st.tuples(TEXTS, TEXTS, TEXTS))
def test_any_answer_comes_back(tmp_path_factory, texts):
  root = tmp_path_factory.mktemp("law")
  answers = dict(zip("123", texts))
  (path,) = write(root, mmstar(root, answers))
  assert [row["prediction"] for row in columns(path)[1]] == list(texts)


def test_failures_are_an_errors_text(tmp_path):
  crashed = made.prediction("2", status="crashed", error="too long")
  (path,) = write(tmp_path, mmstar(tmp_path, ANSWERS | {"2": crashed, "3": ""}))
  found = [row["prediction"] for row in columns(path)[1]]
  assert found == ["B. red", "[error: crashed]", ""]


def test_splits_of_one_table_are_one_file(tmp_path):
  head = ("index", "question", "A", "B", "answer", "split")
  rows = [("1", "a", "x", "y", "A", "dev")]
  rows += [("2", "b", "x", "y", "B", "validation")]
  sets = []
  for split, answers in (("val", {"2": "B"}), ("dev", {"1": "A"})):
    source = made.tsv(tmp_path, "MMMU_DEV_VAL", "mmmu", head, *rows)
    source = made.folder.open_set(str(tmp_path), "mmmu", split)
    sets.append(made.predicted(tmp_path, "mmmu", source, answers, split=split))
  (path,) = write(tmp_path, *sets)
  assert [row["prediction"] for row in columns(path)[1]] == ["A", "B"]
  with pytest.raises(BadRun, match=r"MMMU_DEV_VAL.tsv: 1 of 2 .* missing: 1"):
    write(tmp_path, sets[0])


def test_what_is_missing_or_of_other_data_is_refused(tmp_path):
  with pytest.raises(BadRun, match=r"2 of 3 predictions are missing: 1, 3\."):
    write(tmp_path, mmstar(tmp_path, {"2": "A"}))
  other = made.predicted(
    tmp_path, "mmstar", made.lines("mmstar", made.item("1")), {"1": "A"}
  )
  with pytest.raises(BadRun, match="its own TSV file"):
    write(tmp_path, other)
  with pytest.raises(BadRun, match="2 answers to each"):
    write(tmp_path, mmstar(tmp_path, repeats=2))
  assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ workbooks


def workbook(path: str) -> list[list]:
  openpyxl = pytest.importorskip("openpyxl", reason="needs openpyxl")
  book = openpyxl.load_workbook(path, read_only=True)
  rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
  book.close()
  return rows


def test_a_workbook_holds_the_same(tmp_path):
  pytest.importorskip("openpyxl", reason="needs openpyxl")
  answers = {"1": "B. red", "2": "=1+1", "3": "7"}
  (path,) = write(tmp_path, mmstar(tmp_path, answers), kind="xlsx")
  head, *rows = workbook(path)
  assert head == [*HEAD, "prediction"]
  assert rows[0] == [1, *ROWS[0][1:], "B. red"]
  assert [row[0] for row in rows] == [1, 2, 3]  # numbers, as pandas has them
  assert [row[-1] for row in rows] == ["B. red", "=1+1", "7"]


def test_pandas_reads_both_as_it_reads_the_table(tmp_path):
  pandas = pytest.importorskip("pandas", reason="needs pandas")
  pytest.importorskip("openpyxl", reason="needs openpyxl")
  one = mmstar(tmp_path, {"1": "B", "2": "A\tx", "3": "c"})
  table = pandas.read_csv(tmp_path / "MMStar.tsv", sep="\t").drop(
    columns="image"
  )
  for kind, read in (
    ("tsv", lambda path: pandas.read_csv(path, sep="\t")),
    ("xlsx", pandas.read_excel),
  ):
    (path,) = write(tmp_path, one, kind=kind)
    found = read(path)
    assert found["prediction"].tolist() == ["B", "A\tx", "c"]
    pandas.testing.assert_frame_equal(found.drop(columns="prediction"), table)


def test_a_workbook_cuts_nothing(tmp_path):
  pytest.importorskip("openpyxl", reason="needs openpyxl")
  long = "a" * (prediction_files.CELL + 1)
  plain = {"1": "a", "2": "b", "3": "c"}
  with pytest.raises(BadRun, match="has 32,768 characters, a cell of xlsx"):
    write(tmp_path, mmstar(tmp_path, plain | {"1": long}), kind="xlsx")
  for wrong in ("a\x07", "a\r\n"):
    with pytest.raises(BadRun, match="character that xlsx does not have"):
      write(tmp_path, mmstar(tmp_path, plain | {"2": wrong}), kind="xlsx")
  assert not list((tmp_path / "out").rglob("*.xlsx"))
  (path,) = write(tmp_path, mmstar(tmp_path, ANSWERS | {"1": long}))
  assert columns(path)[1][0]["prediction"] == long


def test_without_openpyxl_it_says_what_helps(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "openpyxl", None)
  with pytest.raises(ImportError, match="PRED_FORMAT=tsv"):
    write(tmp_path, mmstar(tmp_path), kind="xlsx")
