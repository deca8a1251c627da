"""Every triple has one scorer; what has none is named with what there is."""

import pytest

from emma_jax.benchmarks.scoring import registry


@pytest.mark.smoke
def test_a_known_triple_is_found():
  scorer = registry.find("DocVQA", "anls", "vlmevalkit")
  assert scorer(answers=["a"], prediction="a") == 1.0


@pytest.mark.parametrize(
  "triple, named",
  [
    (("DocVQA", "anls", "nobody"), "implementations of DocVQA anls: .*mmf"),
    (("DocVQA", "wer", "original"), "metrics of DocVQA: anls"),
    (("Tables", "anls", "original"), "benchmarks: .*DocVQA.*TextVQA"),
  ],
)
def test_an_unknown_triple_names_what_there_is(triple, named):
  with pytest.raises(registry.UnknownScorer, match=named):
    registry.find(*triple)


def test_modules_that_are_not_there_are_left_out():
  assert registry.scorers(("numbers", "of_tomorrow")) == registry.scorers(
    ("numbers",)
  )


def test_a_triple_has_one_scorer():
  with pytest.raises(ValueError, match="again"):
    registry.scorers(("numbers", "numbers"))


def test_every_module_with_scorers_is_on_the_list(repo):
  folder = repo / "emma_jax" / "benchmarks" / "scoring"
  found = {
    path.stem
    for path in folder.glob("*.py")
    if "\nSCORERS: " in path.read_text()
  }
  assert found <= set(registry.MODULES)


def test_all_triples_are_names():
  for triple in registry.scorers():
    assert len(triple) == 3 and all(isinstance(x, str) and x for x in triple)
