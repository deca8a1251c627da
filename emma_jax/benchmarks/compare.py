"""Two runs, item by item; or a run beside what others print.

Only what was measured alike is compared: two numbers of one name that another
judge gave, or another toolkit, differ by points for that alone.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from emma_jax import paired
from emma_jax.benchmarks import published, records, suite, tables
from emma_jax.benchmarks import results as reading
from emma_jax.benchmarks.results import Results

_LEVEL = 0.05  # of p after Holm's correction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A set in two runs.

  Args:
    name, unit: of the set.
    scale: of printed numbers, over those of `comparison`.
    a, b: numbers of results.json; None where a run lacks the set.
    comparison: of b with a; None where they cannot be compared, for `why`.
    adjusted: its p after Holm's correction over the suite.
    why: "not comparable: ...", or "".
    notes: what differs without being the yardstick.
  """

  name: str
  unit: str
  scale: float = 1.0
  a: Mapping[str, Any] | None
  b: Mapping[str, Any] | None
  comparison: paired.Comparison | None = None
  adjusted: float | None = None
  why: str = ""
  notes: Sequence[str] = ()

  @property
  def verdict(self) -> str:
    """In words."""
    if self.comparison is None:
      return self.why
    if self.adjusted is not None and self.adjusted <= _LEVEL:
      return "better" if self.comparison.difference.value > 0 else "worse"
    if self.comparison.needed:
      return f"undecided, needs n = {self.comparison.needed:,}"
    return "undecided" if self.comparison.difference.value else "no difference"


