"""The data of `emma-train finetune`: any input, as records, in two parts."""

import argparse
from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import shutil
import sys
from typing import Any

from emma_jax import files
from emma_jax.build import data as build_data
from emma_jax.build.finetune import OwnData
from emma_jax.cli import common
from emma_jax.cli.data import reading
from emma_jax.cli.data.progress import Progress
from emma_jax.data.curation import held_out
from emma_jax.data.ingest import job, part
from emma_jax.data.records.card import Card
from emma_jax.structs import TASKS

_STATE, _WHOLE = "inputs.json", "whole"
_SMALL = 2**26  # bytes that one process has read before others have started


def split(
  args: argparse.Namespace, config: Mapping[str, Any], tasks: Sequence[str]
) -> OwnData:
  """Folders OUT/data/TASK/{train,held_out}; made once.

  What is left of another command that did not come to its end is made anew:
  nothing is trained on that was not asked for.

  Raises:
    UserError: none of the tasks, or the folder has other data.
    ConversionError: inputs that cannot be read.
  """
  folder = args.out / "data"
  inputs = reading.files(args.data)
  reading.check_apart(inputs, args.out)
  chosen = config["finetune"]
  state = {
    "inputs": [job.file_state(name) for name in inputs],
    "tasks": list(tasks),
    "held_out": chosen["held_out"],
    "most": chosen["most_held_out"],
    "tokenizer": build_data.tokenizer(config["data"]).fingerprint(),
  }
  made, whole = _made(folder)
  if whole and made != state:
    raise common.UserError(
      f"{folder} was made of other data, or cut otherwise, than is asked for "
      "now; name another --out."
    )
  if not whole:
    if made != state:
      _clear(folder)
    note = lambda whole: files.write_text(
      folder / _STATE, json.dumps(state | {_WHOLE: whole}, indent=1) + "\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    note(False)
    _make(args, config, tasks, inputs, folder)
    note(True)
  of = lambda part: {
    task: os.fspath(folder.absolute() / task / part)
    for task in tasks
    if (folder / task / part).is_dir()
  }
  return OwnData(train=of("train"), held_out=of("held_out"))


def _made(folder: pathlib.Path) -> tuple[dict[str, Any], bool]:
  """(what a folder was, or is to be, made of; whether it is); {} of a new one.

  Raises:
    UserError: what lies there was made by no fine-tuning.
  """
  path = folder / _STATE
  if path.is_file():
    state = json.loads(path.read_text("utf-8"))
    return state, state.pop(_WHOLE, True)
  there = sorted(os.listdir(folder)) if folder.is_dir() else []
  if there:
    raise common.UserError(
      f"{folder} holds {there[0]}, which no fine-tuning made; name another "
      "--out."
    )
  return {}, False


def _clear(folder: pathlib.Path) -> None:
  """Takes away what was made for another state."""
  ours = [folder / task for task in TASKS] + list(folder.glob("records-*"))
  for path in filter(pathlib.Path.is_dir, ours):
    shutil.rmtree(path)


def _make(
  args: argparse.Namespace,
  config: Mapping[str, Any],
  tasks: Sequence[str],
  inputs: Sequence[str],
  folder: pathlib.Path,
) -> None:
  records = []
  for number, name in enumerate(inputs):
    if not name.startswith("records:"):
      out = folder / f"records-{number}"
      if not out.is_dir():
        _convert(args, config, name, out)
      name = f"records:{out.absolute()}"
    records.append(name)
  there = {
    "understanding" if task == "text" else task
    for name in records
    for task in Card.load(name.partition(":")[2]).tasks
  }
  if not there & set(tasks):
    raise common.UserError(
      f"The data have records of {sorted(there)}; wanted are {list(tasks)}: "
      "name other DATA, or --tasks."
    )
  for task in (t for t in tasks if t in there):
    _cut(config, records, task, tasks, folder / task)


def _convert(
  args: argparse.Namespace,
  config: Mapping[str, Any],
  name: str,
  out: pathlib.Path,
) -> None:
  """An input of any kind, checked picture by picture."""
  recipe = _recipe(config, check="decode", allow_outside=args.allow_outside)
  with Progress() as progress:
    card = job.run(
      job.Job(
        inputs=[name],
        out=os.fspath(out),
        maker=recipe,
        workers=_workers(name),
        max_rejected=args.max_rejected,
      ),
      progress,
    )
  tasks = ", ".join(f"{n} of {task}" for task, n in card.tasks.items())
  print(f"Read {name}: {tasks}.", file=sys.stderr)
  if card.rejected:
    path = out / "rejected.jsonl"
    print(f"{card.rejected} rows cannot be used: see {path}.", file=sys.stderr)


def _cut(
  config: Mapping[str, Any],
  records: Sequence[str],
  task: str,
  tasks: Sequence[str],
  folder: pathlib.Path,
) -> None:
  """A task's records in two folders; one where nothing can be held out."""
  chosen = config["finetune"]
  folder.mkdir(exist_ok=True)
  for name in ("train", "held_out"):
    out = folder / name
    if out.is_dir():
      continue
    maker = held_out.Split(
      base=_recipe(config, check="header"),
      task=task,
      tasks=tuple(tasks),
      part="train" if name == "train" else "held_out",
      share=chosen["held_out"],
      most=chosen["most_held_out"],
    )
    card = job.run(
      job.Job(
        inputs=records,
        out=os.fspath(out),
        maker=maker,
        workers=_workers(*records),
      )
    )
    left = card.provenance.get("left out", {})
    if name == "train" and not left.get(held_out.HELD_OUT):
      print(
        f"Nothing of {task} is held out: finetune.held_out="
        f"{chosen['held_out']}, and there may be a single picture, or one that "
        "all show.",
        file=sys.stderr,
      )
      return


def _recipe(config: Mapping[str, Any], **more: Any) -> part.Recipe:
  tokenizer = build_data.tokenizer(config["data"])
  return part.Recipe(form="", tokenizer=tokenizer, **more)


def _workers(*names: str) -> int:
  """Processes: none of their own for what is read in a moment."""
  size = 0
  for name in names:
    path = name.removeprefix("records:")
    if os.path.isfile(path):
      size += os.path.getsize(path)
    for folder, _, found in os.walk(path):
      size += sum(os.path.getsize(os.path.join(folder, f)) for f in found)
  return 0 if size < _SMALL else os.cpu_count() or 1
