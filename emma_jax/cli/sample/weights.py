"""What all of the commands share: the weights, the seed, checks of words."""

import argparse
from collections.abc import Callable, Mapping, Sequence
import gc
import pathlib
import sys
from typing import Any

from emma_jax import programs, ranges, seeds
from emma_jax.build import config_file
from emma_jax.cli import common, devices


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
  """Adds `--checkpoint` and `--debug`."""
  parser.add_argument(
    "--checkpoint",
    default="reference",
    metavar="SOURCE",
    help="working directory of a training, a .safetensors file, or "
    "reference (default: the shipped model)",
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )


def add_parser(
  commands: Any, name: str, text: str, one: bool = True
) -> argparse.ArgumentParser:
  """A command's parser; `text`: its description; `one`: of one checkpoint."""
  sub = commands.add_parser(
    name,
    help=text.split("\n")[0],
    description=text,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  if one:
    add_checkpoint(sub)
  sub.add_argument(
    "--seed", type=seeds.flag, default=0, help=f"{seeds.RANGE} (default: 0)"
  )
  devices.add_dtype(sub)
  devices.add_processes(sub)
  if not one:
    sub.add_argument(
      "--debug", action="store_true", help="show stack traces of errors"
    )
  sub.epilog = (
    "--config.sample.KEY=VALUE changes a default of the weights' "
    f"config, such as --config.sample.averaged=false. {devices.MESH_HELP}"
  )
  return sub


def session(
  args: argparse.Namespace,
  overrides: Mapping[str, str],
  check: Callable[[Any, Mapping[str, Any]], None],
) -> Any:
  """The weights, said aloud where they were not asked for.

  `check`: of what is asked, given the model's `Requests` and the defaults of
  its section `sample`, before weights are read. Joins the other processes
  first: all have to call this.
  """
  programs.use()
  # After the arguments: a mistake in them should not wait for JAX.
  from emma_jax.build import session as build_session

  mesh, overrides = devices.split(overrides)
  for key in overrides:
    if key.split(".")[0] not in ("sample", "data"):
      raise common.UserError(
        f"--config.{key}: the weights decide this; only keys of sample, "
        "data and mesh can be changed when sampling."
      )
  devices.join(args)

  def change(config: dict) -> dict:
    config = config_file.changed(config, overrides)
    check(build_session.requests(config), config["sample"])
    return config

  found = build_session.load(
    args.checkpoint, change=change, **devices.options(args, mesh)
  )
  if not gc.isenabled():  # as the console script left it
    gc.freeze()  # modules and weights stay to the end
    gc.enable()
  if devices.is_first():
    print(
      f"Sampling with {found.name}, trained for {found.step} steps.",
      file=sys.stderr,
    )
  return found


def note_prompts(
  args: argparse.Namespace, found: Any, task: str, texts: Sequence[str]
) -> None:
  """A line on stderr for each text outside of what the weights have seen.

  Silent where nothing was measured; see `emma-sample measure-prompts`.
  """
  if not devices.is_first():
    return
  from emma_jax.build import prompts

  known = prompts.statistics_of(args.checkpoint)
  if known is None:
    return
  for note in known.notes(found.name, task, texts, found.requests.tokenizer):
    print(note, file=sys.stderr)


def check_pictures(files: Sequence[str]) -> None:
  """Raises UserError for a file that is not there."""
  for file in files:
    if not pathlib.Path(file).is_file():
      raise common.UserError(f"--image {file}: there is no such file.")


def check_length(flag: str, texts: Sequence[str]) -> None:
  """Raises UserError for a prompt that is too long, before anything is read."""
  for text in texts:
    if len(text) > ranges.MOST_CHARACTERS:
      raise common.UserError(
        f"{flag} has {len(text)} characters; at most {ranges.MOST_CHARACTERS} "
        "are taken. Shorten it."
      )


def check_words(flag: str, texts: Sequence[str]) -> None:
  """An empty prompt draws without guidance; other empty text is a slip."""
  if not all(text.strip() for text in texts):
    raise common.UserError(f"{flag} is empty; say something.")
