"""Config files: found by name, run, and their values overridden from text.

>>> config = load("tiny", {"stages.1_pretraining.steps": "500"})
>>> config.stages["1_pretraining"].steps
500
"""

import ast
from collections.abc import Mapping
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

from emma_jax.build import bounds, forms, left_out
from emma_jax.build.sections import ConfigError

# What holds configs/: in a wheel the package, in a checkout the repository.
_PACKAGE = pathlib.Path(__file__).absolute().parent.parent
_ROOT = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
_CONFIGS = _ROOT / "configs"


def load(
  path: str, overrides: Mapping[str, str] | None = None
) -> ml_collections.ConfigDict:
  """Runs a config file's `get_config()` and applies the overrides; locked.

  Args:
    path: a file, or the name of one in the repository's configs/ directory,
      with or without ".py"; what follows a colon is `get_config`'s argument:
      "emma_4b.py:stage1,v5e-256".
    overrides: dotted key -> text, {"data.seed": "3"}.

  Raises:
    ConfigError: no such file, a file that fails, a key or value that is wrong.
  """
  path, _, spec = path.partition(":")
  file = _find(path)
  get_config = getattr(_execute(file), "get_config", None)
  if not callable(get_config):
    raise ConfigError(f"{file} has no function get_config().")
  if spec and not inspect.signature(get_config).parameters:
    raise ConfigError(f"{file} takes nothing after a colon, but got {spec!r}.")
  try:
    config = get_config(spec) if spec else get_config()
  except Exception as error:
    raise ConfigError(
      f"{file}: get_config() failed: {_brief(error)}"
    ) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(
      f"{file}: get_config() returned {type(config).__name__}, not a "
      "ml_collections.ConfigDict."
    )
  config.lock()
  for key, text in (overrides or {}).items():
    override(config, key, text)
  forms.check(config)  # before anything unpacks a table
  left_out.apply(config, overrides or {})
  bounds.check(config)
  return config


_NO_MACHINE = (
  "Unknown target",
  "after a colon",
  "more than one stage or machine",
  "No variant",
)


def load_for(
  path: str, machine: str, overrides: Mapping[str, str] | None = None
) -> ml_collections.ConfigDict:
  """`load` for a machine, "v5e:16x16" or "2xv6e:16x16", where the config takes
  one after a colon, knows it and names none itself; else as it is."""
  more = "," if ":" in path else ":"
  try:
    return load(f"{path}{more}{machine}", overrides)
  except ConfigError as error:
    if not any(reason in str(error) for reason in _NO_MACHINE):
      raise
  return load(path, overrides)


def available(folder: str = "") -> list[tuple[str, str]]:
  """(name, first line) of the whole configs in a folder of configs/."""
  out = []
  for file in _configs(folder):
    doc = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    out.append((os.path.join(folder, file.stem), doc.partition("\n")[0]))
  return out


def _configs(folder: str = "") -> list[pathlib.Path]:
  """Files in a folder of configs/ that are whole configs, not parts."""
  whole = re.compile(r"^(def get_config\(|get_config =)", re.MULTILINE)
  files = sorted((_CONFIGS / folder).glob("*.py"))
  return [
    file
    for file in files
    if whole.search(file.read_text("utf-8")) and file.stem != "defaults"
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
  raise ConfigError(
    f"No config file {path}.{hint} In {_CONFIGS}: "
    f"{', '.join(names) or 'nothing'}."
  )


def _execute(file: pathlib.Path) -> Any:
  spec = importlib.util.spec_from_file_location(f"_config_{file.stem}", file)
  if spec is None or spec.loader is None:
    raise ConfigError(f"{file} is not a Python file.")
  module = importlib.util.module_from_spec(spec)
  # `from configs import defaults` works from anywhere, for configs of the
  # repository and for those beside another configs/ directory.
  added = [str(file.parent.parent), str(_ROOT)]
  sys.path[:0] = added
  try:
    spec.loader.exec_module(module)
  except Exception as error:
    raise ConfigError(f"{file} fails: {_brief(error)}") from error
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
  forms.check(out)
  left_out.apply(out, overrides)
  bounds.check(out)
  return out.to_dict()


def override(config: ml_collections.ConfigDict, key: str, text: str):
  """Sets a dotted key from text; ConfigError where key or type is wrong.

  A section takes a dict of some of its keys, or of all where they are names of
  the user's own (`left_out.FREE`), which may also be new; a mixture may be
  given as "drawing=2,editing=1".
  """
  *sections, last = key.split(".")
  node = config
  seen: list[str] = []
  for name in sections:
    _check_key(config, node, seen, name, key)
    seen.append(name)
    if not isinstance(node[name], ml_collections.ConfigDict):
      raise ConfigError(
        f"--config.{key}: {'.'.join(seen)} is a value "
        f"({node[name]!r}), not a section."
      )
    node = node[name]
  if ".".join(sections) in left_out.FREE:
    with node.unlocked():
      node[last] = text
    return
  _check_key(config, node, seen, last, key)
  if isinstance(node[last], ml_collections.ConfigDict):
    _override_section(config, node, key, text)
    return
  if last == "mixture":
    text = _mixture(text)
  node[last] = _convert(key, text, node[last], node.get_type(last))


def _override_section(
  config: ml_collections.ConfigDict,
  node: ml_collections.ConfigDict,
  key: str,
  text: str,
) -> None:
  """Several keys of a section at once, by a dict; "none" empties names."""
  last = key.rpartition(".")[2]
  try:
    values = {} if text == left_out.NONE else ast.literal_eval(text)
  except (ValueError, SyntaxError):
    values = None
  names = key in left_out.FREE
  if not isinstance(values, dict) or not (values or names):
    keys = ", ".join(f"{key}.{k}" for k in node[last])
    raise ConfigError(
      f"--config.{key} is a section; set one of its keys: {keys or 'NAME'}; "
      f"or several by a dict, as in --config.{key}=\"{{'KEY': VALUE}}\"."
    )
  if names:
    with node.unlocked():
      node[last] = ml_collections.ConfigDict(
        {str(k): str(v) for k, v in values.items()}
      )
    return
  for name, value in values.items():
    written = value if isinstance(value, str) else repr(value)
    override(config, f"{key}.{name}", written)


def _mixture(text: str) -> str:
  """A whole mixture; "a=2,b=1" is one phase with these weights.

  >>> _mixture("drawing=2,editing=1")
  "((0.0, {'drawing': 2.0, 'editing': 1.0}),)"
  """
  pairs = [pair.partition("=") for pair in text.split(",")]
  try:
    weights = {name.strip(): float(weight) for name, _, weight in pairs}
  except ValueError:
    return text
  return repr(((0.0, weights),))


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
  raise ConfigError(
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
    raise ConfigError(f"--config.{key}={text}: expected true or false.")
  try:
    if kind in (int, float):
      return kind(text)
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError) as error:
    if kind is type(None):  # no value yet that would tell the type
      return text
    raise ConfigError(
      f"--config.{key}={text}: expected {_named(kind)} such as {old!r}."
    ) from error
  if kind in (tuple, list) and isinstance(value, (tuple, list)):
    return kind(value)
  if kind is type(None) or isinstance(value, kind):
    return value
  raise ConfigError(
    f"--config.{key}={text}: expected {_named(kind)} such as {old!r}."
  )


def _named(kind: type) -> str:
  names = {int: "a whole number", float: "a number"}
  return names.get(kind, f"a {kind.__name__}")
