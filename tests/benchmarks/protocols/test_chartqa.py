import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.data import tsv_rows
from tests.benchmarks import golden
from tests.benchmarks.protocols.answered import item, value, values

pytestmark = pytest.mark.smoke


def test_the_originals_scores(shared_dir):
  found = golden.cases(shared_dir, "ChartQA")
  found = [one for one in found if one["metric"] == "relaxed_accuracy"]
  assert {one["impl"] for one in found} == set(suite.find("chartqa").impls)
  for one in found:
    told, impl = one["inputs"], one["impl"]
    of = item(told["answer"], answer=told["answer"])
    assert value("chartqa", impl, of, told["prediction"]) == one["expected"]


@pytest.mark.parametrize(
  "text, vlmevalkit, others",
  [("2016", 1, 0), ("[2014, 2016]", 0, 1), ("1800", 0, 0)],
)
def test_a_list_is_two_references_to_vlmevalkit_alone(text, vlmevalkit, others):
  of = item("2014", "2016", answer="[2014, 2016]")
  for impl in suite.find("chartqa").impls:
    wanted = vlmevalkit if impl == "vlmevalkit" else others
    assert value("chartqa", impl, of, text) == wanted


def test_items_of_the_toolkits_file(tmp_path):
  """What the reader keeps of a row is what scores and halves look at."""
  path = tmp_path / "ChartQA_TEST.tsv"
  rows = ["[2014, 2016]\ttest_human", "14\ttest_augmented"]
  path.write_text(
    "index\timage\tquestion\tanswer\tsplit\n"
    + "".join(f"{n}\tAA==\tq?\t{row}\n" for n, row in enumerate(rows))
  )
  two, one = tsv_rows.TsvRows(str(path), "chartqa", "")
  assert value("chartqa", "vlmevalkit", two, "2016") == 1.0
  assert value("chartqa", "pix2struct", two, "2016") == 0.0
  assert value("chartqa", "lmms_eval", two, "[2014, 2016]") == 1.0
  for impl in suite.find("chartqa").impls:
    assert values("chartqa", impl, one, "14.7", "15") == [1.0, 0.0]
  halves = [suite.find("chartqa").categories(of)["half"] for of in (two, one)]
  assert halves == ["human", "augmented"]


def test_a_list_of_one_is_a_text():
  of = item("14", answer="['14']")
  for impl in suite.find("chartqa").impls:
    assert values("chartqa", impl, of, "14", "['14']") == [1.0, 0.0]


def test_without_a_column_all_references_count():
  of = item("2014", "blue")
  for impl in suite.find("chartqa").impls:
    assert values("chartqa", impl, of, "2014", "Blue", "red") == [1, 1, 0]


def test_white_space_counts_where_it_does():
  of = item("blue")
  scores = {
    impl: value("chartqa", impl, of, " blue\n")
    for impl in suite.find("chartqa").impls
  }
  assert scores == {"vlmevalkit": 1.0, "pix2struct": 0.0, "lmms_eval": 0.0}


def test_who_is_right_with_none_is_wrong_to_vlmevalkit():
  """Both are lost, both are "nan" then, which is a number near no number."""
  of = item("None")
  assert value("chartqa", "vlmevalkit", of, "None", quirks=True) == 0.0
  assert value("chartqa", "vlmevalkit", of, "none", quirks=True) == 0.0
  assert value("chartqa", "vlmevalkit", of, "None") == 1.0
  # A list is never lost, whatever is in it.
  of = item("None", "Neither")
  assert value("chartqa", "vlmevalkit", of, "none", quirks=True) == 1.0


@pytest.mark.parametrize(
  "meta, half",
  [
    ({"split": "test_human"}, "human"),
    ({"split": "test_augmented"}, "augmented"),
    ({"type": "human_test"}, "human"),
    ({"type": "augmented_test"}, "augmented"),
  ],
)
def test_halves(meta, half):
  categories = suite.find("chartqa").categories
  assert categories(item("1", **meta)) == {"half": half}
  assert categories(item("1", split="test")) == {}