def yardsticks(
  a: Mapping[str, Any], b: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """How two entries of results.json were measured, by name.

  How a judge named itself is left out where one of them asked nothing: rules
  read all of its answers.
  """
  first, second = _yardstick(a), _yardstick(b)
  name = "judge, as it answered"
  if not first[name] or not second[name]:
    del first[name], second[name]
  return first, second


def _yardstick(one: Mapping[str, Any]) -> dict[str, Any]:
  identity, data = one["judge"]["identity"], one["data"]
  named = identity.get("model") or identity.get("kind", "none")
  return {
    "set": one["set"],
    "split": one["split"],
    "implementation": one["impl"],
    "official quirks": one["quirks"],
    "fallback": "seeded_random" if one["guess"] else "wrong",
    "judge": f"{named} ({records.digest(identity)[:8]})" if identity else "",
    "judge, as it answered": sorted(filter(None, one["judge"]["answered_as"])),
    "prompts": f"{one['prompt']} ({one['prompt_sha256'][:8]})",
    "repeats": one["repeats"],
    "data files": [data["format"], data["rows"], data["files"]],
    "limit": data["limit"],
  }


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
  """Names of what two entries were not measured alike by."""
  first, second = yardsticks(a, b)
  return [name for name in first if first[name] != second[name]]


# Of a set's `sampling`: what may differ between runs that are compared.
_SAMPLING = (
  *("max_tokens", "temperature", "size", "steps", "shift", "seed"),
  *("text_guidance", "image_guidance"),
)


def notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
  """Settings of the model that differ, which is no other yardstick."""
  return [
    f"{key} {a['sampling'].get(key)} and {b['sampling'].get(key)}"
    for key in _SAMPLING
    if a["sampling"].get(key) != b["sampling"].get(key)
  ]


def compare(a: Results, b: Results, only: str = "", seed: int = 0) -> list[Row]:
  """Run b against run a, set by set.

  Args:
    a, b: the runs.
    only: sets, with commas between; "": all of either.
    seed: of intervals and tests.

  Raises:
    BadRun: damaged files; a set in `only` that neither has.
  """
  every = list(dict.fromkeys([*a.names, *b.names]))
  if only:
    every = [
      name
      for name in reading.select(
        dataclasses.replace(
          a, sets=[*a.sets, *(x for x in b.sets if x["name"] not in a.names)]
        ),
        only,
      )
    ]
  rows = [_row(a, b, name, seed) for name in every]
  adjusted = paired.holm({r.name: r.comparison.p for r in rows if r.comparison})
  return [
    dataclasses.replace(row, adjusted=adjusted.get(row.name)) for row in rows
  ]


def _row(a: Results, b: Results, name: str, seed: int) -> Row:
  first, second = a.find(name), b.find(name)
  mine = tables.headline(first) if first else None
  theirs = tables.headline(second) if second else None
  unit = (mine or theirs or {})["unit"]
  if first is None or second is None:
    lacking = (a if first is None else b).out
    return Row(name=name, unit=unit, a=mine, b=theirs, why=f"not in {lacking}")
  reasons = differing(first, second)
  reasons += [
    f"no score in {run.out} ({number['reason']})"
    for run, number in ((a, mine), (b, theirs))
    if number and number["score"] is None
  ]
  if reasons:
    why = f"not comparable: {', '.join(reasons)}"
    return Row(name=name, unit=unit, a=mine, b=theirs, why=why)
  benchmark = suite.find(first["set"])
  x = reading.scores(a.outcomes(first), benchmark)
  y = reading.scores(b.outcomes(second), benchmark)
  return Row(
    name=name,
    unit=unit,
    scale=benchmark.scale,
    a=mine,
    b=theirs,
    comparison=paired.compare(
      x.values,
      y.values,
      x.clusters,
      x.strata,
      weights=x.weights,
      strata_weights=x.strata_weights,
      seed=seed,
    ),
    notes=[
      *notes(first, second),
      *(["partial"] if first["numbers"][0]["partial"] else []),
    ],
  )


def signed(value: float, unit: str) -> str:
  """A difference, as printed.

  >>> signed(0.25, "%"), signed(-12.0, ""), signed(0.004, "")
  ('+0.2', '-12', '+0.004')
  """
  return f"{value:+.1f}" if unit == "%" else f"{value:+.3g}"


def lines(rows: Sequence[Row], a: str, b: str) -> Iterator[str]:
  """The table of a comparison, line by line.

  Args:
    rows: of `compare`.
    a, b: what to call the runs.
  """
  yield f"A: {a}"
  yield f"B: {b}"
  yield (
    f"{'set':<16}{'A':>8}{'B':>8}{'B - A':>9}  {'95%':<18}{'p':>8}"
    f"{'Holm':>8}  verdict on B"
  )
  for row in rows:
    numbers = "".join(
      f"{tables.score(n) if n else '-':>8}" for n in (row.a, row.b)
    )
    line = f"{row.name:<16}{numbers}"
    if row.comparison is None:
      yield f"{line}{'':>9}  {'':<18}{'':>8}{'':>8}  {row.why}"
      continue
    found, scale = row.comparison.difference, row.scale
    low, high = (
      signed(x * scale, row.unit)
      for x in (found.interval.low, found.interval.high)
    )
    yield (
      f"{line}{signed(found.value * scale, row.unit):>9}  "
      f"{f'[{low}, {high}]':<18}{row.comparison.p:>8.2g}"
      f"{row.adjusted:>8.2g}  {row.verdict}"
    )
  for row in rows:
    if row.notes:
      yield f"{row.name}: {', '.join(row.notes)}"
    if row.comparison and row.comparison.only_a + row.comparison.only_b:
      yield (
        f"{row.name}: {row.comparison.only_a:,} items are in A alone, "
        f"{row.comparison.only_b:,} in B alone; left out"
      )


def published_lines(run: Results, only: str = "") -> Iterator[str]:
  """A run beside published numbers, line by line.

  Raises:
    BadRun: a set in `only` that was not run.
  """
  yield (
    f"{'set':<16}{'score':>8}  {'95%':<16}{'published':>10}{'less it':>9}  "
    "model, and what the difference says"
  )
  for name in reading.select(run, only):
    one = run.find(name)
    assert one is not None  # `select` looked
    number = tables.headline(one)
    start = (
      f"{name:<16}{tables.score(number):>8}  {tables.interval(number):<16}"
    )
    found = published.beside(one)
    if not found:
      yield f"{start}{'-':>10}"
    for n, each in enumerate(found):
      value = tables.score({"score": each.row.value, "unit": number["unit"]})
      less = (
        ""
        if each.difference is None
        else signed(each.difference, number["unit"])
      )
      yield (
        f"{start if not n else '':<42}{value:>10}{less:>9}  "
        f"{each.row.model}: {each.verdict}"
      )
