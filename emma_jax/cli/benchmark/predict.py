"""emma-benchmark predict: the model's answers and pictures.

Several processes, on one machine or many, may predict into one folder, each
with a --shard of its own. What is there is not made again, whoever made it, in
whatever batches. Or they are one mesh, for a model that one of them cannot
hold: the same command on all, joined by --coordinator and so on, of which the
first one reads and writes the folder.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax import programs
from emma_jax.cli import common, devices
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark predict`."""
  parser = common.add_subcommand(
    commands,
    "predict",
    "the model's answers and pictures, the first stage",
    __doc__,
    run,
  )
  common.add_config_arguments(parser, "benchmarks")
  flags.add_out(parser)
  flags.add_model(parser)


def prepared(
  args: argparse.Namespace, overrides: Mapping[str, str], *, judged: bool
) -> tuple[Any, Mapping[str, Any], Any]:
  """(run, data of its sets, model), with the folder begun.

  judged: whether judges will be asked too, so that they are checked.
  """
  from emma_jax.benchmarks import folders, runs

  flags.shard_of(args.shard)  # checks it
  if args.batch < 0:
    raise common.UserError(f"--batch {args.batch} must not be negative.")
  mesh, overrides = devices.split(overrides)
  _join(args, judged)
  config = flags.load_config(args, overrides)
  found = runs.make_run(config, args.out, args.sets, args.data)
  if devices.is_first():  # before anything is loaded
    folders.check_free(args.out)
  sources = runs.open_sources(found, judged=judged)
  programs.use()
  from emma_jax.benchmarks.model import Model, about
  from emma_jax.build import session

  try:
    model = Model.of(
      session.load(
        args.checkpoint,
        batch=config["rows"],
        fill=True,
        **devices.options(args, mesh),
      )
    )
  except common.sampling_mistakes() as error:
    raise common.UserError(str(error)) from error
  described = about(model, args.checkpoint)
  if devices.is_first():
    runs.begin(found, described)
  return found, sources, model


def _join(args: argparse.Namespace, judged: bool) -> None:
  """Joins the other processes; UserError where they would ask judges."""
  import jax

  from emma_jax import distributed

  try:
    devices.join(args)
  except distributed.StartError as error:
    raise common.UserError(str(error)) from error
  if judged and jax.process_count() > 1:
    raise common.UserError(
      f"{jax.process_count()} processes predict together; judges are asked by "
      "one. Give `emma-benchmark predict` to all, then judge, aggregate and "
      "report to one."
    )


def predict(
  args: argparse.Namespace, found: Any, sources: Mapping[str, Any], model: Any
) -> int:
  """The stage, of what `prepared` gives; 75 where it was asked to stop."""
  from emma_jax.benchmarks import stages

  return flags.until_stopped(
    lambda stop: stages.predict(
      found,
      model,
      sources,
      shard=flags.shard_of(args.shard),
      batch=args.batch or found.config["rows"],
      stop=stop,
    )
  )


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Predicts; 75 where it was asked to stop."""
  return predict(args, *prepared(args, overrides, judged=False))
