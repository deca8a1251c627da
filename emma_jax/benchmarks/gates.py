"""The gate of a training run: no set worse than before by more than a margin.

A set fails where it is worse by more than the margin for sure (`paired.gate`).
Whatever was measured in another way is an error, never a pass.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import io
import re
from typing import Literal
import xml.etree.ElementTree as ET

from emma_jax import files, paired, ranges
from emma_jax.benchmarks import compare, suite, tables
from emma_jax.benchmarks import results as reading
from emma_jax.benchmarks.results import Results

Status = Literal["passed", "failed", "error", "skipped"]
# Texts of XML cannot hold these, not even escaped.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
  """The gate of one set.

  Args:
    name: of the set.
    status: see `Status`.
    message: why, in words.
  """

  name: str
  status: Status
  message: str


def check(
  new: Results,
  old: Results,
  *,
  margin: float = 1.0,
  only: str = "",
  seed: int = 0,
) -> list[Check]:
  """Each set of two runs.

  Args:
    new: the run to let through.
    old: the one it must not be worse than.
    margin: in points, hundredths of what lies between a set's worst and its
      best score: 1.0 is 1% of accuracy, 10 of OCRBench's 1,000, .1 of GEdit's
      10.
    only: sets, with commas between; "": all of either.
    seed: of intervals.

  Raises:
    BadRun: damaged files; a set in `only` that the old run lacks.
    ValueError: a negative margin.
  """
  ranges.NOT_NEGATIVE.check("margin", margin)
  names = (
    reading.select(old, only)
    if only
    else list(dict.fromkeys([*old.names, *new.names]))
  )
  return [_check(new, old, name, margin, seed) for name in names]


def _check(
  new: Results, old: Results, name: str, margin: float, seed: int
) -> Check:
  mine, theirs = new.find(name), old.find(name)
  if theirs is None:
    message = f"{old.out} has no {name}: nothing to compare it with"
    return Check(name=name, status="skipped", message=message)
  if mine is None:
    message = f"{new.out} has no {name}, which {old.out} has"
    return Check(name=name, status="error", message=message)
  before, after = tables.headline(theirs), tables.headline(mine)
  if before["score"] is None:
    message = f"no score to compare with: {before['reason']}"
    return Check(name=name, status="error", message=message)
  benchmark = suite.find(theirs["set"])
  x = reading.scores(new.outcomes(mine), benchmark)
  y = reading.scores(old.outcomes(theirs), benchmark)
  worst, best = reading.limits(theirs)
  point = (best - worst) / benchmark.scale / 100
  try:
    found = paired.gate(
      x.values,
      y.values,
      compare.yardsticks(mine, theirs),
      y.clusters,
      y.strata,
      weights=y.weights,
      strata_weights=y.strata_weights,
      margin=margin * point,
      seed=seed,
    )
  except paired.ChangedYardstick as error:
    return Check(name=name, status="error", message=str(error))
  if after["score"] is None:
    message = f"no score: {after['reason']}"
    return Check(name=name, status="failed", message=message)
  unit, scale = before["unit"], benchmark.scale
  change, low, high = (
    compare.signed(value * scale, unit)
    for value in (
      found.difference.value,
      found.difference.interval.low,
      found.difference.interval.high,
    )
  )
  limit = compare.signed(-margin * point * scale, unit)
  message = (
    f"{tables.score(after)}, was {tables.score(before)}: {change} "
    f"[{low}, {high}], margin {limit}"
  )
  status: Status = "passed" if found.passed else "failed"
  return Check(name=name, status=status, message=message)


def exit_code(checks: Sequence[Check]) -> int:
  """2 where a set is an error, or nothing was checked; 1 where one failed."""
  statuses = {one.status for one in checks}
  if "error" in statuses or not statuses - {"skipped"}:
    return 2
  return int("failed" in statuses)


def lines(checks: Sequence[Check]) -> Iterator[str]:
  """The table of a gate, line by line."""
  for one in checks:
    yield f"{one.name:<16}{one.status:<9}{one.message}"


def junit(checks: Sequence[Check], path: str) -> None:
  """Writes the gate as JUnit XML, a test case a set."""
  counts = {
    "tests": len(checks),
    "failures": sum(c.status == "failed" for c in checks),
    "errors": sum(c.status == "error" for c in checks),
    "skipped": sum(c.status == "skipped" for c in checks),
  }
  told = {key: str(value) for key, value in counts.items()}
  root = ET.Element("testsuites", told)
  group = ET.SubElement(
    root, "testsuite", {"name": "emma-benchmark gate", **told}
  )
  tags = {"failed": "failure", "error": "error", "skipped": "skipped"}
  for one in checks:
    case = ET.SubElement(
      group, "testcase", classname="emma-benchmark.gate", name=_clean(one.name)
    )
    message = _clean(one.message)
    if one.status == "passed":
      ET.SubElement(case, "system-out").text = message
    else:
      ET.SubElement(case, tags[one.status], message=message).text = message
  ET.indent(root)
  buffer = io.BytesIO()
  ET.ElementTree(root).write(buffer, encoding="utf-8", xml_declaration=True)
  files.write_text(path, buffer.getvalue().decode() + "\n")


def _clean(text: str) -> str:
  return _NO_XML.sub("�", text)
