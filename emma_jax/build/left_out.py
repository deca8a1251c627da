"""Sources that a command leaves out of a config, and what follows of it.

  --config.data.sources.understanding=none

takes a source away; then no mixture has it, a phase that had nothing else is
passed over, and its held-out records are not looked at, unless they were named
on the same command line. A stage with nothing left has an empty mixture, which
is an error where the stage is to be trained.
"""

from collections.abc import Collection, Mapping
import difflib
from typing import Any

import ml_collections

from emma_jax.build.sections import ConfigError

# What a source's spec, or a whole section of names, is set to.
NONE = "none"
# Sections whose keys are names of the user's own.
FREE = ("data.sources", "evaluate.sources", "train.validate_sources")


def apply(config: ml_collections.ConfigDict, given: Collection[str]) -> None:
  """Takes what is "none" out of a config.

  Args:
    config: a whole config, changed in place; one without sources stays as is.
    given: dotted keys that were set on the command line.

  Raises:
    ConfigError: nothing would be left to train on, a source that is left out
      and was not there, or a new one that no stage's mixture has.
  """
  if "sources" not in config.get("data", {}) or "stages" not in config:
    return
  with config.unlocked():
    gone = _taken(config.data.sources)
    _check_known(config, gone)
    if FREE[0] in given:  # those that the section no longer has
      gone += sorted(_used(config) - set(config.data.sources))
    for name in gone:
      for key in FREE[1:]:
        section, last = key.split(".")
        held_out = config[section].get(last, {})
        if f"{key}.{name}" not in given and name in held_out:
          del held_out[name]
    for key in FREE[1:]:
      section, last = key.split(".")
      _taken(config[section].get(last, {}))
    for stage in config.stages.values():
      if gone:
        stage.mixture = without(stage.mixture, gone)
  if gone and not any(stage.mixture for stage in config.stages.values()):
    raise ConfigError(
      f"config.data.sources: {', '.join(gone)} left out, and no stage has a "
      "source any more."
    )
  _check_used(config, given)


def without(mixture: Any, gone: Collection[str]) -> tuple:
  """A stage's mixture without some sources; () where none is left.

  >>> without(((0.0, {"a": 1}), (0.5, {"a": 1, "b": 2})), {"a"})
  ((0.0, {'b': 2}),)
  """
  left: list[tuple] = []
  for start, weights, *options in mixture:
    kept = {name: w for name, w in weights.items() if name not in gone}
    if kept:
      left.append((start if left else 0.0, kept, *options))
  return tuple(left)


def _taken(section: ml_collections.ConfigDict) -> list[str]:
  """Names that are "none"; they are no more in the section."""
  gone = [name for name, spec in section.items() if str(spec).lower() == NONE]
  for name in gone:
    del section[name]
  return gone


def _used(config: Mapping[str, Any]) -> set[str]:
  """Names in the mixtures of all stages."""
  return {
    name
    for stage in config["stages"].values()
    for _, weights, *_ in stage["mixture"]
    for name in weights
  }


def _check_known(config: Mapping[str, Any], gone: Collection[str]) -> None:
  """Raises ConfigError for a source that was never there: by a slip the one
  that was meant would be trained on."""
  known = sorted(_used(config) | set(config["data"]["sources"]))
  for name in gone:
    if name not in _used(config):
      close = difflib.get_close_matches(name, known, 1)
      hint = f" Did you mean {close[0]}?" if close else ""
      raise ConfigError(
        f"--config.{FREE[0]}.{name}={NONE}: there is no source {name!r}.{hint} "
        f"The config has {', '.join(known)}."
      )


def _check_used(config: Mapping[str, Any], given: Collection[str]) -> None:
  """Raises ConfigError for a source that was added and is in no mixture: its
  name may be a slip."""
  used = _used(config)
  for key in given:
    section, _, name = key.rpartition(".")
    known = config["data"]["sources"]
    if section == FREE[0] and name in known and name not in used:
      close = difflib.get_close_matches(name, sorted(used), 1)
      hint = f" Did you mean {close[0]}?" if close else ""
      raise ConfigError(
        f"--config.{key}: no stage's mixture has the source {name!r}.{hint} "
        "Give it a weight, such as --config.stages.STAGE.mixture="
        f"{','.join(f'{n}=1' for n in [*sorted(used), name])}."
      )
