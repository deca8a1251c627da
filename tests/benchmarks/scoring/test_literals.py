"""Columns that the originals `eval`: literals are read, nothing is run."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import literals
from tests.laws import laws


@pytest.mark.parametrize("text", ["geometry reasoning", "[1,", "12cats", ""])
def test_what_is_no_expression(text):
  with pytest.raises(SyntaxError):
    literals.evaluate(text)
  assert literals.as_list(text) is None


@pytest.mark.parametrize("text", ["geometry", "f()", "[a]", "__import__('os')"])
def test_what_is_no_literal(text):
  with pytest.raises(NameError):
    literals.evaluate(text)
  assert literals.as_list(text) is None


@laws(100)
@given(st.lists(st.one_of(st.text(), st.integers(), st.none())))
def test_a_list_comes_back(values):
  assert literals.as_list(repr(values)) == values == literals.as_list(values)
