"""Trains a config's stages, and continues by itself where it stopped.

  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/tiny
  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/tiny \\
      --config.data.seed=3 --config.stages.1_pretraining.steps=500
  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/try \\
      --max_steps 10 --stages 0_alignment,1_pretraining
  python -m emma_jax.cli.train status runs/tiny   # how it is doing; see --help
  python -m emma_jax.cli.train finetune reference my_pictures ...   # see --help

On several hosts every process runs the same command; see launch/. Exit codes:
0 done (or stopped by a signal, where a single process trains), 2 a mistake in
the command, 65 damaged checkpoints or too many bad records, 66 the checkpoints
are gone, 69 the other processes were not found, 71 the devices have too little
memory, 73 another run is at work in the folder, 74 the disk is full or fails,
75 several processes were asked to stop and have saved, 76 weights, losses or
gradients are not finite, 130 interrupted twice; all of them: emma_jax/exits.py.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import sys
import time
import traceback
from typing import Any

from emma_jax import programs, terminal
from emma_jax.build import config_file, sections, shorter
from emma_jax.cli import common, devices
from emma_jax.exits import Exit
from emma_jax.training import run_file


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
    type=common.path,
    help="checkpoints, metrics, scores and the report; the same command "
    "with the same folder continues the run",
  )
  parser.add_argument(
    "--max_steps",
    type=int,
    metavar="N",
    help="a short run: at most N steps a stage; warm-up and average shrink "
    "alike",
  )
  parser.add_argument(
    "--stages",
    metavar="A,B",
    help="only these stages of the config, such as 0_alignment,1_pretraining",
  )
  parser.add_argument(
    "--log_format",
    choices=("text", "json"),
    default="text",
    help="json: every line on stdout and stderr is an object [text]",
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
  devices.add_processes(parser)
  return parser


@dataclasses.dataclass(kw_only=True)
class _Asked:
  """What the command asks for, once it was read."""

  args: argparse.Namespace
  config: Any
  digest: str  # of the config as it was given
  start: float  # reading of the clock
  record: run_file.RunFile | None = None  # once there is a run to tell of


def _read(argv: list[str]) -> _Asked:
  """Mistakes are found before JAX is loaded."""
  start = time.perf_counter()
  args, overrides = common.parse_arguments(_parser(), argv)
  config = config_file.load(args.config, overrides)
  if args.stages is not None:
    names = [name.strip() for name in args.stages.split(",")]
    shorter.stages(config, [name for name in names if name])
  if args.max_steps is not None:
    shorter.steps(config, args.max_steps)
  digest = run_file.digest(sections.plain(config))
  return _Asked(args=args, config=config, digest=digest, start=start)


def _claim(asked: _Asked) -> int:
  """Makes the working folder this run's alone, and trains."""
  args = asked.args
  terminal.doing("loading the program")
  from emma_jax.training import folder, goodput

  ledger = goodput.Ledger(since=asked.start)
  profile = None
  if args.profile:
    try:
      profile = goodput.Profile.parse(args.profile, args.workdir / "profile")
    except ValueError as error:
      raise common.UserError(str(error)) from error
  if args.compilation_cache != "off":
    programs.use(args.compilation_cache or None)
  if re.match(r"\w+:/", str(args.workdir)):
    raise common.UserError(
      f"--workdir {args.workdir}: a bucket has to be mounted as a folder, such "
      "as by gcsfuse; see launch/."
    )
  terminal.doing("looking for devices")
  devices.join(args)
  terminal.doing("building the model and opening its data")
  _check_memory(asked.config, args.workdir)
  with folder.claimed(args.workdir):
    return _train(asked, ledger, profile)


