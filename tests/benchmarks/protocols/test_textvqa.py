import pytest

from emma_jax.benchmarks import suite
from tests.benchmarks import golden
from tests.benchmarks.protocols.answered import item, value

pytestmark = pytest.mark.smoke
IMPLS = suite.find("textvqa").impls


def test_the_originals_scores(shared_dir):
  found = [
    one
    for one in golden.cases(shared_dir, "TextVQA")
    if one["metric"] == "vqa_accuracy" and len(one["inputs"]["answers"]) == 10
  ]
  assert {one["impl"] for one in found} == set(IMPLS)
  for one in found:
    told = one["inputs"]
    of = item(*told["answers"])
    got = value("textvqa", one["impl"], of, told["prediction"])
    assert got == pytest.approx(one["expected"], abs=1e-12), one["id"]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
  "agree, score", [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_people_who_agree(impl, agree, score):
  of = item(*["nokia"] * agree, *["sony"] * (10 - agree))
  got = value("textvqa", impl, of, "The Nokia")
  assert got == pytest.approx(score, abs=1e-12)


def test_normalisers_differ_where_they_do():
  """EvalAI's makes a word of "'s", and drops a period behind a digit."""
  for reference, text in (("joe 's", "Joe's"), ("5", "5.")):
    scores = [value("textvqa", i, item(*[reference] * 10), text) for i in IMPLS]
    assert dict(zip(IMPLS, scores)) == {
      "vlmevalkit": 0.0,
      "mmf": 1.0,
      "lmms_eval": 1.0,
    }


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("people", [1, 9, 11])
def test_ten_people_or_none(impl, people):
  with pytest.raises(ValueError, match=f"item 7: {people} answers, not 10"):
    value("textvqa", impl, item(*["nokia"] * people), "nokia")
