"""What every command shares: config flags, errors for people, caches."""

import argparse
from collections.abc import Callable, Mapping, Sequence
import importlib
import os
import pathlib
import re
import sys
import traceback
from typing import Any, NoReturn

from emma_jax import storage, terminal, xla_flags
from emma_jax.build import config_file
from emma_jax.build.sections import ConfigError
from emma_jax.exits import Exit

# Types of exceptions that are a user's mistake.
Errors = tuple[type[Exception], ...]
_WRONG_KIND = (IsADirectoryError, NotADirectoryError)


class UserError(Exception):
  """A mistake of the person at the keyboard; the message is all they see."""


class DataError(UserError):
  """What is stored is damaged, or too much of it."""

  exit_code = Exit.DATA


def run(
  main: Callable[[list[str]], int | None],
  argv: Sequence[str] | None = None,
  errors: Errors | Callable[[], Errors] = (),
) -> int:
  """Calls `main` and turns what it raises into a message and an exit code.

  Args:
    main: gets the arguments without the program and without `--debug`.
    argv: the arguments; None: those of the process.
    errors: exception types that are a user's mistake, not a bug, beside
      UserError and ConfigError; or what gives them, asked after an error, so
      that a command need not load them.

  Types that mean something else for a command say it as `exit_code`. A disk
  that fails (full, read-only, out of order) is no mistake whatever was being
  done: code STORAGE. A folder where a file is to be, or the other way round, is
  one.

  Returns:
    main's code (None counts as 0), 2 for a mistake, an error's own code, 130
    after Ctrl-C.
    `--debug` or EMMA_DEBUG=1 adds the stack trace.
  """
  argv = [at_home(a) for a in (sys.argv[1:] if argv is None else argv)]
  debug = "--debug" in argv or os.environ.get("EMMA_DEBUG", "") not in ("", "0")
  storage.quiet_logs(not debug)
  xla_flags.calm_libtpu()
  with terminal.guarded(), terminal.folded_logs(not debug):
    try:
      return main([a for a in argv if a != "--debug"]) or 0
    except Exception as error:
      mistakes: Errors = (UserError, ConfigError, *_WRONG_KIND)
      if not isinstance(error, mistakes):
        mistakes += errors() if callable(errors) else errors
      code = _code_of(error, dict.fromkeys(mistakes, Exit.MISTAKE))
      if code is None:
        raise
      if debug:
        traceback.print_exc()
      print(f"error: {_message(error)}", file=sys.stderr)
      return code
    except KeyboardInterrupt:
      if debug:
        traceback.print_exc()
      print("interrupted", file=sys.stderr)
      return Exit.INTERRUPTED


def at_home(argument: str) -> str:
  """`--flag=~/x` with the home folder, which shells put in only where a word
  begins with `~`: else a folder of that name would be made.

  >>> at_home("--out=~/a.png").startswith("~"), at_home("--prompt=~50 stars")
  (False, '--prompt=~50 stars')
  """
  found = re.fullmatch(r"(--[\w.-]+=)(~(?:/.*)?)", argument, re.DOTALL)
  return found[1] + os.path.expanduser(found[2]) if found else argument


def _code_of(
  error: Exception, known: Mapping[type[Exception], Exit]
) -> Exit | None:
  """What a command ends with after an error; None for a bug."""
  if isinstance(error, OSError) and storage.is_of_disks(error):
    return Exit.STORAGE
  came_from = error.__cause__  # of a command's own words for it
  if isinstance(error, UserError) and isinstance(came_from, Exception):
    code = _code_of(came_from, {})
    if code is not None:
      return code
  for kind in type(error).__mro__:
    if kind in known:
      return known[kind]
    if "exit_code" in vars(kind):
      return vars(kind)["exit_code"]
  return getattr(error, "exit_code", None)  # of this one, not of its kind


def _message(error: Exception) -> str:
  if isinstance(error, OSError) and storage.is_of_disks(error):
    found = storage.cause(error)
    assert found is not None  # all that are of disks have words
    return f"{found.path or 'a file'}: {found.words}."
  if isinstance(error, _WRONG_KIND) and error.filename:
    name = error.filename2 or error.filename  # renamed to; or opened
    is_folder = isinstance(error, IsADirectoryError)
    told = "is a folder; name a file" if is_folder else "lies in a file"
    return f"{os.fspath(name)} {told}."
  return str(error)


class Parser(argparse.ArgumentParser):
  """One whose errors do not repeat the whole of a long argument."""

  def error(self, message: str) -> NoReturn:
    """Ends the process with code MISTAKE."""
    short = message if len(message) <= 400 else f"{message[:400]}..."
    super().error(short)


def path(text: str) -> pathlib.Path:
  """The `type` of a flag that names a file or folder.

  "" would be the current folder: a variable of a script that is not set.
  """
  if not text:
    raise argparse.ArgumentTypeError("it is empty; name a file or folder")
  return pathlib.Path(text)