def _train(asked: _Asked, ledger: Any, profile: Any) -> int:
  """In a folder that is this run's alone: its data plans are written there."""
  args, config = asked.args, asked.config
  import jax

  from emma_jax import distributed, provenance
  from emma_jax.build import run as build_run
  from emma_jax.training import loop

  run = build_run.run(config, plans=str(args.workdir / "plan"))
  from emma_jax.evals import during, run_report

  report = run_report.RunReport(args.workdir, run.config)
  after = None
  if config.train.evaluate:
    after = during.StageEvaluator(args.workdir, run.config, report=report)
  midway = _benchmarks(args, dict(run.config))
  about = provenance.about(
    run.config, step=0, devices=distributed.devices(), hosts=distributed.hosts()
  )
  record = run_file.RunFile(args.workdir, jax.process_index() == 0, about)
  asked.record = record
  try:
    loop.train(
      run,
      args.workdir,
      _both(after, midway),
      ledger,
      profile,
      midway,
      during.RunObserver(args.workdir, run.config, report),
      record,
    )
  except loop.Stopped as stopped:
    print(stopped, file=sys.stderr)
    record.end(run_file.STOPPED, Exit.STOPPED, str(stopped))
    if args.stopped_code is not None:
      return args.stopped_code
    return Exit.STOPPED if jax.process_count() > 1 else 0
  report.write()  # also where no stage was left to write it
  record.end(
    run_file.DONE,
    Exit.DONE,
    config=asked.digest if _complete(args.workdir, run) else "",
    results=run_file.results(args.workdir),
  )
  if jax.process_index() == 0:
    print(ledger.summary())
    print(
      f"Done after {time.perf_counter() - asked.start:.0f} s; "
      f"everything is in {args.workdir}, with {report.path.name}."
    )
  return 0


def _complete(workdir: pathlib.Path, run: Any) -> bool:
  """Whether there is nothing that the same command would still do: test sets
  whose judge could not be asked are judged by the next one."""
  from emma_jax.evals import runner

  if not run.config["evaluate"]["benchmarks"]["config"]:
    return True
  lines = runner.read_history(workdir / "benchmarks.jsonl")
  return bool(lines) and lines[-1]["step"] == sum(s.steps for s in run.stages)


def _told_done(asked: _Asked) -> bool:
  """Says so where the run is finished: in a second, nothing is read again."""
  workdir = asked.args.workdir
  done = run_file.finished(workdir, asked.digest)
  if done is None:
    return False
  print(f"Done: all {done['step']:,} steps; nothing is left to do.")
  for name in done["results"]:
    if name.endswith(".html"):
      print(f"Report: {workdir / name}")
  return True


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
  """Calls all that there are, one after the other, and returns their scores;
  None where there is none."""
  every = [one for one in evaluators if one is not None]
  if not every:
    return None

  def call(*given: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in every:
      found |= one(*given)
    return found

  return call


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if argv[:1] == ["status"]:
    from emma_jax.cli import train_status

    return train_status.main(argv[1:])
  with terminal.guarded(), terminal.json_lines(_wants_json(argv)):
    if argv[:1] == ["finetune"]:
      from emma_jax.cli import finetune

      return finetune.main(argv[1:], train=main)
    return _run(argv)


def _wants_json(argv: list[str]) -> bool:
  """Before the arguments are read: mistakes in them are lines, too. A training
  within a fine-tuning goes on as that began."""
  return (
    terminal.is_json()
    or "--log_format=json" in argv
    or (
      "--log_format" in argv[:-1]
      and argv[argv.index("--log_format") + 1] == "json"
    )
  )


def _run(argv: list[str]) -> int:
  asked: list[_Asked] = []
  code = common.run(lambda argv: asked.append(_read(argv)), argv)
  if not asked or _told_done(asked[0]):
    return code
  error = ""

  def train(argv: list[str]) -> int:
    nonlocal error
    try:
      with terminal.live():
        return _claim(asked[0])
    except BaseException as raised:
      error = f"{type(raised).__name__}: {raised}"
      raise

  code = Exit.FAULT
  try:
    code = common.run(train, argv, _mistakes())
  finally:
    if error and asked[0].record:
      asked[0].record.end(run_file.FAILED, code, error)
  return code


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax import distributed, rules
  from emma_jax.build import sections
  from emma_jax.checkpoints import checkpointer
  from emma_jax.data.loading import labels
  from emma_jax.training import latents, state

  return (
    sections.ConfigError,
    rules.RuleError,
    state.LoadError,
    checkpointer.CheckpointError,
    checkpointer.ContradictionError,
    latents.WrongLatents,
    labels.NoLabels,
    distributed.StartError,
    FileExistsError,
    FileNotFoundError,
    NotADirectoryError,
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
