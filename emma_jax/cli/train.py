"""Trains a config's stages, and continues by itself where it stopped.

  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/tiny
  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/tiny \\
      --config.data.seed=3 --config.stages.1_pretraining.steps=500
"""

import argparse
import pathlib
import sys
import time

from emma_jax.cli import common


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog="emma-train", description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  common.add_config_arguments(parser)
  parser.add_argument(
      "--workdir", required=True, type=pathlib.Path,
      help="checkpoints, metrics, scores and the report; the same command "
      "with the same folder continues the run")
  return parser


def _main(argv: list[str] | None) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  config = common.load_config(args.config, overrides)
  common.use_compilation_cache()
  # After the arguments: a mistake in them should not wait for JAX.
  from emma_jax import build
  from emma_jax.training import assemble, loop

  start = time.time()
  run = assemble.run(config)
  after = None
  if config.train.evaluate:
    from emma_jax.evals import during

    after = during.StageEvaluator(args.workdir, build.plain(config))
  try:
    loop.train(run, args.workdir, after)
  except loop.Stopped as stopped:
    print(stopped, file=sys.stderr)
    return 0
  print(f"Done after {time.time() - start:.0f} s; "
        f"everything is in {args.workdir}.")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax import build, rules
  from emma_jax.data import pipeline
  from emma_jax.training import checkpoint, state

  return (build.ConfigError, rules.RuleError, state.LoadError,
          checkpoint.CheckpointError, checkpoint.ContradictionError,
          pipeline.TooManyBadRecords, FileNotFoundError)


def entry() -> None:
  sys.exit(main())


if __name__ == "__main__":
  entry()