def path_name(text: str) -> str:
  """The same, where the name is kept as it was given."""
  path(text)
  return text


def subcommands(
  prog: str, description: str | None, package: str, names: Sequence[str]
) -> argparse.ArgumentParser:
  """A command of several verbs, each a module of a package.

  Args:
    prog: the command's name.
    description: the package's docstring.
    package: its name.
    names: of the verbs, "-" for the "_" of a module; each has `add(commands)`,
      whose parser has a default `run(args, overrides)`.
  """
  parser = Parser(
    prog=prog,
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(
    dest="command", required=True, metavar="COMMAND"
  )
  for name in names:
    importlib.import_module(f"{package}.{name.replace('-', '_')}").add(commands)
  return parser


def add_subcommand(
  commands: Any,
  name: str,
  text: str,
  description: str | None,
  run: Callable[[argparse.Namespace, Mapping[str, str]], int | None],
) -> argparse.ArgumentParser:
  """The parser of a verb; `text` is its line in the command's help.

  Args:
    commands: of `subcommands`.
    name, text, description: of the verb.
    run: what it does, with the arguments and the config's overrides.
  """
  parser = commands.add_parser(
    name,
    help=text,
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.set_defaults(run=run)
  return parser


def sampling_mistakes() -> Errors:
  """What a user of a session can do wrong, for `run`."""
  from emma_jax import distributed
  from emma_jax.checkpoints.integrity import CheckpointError
  from emma_jax.data.pictures.images import BadRecord
  from emma_jax.sampling.context import SampleError

  return (
    BadRecord,
    SampleError,
    CheckpointError,
    distributed.StartError,
    FileNotFoundError,
  )


def add_config_arguments(
  parser: argparse.ArgumentParser,
  folder: str = "",
  default: str = "",
  required: bool = True,
):
  """`--config FILE`, and help for overrides and `--debug`.

  Args:
    parser: of the command.
    folder: of configs/, whose configs `--config list` shows.
    default: the config where none is named; "": it has to be.
    required: whether it has to be where there is no default.
  """
  parser.add_argument(
    "--config",
    required=required and not default,
    default=default or None,
    metavar="FILE",
    action=_ConfigAction,
    folder=folder,
    help="config file, or the name of one in configs/ (list: shows them); some "
    "take more after a colon, as in tiny:token_fusion or "
    "emma_4b:stage1,v5e-256; override values with --config.section.key=value"
    + (f" (default: {default})" if default else ""),
  )
  add_debug(parser)


def add_debug(parser: argparse.ArgumentParser) -> None:
  """`--debug`, for its help: `run` takes it out."""
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )


class _ConfigAction(argparse.Action):
  """Stores a config's name; of `list`, shows all there are and ends."""

  def __init__(self, *args, folder: str = "", **kwargs):
    super().__init__(*args, **kwargs)
    self.folder = folder

  def __call__(self, parser, namespace, value, option_string=None):
    if value == "list":
      for name, line in config_file.available(self.folder):
        print(f"{name:24}{line}")
      parser.exit()
    setattr(namespace, self.dest, value)


def parse_arguments(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
  """(parsed arguments, overrides); argparse rejects everything unknown.

  Without any argument, of a command that needs some: its whole help, which
  lists its subcommands, and exit code MISTAKE.
  """
  if not argv and any(action.required for action in parser._actions):
    parser.print_help(sys.stderr)
    parser.exit(Exit.MISTAKE)
  overrides, rest = parse_overrides(argv)
  return parser.parse_args(rest), overrides


def refuse_overrides(command: str, overrides: Mapping[str, str]) -> None:
  """Raises UserError for config keys given to a command that has no config."""
  if overrides:
    raise UserError(f"{command} takes no --config keys.")


def parse_overrides(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
  """Takes `--config.a.b=value` and `--config.a.b value` out of `argv`.

  >>> parse_overrides(["--config.a.b=1", "x", "--config.c", "-2"])
  ({'a.b': '1', 'c': '-2'}, ['x'])

  Raises:
    UserError: an override without a value.
  """
  overrides, rest, items = {}, [], list(argv)
  while items:
    item = items.pop(0)
    if not item.startswith("--config."):
      rest.append(item)
      continue
    key, equals, value = item.removeprefix("--config.").partition("=")
    if not equals:
      if not items or items[0].startswith("--"):
        raise UserError(f"--config.{key} needs a value: --config.{key}=VALUE")
      value = items.pop(0)
    overrides[key] = value
  return overrides, rest


def stage_name(config: Mapping[str, Any], name: str | None) -> str:
  """`--stage`, which a config of one stage does not need."""
  names = list(config["stages"])
  if name is None and len(names) == 1:
    return names[0]
  if name is None or name not in names:
    raise UserError(f"--stage={name}: choose one of {', '.join(names)}.")
  return name
