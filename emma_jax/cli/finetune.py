"""emma-train finetune: a trained model learns your own pictures.

  emma-train finetune reference my_pictures --out runs/mine
  emma-train finetune runs/demo data/t2i data/und --out runs/mine
  emma-train finetune runs/emma_4b captions.csv --out runs/mine --prepare

MODEL is weights with their config: `reference` (shipped), a training's folder,
a .safetensors file or an exported folder. DATA are folders of records, or
whatever `emma-data convert` reads: folders of pictures with texts, zips of
them, tables; drawings, edits and questions, or any of them. A part of each is
held out. What the paper's stage 3 freezes is frozen, and rows, samples and
steps are chosen for the data (configs/finetune/emma.py; any key by
--config.KEY=VALUE). At the end
OUT/before_after.png has held-out prompts, edits and questions by the model
before and after, OUT/report.html and scores.json the scores. The same command
again continues.
"""

import argparse
from collections.abc import Callable
import json
import os
import pathlib
import pprint
import shlex
import sys
from typing import Any

from emma_jax import files, programs, ranges
from emma_jax.build import config_file, sections
from emma_jax.cli import common
from emma_jax.exits import Exit
from emma_jax.structs import TASKS

# PSNR in dB below which an autoencoder's pictures are hardly the user's.
_DIM = 18.0
# Of each task, how its use is called, and the command.
_NEXT = {
  "drawing": (
    "Draw with it",
    "draw --checkpoint {} --prompt '...' --out drawn.png",
  ),
  "editing": (
    "Edit with it",
    "edit --checkpoint {} --image FILE --instruction '...' --out edited.png",
  ),
  "understanding": (
    "Ask it",
    "ask --checkpoint {} --image FILE --question '...'",
  ),
}
# Records of each task whose texts are counted, so that others are told apart.
_TEXTS = 6000
CONFIG, DECODER = "config.py", "decoder.safetensors"


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-train finetune",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("model", metavar="MODEL", help="weights, with the config they are of")
  add("data", nargs="+", metavar="DATA", help="records, pictures or tables")
  add(
    "--out",
    required=True,
    type=common.path,
    metavar="DIR",
    help="the data in two parts, the config, checkpoints, scores, report",
  )
  add(
    "--tasks",
    default=",".join(TASKS),
    metavar="A,B",
    help="of the data, only these tasks [%(default)s]",
  )
  steps = parser.add_mutually_exclusive_group()
  steps.add_argument(
    "--steps", type=int, metavar="N", help="of training [by the data]"
  )
  steps.add_argument(
    "--max_steps",
    type=int,
    metavar="N",
    help="at most so many [finetune.max_steps]",
  )
  add(
    "--held-out",
    type=ranges.SHARE.number,
    metavar="SHARE",
    help="of each task that is not trained on [finetune.held_out]",
  )
  add(
    "--max-rejected",
    type=ranges.SHARE.number,
    default=0.2,
    help="share of rows that may be unusable [%(default)s]",
  )
  add(
    "--allow-outside",
    action="store_true",
    help="read pictures outside of the data's folders, too",
  )
  add(
    "--decoder",
    action="store_true",
    help="before, teach the autoencoder's decoder to show these pictures "
    "(configs/finetune/decoder.py); its latents stay what they are",
  )
  add(
    "--prepare",
    action="store_true",
    help="only the data and OUT/config.py; print the command that trains",
  )
  add(
    "--log_format",
    choices=("text", "json"),
    default="text",
    help="json: every line on stdout and stderr is an object [text]",
  )
  add("--debug", action="store_true", help="show stack traces of errors")
  return parser


def main(argv: list[str], train: Callable[[list[str]], int]) -> int:
  """Runs the command; returns its exit code. `train`: emma-train's own main."""
  prepared: list[tuple[argparse.Namespace, dict[str, Any], str]] = []
  code = common.run(
    lambda argv: prepared.append(_prepare(argv)), argv, _mistakes()
  )
  if not prepared:
    return code
  args, config, former = prepared[0]
  debug = ["--debug"] * ("--debug" in argv)
  command = ["--config", str(args.out / CONFIG), "--workdir", str(args.out)]
  if args.prepare:
    print(f"Train by: emma-train {shlex.join(command)}")
    return 0
  if args.decoder and not (args.out / DECODER).is_file():
    folder = args.out / "decoder"
    code = train(
      ["--config", str(folder / CONFIG), "--workdir", str(folder), *debug]
    )
    if code or not _steps_done(folder):
      return code
    _pack(folder, args.out / DECODER)
  code = train([*command, *debug])
  if code == Exit.MISTAKE and former:  # another config than the weights'
    files.write_text(args.out / CONFIG, former)
  steps = config["stages"]["finetune"]["steps"]
  if code or _steps_done(args.out) < steps:
    return code
  return common.run(
    lambda argv: _show(args, config), debug, common.sampling_mistakes()
  )


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax.checkpoints.integrity import CheckpointError
  from emma_jax.data.ingest import job, pool

  return (CheckpointError, job.ConversionError, pool.WorkerDied)


