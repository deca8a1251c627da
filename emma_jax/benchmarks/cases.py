"""Golden cases: what the originals' own code gives, against the scorers here.

A file holds {"cases": [...]}, each case with "id", "benchmark", "metric",
"impl", "inputs" and "expected". What is expected is a value, or

  {"raises": NAME}                  an exception of that type
  {"random_choice_among": [...]}    any of these: the original draws
  "NaN"                             not a number
  "<order of a python set>"         anything: depends on hashes
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
from pathlib import Path
import struct
from typing import Any

from emma_jax.benchmarks.scoring import registry

TOLERANCE = 1e-9  # relative
FLOAT32_TOLERANCE = 1e-6  # relative, of what torch computed in float32
_ANYTHING = "<order of a python set>"
_KEYS = ("id", "benchmark", "metric", "impl", "inputs", "expected")


class BadCases(ValueError):
  """A file of cases that is none; the message says where and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """One call of a scorer, and what comes out of it."""

  id: str
  triple: registry.Triple
  inputs: Mapping[str, Any]
  expected: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
  """A case that came out otherwise; `got` is a value or what was raised."""

  case: Case
  got: Any


@dataclasses.dataclass
class Tally:
  """Of the cases of one triple."""

  passed: int = 0
  failures: list[Failure] = dataclasses.field(default_factory=list)

  @property
  def total(self) -> int:
    """Cases in all."""
    return self.passed + len(self.failures)


@dataclasses.dataclass(frozen=True)
class Raised:
  """What a scorer raised in place of a value."""

  error: Exception

  def __str__(self) -> str:
    return f"raised {type(self.error).__name__}: {self.error}"


def _case(path: Path, place: int, entry: Any) -> Case:
  lacking = (
    [key for key in _KEYS if key not in entry]
    if isinstance(entry, Mapping)
    else list(_KEYS)
  )
  if lacking or not isinstance(entry["inputs"], Mapping):
    what = f"lacks {', '.join(lacking)}" if lacking else "has no named inputs"
    raise BadCases(f"{path}: case {place} {what}.")
  return Case(
    id=str(entry["id"]),
    triple=(entry["benchmark"], entry["metric"], entry["impl"]),
    inputs=entry["inputs"],
    expected=entry["expected"],
  )


def read(path: str | Path) -> list[Case]:
  """The cases of a file, in its order.

  Raises:
    BadCases: the file cannot be read, is not JSON, or has no cases.
  """
  path = Path(path)
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise BadCases(f"{path}: {error}") from error
  entries = content.get("cases") if isinstance(content, Mapping) else content
  if not isinstance(entries, list) or not entries:
    raise BadCases(f'{path}: no cases; a file holds {{"cases": [...]}}.')
  return [_case(path, n, entry) for n, entry in enumerate(entries, 1)]


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _tolerance(expected: float) -> float:
  """What may be off of a number, relative to it.

  One that is exactly a float32, and no short decimal, came out of float32
  arithmetic, whose last digits depend on the order of a sum.

  >>> _tolerance(0.2), _tolerance(0.19999998807907104), _tolerance(0.6875)
  (1e-09, 1e-06, 1e-09)
  """
  if not math.isfinite(expected) or abs(expected) > 1e30:
    return TOLERANCE
  (single,) = struct.unpack("f", struct.pack("f", expected))
  short = float(f"{expected:.9g}") == expected
  return FLOAT32_TOLERANCE if single == expected and not short else TOLERANCE


def plain(value: Any) -> Any:
  """A value as JSON has it: numpy's numbers and arrays become Python's."""
  for convert in ("tolist", "item"):
    if hasattr(value, convert):
      return plain(getattr(value, convert)())
  if isinstance(value, Mapping):
    return {str(key): plain(inner) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    return [plain(inner) for inner in value]
  return value


def same(expected: Any, got: Any) -> bool:
  """Whether a value is what was expected, numbers to 1e-9 of it.

  Numbers that were computed in float32 agree to 1e-6 (`_tolerance`). Tuples
  equal lists, NaN equals NaN; a truth value equals no number.

  >>> same([1.0, "NaN"], (1, float("nan"))), same(True, 1)
  (True, False)

  Args:
    expected: as in a file of cases.
    got: what a scorer returned, or `Raised`.
  """
  if isinstance(expected, Mapping) and "raises" in expected:
    return isinstance(got, Raised) and any(
      kind.__name__ == expected["raises"] for kind in type(got.error).__mro__
    )
  return not isinstance(got, Raised) and _same(expected, plain(got))


def _same(expected: Any, got: Any) -> bool:
  if isinstance(expected, str) and expected == _ANYTHING:
    return True
  if isinstance(expected, Mapping):
    if set(expected) == {"random_choice_among"}:
      return any(_same(one, got) for one in expected["random_choice_among"])
    return (
      isinstance(got, Mapping)
      and expected.keys() == got.keys()
      and all(_same(expected[key], got[key]) for key in expected)
    )
  if isinstance(expected, Sequence) and not isinstance(expected, str):
    return (
      isinstance(got, list)
      and len(expected) == len(got)
      and all(map(_same, expected, got))
    )
  if isinstance(got, float) and math.isnan(got):
    return expected == "NaN" or expected != expected
  if _is_number(expected) and _is_number(got):
    tolerance = _tolerance(expected)
    return math.isclose(expected, got, rel_tol=tolerance, abs_tol=1e-12)
  return type(expected) is type(got) and expected == got


def outcome(case: Case) -> Any:
  """What the scorer of a case returns, or what it raises.

  Raises:
    UnknownScorer: nobody scores that.
  """
  scorer = registry.find(*case.triple)
  try:
    # A copy: a scorer that changed its inputs must not change the report.
    return scorer(**json.loads(json.dumps(case.inputs)))
  except Exception as error:  # what a case may expect
    return Raised(error)


def run(cases: Iterable[Case]) -> dict[registry.Triple, Tally]:
  """Runs all; a triple that nobody scores fails in each of its cases.

  Returns:
    triple -> its tally, in the order in which they occur.
  """
  tallies: dict[registry.Triple, Tally] = {}
  for case in cases:
    tally = tallies.setdefault(case.triple, Tally())
    try:
      got = outcome(case)
    except registry.UnknownScorer as error:  # whatever the case expects
      tally.failures.append(Failure(case=case, got=Raised(error)))
      continue
    if same(case.expected, got):
      tally.passed += 1
    else:
      tally.failures.append(Failure(case=case, got=got))
  return tallies
