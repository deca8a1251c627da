"""What every command that writes a data set shares: its output and its job."""

import argparse
import os
import shlex
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import reading
from emma_jax.cli.data.progress import Progress


def add_output(parser: argparse.ArgumentParser, required: bool = True) -> None:
  """What is written, and by how many; `required`: whether --out is."""
  add = parser.add_argument
  add(
    "--out",
    type=common.path_name,
    required=required,
    metavar="DIR",
    help="new folder for the data set",
  )
  add("--name", default="", help="of the data set")
  add("--licence", default="", help="noted in the card")
  add(
    "--tokenizer",
    default="tiny",
    metavar="NAME",
    help="counts the text tokens: tiny or qwen3:PATH",
  )
  add(
    "--check",
    default="decode",
    choices=("decode", "header"),
    help="decode every picture (default), or trust what follows its header",
  )
  add("--rows-per-shard", type=int, default=4096)
  add(
    "--workers",
    type=int,
    default=os.cpu_count() or 1,
    help="processes (default: %(default)s); 0: this one",
  )
  add(
    "--beam",
    metavar="OPTIONS",
    help="run on Apache Beam: options of its "
    "runner in one word, such as --beam=--runner=DirectRunner",
  )
  add(
    "--max-rejected",
    type=ranges.SHARE.number,
    default=0.2,
    help="share of rows that may be unusable",
  )
  add("--debug", action="store_true", help="show stack traces of errors")


def recipe(args: argparse.Namespace, **more: Any) -> Any:
  """part.Recipe of the arguments; UserError where they are wrong."""
  from emma_jax.build import data as build_data
  from emma_jax.build import sections
  from emma_jax.data.ingest import part

  try:
    tokenizer = build_data.tokenizer({"tokenizer": args.tokenizer})
  except sections.ConfigError as error:
    raise common.UserError(str(error)) from error
  if "inputs" in args:
    more = reading.options(args) | more
  return part.Recipe(
    tokenizer=tokenizer, dataset=args.name, check=args.check, **more
  )


def write(
  args: argparse.Namespace, maker: Any, inputs: list[str], **more: Any
) -> Any:
  """Runs the job of a command; returns the new card. UserError for mistakes.

  With --dry-run it says what would be asked, and returns None.
  """
  from emma_jax.data.ingest import job as job_lib
  from emma_jax.data.ingest import pool, rejected_rows

  if args.out:
    reading.check_apart(inputs, args.out)
  if getattr(args, "dry_run", False):
    _tell_costs(args, maker, inputs)
    return None
  try:
    if args.beam is not None:
      from emma_jax.data.ingest import beam

      more["execute"] = beam.Execute(tuple(shlex.split(args.beam)))
    job = job_lib.Job(
      inputs=inputs,
      out=args.out,
      maker=maker,
      rows_per_shard=args.rows_per_shard,
      workers=args.workers,
      requests=getattr(args, "requests", 0) or max(1, args.workers),
      max_rejected=args.max_rejected,
      provenance={"licence": args.licence or "not stated"},
      **more,
    )
    with Progress() as progress:
      card = job_lib.run(job, progress)
  except job_lib.TooManyRejected as error:
    raise common.DataError(str(error)) from error
  except (job_lib.ConversionError, pool.WorkerDied) as error:
    raise common.UserError(str(error)) from error
  tasks = ", ".join(f"{n} {task}" for task, n in card.tasks.items())
  notes = f"see {args.out}/rejected.jsonl"
  print(
    f"Wrote {args.out}: {card.records} records ({tasks}) in "
    f"{len(card.shards)} shards; {card.rejected} rows rejected"
    + (f", {notes}." if card.rejected else ".")
  )
  if card.rejected:
    path = os.path.join(args.out, "rejected.jsonl")
    for where, reason in rejected_rows.first(path):
      print(f"Rejected: {where}: {reason}")
  outside = card.provenance.get("outside", 0)
  if outside:
    print(f"{outside} of them name pictures outside of the set's folder.")
  left_out = card.provenance.get("left out", {})
  if left_out:
    print(f"Left out ({notes}):")
    for kind, count in sorted(left_out.items(), key=lambda x: -x[1]):
      print(f"{count:8d}  {kind}")
  _tell_spent(args.out)
  return card


def _tell_costs(
  args: argparse.Namespace, maker: Any, inputs: list[str]
) -> None:
  from emma_jax.data.curation import costs

  try:
    options = maker.base.options
    rows = costs.rows_of(inputs, options, args.rows_per_shard)
  except (OSError, ValueError, ImportError, AttributeError) as error:
    raise common.UserError(str(error)) from error
  if rows is None:
    print("How many rows go in is not known: a tar tells only when it is read.")
  else:
    print(f"{rows:,} rows go in.")
  found = costs.estimates(maker, rows or 0)
  for line in costs.estimate_lines(found) or ["Nothing is asked of a server."]:
    print(line)
  print("Nothing was asked or written.")


def _tell_spent(folder: str) -> None:
  from emma_jax.judge import ledger

  path = os.path.join(folder, ledger.LEDGER)
  for line in ledger.spent_lines(ledger.spent(path)):
    print(line)
