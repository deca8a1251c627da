"""Trains a config's stages, and continues by itself where it stopped.

  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/tiny
  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/tiny \\
      --config.data.seed=3 --config.stages.1_pretraining.steps=500

On several hosts every process runs the same command; see launch/. Exit codes:
0 done (or stopped by a signal, where a single process trains), 2 a mistake in
the command, 69 the other processes were not found, 71 the devices have too
little memory, 75 several processes were
asked to stop and have saved, 130 interrupted twice.
"""

import argparse
import os
import pathlib
import sys
import time
import traceback
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.exits import Exit


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-train",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  common.add_config_arguments(parser)
  parser.add_argument(
    "--workdir",
    required=True,
    type=pathlib.Path,
    help="checkpoints, metrics, scores and the report; the same command "
    "with the same folder continues the run",
  )
  parser.add_argument(
    "--profile",
    metavar="FIRST:LAST",
    default="",
    help="trace these steps of the run for xprof, into WORKDIR/profile",
  )
  parser.add_argument(
    "--compilation_cache",
    metavar="DIR",
    default="",
    help="where compiled programs are kept, a folder or gs://..., best one "
    "that all hosts share; 'off' for none [xla in EMMA_CACHE, or in the "
    "user's cache directory]",
  )
  parser.add_argument(
    "--stopped_code",
    type=int,
    metavar="CODE",
    default=os.environ.get("EMMA_STOPPED_CODE"),
    help="exit code after a signal, all being saved [0 for one process, 75 "
    "for several]; clusters restart what does not end with 0; or "
    "EMMA_STOPPED_CODE",
  )
  _add_distributed(
    parser.add_argument_group(
      "several processes", "Each may be given as EMMA_COORDINATOR and so on."
    )
  )
  return parser


def _add_distributed(group) -> None:
  group.add_argument(
    "--distributed",
    choices=("auto", "on", "off"),
    default="auto",
    help="auto: join others where flags, SLURM, Open MPI or a TPU slice in "
    "GKE tell of them; on: always, such as on TPU machines without GKE",
  )
  group.add_argument(
    "--coordinator", metavar="HOST:PORT", help="where process 0 listens"
  )
  group.add_argument("--num_processes", type=int, metavar="N")
  group.add_argument("--process_id", type=int, metavar="I", help="from 0")
  group.add_argument(
    "--start_seconds",
    type=int,
    metavar="S",
    help="wait for the others at most so long [300]",
  )
  group.add_argument(
    "--peer_seconds",
    type=int,
    metavar="S",
    help="end all after one was silent for so long [60]",
  )


def _join(args: argparse.Namespace) -> None:
  """Before anything else that asks JAX for devices."""
  from emma_jax import distributed

  distributed.start(
    distributed.settings(
      os.environ,
      args.distributed,
      coordinator=args.coordinator,
      num_processes=args.num_processes,
      process_id=args.process_id,
      start_seconds=args.start_seconds,
      peer_seconds=args.peer_seconds,
    )
  )


def _main(argv: list[str]) -> int:
  start = time.perf_counter()
  args, overrides = common.parse_arguments(_parser(), argv)
  config = config_file.load(args.config, overrides)
  # After the arguments: a mistake in them should not wait for JAX.
  import jax

  from emma_jax.build import run as build_run
  from emma_jax.training import goodput, loop

  ledger = goodput.Ledger(since=start)
  profile = None
  if args.profile:
    try:
      profile = goodput.Profile.parse(args.profile, args.workdir / "profile")
    except ValueError as error:
      raise common.UserError(str(error)) from error
  if args.compilation_cache != "off":
    common.use_compilation_cache(args.compilation_cache or None)
  _join(args)
  _check_memory(config, args.workdir)
  run = build_run.run(config, plans=str(args.workdir / "plan"))
  after = None
  if config.train.evaluate:
    from emma_jax.evals import during

    after = during.StageEvaluator(args.workdir, dict(run.config))
  midway = _benchmarks(args, dict(run.config))
  try:
    after = _both(after, midway)
    loop.train(run, args.workdir, after, ledger, profile, midway)
  except loop.Stopped as stopped:
    print(stopped, file=sys.stderr)
    if args.stopped_code is not None:
      return args.stopped_code
    return Exit.STOPPED if jax.process_count() > 1 else 0
  if jax.process_index() == 0:
    print(ledger.summary())
    print(
      f"Done after {time.perf_counter() - start:.0f} s; "
      f"everything is in {args.workdir}."
    )
  return 0


def _check_memory(config: Any, workdir: pathlib.Path) -> None:
  """Raises TooLittleMemory for stages that these devices cannot hold: now,
  before data and weights are read, which takes long where they are large."""
  from emma_jax.build import memory
  from emma_jax.build import run as build_run

  run = build_run.run(config, data=False)
  memory.check_training(run, memory.stage_under_way(workdir))


def _benchmarks(args: argparse.Namespace, config: dict[str, Any]) -> Any:
  """What scores published test sets during the run; None where none is named.

  Raises:
    UserError: a set or a judge that is not there.
  """
  if not config["evaluate"]["benchmarks"]["config"]:
    return None
  from emma_jax.benchmarks import during
  from emma_jax.benchmarks.settings import BadSettings

  try:
    return during.BenchmarkEvaluator(args.workdir, config)
  except BadSettings as error:
    raise common.UserError(f"evaluate.benchmarks: {error}") from error


def _both(*evaluators: Any) -> Any:
  """Calls all that there are, one after the other; None where there is none."""
  every = [one for one in evaluators if one is not None]
  if not every:
    return None

  def call(*given: Any) -> None:
    for one in every:
      one(*given)

  return call


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax import distributed, rules
  from emma_jax.build import sections
  from emma_jax.checkpoints import checkpointer
  from emma_jax.data.loading import dataset, labels
  from emma_jax.training import latents, state

  return (
    sections.ConfigError,
    rules.RuleError,
    state.LoadError,
    checkpointer.CheckpointError,
    checkpointer.ContradictionError,
    latents.WrongLatents,
    labels.NoLabels,
    dataset.TooManyBadRecords,
    distributed.StartError,
    FileNotFoundError,
  )


def entry() -> None:
  """The console script."""
  from emma_jax import distributed

  try:
    code = main()
  except Exception:
    traceback.print_exc()
    code = 1
  distributed.leave(code)


if __name__ == "__main__":
  entry()
