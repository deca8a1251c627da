"""emma-data validate: reads and decodes every record; exit code 1 on errors.

A data set is a folder of records, or any source as in a config. Chinese in
drawings or edits is a warning, not an error.
"""

import argparse
import json
import sys
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-data validate`."""
  parser = commands.add_parser(
    "validate", help="read and decode every record", description=__doc__
  )
  parser.add_argument(
    "data",
    nargs="+",
    metavar="DATA",
    help="folder, records:DIR, jsonl:PATH, jsonl-outside:PATH, ...",
  )
  parser.add_argument(
    "--workers", type=int, default=0, help="processes (default: this one)"
  )
  parser.add_argument(
    "--show",
    type=int,
    default=20,
    metavar="N",
    help="errors to print per data set",
  )
  parser.add_argument("--report", metavar="FILE", help="JSON lines of errors")
  parser.add_argument(
    "--max-pixels",
    type=int,
    default=None,
    help="larger pictures are bad, as data.max_pixels",
  )
  parser.add_argument(
    "--tokenizer",
    default="tiny",
    metavar="NAME",
    help="tiny or qwen3:PATH; lengths that it counted are compared",
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )
  parser.set_defaults(run=run)


def spec_of(data: str) -> str:
  """A folder's name stands for records:FOLDER, a file's for jsonl:FILE.

  >>> spec_of("data/llava"), spec_of("a.jsonl"), spec_of("world:editing:test")
  ('records:data/llava', 'jsonl:a.jsonl', 'world:editing:test')
  """
  kinds = ("records", "jsonl", "jsonl-outside", "world", "tfds", "python")
  if data.partition(":")[0] in kinds:
    return data
  return f"jsonl:{data}" if data.endswith(".jsonl") else f"records:{data}"


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Prints and reports the errors found; 1 where there are any, else 0."""
  from emma_jax.build import data as build_data
  from emma_jax.build import sections
  from emma_jax.data.curation import validation
  from emma_jax.data.pictures import images

  common.refuse_overrides("validate", overrides)
  try:
    tokenizer = build_data.tokenizer({"tokenizer": args.tokenizer})
  except sections.ConfigError as error:
    raise common.UserError(str(error)) from error
  total, notes = 0, []
  for data in args.data:
    try:
      found = validation.validate(
        spec_of(data),
        tokenizer,
        args.workers,
        _told(data),
        args.max_pixels or images.MAX_PIXELS,
      )
    except (OSError, ValueError) as error:
      # As bad as data can be, but the others are still looked at.
      print(f"{data}: does not open: {error}")
      total += 1
      notes.append({"where": data, "reason": str(error)})
      continue
    total += found.errors
    notes += [b._asdict() for b in found.bad]
    _print(data, found, args.show)
  if args.report:
    with open(args.report, "w", encoding="utf-8") as file:
      file.writelines(json.dumps(note) + "\n" for note in notes)
  return 1 if total else 0


def _told(data: str) -> Any:
  if not sys.stderr.isatty():
    return lambda counts: None
  return lambda counts: print(
    f"{data}: {counts.rows} read, {counts.rejected} bad",
    end="\r",
    file=sys.stderr,
  )


def _print(data: str, found: Any, most: int) -> None:
  for bad in found.bad[:most]:
    print(f"{bad.where}: {bad.reason}")
  if found.errors > most:
    print(f"... and {found.errors - most} more; --report FILE has the first.")
  print(f"{data}: {found.records} records, {found.errors} errors")
  for task, count in sorted(found.chinese.items()):
    print(
      f"warning: {count} records of {task} hold Chinese; the paper's are "
      "English, and what a model then does with Chinese prompts is no longer "
      "untrained."
    )
  for name, count in found.kinds.most_common():
    print(f"{count:8d}  {name}")
