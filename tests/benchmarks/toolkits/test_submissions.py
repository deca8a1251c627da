"""Files for servers: their form, nothing missing, and the same scores."""

import json

import pytest

from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.toolkits import submissions
from tests.benchmarks.toolkits import made

pytestmark = pytest.mark.smoke


def read(one, tmp_path, to):
  path = submissions.write(one, str(tmp_path / "out"), to)
  with open(path, encoding="utf-8") as file:
    return path, json.load(file)


def test_rrc_and_its_scores(tmp_path):
  items = [
    made.item("17", "total?", "12 €", "twelve"),
    made.item("9", "name?", "Anna", meta={"questionId": 90}),
    made.item("3", "year?", "1999"),
  ]
  answers = {"17": "12 €", "9": "Anne", "3": ""}
  one = made.predicted(
    tmp_path, "docvqa", made.lines("docvqa", *items), answers
  )
  path, found = read(one, tmp_path, "rrc")
  assert path.endswith("out/docvqa_val.json")
  assert found == [
    {"questionId": 17, "answer": "12 €"},
    {"questionId": 90, "answer": "Anne"},
    {"questionId": 3, "answer": ""},
  ]
  ids = {"90": "9"}
  back = {
    ids.get(str(x["questionId"]), str(x["questionId"])): x["answer"]
    for x in found
  }
  again = made.predicted(tmp_path, "docvqa", one.source, back)
  scores = made.scores(one)
  assert made.scores(again) == scores
  assert scores["vlmevalkit"] == [1.0, 0.75, 0.0]


MMMU = [
  made.item(
    "validation_Art_Theory_1",
    "Which?",
    "B",
    options={"A": "six", "B": "seven"},
    meta={"question_type": "multiple-choice"},
  ),
  made.item("validation_Math_7", "How many?", "36"),
  made.item("validation_Math_8", "Who?", "A", options={"A": "me", "B": "you"}),
]


def test_mmmu_and_its_scores(tmp_path):
  texts = ("The answer is (B).", "it is 36 watts", "nobody")
  answers = dict(zip((i.id for i in MMMU), texts))
  source = made.lines("mmmu", *MMMU)
  one = made.predicted(tmp_path, "mmmu", source, answers)
  _, found = read(one, tmp_path, "mmmu")
  assert found == {
    "validation_Art_Theory_1": "B",
    "validation_Math_7": "it is 36 watts",
    "validation_Math_8": "",
  }
  again = made.predicted(tmp_path, "mmmu", source, found)
  assert made.scores(again)["original"] == made.scores(one)["original"]
  drawn = made.predicted(
    tmp_path, "mmmu", source, answers, fallback="seeded_random"
  )
  _, guessed = read(drawn, tmp_path, "mmmu")
  assert guessed["validation_Math_8"] in ("A", "B")
  assert {k: v for k, v in guessed.items() if k != "validation_Math_8"} == {
    k: v for k, v in found.items() if k != "validation_Math_8"
  }


def test_mmvet(tmp_path):
  items = [made.item("v1_0", "what?", "x"), made.item("v1_1", "who?", "y")]
  answers = {"v1_0": "a\nb", "v1_1": "世"}
  one = made.predicted(tmp_path, "mmvet", made.lines("mmvet", *items), answers)
  _, found = read(one, tmp_path, "mmvet")
  assert found == answers


@pytest.mark.parametrize("to, name", [("rrc", "docvqa"), ("mmvet", "mmvet")])
def test_ids_that_are_a_toolkits_own_are_refused(tmp_path, to, name):
  items = [made.item("q-1")]
  one = made.predicted(tmp_path, name, made.lines(name, *items), {"q-1": "a"})
  with pytest.raises(BadRun, match="the benchmark's own id is needed"):
    read(one, tmp_path, to)
  table = made.lines(name, made.item("1"), kind="tsv")
  one = made.predicted(tmp_path, name, table, {"1": "a"})
  with pytest.raises(BadRun, match="is None"):
    read(one, tmp_path, to)


def test_every_question_has_an_answer(tmp_path):
  items = [made.item(str(n)) for n in range(9)]
  source = made.lines("docvqa", *items)
  one = made.predicted(tmp_path, "docvqa", source, {"4": "a"})
  with pytest.raises(BadRun, match=r"8 of 9 .* missing: 0/0, 1/0, .*\.\.\."):
    read(one, tmp_path, "rrc")
  whole = {str(n): "a" for n in range(9)}
  one = made.predicted(tmp_path, "docvqa", source, whole, repeats=2)
  with pytest.raises(BadRun, match="repeats=1"):
    read(one, tmp_path, "rrc")
  assert not (tmp_path / "out").exists()
