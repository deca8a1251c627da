"""Every implementation of every metric, by name.

A module of this package has `SCORERS`: (benchmark, metric, implementation) ->
a function whose arguments have the names of a golden case's inputs.
"""

from collections.abc import Callable, Mapping
import functools
import importlib
import importlib.util
from typing import Any

Triple = tuple[str, str, str]  # benchmark, metric, implementation
Scorer = Callable[..., Any]

MODULES = (
  # Understanding.
  *("numbers", "anls", "vqa", "containment", "choice", "choice_judge"),
  *("choice_prompts", "circular", "missing", "mmmu", "mathvista", "mmvet"),
  # Drawing and editing.
  *("geneval", "dpg", "viescore", "imgedit", "pixels", "geneval2", "wise"),
  *("longtext", "rise"),
)


class UnknownScorer(LookupError):
  """Nobody scores that; the message names what there is."""


def _names(modules: tuple[str, ...]) -> list[str]:
  package = __name__.rpartition(".")[0]
  names = [f"{package}.{module}" for module in modules]
  return [name for name in names if importlib.util.find_spec(name)]


@functools.cache
def scorers(modules: tuple[str, ...] = MODULES) -> Mapping[Triple, Scorer]:
  """All scorers of the modules that are there.

  Args:
    modules: of this package; one that does not exist is left out.

  Raises:
    ValueError: two modules have the same triple.
  """
  found: dict[Triple, Scorer] = {}
  for name in _names(modules):
    mine: Mapping[Triple, Scorer] = importlib.import_module(name).SCORERS
    twice = sorted(found.keys() & mine.keys())
    if twice:
      raise ValueError(f"{name} scores again what another does: {twice}")
    found |= mine
  return found


def find(benchmark: str, metric: str, impl: str) -> Scorer:
  """The scorer of a triple.

  Args:
    benchmark: such as "DocVQA".
    metric: such as "anls".
    impl: such as "vlmevalkit".

  Raises:
    UnknownScorer: there is none; says which implementations, metrics or
      benchmarks there are.
  """
  known = scorers()
  if (benchmark, metric, impl) in known:
    return known[benchmark, metric, impl]
  impls = sorted(i for b, m, i in known if (b, m) == (benchmark, metric))
  metrics = sorted({m for b, m, _ in known if b == benchmark})
  if impls:
    told = f"implementations of {benchmark} {metric}: {', '.join(impls)}"
  elif metrics:
    told = f"metrics of {benchmark}: {', '.join(metrics)}"
  else:
    told = f"benchmarks: {', '.join(sorted({b for b, _, _ in known}))}"
  raise UnknownScorer(f"No scorer for {benchmark} {metric} {impl}; {told}.")
