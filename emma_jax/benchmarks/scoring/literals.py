"""Python literals in tables of answers, read without running what they say."""

import ast
from typing import Any
import warnings


def evaluate(text: str) -> Any:
  """What `eval` gives for a literal, with its kind of error for the rest.

  VLMEvalKit calls `eval` on columns of its tables. A table is somebody's file:
  here nothing but literals has a value.

  >>> evaluate("['a', 'b']"), evaluate(" [2014, 2016]")
  (['a', 'b'], [2014, 2016])

  Args:
    text: an expression.

  Raises:
    SyntaxError: it is no expression ("geometry reasoning"), as in `eval`.
    NameError: it is one, but no literal ("geometry"), as in `eval` for names.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "12cats" is an error, and a warning too
    tree = ast.parse(text.lstrip(" \t"), mode="eval")
  try:
    return ast.literal_eval(tree)
  except ValueError as error:
    raise NameError(f"{text!r} is not a literal.") from error


def as_list(value: Any) -> list | None:
  """A list, also written as text; None for anything else.

  >>> as_list("[1, 2]"), as_list("12"), as_list("[a]")
  ([1, 2], None, None)
  """
  if isinstance(value, list):
    return value
  if not isinstance(value, str):
    return None
  try:
    found = evaluate(value)
  except (SyntaxError, NameError, ValueError, TypeError):
    return None
  return found if isinstance(found, list) else None
