"""emma-benchmark data: which test sets lie in a folder, and how whole they are.

Prints a line per set: complete, incomplete (rows of rows), missing, damaged,
rehearsal (made up), or unknown (another revision than those known here, which
numbers then name); and for all that are not complete what to download, with its
licence. Nothing is read of pictures. The exit code is 1 unless all that were
asked for are complete or of an unknown revision.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import json
import os
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark data`."""
  parser = common.add_subcommand(
    commands,
    "data",
    "list the test sets of a folder, and what is missing",
    __doc__,
    run,
  )
  parser.add_argument(
    "--data",
    metavar="DIR",
    default=os.environ.get("EMMA_BENCHMARKS", ""),
    help="a folder per set, or VLMEvalKit's LMUData [$EMMA_BENCHMARKS]",
  )
  parser.add_argument(
    "--sets",
    metavar="SET[:SPLIT]",
    help="those, with commas between [all, each set's default split]",
  )
  parser.add_argument("--json", metavar="FILE", help="also write it here")


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints the inventory; 1 unless all that were asked for can be used."""
  from emma_jax.benchmarks.data import folder, sets

  common.refuse_overrides("data", overrides)
  if not os.path.isdir(args.data):
    raise common.UserError(
      f"--data {args.data!r} is no folder; give the one that holds a folder "
      "for each set, or set EMMA_BENCHMARKS."
    )
  wanted = [
    (name, split)
    for name, _, split in (
      text.partition(":")
      for text in (args.sets or ",".join(sets.SETS)).split(",")
    )
  ]
  try:
    found = folder.inventory(args.data, wanted)
  except ValueError as error:
    raise common.UserError(str(error)) from error
  for entry in found:
    count = f"{entry.rows:,}" if entry.rows else "-"
    if entry.expected:
      count += f" of {entry.expected:,}"
    print(
      f"{entry.name:10} {entry.split:12} {entry.status:10} {count:>16}  "
      f"{entry.format:10} {entry.md5[:8]}"
    )
  for entry in found:
    if entry.advice:
      print(f"\n{entry.name} ({entry.split}): {entry.advice}")
  if args.json:
    with open(args.json, "w", encoding="utf-8") as file:
      json.dump([dataclasses.asdict(e) for e in found], file, indent=1)
      file.write("\n")
  return int(any(e.status not in ("complete", "unknown") for e in found))
