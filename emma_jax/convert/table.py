"""One name table per source of weights, read both ways.

A table is a tuple of entries; each says which tensors of a file one of our
leaves is made of, and how a tensor becomes (a layer of) the leaf and back.
Nothing is left over on either side: a tensor no entry names, an entry without
a tensor, a leaf without an entry and a wrong shape end the import before the
first tensor is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.convert.files import Folder

Change = Callable[[np.ndarray], np.ndarray]
_SHOWN = 40  # names of each list in an error's text


def same(x: np.ndarray) -> np.ndarray:
  """x, for tensors that both sides lay out alike."""
  return x


def transpose(x: np.ndarray) -> np.ndarray:
  """torch's Linear weight (out, in) <-> our kernel (in, out)."""
  return x.T


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
  """Names or shapes that do not fit; the message lists all kinds.

  Attributes hold the whole lists, the message the first of each:
    unknown: tensors of the files in no entry.
    missing: tensors in an entry that the files lack.
    misshaped: lines with a name, its shape, and the shape it should have.
    unfilled: leaves of ours without an entry, and entries without a leaf.
  """

  def __init__(
    self,
    where: str,
    *,
    unknown: Sequence[str] = (),
    missing: Sequence[str] = (),
    misshaped: Sequence[str] = (),
    unfilled: Sequence[str] = (),
  ):
    self.unknown, self.missing = tuple(unknown), tuple(missing)
    self.misshaped, self.unfilled = tuple(misshaped), tuple(unfilled)
    parts = [
      f"{len(names)} {kind}: {_some(names)}"
      for kind, names in (
        ("unknown (in the files, in no entry)", self.unknown),
        ("missing (in an entry, not in the files)", self.missing),
        ("mis-shaped", self.misshaped),
        ("without a counterpart in our table", self.unfilled),
      )
      if names or kind.startswith(("unknown", "missing"))
    ]
    super().__init__(
      f"{where} does not fit.\n  "
      + "\n  ".join(parts)
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
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  *,
  prefix: str = "",
  ignore: Sequence[str] = (),
  dtype: Any = None,
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (path, leaf) for every leaf; checks everything at the call.

  Leaf by leaf, layer by layer into one array: the peak memory is what the
  caller keeps plus one tensor.

  Args:
    folder: where the tensors are.
    entries: the name table; names without `prefix`.
    shapes: path -> shape of every leaf that is to be filled.
    prefix: what all names in the files begin with.
    ignore: regular expressions of whole names in the files that are left out
      on purpose.
    dtype: what floating leaves become; None: as stored.

  Raises:
    ConversionError: names or shapes that do not fit.
  """
  _check(folder, entries, shapes, prefix, ignore)
  return _leaves(folder, entries, prefix, dtype)


def _check(folder, entries, shapes, prefix, ignore) -> None:
  wanted: dict[str, tuple[int, ...]] = {}
  ours = {entry.ours for entry in entries}
  unfilled = sorted(ours ^ set(shapes))
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
  misshaped += [
    f"{name} {folder.shape(name)} must be {shape}"
    for name, shape in wanted.items()
    if name in have and folder.shape(name) != shape
  ]
  if unknown or missing or misshaped or unfilled:
    raise ConversionError(
      str(folder.path),
      unknown=unknown,
      missing=missing,
      misshaped=misshaped,
      unfilled=unfilled,
    )


def _leaves(folder, entries, prefix, dtype):
  for entry in entries:
    names = [prefix + name for name in entry.theirs]
    own = folder.dtype(names[0])
    if dtype is not None and jnp.issubdtype(own, jnp.floating):
      own = jnp.dtype(dtype)
    if not entry.stacked:
      # A copy: the mapping of the file must not outlive this step.
      yield (
        entry.ours,
        np.array(entry.to_ours(folder.read(names[0])), own, order="C"),
      )
      continue
    out = None
    for i, name in enumerate(names):
      layer = entry.to_ours(folder.read(name))
      if out is None:
        out = np.empty((len(names), *layer.shape), own)
      out[i] = layer
    yield entry.ours, out


def write(
  params: Any, entries: Sequence[Entry], *, prefix: str = ""
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (their name, tensor): the inverse of `read`, bit for bit.

  Args:
    params: nested dicts of arrays; exactly the leaves of the table.
    entries: the name table.
    prefix: what all names in the files are to begin with.

  Raises:
    ConversionError: leaves without an entry or entries without a leaf.
  """
  flat = rules.flatten(params)
  unfilled = sorted({entry.ours for entry in entries} ^ set(flat))
  if unfilled:
    raise ConversionError("The parameters", unfilled=unfilled)
  return _tensors(flat, entries, prefix)


def _tensors(flat, entries, prefix):
  for entry in entries:
    leaf = np.asarray(flat[entry.ours])
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
