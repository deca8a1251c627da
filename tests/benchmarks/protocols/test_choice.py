"""AI2D and MMStar."""

import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.protocols.choice import split_options
from emma_jax.benchmarks.scoring import circular, registry
from tests.benchmarks.protocols.answers import COLOURS, Judge, item, score

pytestmark = pytest.mark.smoke
AI2D, MMSTAR = suite.find("ai2d"), suite.find("mmstar")
TABLE = item(options=COLOURS, answers=("B",))
HUB = item(
  question="What?\nOptions: A: red, B: green, C: blue, D: white", answers=("B",)
)
ASKED = (
  "Question: What?\nOptions:\nA. red\nB. green\nC. blue\nD. white\n"
  "Please select the correct answer from the options above. \n"
)


def test_prompts_of_ai2d():
  assert {n: f(TABLE).text for n, f in AI2D.prompts.items()} == {
    "vlmevalkit": ASKED,
    "lmms_eval": (
      "What?\nA. red\nB. green\nC. blue\nD. white\n"
      "Answer with the option's letter from the given choices directly."
    ),
  }
  assert AI2D.prompts["lmms_eval"](TABLE).pictures == TABLE.pictures


@pytest.mark.parametrize("of", [TABLE, HUB], ids=["table", "hub"])
def test_prompts_of_mmstar_are_the_same_from_either_table(of):
  assert {n: f(of).text for n, f in MMSTAR.prompts.items()} == {
    "vlmevalkit": ASKED,
    "lmms_eval": (
      "What?\nOptions: A: red, B: green, C: blue, D: white\n"
      "Answer with the option's letter from the given choices directly"
    ),
    "original": ASKED,
  }
  assert next(iter(MMSTAR.prompts)) == MMSTAR.impls[0] == "vlmevalkit"


@pytest.mark.parametrize(
  "text, options",
  [
    ("q\nOptions: A: x, y, B: z., C: w", {"A": "x, y", "B": "z.", "C": "w"}),
    ("q\nChoices:\n(A) Yes\n(B) No", {"A": "Yes", "B": "No"}),
    ("q\nOptions:\nA. one\nB. two", {"A": "one", "B": "two"}),
    ("q\nOptions: A: NASA: yes, B: (B)", {"A": "NASA: yes", "B": "(B)"}),
  ],
)  # fmt: skip
def test_options_are_read_off_the_text(text, options):
  assert split_options(text) == ("q", options)


@pytest.mark.parametrize("text", ["no options", "q\nOptions: A: one", "A: x"])
def test_a_text_of_another_form_stays_whole(text):
  assert split_options(text) == (text, {})
  of = item(question=text, answers=("B",))
  assert MMSTAR.prompts["vlmevalkit"](of).text == f"Question: {text}\n"
  (found,) = score(MMSTAR, "vlmevalkit", of, "B.")
  assert found.value == 1
  (found,) = score(MMSTAR, "vlmevalkit", of, "a bee", judge=Judge())
  assert found.failure == "judge:absent"


@pytest.mark.parametrize(
  "benchmark, of", [(AI2D, TABLE), (MMSTAR, TABLE), (MMSTAR, HUB)]
)
def test_the_right_letter_is_right_everywhere(benchmark, of):
  for impl in benchmark.impls:
    right, wrong, beyond = score(benchmark, impl, of, "B", "A", "E")
    assert right == suite.Score(value=1.0), impl
    assert (wrong.value, beyond.value) == (0, 0), impl


TEXTS = (
  *("B", "b", "B.", "(B)", "B. green", "green", "The answer is B", "Option B"),
  *("An apple", "the answer is b", "D) white", "A and B", "B \n", ""),
)


@pytest.mark.parametrize("text", TEXTS)
def test_scores_are_those_of_the_toolkits(text):
  """Answers that only a judge could read count 0 here: none is asked."""
  for impl in ("original", "vlmevalkit", "lmms_eval"):
    golden = registry.find("MMStar", "letter_match", impl)
    options = {"choices": COLOURS} if impl == "vlmevalkit" else {}
    (found,) = score(MMSTAR, impl, TABLE, text)
    assert found.value == golden("B", text, **options), impl
  (found,) = score(AI2D, "lmms_eval", TABLE, text)
  golden = registry.find("AI2D", "exact_match", "lmms_eval")
  assert found.value == golden("B", text)["score"]
  (found,) = score(AI2D, "vlmevalkit", TABLE, text)
  golden = registry.find("AI2D", "can_infer", "vlmevalkit")
  assert found.value == golden("B", text, COLOURS)


def test_lmms_eval_averages_mmstar_over_its_l2_categories():
  """Its aggregate is the mean of strata; VLMEvalKit's is that of all."""
  names = ("counting", "counting", "counting", "geometry")
  items = [
    item(str(n), options=COLOURS, answers=("B",), meta={"l2_category": name})
    for n, name in enumerate(names)
  ]
  strata: dict[str, list[float]] = {}
  results = []
  for of, text in zip(items, "BABB"):
    assert MMSTAR.stratum(of, "vlmevalkit") == ""
    (found,) = score(MMSTAR, "lmms_eval", of, text)
    strata.setdefault(MMSTAR.stratum(of, "lmms_eval"), []).append(found.value)
    results.append(
      {"l2_category": of.meta["l2_category"], "score": found.value}
    )
  means = [sum(v) / len(v) for v in strata.values()]
  assert sum(means) / len(means) == circular.mmstar_lmms(results)
  assert sum(means) / len(means) == pytest.approx((2 / 3 + 1) / 2)


def test_columns_of_mmstar():
  of = item(meta={"category": "math", "l2_category": "geometry", "bench": "x"})
  assert MMSTAR.categories(of) == {
    "category": "math",
    "l2-category": "geometry",
  }
  assert MMSTAR.categories(TABLE) == {}
