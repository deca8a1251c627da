"""emma-data show: samples as the model will see them, as one HTML page.

Batches of a stage of a config: the pictures after preprocessing, the packed
rows with what is learned, and who may attend to whom. Without DATA the config's
own sources and mixture are shown.
"""

import argparse
from typing import Any

from emma_jax import files
from emma_jax.cli import common
from emma_jax.cli.data import stage, validate


def add(commands: Any) -> None:
  """Adds the parser of `emma-data show`."""
  parser = commands.add_parser(
    "show", help="packed samples as the model sees them", description=__doc__
  )
  parser.add_argument(
    "data",
    nargs="*",
    metavar="DATA",
    help="folder, records:DIR, jsonl:PATH, ...; in turn",
  )
  stage.add_arguments(parser)
  parser.add_argument(
    "--step",
    type=int,
    default=0,
    help="batch to begin with (default: %(default)s)",
  )
  parser.add_argument("--batches", type=int, default=1)
  parser.add_argument(
    "--rows",
    type=int,
    default=4,
    help="rows shown of each batch (default: %(default)s)",
  )
  parser.add_argument(
    "--out", type=common.path_name, default="show.html", metavar="FILE.html"
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the page of packed samples; 0, or UserError."""
  from emma_jax.build import data as build_data
  from emma_jax.evals import data_sheet

  config, name = stage.find(args, overrides)
  if args.data:
    names = [f"data{i}" for i in range(len(args.data))]
    config["data"]["sources"] = {
      n: validate.spec_of(d) for n, d in zip(names, args.data)
    }
    config["stages"][name]["mixture"] = [[0.0, dict.fromkeys(names, 1.0)]]
  else:
    config = stage.measured(config, name, args.plans)
  source = stage.source(config, name, args.plans)
  page = data_sheet.Page(source, build_data.tokenizer(config["data"]))
  html = page.html(
    range(args.step, args.step + args.batches),
    args.rows,
    f"{args.config}, stage {name}",
  )
  files.write_text(args.out, html)
  print(f"Wrote {args.out}")
  return 0
