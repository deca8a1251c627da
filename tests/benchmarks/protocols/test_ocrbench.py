import json

import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import containment
from tests.benchmarks import golden
from tests.benchmarks.protocols.answered import item, value

pytestmark = pytest.mark.smoke
BENCHMARK = suite.find("ocrbench")


def test_the_originals_scores(shared_dir):
  found = golden.cases(shared_dir, "OCRBench")
  found = [one for one in found if one["metric"] == "contains"]
  assert {one["impl"] for one in found} == set(BENCHMARK.impls)
  for one in found:
    told = one["inputs"]
    kind = {"category": told["question_type"], "dataset": told["dataset"]}
    got = value(
      "ocrbench",
      one["impl"],
      item(*told["answers"], **kind),
      told["prediction"],
    )
    assert got == one["expected"], one["id"]


@pytest.mark.parametrize("impl", BENCHMARK.impls)
@pytest.mark.parametrize("told", [{"dataset": "HME100k"}, {}])
def test_formulae_keep_their_case_and_no_spaces(impl, told):
  """Also where the table does not say what set they are of."""
  of = item("x ^ { 2 }", category=containment.FORMULAE, **told)
  assert value("ocrbench", impl, of, "it is x^{2}") == 1.0
  assert value("ocrbench", impl, of, "it is X^{2}") == 0.0


def test_other_texts_keep_spaces_and_no_case():
  of = item("Main St", category="Doc-oriented VQA")
  for impl in BENCHMARK.impls:
    assert value("ocrbench", impl, of, "at MAIN\nst.") == 1.0
    assert value("ocrbench", impl, of, "mainst") == 0.0


def test_full_width_letters_are_plain_to_lmms_eval_alone():
  of = item("abc", category="Doc-oriented VQA")
  scores = {i: value("ocrbench", i, of, "ａｂｃ") for i in BENCHMARK.impls}
  assert scores == {"vlmevalkit": 0.0, "original": 0.0, "lmms_eval": 1.0}


def test_groups_are_the_leaderboards(shared_dir):
  """300, 200, 200, 200 and 100 questions, the first six times 50."""
  path = shared_dir / "data" / "benchmarks" / "ocrbench" / "OCRBench.json"
  rows = json.loads(path.read_text())
  count: dict[tuple[str, str], int] = {}
  for row in rows:
    of = item("a", category=row["type"], dataset=row["dataset_name"])
    for column in BENCHMARK.categories(of).items():
      count[column] = count.get(column, 0) + 1
    alone = item("a", category=row["type"])
    for impl in BENCHMARK.impls:  # the set's name adds nothing to its category
      assert value("ocrbench", impl, of, "B a") == 1.0
      assert value("ocrbench", impl, of, "A") == (
        value("ocrbench", impl, alone, "A")
      )
  groups = {value: n for (name, value), n in count.items() if name == "group"}
  assert groups == {
    "Text Recognition": 300,
    "Scene Text-centric VQA": 200,
    "Doc-oriented VQA": 200,
    "Key Information Extraction": 200,
    containment.FORMULAE: 100,
  }
  parts = {value: n for (name, value), n in count.items() if name != "group"}
  assert parts == dict.fromkeys(containment.RECOGNITION, 50)


def test_every_question_of_the_set_can_be_answered(shared_dir):
  path = shared_dir / "data" / "benchmarks" / "ocrbench" / "OCRBench.json"
  total = dict.fromkeys(BENCHMARK.impls, 0.0)
  for row in json.loads(path.read_text()):
    answers = row["answers"]
    answers = [answers] if isinstance(answers, str) else answers
    of = item(*answers, category=row["type"], dataset=row["dataset_name"])
    for impl in total:
      total[impl] += value("ocrbench", impl, of, answers[0])
  scores = {impl: BENCHMARK.scale * n / 1000 for impl, n in total.items()}
  assert scores == dict.fromkeys(BENCHMARK.impls, 1000.0)
  assert BENCHMARK.unit == ""
