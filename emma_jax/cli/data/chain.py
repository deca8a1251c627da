"""emma-data chain: a whole set of the paper, step by step.

  emma-data chain --config data/synthetic_edits --out data/edits --dry-run \\
      "pictures/*.tar" --records 100000
  emma-data chain --config data/synthetic_edits --out data/edits \\
      "pictures/*.tar" --config.servers.vlm.url=http://gpu1:8000/v1

The chains are in configs/data/ (--config list shows them). Every step is a
folder of records in --out, named by all that decides it; * marks those that the
chain is for. The same command again goes on after any interruption, without
asking anything twice that was answered. --dry-run says for every step how many
records go in, what is asked and what it costs (config.servers.*.price), and
sends nothing. The table at the end is also chain.json.
"""

import argparse
import os
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.cli.data import reading
from emma_jax.cli.data.progress import Progress


def add(commands: Any) -> None:
  """Adds the parser of `emma-data chain`."""
  parser = commands.add_parser(
    "chain",
    help="make a whole set, step by step",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  common.add_config_arguments(parser, folder="data")
  add = parser.add_argument
  add(
    "inputs",
    nargs="*",
    metavar="INPUT",
    help="as of convert (default: config.inputs)",
  )
  add(
    "--out",
    type=common.path_name,
    required=True,
    metavar="DIR",
    help="folder of the steps",
  )
  add(
    "--workers",
    type=int,
    default=os.cpu_count() or 1,
    help="processes (default: %(default)s); 0: this one",
  )
  add(
    "--requests",
    type=int,
    default=16,
    metavar="N",
    help="records that are asked about at a time (default: %(default)s)",
  )
  add(
    "--records",
    type=int,
    metavar="N",
    help="rows of the inputs, for estimates, where they do not tell (tar)",
  )
  add("--dry-run", action="store_true", help="tell the costs, do nothing")
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Makes the steps and prints their table; 0, or UserError."""
  from emma_jax.build import chain as build_chain
  from emma_jax.build.sections import ConfigError
  from emma_jax.data.curation import chain as chain_lib
  from emma_jax.data.ingest import job, pool

  config = config_file.load(args.config, overrides)
  if "steps" not in config or "servers" not in config:
    raise common.UserError(f"{args.config} is no chain; see configs/data/.")
  if args.requests < 1 or args.workers < 0:
    raise common.UserError("--requests is at least 1, --workers at least 0.")
  try:
    inputs = reading.files(list(args.inputs or config.inputs))
    chain = build_chain.chain(
      config, args.out, inputs, args.workers, args.requests
    )
    if args.dry_run:
      reports = chain_lib.look(chain, args.records)
      _tell_plan(reports)
    else:
      with Progress() as progress:
        reports = chain_lib.run(chain, args.records, _begun, _ended, progress)
  except (ConfigError, job.ConversionError, pool.WorkerDied) as error:
    raise common.UserError(str(error)) from error
  print(*chain_lib.table(reports), sep="\n")
  print(
    "Nothing was sent or written."
    if args.dry_run
    else f"Wrote {os.path.join(args.out, chain_lib.REPORT)}"
  )
  return 0


def _tell_plan(reports: list[Any]) -> None:
  from emma_jax.data.curation import costs

  for report in reports:
    count = report.records_in
    known = "an unknown number of" if count is None else f"{count:,}"
    print(f"{report.name} ({report.state}): {known} records go in")
    for line in costs.estimate_lines(report.estimates):
      print(f"  {line}")


def _begun(report: Any) -> None:
  from emma_jax.data.curation import costs

  count = report.records_in
  print(f"{report.name}: {'?' if count is None else f'{count:,}'} records")
  for line in costs.estimate_lines(report.estimates):
    print(f"  {line}", flush=True)


def _ended(report: Any) -> None:
  from emma_jax.judge import ledger

  print(f"{report.name}: {report.records_out:,} records in {report.folder}")
  for line in ledger.spent_lines(report.spent):
    print(f"  {line}")
