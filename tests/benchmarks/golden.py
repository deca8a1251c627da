"""The originals' own numbers, one by one: to 1e-9, where `cases` allows more of
what was float32."""

from collections.abc import Callable, Mapping
import json
import math
from pathlib import Path
from typing import Any

ORDER = "<order of a python set>"


def cases(shared_dir: Path, *benchmarks: str) -> list[dict[str, Any]]:
  """The cases of some benchmarks."""
  file = shared_dir / "data" / "benchmarks" / "metric_cases.json"
  found = json.loads(file.read_text())["cases"]
  return [case for case in found if case["benchmark"] in benchmarks]


def misses(
  found: list[dict[str, Any]], scorers: Mapping[tuple, Callable[..., Any]]
) -> list[str]:
  """What differs, a line per case."""
  lines = []
  for case in found:
    scorer = scorers[case["benchmark"], case["metric"], case["impl"]]
    try:
      got = scorer(**case["inputs"])
    except Exception as error:
      got = {"raises": type(error).__name__}
    if not same(got, case["expected"]):
      lines.append(f"{case['id']}: {got!r} is not {case['expected']!r}")
  return lines


def same(got: Any, wanted: Any) -> bool:
  """Equal; floats to 1e-9, tuples as lists, "NaN" for NaN."""
  if wanted == ORDER:
    return isinstance(got, str)
  if wanted == "NaN":
    return isinstance(got, float) and math.isnan(got)
  if isinstance(wanted, Mapping):
    if "random_choice_among" in wanted:
      return got in wanted["random_choice_among"]
    return (
      isinstance(got, Mapping)
      and set(got) == set(wanted)
      and all(same(got[key], wanted[key]) for key in wanted)
    )
  if isinstance(wanted, list):
    return (
      isinstance(got, list | tuple)
      and len(got) == len(wanted)
      and all(map(same, got, wanted))
    )
  if isinstance(wanted, bool) or isinstance(got, bool):
    return got is wanted
  if isinstance(wanted, float) and isinstance(got, int | float):
    return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-12)
  return type(got) is type(wanted) and got == wanted
