import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import geneval2

QUICK = settings(max_examples=60, deadline=None)
ATOMS = st.lists(
  st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=6
)
HOW_MANY = "How many pigs are in the image?"
IS_IT = "Is the pig green?"


def test_spellings():
  seven = ("seven", "Seven", " seven", " Seven", "7", " 7")
  assert geneval2.spellings(HOW_MANY, "seven") == seven
  assert geneval2.spellings(HOW_MANY, "ten")[4:] == ("10", " 10")
  assert geneval2.spellings(HOW_MANY, "eleven")[4:] == ("other", " other")
  # Whatever the answer is said to be.
  assert geneval2.spellings(IS_IT, "No") == ("Yes", "yes", " yes", " Yes")


def first_token(text: str) -> str:
  """As Qwen's: digits and the space before them are tokens of their own."""
  return text[0] if text.strip().isdigit() else text


@pytest.mark.smoke
def test_the_mass_of_all_spellings_and_what_nobody_told():
  told = {"Yes": 0.5, " yes": 0.25, "No": 0.125}
  for quirks in (False, True):
    got = geneval2.atom(IS_IT, "Yes", told, official_quirks=quirks)
    assert got == geneval2.Atom(score=0.75, uncovered=0.125)


def test_only_the_first_token_of_a_spelling_counts_officially():
  told = {"1": 0.5, " ": 0.25, "ten": 0.125}
  score = lambda quirks: (
    geneval2.atom(
      HOW_MANY, "ten", told, first_token, official_quirks=quirks
    ).score
  )
  assert score(True) == 0.875
  assert score(False) == 0.125  # "1" is the answer one, " " is none


def test_spellings_that_begin_alike_count_twice_officially():
  told = {"y": 0.25}
  score = lambda quirks: (
    geneval2.atom(
      IS_IT, "Yes", told, lambda text: text.strip()[0], official_quirks=quirks
    ).score
  )
  assert score(True) == 0.5  # yes and " yes"
  assert score(False) == 0


@pytest.mark.parametrize("bad", [{"a": -0.1}, {"a": 1.5}, {"a": 0.7, "b": 0.7}])
def test_what_are_no_probabilities(bad):
  with pytest.raises(ValueError, match="no probabilities"):
    geneval2.atom(IS_IT, "Yes", bad, official_quirks=True)


def test_probabilities_may_sum_to_a_rounding_more_than_one():
  told = {"Yes": 0.7, "No": 0.3005}
  got = geneval2.atom(IS_IT, "Yes", told, official_quirks=True)
  assert got == geneval2.Atom(score=0.7, uncovered=0.0)
  with pytest.raises(ValueError, match="no probabilities"):
    geneval2.atom(IS_IT, "Yes", told | {"a": 0.01}, official_quirks=True)


def test_the_hard_judgement():
  assert geneval2.hit(HOW_MANY, "two", "Two")
  assert geneval2.hit(HOW_MANY, "two", "2")
  assert not geneval2.hit(HOW_MANY, "two", "three")
  assert geneval2.hit(IS_IT, "Yes", "YES")


def test_means_within_and_over_prompts():
  atoms = [[1.0, 0.25], [0.5]]
  assert geneval2.soft_tifa_am(atoms) == 100 * (0.625 + 0.5) / 2
  assert geneval2.soft_tifa_gm(atoms) == pytest.approx(50)
  # One atom that is missing makes a prompt 0, not less in the other.
  assert geneval2.soft_tifa_gm([[1.0, 0.0]]) == 0
  assert geneval2.soft_tifa_am([[1.0, 0.0]]) == 50


def test_nothing_to_average():
  with pytest.raises(ZeroDivisionError):
    geneval2.soft_tifa_am([[]])
  with pytest.raises(ValueError):
    geneval2.soft_tifa_gm([[]])


@QUICK
@given(ATOMS, st.randoms(use_true_random=False))
def test_bounds_and_order(atoms, rng):
  am, gm = geneval2.soft_tifa_am(atoms), geneval2.soft_tifa_gm(atoms)
  assert 0 <= gm <= am + 1e-9 and am <= 100 + 1e-9
  shuffled = [rng.sample(x, len(x)) for x in rng.sample(atoms, len(atoms))]
  assert geneval2.soft_tifa_am(shuffled) == pytest.approx(am)
  assert geneval2.soft_tifa_gm(shuffled) == pytest.approx(gm)


@QUICK
@given(ATOMS, st.floats(0, 1))
def test_a_better_atom_never_lowers_a_score(atoms, better):
  before = geneval2.soft_tifa_am(atoms), geneval2.soft_tifa_gm(atoms)
  atoms[0][0] = max(atoms[0][0], better)
  assert geneval2.soft_tifa_am(atoms) >= before[0] - 1e-9
  assert geneval2.soft_tifa_gm(atoms) >= before[1] - 1e-9


def test_skills_and_atomicity():
  atoms = [[1.0, 0.5], [0.0, 0.25]]
  skills = [["count", "object"], ["object", "object"]]
  got = geneval2.by_skill(atoms, skills)
  assert (got["count"], got["object"]) == (100, 25)
  assert math.isnan(got["verb"])
  assert geneval2.by_atomicity([[0.25], [1.0], [0.0]], [4, 3, 4]) == {
    3: 100.0,
    4: 12.5,
  }
  with pytest.raises(ValueError, match="'colour' is no skill"):
    geneval2.by_skill([[1.0]], [["colour"]])
  with pytest.raises(ValueError):
    geneval2.by_skill([[1.0]], [["count", "object"]])
