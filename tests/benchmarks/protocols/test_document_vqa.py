import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import registry
from tests.benchmarks import golden
from tests.benchmarks.protocols.answered import item, value

pytestmark = pytest.mark.smoke
SETS = {"docvqa": "DocVQA", "infovqa": "InfoVQA"}


def test_the_originals_scores(shared_dir):
  names = {title: name for name, title in SETS.items()}
  found = golden.cases(shared_dir, *names)
  found = [one for one in found if one["metric"] in ("anls", "anls_padding")]
  assert {one["impl"] for one in found} == set(suite.find("docvqa").impls)
  for one in found:
    told, name = one["inputs"], names[one["benchmark"]]
    got = value(name, one["impl"], item(*told["answers"]), told["prediction"])
    assert got == pytest.approx(one["expected"], abs=1e-12), one["id"]


@pytest.mark.parametrize("name", SETS)
def test_implementations_differ_where_they_do(name):
  """By padding, by white space inside, and at exactly half."""
  told = [("abcde", "     abxyz     "), ("a b", "a   b"), ("abcd", "abxy")]
  for impl in suite.find(name).impls:
    scorer = registry.find(SETS[name], "anls", impl)
    for reference, text in told:
      wanted = scorer(answers=[reference], prediction=text)
      assert value(name, impl, item(reference), text) == wanted
  assert value(name, "vlmevalkit", item("abcd"), "abxy") == 0.5
  assert value(name, "pix2struct", item("abcd"), "abxy") == 0.0
  assert value(name, "vlmevalkit", item("a b"), "a   b") == 1.0
  assert value(name, "mmf_stvqa", item("a b"), "a   b") == 0.6


@pytest.mark.parametrize("name", SETS)
def test_the_best_reference_counts(name):
  of = item("ITC Limited", "ITC")
  for impl in suite.find(name).impls:
    assert value(name, impl, of, "itc") == 1.0


@pytest.mark.parametrize("name", SETS)
def test_hidden_answers_say_where_to_go(name):
  with pytest.raises(suite.NoAnswers, match="emma-benchmark export --to rrc"):
    value(name, "vlmevalkit", item(), "itc")


@pytest.mark.parametrize(
  "meta, columns",
  [
    ({"question_types": ["form", "Yes/No"]}, {"form": "yes", "Yes/No": "yes"}),
    ({"question_types": "['form']"}, {"form": "yes"}),
    ({"answer_type": ["single span"]}, {"single span": "yes"}),
    ({"question_types": None}, {}),
    ({}, {}),
  ],
)
def test_a_question_may_be_of_several_types(meta, columns):
  assert suite.find("docvqa").categories(item("1", **meta)) == columns
