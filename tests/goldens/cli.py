"""Every flag of every command: what it takes, its default, its help's digest.

The digest covers help, metavar and, of a command, its whole description, so
that no word that people read changes unasked.
"""

import argparse
import importlib
from typing import Any

from tests.goldens import store

COMMANDS = (
  "train",
  "train_status",
  "sample",
  "evaluate",
  "finetune",
  "report",
  "convert",
  "data",
  "speed",
  "plan",
  "benchmark",
  "pack",
)


def parsers() -> dict[str, argparse.ArgumentParser]:
  """Command -> its parser; of the supervisor and the flags' table too."""
  names = [f"emma_jax.cli.{name}" for name in COMMANDS]
  found = {
    n.rpartition(".")[2]: importlib.import_module(n)._parser() for n in names
  }
  supervise = importlib.import_module("emma_jax.supervise")
  return found | {"supervise": supervise._parser()}


def flag(action: argparse.Action) -> str:
  """What a flag takes, in words that do not depend on Python's version."""
  kind = getattr(action.type, "__name__", None)
  choices = action.choices and [str(c) for c in action.choices]
  default = action.default
  if isinstance(default, list | tuple):
    default = [str(x) for x in default]
  words = [type(action).__name__.strip("_").removesuffix("Action").lower()]
  for key, value in (
    ("type", kind),
    ("nargs", action.nargs),
    ("choices", choices),
    ("const", action.const),
  ):
    if value is not None:
      words.append(f"{key}={value}")
  words += [f"default={default!r}"] * (default is not None)
  words += ["required"] * bool(action.required)
  read = store.digest(f"{action.metavar}\n{action.help}")[:8]
  return f"{' '.join(words)} #{read}"


def flags(parser: argparse.ArgumentParser, name: str) -> dict[str, Any]:
  """{"subcommand --flag": what it takes}; of a command itself, its words."""
  text = f"{parser.prog}\n{parser.description}\n{parser.epilog}"
  out = {name: f"{parser.prog} #{store.digest(text)[:8]}"}
  name = name and f"{name} "
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for below, sub in action.choices.items():
        out |= flags(sub, f"{name}{below}")
    elif not isinstance(action, argparse._HelpAction):
      out[name + ("/".join(action.option_strings) or action.dest)] = flag(
        action
      )
  return out


def cases() -> dict[str, dict]:
  return {name: flags(p, "") for name, p in parsers().items()}
