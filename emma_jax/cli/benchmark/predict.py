"""emma-benchmark predict: the model's answers and pictures.

Several processes, on one machine or many, may predict into one folder, each
with a --shard of its own, or all started by one launcher. What is there is not
made again, whoever made it, in whatever batches.
"""

import argparse
from collections.abc import Mapping
import sys
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark predict`."""
  parser = commands.add_parser(
    "predict",
    help="the model's answers and pictures, the first stage",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  common.add_config_arguments(parser, "benchmarks")
  flags.add_out(parser)
  flags.add_model(parser)
  parser.set_defaults(run=run)


def prepared(
  args: argparse.Namespace, overrides: Mapping[str, str], *, judged: bool
) -> tuple[Any, Mapping[str, Any], Any]:
  """(run, data of its sets, model), with the folder begun.

  judged: whether judges will be asked too, so that they are checked.
  """
  from emma_jax.benchmarks import folders, runs

  config = flags.load_config(args, overrides)
  found = runs.make_run(config, args.out, args.sets, args.data)
  # Before anything is loaded.
  folders.check_free(args.out)
  sources = runs.open_sources(found, judged=judged)
  common.use_compilation_cache()
  from emma_jax.benchmarks.model import Model, about
  from emma_jax.build import session

  try:
    model = Model.of(
      session.load(args.checkpoint, batch=config["rows"], fill=True)
    )
  except common.sampling_mistakes() as error:
    raise common.UserError(str(error)) from error
  runs.begin(found, about(model, args.checkpoint))
  return found, sources, model


def run(
  args: argparse.Namespace, overrides: Mapping[str, str], judged: bool = False
) -> int:
  """Predicts; 75 where it was asked to stop. `judged`: see `prepared`."""
  shard = flags.shard_of(args.shard)
  if args.batch < 0:
    raise common.UserError(f"--batch {args.batch} must not be negative.")
  found, sources, model = prepared(args, overrides, judged=judged)
  from emma_jax.benchmarks import predict, stages

  with flags.stopping() as stop:
    try:
      stages.predict(
        found,
        model,
        sources,
        shard=shard or flags.shard_of_cluster(),
        batch=args.batch or found.config["rows"],
        stop=stop,
      )
    except predict.Stopped:
      print("stopped; the same command goes on", file=sys.stderr)
      return flags.STOPPED
  return 0
