"""One name table per source of weights, read both ways.

A table is a tuple of entries; each says which tensors of a file one of our
leaves is made of, and how a tensor becomes (a layer of) the leaf and back.
Nothing is left over on either side: a tensor no entry names, an entry without
a tensor, a leaf without an entry, a wrong shape and integers where weights
belong end the import before the first tensor is read; a value that is not
finite ends it where it is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Any, Generic, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.convert import casting, hints
from emma_jax.convert.files import Folder

Change = Callable[[np.ndarray], np.ndarray]
Config = TypeVar("Config")
Shapes = Mapping[str, jax.ShapeDtypeStruct]
_SHOWN = 40  # names of each list in an error's text
_BAD_FILE = "get the file again, or ask who made it"
_EMPTY = (
  "compare the file's SHA-256 with that on the page it came from, or get it"
  " again"
)
_BAD_CAST = "convert with a wider dtype"


def same(x: np.ndarray) -> np.ndarray:
  """x, for tensors that both sides lay out alike."""
  return x


def transpose(x: np.ndarray) -> np.ndarray:
  """torch's Linear weight (out, in) <-> our kernel (in, out)."""
  return x.T


@dataclasses.dataclass(frozen=True)
class Opened(Generic[Config]):
  """A folder whose config.json and headers fit; no tensor has been read.

  config: our sizes.
  leaves: (path, leaf) of every parameter, once, read one at a time.
  told: the line that says what config.json leaves out and what was taken for
    it; empty if it is complete.
  """

  config: Config
  leaves: Iterator[tuple[str, np.ndarray]]
  told: str


@dataclasses.dataclass(frozen=True)
class Entry:
  """What one leaf is made of.

  ours: slash path of the leaf, such as "layers/block/qk/q".
  theirs: one tensor name, or one per stacked layer in order (leading axis).
  to_ours: one tensor -> the leaf, or one layer of it.
  to_theirs: its exact inverse. Both only move values (they are also called
    with zeros, for the shape).
  stacked: whether the leaf has a leading layer axis; None: if it is made of
    more than one tensor. Say True where the number of layers may be one.
  """

  ours: str
  theirs: tuple[str, ...]
  to_ours: Change = same
  to_theirs: Change = same
  stacked: bool | None = None

  def __post_init__(self):
    if isinstance(self.theirs, str) or not self.theirs:
      raise ValueError(f"{self.ours}: {self.theirs=} must be a tuple of names.")
    if self.stacked is None:
      object.__setattr__(self, "stacked", len(self.theirs) > 1)
    if not self.stacked and len(self.theirs) > 1:
      raise ValueError(f"{self.ours}: several tensors make a stacked leaf.")


class ConversionError(ValueError):
  """Names, shapes or dtypes that do not fit; the message lists all kinds.

  Attributes hold the whole lists, the message the first of each:
    unknown: tensors of the files in no entry.
    missing: tensors in an entry that the files lack.
    misshaped: lines with a name, its shape, and the shape it should have.
    mistyped: lines with a name, its dtype, and the kind it should have.
    unfilled: leaves of ours without an entry, and entries without a leaf.
  """

  def __init__(
    self,
    where: str,
    *,
    unknown: Sequence[str] = (),
    missing: Sequence[str] = (),
    misshaped: Sequence[str] = (),
    mistyped: Sequence[str] = (),
    unfilled: Sequence[str] = (),
    hint: str = "",
  ):
    self.unknown, self.missing = tuple(unknown), tuple(missing)
    self.misshaped, self.unfilled = tuple(misshaped), tuple(unfilled)
    self.mistyped = tuple(mistyped)
    parts = [
      f"{len(names)} {kind}: {_some(names)}"
      for kind, names in (
        ("unknown (in the files, in no entry)", self.unknown),
        ("missing (in an entry, not in the files)", self.missing),
        ("mis-shaped", self.misshaped),
        ("of another kind", self.mistyped),
        ("without a counterpart in our table", self.unfilled),
      )
      if names or kind.startswith(("unknown", "missing"))
    ]
    super().__init__(
      f"{where} does not fit.\n  "
      + "\n  ".join(parts)
      + (f"\n{hint}" if hint else "")
      + "\nNothing was converted. Check that config.json and the weights"
      " belong together and are of the family asked for."
    )


