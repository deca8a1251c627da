"""The published benchmarks.

  emma-benchmark run --config benchmarks/paper --checkpoint runs/x \\
      --data DIR --out DIR
  emma-benchmark predict | judge | aggregate | report ... --out DIR
  emma-benchmark compare A B | gate DIR --against B | rescore DIR --impl NAME
  emma-benchmark data --data DIR
  emma-benchmark cases FILE
  emma-benchmark export OUT --to vlmevalkit --dest DIR

The same as `python -m emma_jax.cli.benchmark`. `run` goes through four stages,
each a command of its own, with files between them. `data` lists the test sets
of a folder, and what to download for those that are missing. `cases` runs
golden cases, what the benchmarks' own code gives for some inputs, against the
scorers here. `export` writes predictions as other toolkits and servers take
them.
"""

import argparse
from collections.abc import Sequence

from emma_jax.cli import common, devices

# Each is a module of this package with `add(subparsers)`; the parser it adds
# has a default `run(args, overrides) -> int | None`.
COMMANDS = (
  *("run", "predict", "judge", "aggregate", "report"),
  *("compare", "gate", "rescore", "export"),
  *("data", "cost", "anchors", "cases"),
)


def _parser() -> argparse.ArgumentParser:
  return common.subcommands("emma-benchmark", __doc__, __name__, COMMANDS)


def _main(argv: Sequence[str]) -> int | None:
  args, overrides = common.parse_arguments(_parser(), argv)
  return args.run(args, overrides)


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  # None of these imports jax.
  from emma_jax.benchmarks.items import BadItem
  from emma_jax.benchmarks.records import BadRun
  from emma_jax.benchmarks.settings import BadSettings

  # OSError: a folder that cannot be written; what is whole stays.
  mistakes = (BadItem, BadRun, BadSettings, OSError)
  return common.run(_main, argv, mistakes)


def entry() -> None:
  """The console script."""
  devices.end(main)
