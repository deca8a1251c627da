"""`emma-benchmark cases`: golden cases against the scorers."""

import argparse
from collections.abc import Mapping

from emma_jax.benchmarks import cases
from emma_jax.cli import common


def add(commands) -> None:
  """The subcommand's flags."""
  parser = commands.add_parser(
    "cases",
    help="run golden cases of the benchmarks' own code against the scorers",
    description="Prints passed / all per benchmark, metric and implementation, "
    "and every case that comes out otherwise. Exit code 1 if there is any.",
  )
  parser.add_argument("file", metavar="FILE", help='JSON: {"cases": [...]}')
  parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  common.refuse_overrides("cases", overrides)
  try:
    tallies = cases.run(cases.read(args.file))
  except cases.BadCases as error:
    raise common.UserError(str(error)) from error
  for triple, tally in sorted(tallies.items()):
    print(f"{tally.passed}/{tally.total}  {' '.join(triple)}")
  failures = [f for tally in tallies.values() for f in tally.failures]
  for failure in failures:
    got = failure.got
    print(f"\nFAILED {failure.case.id}")
    print(f"  expected: {failure.case.expected!r}")
    print(f"  got:      {got if isinstance(got, cases.Raised) else repr(got)}")
  total = sum(tally.total for tally in tallies.values())
  print(f"\n{total - len(failures)}/{total} passed")
  return int(bool(failures))