def _some(names: Sequence[str]) -> str:
  more = len(names) - _SHOWN
  shown = ", ".join(names[:_SHOWN]) or "none"
  return shown + (f" and {more} more" if more > 0 else "")


def leaf_shapes(
  module: nn.Module, *inputs: Any, **options: Any
) -> dict[str, jax.ShapeDtypeStruct]:
  """Slash path -> shape of every parameter, without making any.

  Args:
    module: what to initialise.
    inputs: arrays or shapes, for `module.init`.
    options: its keyword arguments, such as `method`.
  """
  init = lambda *x: module.init(jax.random.key(0), *x, **options)
  made = jax.eval_shape(init, *inputs)
  return rules.flatten(nn.unbox(made)["params"])


def read(
  folder: Folder,
  entries: Sequence[Entry],
  shapes: Shapes | Callable[[], Shapes],
  *,
  prefix: str = "",
  ignore: Sequence[str] = (),
  dtype: Any = None,
  told: str = "",
  learned: bool = True,
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (path, leaf) for every leaf; checks everything at the call.

  Leaf by leaf, layer by layer into one array: the peak memory is what the
  caller keeps plus one tensor. Each tensor is looked at as it is read: NaN and
  infinity end the import, as do values that `dtype` cannot hold.

  Args:
    folder: where the tensors are.
    entries: the name table; names without `prefix`.
    shapes: path -> shape of every leaf that is to be filled; or what computes
      them, which is not called where most of the tensors are missing.
    prefix: what all names in the files begin with.
    ignore: regular expressions of whole names in the files that are left out
      on purpose.
    dtype: what floating leaves become; None: as stored. Layers of one leaf
      that are stored in several dtypes become the smallest that holds all of
      them exactly (float32 for float16 and bfloat16).
    told: which defaults were taken for config.json, for the error of a folder
      that does not fit.
    learned: whether all matrices were trained, so that one of zeros is what a
      download left out; those that training starts with may be 0.

  Raises:
    ConversionError: names, shapes or kinds of numbers that do not fit.
    BadValues: while leaves are read: what is not finite, or not after a cast,
      or is zeros where weights were learned.
  """
  _check(folder, entries, shapes, prefix, ignore, told)
  return _leaves(folder, entries, prefix, dtype, learned)


def _check(folder, entries, shapes, prefix, ignore, told) -> None:
  unknown, missing = _names(folder, entries, prefix, ignore)
  if callable(shapes):
    if 2 * len(missing) > sum(len(entry.theirs) for entry in entries):
      # Files of another model, whose shapes explain nothing; and a config.json
      # of a giant would be traced for minutes.
      raise ConversionError(
        str(folder.path),
        unknown=unknown,
        missing=missing,
        hint="\n".join(filter(None, (*hints.of_names(unknown, missing), told))),
      )
    shapes = shapes()
  unfilled = sorted({entry.ours for entry in entries} ^ set(shapes))
  wanted: dict[str, tuple[int, ...]] = {}
  misshaped = []
  for entry in entries:
    if entry.ours not in shapes:
      continue
    shape = tuple(shapes[entry.ours].shape)
    if entry.stacked and shape[:1] != (len(entry.theirs),):
      misshaped.append(
        f"our {entry.ours} {shape} of {len(entry.theirs)} layers"
      )
      continue
    # A zero seen as a whole leaf: no memory, and the shape theirs must have.
    leaf = np.broadcast_to(np.int8(0), shape[1:] if entry.stacked else shape)
    expected = entry.to_theirs(leaf).shape
    wanted |= {prefix + name: expected for name in entry.theirs}
  have = set(folder.names())
  misshaped += [
    f"{name} {folder.shape(name)} must be {shape}"
    for name, shape in wanted.items()
    if name in have and folder.shape(name) != shape
  ]
  mistyped = list(_mistyped(folder, entries, shapes, prefix))
  if unknown or missing or misshaped or mistyped or unfilled:
    raise ConversionError(
      str(folder.path),
      unknown=unknown,
      missing=missing,
      misshaped=misshaped,
      mistyped=mistyped,
      unfilled=unfilled,
      hint="\n".join(
        filter(None, (*hints.of_names(unknown, missing, bool(mistyped)), told))
      ),
    )


def _names(folder, entries, prefix, ignore) -> tuple[list[str], list[str]]:
  """(unknown tensors, missing ones)."""
  found = folder.names()
  skip = [re.compile(pattern) for pattern in ignore]
  named = {prefix + name for entry in entries for name in entry.theirs}
  unknown = [
    name
    for name in found
    if name not in named and not any(p.fullmatch(name) for p in skip)
  ]
  have = set(found)
  missing = [
    prefix + name
    for entry in entries
    for name in entry.theirs
    if prefix + name not in have
  ]
  return unknown, missing


def _mistyped(folder, entries, shapes, prefix) -> Iterator[str]:
  """Lines of tensors that are integers or booleans where fractions belong."""
  have = set(folder.names())
  for entry in entries:
    if entry.ours not in shapes:
      continue
    wanted = casting.is_floating(shapes[entry.ours].dtype)
    for name in (prefix + name for name in entry.theirs):
      if name in have and casting.is_floating(folder.dtype(name)) != wanted:
        kind = "a floating dtype" if wanted else "integers"
        yield f"{name} of {folder.dtype(name)} must be of {kind}"


def _leaves(folder, entries, prefix, dtype, learned):
  for entry in entries:
    names = [prefix + name for name in entry.theirs]
    own = _common([folder.dtype(name) for name in names], dtype)
    if not entry.stacked:
      x = entry.to_ours(_sound(folder, names[0], own, learned))
      if not (x.flags.owndata and x.flags.c_contiguous):
        # A copy: the mapping of the file must not outlive this step.
        x = np.array(x, own, order="C")
      yield entry.ours, x
      continue
    out = None
    for i, name in enumerate(names):
      layer = entry.to_ours(_sound(folder, name, own, learned))
      if out is None:
        out = np.empty((len(names), *layer.shape), own)
      out[i] = layer
    yield entry.ours, out


def _common(stored: Sequence[np.dtype], dtype: Any) -> np.dtype:
  """The dtype of a leaf, of those its tensors are stored in."""
  own = stored[0]
  for other in stored[1:]:  # bfloat16 is unknown to numpy's own promotion
    own = jnp.promote_types(own, other)
  if dtype is not None and casting.is_floating(own):
    own = jnp.dtype(dtype)
  return own


def _sound(
  folder: Folder, name: str, dtype: np.dtype, learned: bool
) -> np.ndarray:
  """A tensor in its new dtype; all of it was looked at."""
  x = folder.read(name)
  if not casting.is_floating(x.dtype):
    return x
  label = f"{folder.path}: {name}"
  casting.check_finite(label, x, _BAD_FILE)
  if learned:
    casting.check_filled(label, x, _EMPTY)
  return casting.cast(label, x, dtype, _BAD_CAST)[0]


def write(
  params: Any, entries: Sequence[Entry], *, prefix: str = ""
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (their name, tensor): the inverse of `read`, bit for bit.

  What is not finite is not written: no reader of ours would take it back.

  Args:
    params: nested dicts of arrays; exactly the leaves of the table.
    entries: the name table.
    prefix: what all names in the files are to begin with.

  Raises:
    ConversionError: leaves without an entry or entries without a leaf.
    BadValues: while tensors are made: a leaf that is not finite.
  """
  flat = rules.flatten(params)
  unfilled = sorted({entry.ours for entry in entries} ^ set(flat))
  if unfilled:
    raise ConversionError("The parameters", unfilled=unfilled)
  return _tensors(flat, entries, prefix)


def _tensors(flat, entries, prefix):
  for entry in entries:
    leaf = np.asarray(flat[entry.ours])
    casting.check_finite(entry.ours, leaf, "export a sound checkpoint")
    layers = leaf if entry.stacked else leaf[None]
    if len(layers) != len(entry.theirs):
      raise ConversionError(
        "The parameters",
        misshaped=[
          f"{entry.ours} {leaf.shape} must have {len(entry.theirs)} layers"
        ],
      )
    for name, layer in zip(entry.theirs, layers):
      yield prefix + name, entry.to_theirs(layer)
