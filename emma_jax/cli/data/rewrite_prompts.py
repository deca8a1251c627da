"""emma-data rewrite-prompts: prompts written out by a model, the old kept.

  emma-data rewrite-prompts evaluation_metadata.jsonl --out rewritten.jsonl \\
      --url http://localhost:8000/v1 --model Qwen/Qwen3-30B-A3B-Instruct-2507

Input: JSON lines with a key "prompt" (GenEval's metadata), or a text file with
a prompt per line. Output: the same lines as JSON with the new "prompt" and
"original_prompt"; all other keys stay. It is what GenEval's second row (with
rewritten prompts) is drawn from. The same command again asks nothing twice.
"""

import argparse
import os
import sys
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.data import constructing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data rewrite-prompts`."""
  parser = commands.add_parser(
    "rewrite-prompts",
    help="write a file of prompts out by a model",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("prompts", metavar="FILE", help="JSON lines, or a prompt per line")
  add(
    "--out",
    type=common.path_name,
    required=True,
    metavar="FILE",
    help="new file of JSON lines",
  )
  constructing.add_back_ends(parser)
  add("--debug", action="store_true", help="show stack traces of errors")
  parser.set_defaults(run=run, workers=8)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the rewritten prompts, prints counts and cost; 0, or UserError."""
  from emma_jax.data.curation import costs, rewriting
  from emma_jax.data.ingest import job
  from emma_jax.judge import ledger

  common.refuse_overrides("rewrite-prompts", overrides)
  if args.missing == "drop":
    raise common.UserError(
      "--missing drop: a benchmark needs all of its prompts; keep leaves one "
      "as it is, and says so."
    )
  if os.path.exists(args.out):
    raise common.UserError(f"{args.out} exists; remove it or name another.")
  client = constructing.back_end(args, "rewrite", "rewrite", "ask")
  try:
    rows = rewriting.read(args.prompts)
    if args.dry_run:
      print(f"{len(rows):,} prompts.")
      found = costs.estimate(client, len(rows), 0)
      print(*costs.estimate_lines([found]), sep="\n")
      print("Nothing was asked or written.")
      return 0
    kept = rewriting.rewrite(
      rows, client, args.out, args.missing, args.requests or args.workers
    )
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  print(f"Wrote {args.out}: {len(rows) - kept} prompts rewritten, {kept} kept.")
  spent = ledger.spent(rewriting.ledger_of(args.out))
  for line in ledger.spent_lines(spent):
    print(line, file=sys.stdout)
  return 0
