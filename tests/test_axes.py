"""The key of axis letters is complete, and no letter of it is without use."""

import ast
from collections.abc import Iterator
from pathlib import Path
import re

import pytest

from emma_jax.structs import AXIS_LETTERS

pytestmark = pytest.mark.smoke

REPO = Path(__file__).resolve().parent.parent
FILES = sorted((REPO / "emma_jax").rglob("*.py"))

# A name in lower case, then axes, of which one at least is in upper case.
NAME = re.compile(r"_*[a-z][a-z0-9_]*_([A-Za-z0-9]*[A-Z][A-Za-z0-9]*)")
# In a docstring, what begins with a letter of its own: (B, h, w, D / 2).
SHAPE = re.compile(r"\(([A-Z]\b[^()]*,[^()]*)\)")


def names(tree: ast.AST) -> Iterator[str]:
  """What the file defines, takes, sets or reads by name."""
  for node in ast.walk(tree):
    for field in ("id", "arg", "attr", "name"):
      name = getattr(node, field, None)
      if isinstance(name, str):
        yield name


def in_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
  """(name, letter of its axes)."""
  for name in names(tree):
    match = NAME.fullmatch(name)
    for letter in match[1] if match else ():
      if not letter.isdigit():
        yield name, letter


def in_shapes(tree: ast.AST) -> Iterator[tuple[str, str]]:
  """(shape, letter in upper case) of docstrings."""
  documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
  for node in ast.walk(tree):
    text = (isinstance(node, documented) and ast.get_docstring(node)) or ""
    for shape in SHAPE.findall(text):
      for letter in re.findall(r"\b[A-Z]\b", shape):
        yield shape, letter


def in_unpacked(tree: ast.AST) -> Iterator[tuple[str, str]]:
  """(what is assigned, letter) of `B, L, D = x_BLD.shape` and of parameters."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      name = node.id
    elif isinstance(node, ast.arg):
      name = node.arg
    else:
      continue
    if re.fullmatch("[A-Z]", name):
      yield name, name


def test_letters_are_found():
  source = '''
def f(x_BhwC, cell_B2, T, TILE_SIZE, plain_name):
  """(B, h, w, C) -> (B, S * E); (see there), (A), (a, b)."""
  H, size = x_BhwC.shape
  self.bias_HE = _dk_rE(x_BhwC)
'''
  tree = ast.parse(source)
  letters = lambda found: "".join(sorted({letter for _, letter in found}))
  assert letters(in_names(tree)) == "BCEHhrw"
  assert letters(in_shapes(tree)) == "BCES"
  assert letters(in_unpacked(tree)) == "HT"


@pytest.mark.parametrize("found", [in_names, in_shapes, in_unpacked])
def test_every_letter_is_in_the_key(found):
  unknown = {
    f"{path.relative_to(REPO)}: {letter} of {where}"
    for path in FILES
    for where, letter in found(ast.parse(path.read_text()))
    if letter not in AXIS_LETTERS
  }
  assert not unknown, "structs.AXIS_LETTERS lacks\n" + "\n".join(
    sorted(unknown)
  )


def test_every_letter_of_the_key_is_used():
  used = {
    letter
    for path in FILES
    for _, letter in in_names(ast.parse(path.read_text()))
  }
  assert not set(AXIS_LETTERS) - used


def test_a_letter_has_one_meaning():
  assert len(set(AXIS_LETTERS.values())) == len(AXIS_LETTERS)
  assert list(AXIS_LETTERS) == sorted(AXIS_LETTERS)
