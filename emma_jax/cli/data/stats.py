"""emma-data stats: how many, how long, how large, in which shares.

Printed as a table; --out writes a page with a chart of each.
"""

import argparse
import json
from typing import Any

from emma_jax import files
from emma_jax.cli import common
from emma_jax.cli.data import validate

_CHARTS = {
  "tasks": ("Tasks", "records"),
  "stem": ("STEM labels", "understanding records"),
  "text_tokens": ("Text tokens", "records by number of text tokens"),
  "turns": ("Turns", "conversations by turns"),
  "pictures": ("Pictures", "records by number of pictures"),
  "resolutions": ("Resolution", "pictures by root of their area, pixels"),
  "aspects": ("Aspect ratio", "pictures by width : height"),
  "picture_tokens": ("Picture tokens", "pictures by tokens at native size"),
}


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
  parser.add_argument("--out", metavar="FILE.html", help="page with charts")
  parser.add_argument("--json", metavar="FILE", help="the numbers")
  parser.add_argument(
    "--tokenizer",
    default="tiny",
    metavar="NAME",
    help="counts text tokens where no side file does",
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Prints the counts, and writes page and JSON if asked; 0, or UserError."""
  from emma_jax.build import data as build_data
  from emma_jax.data.curation import statistics

  common.refuse_overrides("stats", overrides)
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
    files.write_text(args.out, _page(found))
    print(f"Wrote {args.out}")
  return 0


def _print(data: str, stats: Any) -> None:
  import rich.box
  import rich.table

  from emma_jax import terminal
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
  for name, (title, _) in _CHARTS.items():
    counts = getattr(stats, name)
    total = sum(counts.values()) or 1
    shares = ", ".join(
      f"{k}: {n:,} ({formats.share(n / total)})" for k, n in counts.items()
    )
    table.add_row(title, terminal.text(shares or "none"))
  terminal.console().print(table)


def _page(found: dict[str, Any]) -> str:
  from emma_jax.pages import charts, render

  sets = []
  for data, stats in found.items():
    bars = [
      charts.bars(title, getattr(stats, name), note=note)
      for name, (title, note) in _CHARTS.items()
    ]
    sets.append((data, stats, [chart for chart in bars if chart]))
  return render.render("statistics.html.j2", sets=sets)
