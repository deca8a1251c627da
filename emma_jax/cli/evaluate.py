"""Scores weights on held-out samples; writes scores, predictions and a report.

  emma-evaluate
  emma-evaluate --checkpoint runs/demo --samples 500 --reference
  emma-evaluate --checkpoint runs/demo --quick
  emma-evaluate --checkpoint runs/demo --tasks drawing --no-held-out
  emma-evaluate --checkpoint runs/emoji --und und_val.jsonl --t2i t2i_val.jsonl

The same as `python -m emma_jax.cli.evaluate`. Without --checkpoint the shipped
reference model is scored. Scores are exact on the embedded world; on your own
files answers are; pictures are shown in the report to be looked at, beside the
velocity loss by bin of time, the autoencoder's ceiling and the nearest training
picture. What was answered, drawn and edited is in predictions.jsonl and its
pictures/.
"""

import argparse
import pathlib
import sys
from typing import Any

from emma_jax import programs
from emma_jax.build import config_file
from emma_jax.cli import common, devices

_FILES = {"und": "understanding", "t2i": "drawing", "edit": "editing"}


# Settings of `--quick`; its scores are not those of the usual ones.
_QUICK: dict[str, Any] = dict(
  samples=16, batch=16, steps=10, held_out=False, ceiling=False
)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-evaluate",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="--config.evaluate.KEY=VALUE and --config.sample.KEY=VALUE change "
    "what the weights' own config says, such as --config.evaluate.steps=50. "
    + devices.MESH_HELP,
  )
  parser.add_argument(
    "--checkpoint",
    default="reference",
    metavar="SOURCE",
    help="working directory of a training, a .safetensors file, or "
    "reference (default: the shipped model)",
  )
  parser.add_argument(
    "--out",
    "--workdir",
    type=common.path,
    metavar="DIR",
    help="where scores.json, predictions.jsonl and report.html go (default: "
    "the folder evaluation, in the training's working directory or here)",
  )
  _add_sets(parser)
  parser.add_argument(
    "--reference",
    action="store_true",
    help="also score the shipped model on the same samples",
  )
  for flag, task in _FILES.items():
    parser.add_argument(
      f"--{flag}",
      metavar="FILE",
      help=f"JSON lines, or a folder of records, for {task}; with any, files "
      "alone are evaluated",
    )
  devices.add_dtype(parser)
  devices.add_processes(parser)
  parser.add_argument(
    "--allow-outside",
    action="store_true",
    help="read pictures that these files name outside of their folders, too",
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )
  return parser


def _add_sets(parser: argparse.ArgumentParser) -> None:
  """What is scored: how many samples, of which sets."""
  parser.add_argument(
    "--samples",
    type=int,
    metavar="N",
    help="samples of every set: of each task, and of each held-out set",
  )
  parser.add_argument(
    "--quick",
    action="store_true",
    help=f"a look: {_QUICK['samples']} samples a task in {_QUICK['steps']} "
    "denoising steps, no held-out sets, no ceiling; its scores are rough",
  )
  parser.add_argument("--split", choices=("test", "val"), help="of the world")
  parser.add_argument(
    "--tasks",
    metavar="A,B",
    help="some of understanding, drawing, editing (default: all)",
  )
  parser.add_argument(
    "--no-held-out",
    action="store_true",
    help="leave out unseen pairs, Chinese prompts and double edits",
  )


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  mesh, overrides = devices.split(overrides)
  for key in overrides:
    if key.split(".")[0] not in ("evaluate", "sample"):
      raise common.UserError(
        f"--config.{key}: the weights decide this; only keys of evaluate, "
        "sample and mesh can be changed when evaluating."
      )
  changes = _changes(args)
  programs.use()
  # After the arguments: a mistake in them should not wait for JAX.
  from emma_jax.training import folder

  devices.join(args)
  # Before weights are loaded: two would write one file in turns.
  with folder.claimed(_out(args), "emma-evaluate"):
    _load_and_evaluate(args, overrides, mesh, changes)
  return 0


def _load_and_evaluate(
  args: argparse.Namespace,
  overrides: dict[str, str],
  mesh: dict[str, str],
  changes: dict[str, Any],
) -> None:
  """Of the folder that is claimed; `changes`: settings that flags give."""
  from emma_jax.build import session as build_session
  from emma_jax.evals.settings import EvalSettings, knows_world

  def change(config: dict[str, Any]) -> dict[str, Any]:
    out = config_file.changed(config, overrides)
    EvalSettings.of(out, **changes)  # now: weights may take minutes
    return out

  session = build_session.load(
    args.checkpoint, change=change, **devices.options(args, mesh)
  )
  settings = EvalSettings.of(session.config, **changes)
  if not settings.sources and not knows_world(session.config):
    raise common.UserError(
      f"{session.name} was trained on files, not on the embedded world; name "
      "held-out files with --und, --t2i and --edit."
    )
  if devices.is_first():
    print(
      f"Evaluating {session.name}, trained for {session.step} steps.",
      file=sys.stderr,
    )
  _evaluate(session, settings, args)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
  """Settings that flags give; those not given stay the config's."""
  changes: dict[str, Any] = {
    "held_out": not args.no_held_out,
    "reference": args.reference,
  }
  if args.quick:
    changes |= _QUICK
  if args.samples is not None:
    changes |= {"samples": args.samples, "held_out_samples": args.samples}
  if args.split:
    changes["split"] = args.split
  if args.tasks:
    changes["tasks"] = tuple(t.strip() for t in args.tasks.split(","))
  sources = {}
  for flag, task in _FILES.items():
    path = getattr(args, flag)
    if path is not None:
      if pathlib.Path(path, "dataset.json").is_file():
        sources[task] = f"records:{path}"
        continue
      if not pathlib.Path(path).is_file():
        raise common.UserError(
          f"--{flag} {path}: there is no such file or folder of records."
        )
      kind = "jsonl-outside" if args.allow_outside else "jsonl"
      sources[task] = f"{kind}:{path}"
  if sources:
    changes["sources"] = sources
  return changes


def _trained(args: argparse.Namespace) -> pathlib.Path | None:
  """The working directory of the training that is evaluated, if it is one."""
  folder = pathlib.Path(args.checkpoint).expanduser()
  return folder if (folder / "checkpoints").is_dir() else None


def _out(args: argparse.Namespace) -> pathlib.Path:
  """Where scores, predictions and report go."""
  return args.out or (_trained(args) or pathlib.Path()) / "evaluation"


def _evaluate(session: Any, settings: Any, args: argparse.Namespace) -> None:
  from emma_jax.evals import once, reference, table

  if settings.reference and not reference.installed():
    raise common.UserError(
      "--reference: this installation ships no reference weights."
    )
  out = _out(args)
  scores = once.evaluate(session, settings, out, _trained(args))
  if devices.is_first():
    table.show(scores)
    print(
      f"Scores: {out / 'scores.json'}\nReport: {out / 'report.html'}\n"
      f"Predictions: {out / once.PREDICTIONS}"
    )


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax.evals.files import NoRecords

  return (NoRecords, *common.sampling_mistakes())


def entry() -> None:
  """The console script."""
  devices.end(main)


if __name__ == "__main__":
  entry()
