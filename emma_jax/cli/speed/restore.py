"""emma-speed restore: a host's memory while a whole model is restored.

  emma-speed restore [--config FILE] [--forms F ...] [--devices N ...]
  emma-speed restore --config.model.llm.num_layers=8

Writes random weights of the config's shapes, and restores them onto simulated
devices in a process of its own: what it takes beside the weights themselves.
"""

import argparse
from collections.abc import Mapping
import tempfile
from typing import Any

from emma_jax.build import config_file
from emma_jax.build.sections import plain
from emma_jax.cli import common
from emma_jax.cli.speed import flags
from emma_jax.speed import comparison, restore


def add(commands: Any) -> None:
  """Adds the parser of `emma-speed restore`."""
  parser = commands.add_parser(
    "restore",
    help="a host's memory while a whole model is restored",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--config",
    default="emma_4b.py",
    metavar="FILE",
    help="whose model; --config.section.key=value changes it, such as "
    "--config.model.llm.num_layers=8 (default: %(default)s)",
  )
  add(
    "--forms",
    nargs="+",
    choices=restore.FORMS,
    default=restore.FORMS,
    help="an exported folder, a training's checkpoint (default: both)",
  )
  add(
    "--stored",
    choices=comparison.DTYPES,
    default="bfloat16",
    help="dtype of what is written (default: bfloat16)",
  )
  add(
    "--devices",
    nargs="+",
    type=int,
    default=[8],
    metavar="N",
    help="simulated ones over which weights are split (default: 8)",
  )
  add(
    "--folder",
    metavar="DIR",
    help="of temporary files, twice the size of the weights (default: the "
    "system's)",
  )
  flags.add_dtypes(parser)
  flags.add_output(parser)
  parser.set_defaults(run=run)


def run(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Measures each case, and prints a line as soon as it is there."""
  if min(args.devices) < 1:
    raise common.UserError(f"--devices {min(args.devices)} must be positive.")
  config = plain(config_file.load(args.config, overrides))
  print(restore.HEADER, flush=True)
  results = []
  for form in args.forms:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
      case = restore.Case(
        form=form,
        stored=args.stored,
        dtype=args.dtypes[0],
        devices=args.devices[0],
        folder=folder,
      )
      restore.write(case, config)
      for devices in args.devices:
        for dtype in args.dtypes:
          one = restore.Case(
            form=form,
            stored=args.stored,
            dtype=dtype,
            devices=devices,
            folder=folder,
          )
          results.append(restore.measure(one))
          print(restore.line(results[-1]), flush=True)
  print(
    "MiB. weights: on all devices, a device: on the first; largest: weight, as "
    "stored; beside: the process's peak beyond its start and all weights."
  )
  return results
