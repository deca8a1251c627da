"""Policies over parameters: ordered (pattern, value) tables over slash paths.

Freezing, learning rates, loading and sharding are such tables. The first
pattern that matches a whole path decides; every path must be decided (the
table is total) and every rule must decide some path (the table is live), so a
renamed weight can neither fall through a policy nor leave a stale rule behind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import re
from typing import Any, TypeVar

import jax

V = TypeVar("V")
Table = Sequence[tuple[str, V]]
Tree = Any  # nested dicts with arrays as leaves

_SHOWN = 8  # offending paths or rules named in an error


class RuleError(ValueError):
  """A table that leaves a path undecided or has a rule that decides none."""


def resolve(table: Table, paths: Iterable[str], name: str = "rules") -> dict:
  """The value of the first rule whose pattern matches each whole path.

  >>> resolve([("vision/.*", 0), (".*", 1)], ["vision/a", "llm/b"])
  {'vision/a': 0, 'llm/b': 1}

  Args:
    table: ordered (regular expression, value) pairs.
    paths: slash paths of a tree, see `flatten`.
    name: what the table is called in errors.

  Raises:
    RuleError: a path no rule matches, or a rule that decided no path.
  """
  rules = [(re.compile(pattern), value) for pattern, value in table]
  used = [False] * len(rules)
  decided, uncovered = {}, []
  for path in paths:
    for n, (pattern, value) in enumerate(rules):
      if pattern.fullmatch(path):
        decided[path], used[n] = value, True
        break
    else:
      uncovered.append(path)
  if uncovered:
    raise RuleError(
      f"{name}: no rule covers {_some(uncovered)}; the patterns are "
      f"{_some([p for p, _ in table])}. Add a rule that matches the whole "
      "path."
    )
  dead = [table[n][0] for n, hit in enumerate(used) if not hit]
  if dead:
    raise RuleError(
      f"{name}: {_some(dead)} decided no path; remove or move the rule "
      f"(earlier rules win). Paths look like {_some(list(decided))}."
    )
  return decided


def _some(items: Sequence[str]) -> str:
  more = len(items) - _SHOWN
  shown = ", ".join(repr(i) for i in items[:_SHOWN])
  return (shown or "nothing") + (f" and {more} more" if more > 0 else "")


def path_of(keys: Sequence[Any]) -> str:
  """Slash path of a JAX key path: `(DictKey("a"), DictKey("b"))` -> "a/b"."""
  return jax.tree_util.keystr(tuple(keys), simple=True, separator="/")


def flatten(tree: Tree) -> dict[str, Any]:
  """Slash path -> leaf, of any pytree.

  >>> flatten({"a": {"b": 1}, "c": [2, 3]})
  {'a/b': 1, 'c/0': 2, 'c/1': 3}
  """
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {path_of(keys): leaf for keys, leaf in leaves}


def unflatten(flat: Mapping[str, Any]) -> dict:
  """Nested dicts of a flat one; inverse of `flatten` on nested dicts.

  >>> unflatten({"a/b": 1, "c": 2})
  {'a': {'b': 1}, 'c': 2}

  Raises:
    ValueError: a path that is both a leaf and a branch.
  """
  tree: dict[str, Any] = {}
  for path, leaf in flat.items():
    *parents, last = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
      if not isinstance(node, dict):
        raise ValueError(f"{path!r} goes through a leaf at {parent!r}.")
    if last in node:
      raise ValueError(f"{path!r} is both a leaf and a branch.")
    node[last] = leaf
  return tree


def split(
  tree: Tree, chosen: Callable[[str], bool] | Mapping[str, Any]
) -> tuple[dict, dict]:
  """Nested dicts in two: (leaves that are chosen, the others).

  >>> split({"a": 1, "b": {"c": 2, "d": 3}}, lambda path: path == "b/c")
  ({'b': {'c': 2}}, {'a': 1, 'b': {'d': 3}})

  Args:
    tree: nested dicts.
    chosen: a predicate of the path, or what `resolve` returned (true values
      are chosen).
  """
  pick = chosen.__getitem__ if isinstance(chosen, Mapping) else chosen
  parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
  for path, leaf in flatten(tree).items():
    parts[0 if pick(path) else 1][path] = leaf
  return unflatten(parts[0]), unflatten(parts[1])


def merge(a: Tree, b: Tree) -> dict:
  """The union of two nested dicts without common leaves; undoes `split`.

  Raises:
    ValueError: a leaf that both trees hold.
  """
  a, b = flatten(a), flatten(b)
  both = [path for path in a if path in b]
  if both:
    raise ValueError(f"Both trees hold {_some(both)}.")
  return unflatten(a | b)
