"""The training state, and how a stage begins and ends."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import re

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from emma_jax import rules
from emma_jax.structs import Array

TRAIN, FROZEN = "train", "frozen"


class LoadError(ValueError):
  """A stage cannot get its starting weights; the message says which."""


@struct.dataclass
class SavedState:
  """What files hold of a `TrainState`.

  `trained` and `frozen` split the parameters; `ema` mirrors `trained`.
  """

  step: Array  # int32, steps done in this stage
  trained: dict
  frozen: dict
  opt_state: optax.OptState
  ema: dict

  def params(self, averaged: bool = False) -> dict:
    """All parameters, with the trained part averaged or not."""
    return rules.merge(self.ema if averaged else self.trained, self.frozen)

  def going_on(self, refused: Array) -> "TrainState":
    """The state that a step takes; `refused` stands in the metadata."""
    return TrainState(**_fields(self), refused=refused)


@struct.dataclass
class TrainState(SavedState):
  """Everything a step changes, and the frozen weights beside it."""

  refused: Array  # int32, steps in a row that were not applied

  def saved(self) -> SavedState:
    """The part that files hold, which look as before steps were refused."""
    return SavedState(**_fields(self))


def _fields(state: SavedState) -> dict:
  return {
    field.name: getattr(state, field.name)
    for field in dataclasses.fields(SavedState)
  }


def begin(
  params: dict,
  policy: tuple,
  optimizer: optax.GradientTransformation,
  frozen_dtypes: Mapping[str, str] | None = None,
) -> TrainState:
  """The state at step 0 of a stage.

  Args:
    params: all parameters, nested.
    policy: (regex, "train" | "frozen"), total and live.
    optimizer: of the trained part.
    frozen_dtypes: path -> what this weight is kept in while it is frozen;
      without, as it is. In the dtype that all its uses round it to (see
      `layers.Weight`) it costs half the memory and changes no bit.
  """
  decided = rules.resolve(policy, rules.flatten(params), "policy")
  unknown = set(decided.values()) - {TRAIN, FROZEN}
  if unknown:
    raise ValueError(f"Policies are {TRAIN!r} or {FROZEN!r}, not {unknown}.")
  flat = rules.flatten(params)
  pick = lambda value: rules.unflatten(
    {k: v for k, v in flat.items() if decided[k] == value}
  )
  trained = pick(TRAIN)
  kept = frozen_dtypes or {}
  frozen = {
    p: jnp.asarray(x, kept[p]) if p in kept else x
    for p, x in rules.flatten(pick(FROZEN)).items()
  }
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    trained=trained,
    frozen=rules.unflatten(frozen),
    opt_state=optimizer.init(trained),
    # A copy: the step donates its input, and a buffer goes only once.
    ema=jax.tree.map(jnp.copy, trained),
    refused=jnp.zeros((), jnp.int32),
  )


def load(
  table: tuple,
  shapes: dict,
  previous: dict | None,
  read,
  init,
  place: Callable[[str, Array], jax.Array] = lambda _, x: jnp.asarray(x),
) -> dict:
  """A stage's starting weights by an ordered (regex, source) table.

  Sources: "keep" (from the stage before), "random" (in so many words),
  "copy:PATH" (another weight of the result; `\\1` is the regex's group),
  "weights:NAME" (`read(NAME)` -> flat dict).

  Args:
    table: total and live over the paths of `shapes` (see `rules.resolve`).
    shapes: the model's parameters as nested `ShapeDtypeStruct`s.
    previous: the stage before's parameters, nested, or None.
    read: name -> flat dict of arrays; called once per name.
    init: () -> nested random parameters; called at most once.
    place: (path, array) -> the array where the weight belongs.

  Raises:
    LoadError: a source lacks a weight, or has it in another shape.
  """
  want = rules.flatten(shapes)
  sources = rules.resolve(table, want, "load")
  pool = functools.cache(lambda source: _pool(source, previous, read, init))
  out, problems = {}, []
  for path, source in sources.items():
    if source.startswith("copy:"):
      continue
    found = pool(source).get(path)
    if found is None:
      problems.append(f"{path}: not in {source}")
    elif found.shape != want[path].shape:
      problems.append(
        f"{path}: {found.shape} in {source}, the model has {want[path].shape}"
      )
    else:
      # A copy; of a host's array on the host, where there is room.
      of = jnp if isinstance(found, jax.Array) else np
      out[path] = place(path, of.array(found, want[path].dtype))
  for path, source in sources.items():
    if source.startswith("copy:"):
      origin = _origin(table, path)
      if origin not in out:
        problems.append(f"{path}: nothing to copy at {origin}")
      else:
        out[path] = jnp.array(out[origin])
  if problems:
    raise LoadError("Weights cannot be loaded:\n  " + "\n  ".join(problems))
  return rules.unflatten(out)


def _pool(source: str, previous: dict | None, read, init) -> dict:
  """All weights of a source that is not a copy, by path."""
  if source == "keep":
    if previous is None:
      raise LoadError(
        'The first stage has nothing to "keep": name '
        "random, weights:NAME or copy:PATH in its table."
      )
    return rules.flatten(previous)
  if source == "random":
    return rules.flatten(init())
  if source.startswith("weights:"):
    return read(source.removeprefix("weights:"))
  raise LoadError(
    f"Unknown source {source!r}: choose keep, random, "
    "copy:PATH or weights:NAME."
  )


def _origin(table: tuple, path: str) -> str:
  for pattern, source in table:
    match = re.fullmatch(pattern, path)
    if match:
      return match.expand(source.removeprefix("copy:"))
  raise AssertionError(path)  # rules.resolve has covered every path
