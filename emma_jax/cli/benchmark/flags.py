"""What the stages' commands have in common."""

import argparse
from collections.abc import Callable, Mapping
import os
import sys
from typing import Any

from emma_jax.cli import common, devices
from emma_jax.exits import Exit


def add_out(parser: argparse.ArgumentParser) -> None:
  """--out, --sets and --data."""
  parser.add_argument(
    "--out",
    type=common.path_name,
    metavar="DIR",
    required=True,
    help="folder of the results",
  )
  parser.add_argument(
    "--sets",
    default="",
    metavar="A,B",
    help="of the config [all enabled; of a folder, those it has]",
  )
  add_data(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
  """--data."""
  parser.add_argument(
    "--data",
    metavar="DIR",
    default=os.environ.get("EMMA_BENCHMARKS", ""),
    help="a folder per set, or VLMEvalKit's LMUData [the config's, or "
    "$EMMA_BENCHMARKS]",
  )


def add_model(parser: argparse.ArgumentParser) -> None:
  """--checkpoint and how its predictions are computed."""
  parser.add_argument(
    "--checkpoint",
    metavar="NAME",
    required=True,
    help="shipped weights, a weight file, a training's or an exported folder",
  )
  parser.add_argument(
    "--shard",
    default="",
    metavar="I/N",
    help="make the I-th of N shares, from 0, in a process of its own [all]",
  )
  parser.add_argument(
    "--batch",
    type=int,
    default=0,
    metavar="N",
    help="items computed at once; gives the same predictions [config.rows]",
  )
  devices.add_dtype(parser)
  devices.add_processes(parser)
  parser.epilog = devices.MESH_HELP


def load_config(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> dict[str, Any]:
  """The config of --config, or the one that the folder was begun with."""
  import ml_collections

  from emma_jax.benchmarks import runs
  from emma_jax.build import config_file

  if args.config:
    return config_file.load(args.config, overrides).to_dict()
  config = ml_collections.ConfigDict(runs.saved_config(args.out))
  config.lock()
  for key, text in overrides.items():
    config_file.override(config, key, text)
  return config.to_dict()


def begun(args: argparse.Namespace, overrides: Mapping[str, str]) -> Any:
  """The run of a folder that has predictions, for the stages behind them.

  Without --sets: of its own config the sets that were predicted, else all.
  """
  from emma_jax.benchmarks import folders, runs

  config = load_config(args, overrides)
  only = args.sets
  if not only and not args.config:
    only = ",".join(
      name
      for name in config["sets"]
      if folders.SetFolder(args.out, name).is_begun
    )
  return runs.make_run(config, args.out, only, args.data)


def until_stopped(stage: Callable[[Callable[[], bool]], None]) -> int:
  """Runs a stage; 75 where SIGTERM or Ctrl-C ended it.

  stage: is given whether one came; between batches nothing is lost.
  """
  from emma_jax.benchmarks.records import Stopped
  from emma_jax.training.signals import StopRequest

  with StopRequest() as request:
    try:
      stage(lambda: request.requested)
    except Stopped:
      print("stopped; the same command goes on", file=sys.stderr)
      return Exit.STOPPED
  return 0


def add_saved_config(parser: argparse.ArgumentParser) -> None:
  """--config, which a folder that was begun does not need."""
  parser.add_argument(
    "--config",
    default="",
    metavar="FILE",
    help="in place of the config that the folder was begun with",
  )


def shard_of(text: str) -> Any:
  """Of --shard; all where it is not given.

  Raises:
    UserError: it is no I/N.
  """
  from emma_jax.benchmarks.selection import Shard

  if not text:
    return Shard()
  index, _, count = text.partition("/")
  try:
    return Shard(int(index), int(count))
  except ValueError as error:
    raise common.UserError(
      f"--shard {text}: give I/N with I from 0 below N, such as 0/4 ({error})."
    ) from error


def judge(run: Any, sources: Mapping[str, Any]) -> int:
  """The judge stage; 75 where it was asked to stop."""
  from emma_jax.benchmarks import stages

  return until_stopped(lambda stop: stages.judge(run, sources, stop=stop))


def score(run: Any, sources: Mapping[str, Any]) -> int:
  """The aggregate stage, and its table; 1 where a set has no score."""
  from emma_jax.benchmarks import stages, tables

  path = stages.score(run, sources)
  return tables.show(path)


def after_predictions(
  run: Any, sources: Mapping[str, Any], data: str = ""
) -> int:
  """Judges, aggregates and reports; `data` is --data."""
  from emma_jax.benchmarks import page

  code = judge(run, sources)
  if code:
    return code
  code = score(run, sources)
  print(page.write(run.out, data))
  return code
