"""What every command shares: config files, overrides, errors for people."""

import argparse
import ast
from collections.abc import Callable, Mapping, Sequence
import difflib
import importlib.util
import inspect
import os
import pathlib
import re
import sys
import traceback
from typing import Any

import ml_collections

import emma_jax

# What holds configs/: in a wheel the package, in a checkout the repository.
_PACKAGE = pathlib.Path(emma_jax.__file__).absolute().parent
_ROOT = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
_CONFIGS = _ROOT / "configs"


class UserError(Exception):
  """A mistake of the person at the keyboard; the message is all they see."""


def run(
  main: Callable[[list[str]], int | None],
  argv: Sequence[str] | None = None,
  errors: tuple[type[Exception], ...] = (),
) -> int:
  """Calls `main` and turns mistakes into a message and exit code 2.

  Args:
    main: gets the arguments without the program and without `--debug`.
    argv: the arguments; None: those of the process.
    errors: further exception types that are a user's mistake, not a bug.

  Returns:
    main's code (None counts as 0), 2 for a mistake, 130 after Ctrl-C.
    `--debug` or EMMA_DEBUG=1 adds the stack trace.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  debug = "--debug" in argv or os.environ.get("EMMA_DEBUG", "") not in ("", "0")
  mistakes: tuple[type[Exception], ...] = (UserError, *errors)
  try:
    return main([a for a in argv if a != "--debug"]) or 0
  except mistakes as error:
    if debug:
      traceback.print_exc()
    print(f"error: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    if debug:
      traceback.print_exc()
    print("interrupted", file=sys.stderr)
    return 130


def add_config_arguments(parser: argparse.ArgumentParser, folder: str = ""):
  """`--config FILE`, and help for overrides and `--debug`.

  `folder`: of configs/, whose configs `--config list` shows.
  """
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE",
    action=_ConfigAction,
    folder=folder,
    help="config file, or the name of one in configs/ (list: shows them); some "
    "take more after a colon, as in tiny:token_fusion or "
    "emma_4b:stage1,v5e-256; override values with --config.section.key=value",
  )
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
      for file in _configs(self.folder):
        doc = ast.get_docstring(ast.parse(file.read_text())) or ""
        name = os.path.join(self.folder, file.stem)
        print(f"{name:24}{doc.partition(chr(10))[0]}")
      parser.exit()
    setattr(namespace, self.dest, value)


def parse_arguments(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
  """(parsed arguments, overrides); argparse rejects everything unknown."""
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


# ----------------------------------------------------------- config files


def load_config(
  path: str, overrides: Mapping[str, str] | None = None
) -> ml_collections.ConfigDict:
  """Runs a config file's `get_config()` and applies the overrides; locked.

  Args:
    path: a file, or the name of one in the repository's configs/ directory,
      with or without ".py"; what follows a colon is `get_config`'s argument:
      "emma_4b.py:stage1,v5e-256".
    overrides: dotted key -> text, see `parse_overrides`.

  Raises:
    UserError: no such file, a file that fails, a key or value that is wrong.
  """
  path, _, spec = path.partition(":")
  file = _find(path)
  get_config = getattr(_execute(file), "get_config", None)
  if not callable(get_config):
    raise UserError(f"{file} has no function get_config().")
  if spec and not inspect.signature(get_config).parameters:
    raise UserError(f"{file} takes nothing after a colon, but got {spec!r}.")
  try:
    config = get_config(spec) if spec else get_config()
  except Exception as error:
    raise UserError(f"{file}: get_config() failed: {_brief(error)}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(
      f"{file}: get_config() returned {type(config).__name__}, not a "
      "ml_collections.ConfigDict."
    )
  config.lock()
  for key, text in (overrides or {}).items():
    override(config, key, text)
  return config


def stage_name(config: Mapping[str, Any], name: str | None) -> str:
  """`--stage`, which a config of one stage does not need."""
  names = list(config["stages"])
  if name is None and len(names) == 1:
    return names[0]
  if name is None or name not in names:
    raise UserError(f"--stage={name}: choose one of {', '.join(names)}.")
  return name


def _configs(folder: str = "") -> list[pathlib.Path]:
  """Files in a folder of configs/ that are whole configs, not parts."""
  whole = re.compile(r"^(def get_config\(|get_config =)", re.MULTILINE)
  files = sorted((_CONFIGS / folder).glob("*.py"))
  return [
    file
    for file in files
    if whole.search(file.read_text()) and file.stem != "defaults"
  ]


def _find(path: str) -> pathlib.Path:
  for candidate in (
    pathlib.Path(path),
    _CONFIGS / path,
    _CONFIGS / f"{path}.py",
  ):
    if candidate.is_file():
      return candidate.absolute()
  names = [file.stem for file in _configs()]
  names += [f"data/{file.stem}" for file in _configs("data")]
  close = difflib.get_close_matches(path.removesuffix(".py"), names, 1)
  hint = f" Did you mean {close[0]}?" if close else ""
  raise UserError(
    f"No config file {path}.{hint} In {_CONFIGS}: "
    f"{', '.join(names) or 'nothing'}."
  )


def _execute(file: pathlib.Path) -> Any:
  spec = importlib.util.spec_from_file_location(f"_config_{file.stem}", file)
  if spec is None or spec.loader is None:
    raise UserError(f"{file} is not a Python file.")
  module = importlib.util.module_from_spec(spec)
  # `from configs import defaults` works from anywhere, for configs of the
  # repository and for those beside another configs/ directory.
  added = [str(file.parent.parent), str(_ROOT)]
  sys.path[:0] = added
  try:
    spec.loader.exec_module(module)
  except Exception as error:
    raise UserError(f"{file} fails: {_brief(error)}") from error
  finally:
    for entry in added:
      sys.path.remove(entry)
  return module


def _brief(error: Exception) -> str:
  """Type, message and line of an exception, on one line."""
  where = traceback.extract_tb(error.__traceback__)
  at = f" ({where[-1].filename}:{where[-1].lineno})" if where else ""
  if isinstance(error, SyntaxError):
    at = ""  # its message has the place
  return f"{type(error).__name__}: {error}{at}"


# -------------------------------------------------------------- overrides


def changed(config: Mapping[str, Any], overrides: Mapping[str, str]) -> dict:
  """A saved config with some keys set anew, dotted key -> text; a copy."""
  out = ml_collections.ConfigDict(config).lock()
  for key, text in overrides.items():
    override(out, key, text)
  return out.to_dict()


def override(config: ml_collections.ConfigDict, key: str, text: str):
  """Sets a dotted key from text; UserError where key or type is wrong."""
  *sections, last = key.split(".")
  node = config
  seen: list[str] = []
  for name in sections:
    _check_key(config, node, seen, name, key)
    seen.append(name)
    if not isinstance(node[name], ml_collections.ConfigDict):
      raise UserError(
        f"--config.{key}: {'.'.join(seen)} is a value "
        f"({node[name]!r}), not a section."
      )
    node = node[name]
  _check_key(config, node, seen, last, key)
  if isinstance(node[last], ml_collections.ConfigDict):
    raise UserError(
      f"--config.{key} is a section; set one of its keys: "
      f"{', '.join(f'{key}.{k}' for k in node[last])}."
    )
  node[last] = _convert(key, text, node[last], node.get_type(last))


def _check_key(config, node, seen: list[str], name: str, key: str):
  if name in node:
    return
  every = _dotted_keys(config)
  close = [
    ".".join([*seen, sibling])
    for sibling in difflib.get_close_matches(name, list(node), 1)
  ]
  # Or the right name in the wrong section.
  close = close or [k for k in every if k.split(".")[-1] == key.split(".")[-1]]
  close = close or difflib.get_close_matches(key, every, 1)
  hint = f" Did you mean {close[0]}?" if close else ""
  where = ".".join(seen) or "The config"
  raise UserError(
    f"Unknown key --config.{key}.{hint} {where} has: {', '.join(sorted(node))}."
  )


def _dotted_keys(
  node: ml_collections.ConfigDict, prefix: str = ""
) -> list[str]:
  keys = []
  for name in node:
    keys.append(prefix + name)
    if isinstance(node[name], ml_collections.ConfigDict):
      keys += _dotted_keys(node[name], f"{prefix}{name}.")
  return keys


def _convert(key: str, text: str, old: Any, kind: type) -> Any:
  """`text` as the type of the value it replaces."""
  if kind is str:
    return text
  if kind is bool:
    if text.lower() in ("true", "false"):
      return text.lower() == "true"
    raise UserError(f"--config.{key}={text}: expected true or false.")
  try:
    if kind in (int, float):
      return kind(text)
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError) as error:
    if kind is type(None):  # no value yet that would tell the type
      return text
    raise UserError(
      f"--config.{key}={text}: expected {_named(kind)} such as {old!r}."
    ) from error
  if kind in (tuple, list) and isinstance(value, (tuple, list)):
    return kind(value)
  if kind is type(None) or isinstance(value, kind):
    return value
  raise UserError(
    f"--config.{key}={text}: expected {_named(kind)} such as {old!r}."
  )


def _named(kind: type) -> str:
  names = {int: "a whole number", float: "a number"}
  return names.get(kind, f"a {kind.__name__}")


# ------------------------------------------------------------------ caches


def cache_directory() -> pathlib.Path:
  """EMMA_CACHE, or emma_jax in the user's cache directory."""
  if os.environ.get("EMMA_CACHE"):
    return pathlib.Path(os.environ["EMMA_CACHE"]).expanduser()
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(base) / "emma_jax"


def use_compilation_cache(directory: str | pathlib.Path | None = None):
  """Lets JAX keep compiled programs on disk; the second start is faster.

  Args:
    directory: default: "xla" in `cache_directory()`. One that cannot be
      written is reported and not used. Or a bucket, such as "gs://...".
  """
  import jax  # here: commands that only print need not load it

  path = directory or cache_directory() / "xla"
  try:
    if "://" not in str(path):
      pathlib.Path(path).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    print(f"No compilation cache: {error}", file=sys.stderr)
    return
  jax.config.update("jax_compilation_cache_dir", str(path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
