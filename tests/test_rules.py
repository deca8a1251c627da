"""Tables are total and live; splitting and merging are inverse."""

import doctest

import jax
import pytest

from emma_jax import rules

pytestmark = pytest.mark.smoke

TREE = {"llm": {"und": {"q": 1, "k": 2}, "norm": 3}, "vision": {"patch": 4}}


def test_docstrings():
  assert doctest.testmod(rules).failed == 0


def test_first_full_match_decides():
  table = [("llm/und/.*", "a"), ("llm/.*", "b"), ("vision/.*", "c")]
  assert rules.resolve(table, rules.flatten(TREE)) == {
    "llm/und/q": "a",
    "llm/und/k": "a",
    "llm/norm": "b",
    "vision/patch": "c",
  }


def test_a_prefix_is_no_match():
  with pytest.raises(rules.RuleError, match="llm/norm"):
    rules.resolve([("llm", 0), ("vision/.*", 1)], rules.flatten(TREE))


def test_uncovered_paths_are_listed():
  with pytest.raises(rules.RuleError, match="vision/patch.*llm"):
    rules.resolve([("llm/.*", 0)], rules.flatten(TREE), "policy")


@pytest.mark.parametrize("dead", ["audio/.*", "llm/norm"])
def test_a_rule_that_decides_nothing_is_listed(dead: str):
  with pytest.raises(rules.RuleError, match=f"policy: '{dead}' decided no"):
    rules.resolve(
      [("llm/.*", 0), (dead, 1), (".*", 2)], rules.flatten(TREE), "policy"
    )


def test_unflatten_undoes_flatten():
  assert rules.unflatten(rules.flatten(TREE)) == TREE


def test_clashing_paths_are_refused():
  with pytest.raises(ValueError, match="a/b"):
    rules.unflatten({"a": 1, "a/b": 2})
  with pytest.raises(ValueError, match="'a'"):
    rules.unflatten({"a/b": 2, "a": 1})


def test_merge_undoes_split_and_missing_leaves_are_absent():
  table = [("llm/und/.*", True), (".*", False)]
  trained, frozen = rules.split(TREE, rules.resolve(table, rules.flatten(TREE)))
  assert trained == {"llm": {"und": {"q": 1, "k": 2}}}
  assert len(jax.tree.leaves(frozen)) == 2
  assert rules.merge(trained, frozen) == TREE
  with pytest.raises(ValueError, match="llm/norm"):
    rules.merge(TREE, frozen)
