"""From a config's section to a frozen dataclass, with nothing left over.

A config is nested dicts (an ml_collections ConfigDict, or the JSON that a
checkpoint keeps of it). Every key is passed on by name, so an unknown or a
missing one is an error here, not a silent default later.
"""

from collections.abc import Mapping
import dataclasses
import functools
import numbers
import types
import typing
from typing import Any

from emma_jax.exits import Exit


class ConfigError(ValueError):
  """A config section that does not fit; the message names the key."""


class TooLittleMemory(Exception):
  """A config that is right, on devices that are too small for it; the message
  says what needs how much, and what to change."""

  exit_code = Exit.MEMORY


def plain(value: Any) -> Any:
  """ConfigDicts as dicts and sequences as lists: what JSON gives back."""
  if hasattr(value, "items"):
    return {k: plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  return value


def make(
  cls: type, section: Mapping[str, Any], name: str, /, **more: Any
) -> Any:
  """`cls(**section, **more)` with the section's name in every error."""
  fields = {f.name for f in dataclasses.fields(cls)}
  given = {k: _tuples(v) for k, v in section.items()} | more
  unknown = sorted(set(given) - fields)
  if unknown:
    raise ConfigError(
      f"config.{name} has unknown keys {unknown}; it takes {sorted(fields)}."
    )
  kinds = _kinds(cls)
  wrong = [
    f"config.{name}.{key}={value!r:.60} must be {_name(kinds[key])}"
    for key, value in given.items()
    if key not in more and not _fits(value, kinds[key])
  ]
  if wrong:
    raise ConfigError(f"{'; '.join(wrong)}.")
  try:
    return cls(**given)
  except (TypeError, ValueError) as error:
    raise ConfigError(f"config.{name}: {error}") from error


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
  """Field -> what its annotation says."""
  return typing.get_type_hints(cls)


_NAMES = {int: "a whole number", float: "a number", str: "a text"}
_NAMES |= {bool: "True or False"}


def _name(kind: Any) -> str:
  return _NAMES.get(kind, f"of the kind {kind}")


def _fits(value: Any, kind: Any) -> bool:
  """Whether a value is of a kind that JSON has; of others it is not known.

  >>> _fits("24", int), _fits(24, float), _fits(True, int)
  (False, True, False)
  >>> _fits((1, 2.0), tuple[int, ...]), _fits(None, int | None)
  (False, True)
  """
  origin, inner = typing.get_origin(kind), typing.get_args(kind)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, one) for one in inner)
  if origin is tuple:
    if not isinstance(value, tuple):
      return False
    if inner[1:] == (...,):
      inner = inner[:1] * len(value)
    return len(inner) == len(value) and all(map(_fits, value, inner))
  if kind in (int, float):
    number = numbers.Integral if kind is int else numbers.Real
    return isinstance(value, number) and not isinstance(value, bool)
  if kind in (str, bool, types.NoneType):
    return isinstance(value, kind)
  return True


def _tuples(value: Any) -> Any:
  if isinstance(value, (list, tuple)):
    return tuple(_tuples(v) for v in value)
  return value