def _prepare(argv: list[str]) -> tuple[argparse.Namespace, dict[str, Any], str]:
  """The data and OUT/config.py; returns the config, and the file's text as it
  was before, "" where there was none."""
  args, overrides = common.parse_arguments(_parser(), argv)
  named = {name.strip() for name in args.tasks.split(",")} - {""}
  tasks = tuple(task for task in TASKS if task in named)
  if named - set(TASKS) or not tasks:
    raise common.UserError(f"--tasks {args.tasks}: choose some of {TASKS}.")
  if os.path.realpath(args.model) == os.path.realpath(args.out):
    raise common.UserError(
      f"--out {args.out} is the MODEL itself, which stays as it is; name "
      "another folder."
    )
  for flag in ("steps", "max_steps"):
    given = getattr(args, flag)
    if given is not None and given < 1:
      raise common.UserError(f"--{flag} {given} must be at least 1.")
  own = {k: v for k, v in overrides.items() if k.startswith("finetune.")}
  if args.held_out is not None:
    own["finetune.held_out"] = str(args.held_out)
  steps = overrides.get("stages.finetune.steps", args.steps)
  if steps is not None:  # warm-up, average and looks follow
    own |= {f"finetune.{key}": str(steps) for key in ("min_steps", "max_steps")}
  base = config_file.load("finetune/emma", own)
  if args.max_steps is not None:
    for key in ("min_steps", "max_steps"):
      own[f"finetune.{key}"] = str(min(args.max_steps, base.finetune[key]))
    base = config_file.load("finetune/emma", own)
  programs.use()
  from emma_jax.build import finetune
  from emma_jax.cli.finetune_data import split

  model = _absolute(args.model)
  given = finetune.config(base, model, finetune.described(model)["config"])
  rest = {k: v for k, v in overrides.items() if k not in own}
  given = config_file.changed(given, rest)
  data = split(args, given, tasks)
  if args.decoder:
    _prepare_decoder(args, argv, model, data)
    load = [["autoencoder/.*", f"weights:{(args.out / DECODER).absolute()}"]]
    section = given["stages"][finetune.STAGE]
    section["load"] = load + section["load"]
  config = finetune.with_data(given, data)
  config["name"] = args.out.absolute().name
  config = sections.plain(config_file.changed(config, rest))
  for line in finetune.lines(config, data):
    print(line, file=sys.stderr)
  path = args.out / CONFIG
  former = path.read_text("utf-8") if path.is_file() else ""
  _write_config(args.out, args.model, argv, config)
  return args, config, former


def _prepare_decoder(
  args: argparse.Namespace, argv: list[str], model: str, data: Any
) -> None:
  from emma_jax.build import finetune

  if args.prepare:
    raise common.UserError(
      "--prepare and --decoder do not go together: the second run reads what "
      "the first has made."
    )
  base = config_file.load("finetune/decoder")
  about = finetune.described(model)["config"]
  config = finetune.decoder(base, model, about, data)
  (args.out / "decoder").mkdir(parents=True, exist_ok=True)
  _write_config(args.out / "decoder", args.model, argv, config)


def _pack(folder: pathlib.Path, out: pathlib.Path) -> None:
  """The averaged weights of the decoder's run, and the encoder as it was."""
  from emma_jax.build import packed

  packed.pack(
    folder,
    out,
    autoencoder=False,
    pictures=0,
    dtype="float32",
    note="a decoder that was fine-tuned",
  )


def _absolute(name: str) -> str:
  """A path that means the same from any folder; a shipped name as it is."""
  path = pathlib.Path(name).expanduser()
  return str(path.absolute()) if path.exists() else name


def _write_config(
  out: pathlib.Path, model: str, argv: list[str], config: dict[str, Any]
) -> None:
  command = shlex.join(["emma-train", "finetune", *argv])
  text = (
    f'"""{config["name"]}: {model}, fine-tuned on own data.\n\n'
    f"Written by\n\n  {command}\n\nand read by `emma-train --config "
    f'{CONFIG} --workdir DIR`.\n"""\n\nimport ml_collections\n\n\n'
    "def get_config() -> ml_collections.ConfigDict:\n"
    '  """Every key of the run."""\n'
    f"  return ml_collections.ConfigDict(_VALUES)\n\n\n_VALUES = "
    f"{pprint.pformat(config, indent=1, width=80, sort_dicts=False)}\n"
  )
  files.write_text(out / CONFIG, text)


def _steps_done(workdir: pathlib.Path) -> int:
  from emma_jax.checkpoints import sound

  saved = sound.saved_steps(workdir.absolute() / "checkpoints")
  return saved[-1] if saved else 0


def _show(args: argparse.Namespace, config: dict[str, Any]) -> None:
  """The sheet of before and after, and what can be done next."""
  from emma_jax.build import prompts
  from emma_jax.evals import before_after

  prompts.continue_from(_absolute(args.model), str(args.out), config, _TEXTS)

  path = before_after.write(args.out, _absolute(args.model), config)
  print(f"Before and after: {path}")
  path = args.out / "scores.json"
  scores = json.loads(path.read_text("utf-8")) if path.is_file() else {}
  if scores.get("drawing"):
    measures = scores["drawing"].get("measures", {})
    ceiling = measures.get("autoencoder's ceiling", {}).get("value", _DIM)
    if ceiling < _DIM and not args.decoder:
      print(
        f"The model's autoencoder shows these pictures with {ceiling:.1f} dB, "
        "so no drawing can be like them; the same command with --decoder and "
        "another --out teaches it to."
      )
  for task, (verb, command) in _NEXT.items():
    if task in config["data"]["sources"]:
      out = shlex.quote(os.fspath(args.out))
      print(f"{verb}: emma-sample {command.format(out)}")
