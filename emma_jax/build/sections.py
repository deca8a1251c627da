"""From a config's section to a frozen dataclass, with nothing left over.

A config is nested dicts (an ml_collections ConfigDict, or the JSON that a
checkpoint keeps of it). Every key is passed on by name, so an unknown or a
missing one is an error here, not a silent default later.
"""

from collections.abc import Mapping
import dataclasses
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
  try:
    return cls(**given)
  except (TypeError, ValueError) as error:
    raise ConfigError(f"config.{name}: {error}") from error


def _tuples(value: Any) -> Any:
  if isinstance(value, (list, tuple)):
    return tuple(_tuples(v) for v in value)
  return value
