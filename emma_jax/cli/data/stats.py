"""emma-data stats: how many, how long, how large, in which shares.

Printed as a table. --out writes a page with a chart of each, and of --sample
records their pictures with captions, their words, near-copies (also between the
sets that are named, such as a training and a held-out one), and what the
cropping and the buckets of --config do to them.
"""

import argparse
import json
from typing import Any

from emma_jax import files
from emma_jax.cli import common
from emma_jax.cli.data import validate


def add(commands: Any) -> None:
  """Adds the parser of `emma-data stats`."""
  parser = commands.add_parser(
    "stats", help="tokens, sizes, shares", description=__doc__
  )
  parser.add_argument(
    "data",
    nargs="+",
    metavar="DATA",
    help="folder, records:DIR, jsonl:PATH, ...",
  )
  common.add_config_arguments(parser, default="files")
  parser.add_argument(
    "--out", type=common.path_name, metavar="FILE.html", help="the page"
  )
  parser.add_argument(
    "--sample",
    type=int,
    default=2000,
    metavar="N",
    help="records of each set whose pictures and texts are read for the page, "
    "spread evenly (default: %(default)s)",
  )
  parser.add_argument("--json", metavar="FILE", help="the numbers")
  parser.add_argument(
    "--tokenizer",
    default="tiny",
    metavar="NAME",
    help="counts text tokens where no side file does",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Prints the counts, and writes page and JSON if asked; 0, or UserError."""
  from emma_jax.build import data as build_data
  from emma_jax.data.curation import statistics

  if args.sample < 1:
    raise common.UserError(f"--sample {args.sample} must be at least 1.")
  if not args.out:
    common.refuse_overrides("stats without --out", overrides)
  found = {}
  for data in args.data:
    try:
      tokenizer = build_data.tokenizer({"tokenizer": args.tokenizer})
      found[data] = statistics.collect(validate.spec_of(data), tokenizer)
    except (OSError, ValueError) as error:
      raise common.UserError(f"{data}: {error}") from error
    _print(data, found[data])
  if args.json:
    with open(args.json, "w", encoding="utf-8") as file:
      json.dump({k: s.as_json() for k, s in found.items()}, file, indent=1)
  if args.out:
    files.write_text(args.out, _page(found, args, overrides))
    print(f"Wrote {args.out}")
  return 0


def _print(data: str, stats: Any) -> None:
  import rich.box
  import rich.table

  from emma_jax import terminal
  from emma_jax.evals import data_statistics
  from emma_jax.pages import formats

  table = rich.table.Table(
    title=terminal.text(data, "table.title"),
    box=rich.box.SIMPLE,
    show_header=False,
    title_justify="left",
  )
  table.add_column(style="bold")
  table.add_column()
  table.add_row(
    "records",
    f"{stats.records:,} ({stats.shown:,} an epoch, {stats.bad:,} bad)",
  )
  table.add_row("text tokens", f"{stats.total_text_tokens:,}")
  for name, (title, _) in data_statistics.CHARTS.items():
    counts = getattr(stats, name)
    total = sum(counts.values()) or 1
    shares = ", ".join(
      f"{k}: {n:,} ({formats.share(n / total)})" for k, n in counts.items()
    )
    table.add_row(title, terminal.text(shares or "none"))
  terminal.console().print(table)


def _page(
  found: dict[str, Any], args: argparse.Namespace, overrides: dict[str, str]
) -> str:
  from emma_jax.build import config_file, sections
  from emma_jax.build import data as build_data
  from emma_jax.evals import data_statistics

  config = sections.plain(config_file.load(args.config, overrides))
  return data_statistics.html(
    {data: (validate.spec_of(data), stats) for data, stats in found.items()},
    build_data.framing(config["data"]),
    " ".join([args.config, *(f"{k}={v}" for k, v in overrides.items())]),
    args.sample,
  )
