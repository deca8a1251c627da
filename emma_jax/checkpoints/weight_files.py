"""Small weight files: flat safetensors that check themselves.

For the weights that ship with the package and for exchange. One file holds
the leaves of nested dicts under slash paths, and JSON metadata (config, step,
scores) with a SHA-256 over everything.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from emma_jax import files, rules
from emma_jax.checkpoints.by_leaf import Keep
from emma_jax.checkpoints.integrity import CheckpointError
from emma_jax.checkpoints.renamed_keys import current_meta
from emma_jax.convert import casting
from emma_jax.convert.files import mapped, tensors
from emma_jax.exits import Exit

_SUFFIX = ".safetensors"
_KEY = "emma"  # the one metadata key: several would be written in any order

_FOREIGN = (
  "it has no metadata of emma_jax; of a folder that `emma-convert export emma`"
  " wrote give the folder, and for Qwen3, SigLIP2 and DC-AE see `emma-convert"
  " init`"
)
_WIDER = "store it as float32 (--dtype float32)"


class WeightsCorrupt(CheckpointError):
  """A weight file whose content is not what was written."""

  exit_code = Exit.DATA


def save_weights(
  path: str | pathlib.Path, tree: Any, metadata: dict, dtype: Any = None
) -> dict[str, int]:
  """Writes nested dicts of arrays; the same input gives the same bytes.

  Returns, for whoever has to tell, leaf -> how many of its values were too
  small for `dtype` and became 0, of the leaves that have such.

  Args:
    path: the file, replaced at once when complete.
    tree: nested dicts.
    metadata: JSON.
    dtype: what floating leaves are stored as, such as "float16"; None: as is.

  Raises:
    CheckpointError: a value that is not finite or that `dtype` cannot hold, a
      leaf most of which is too small for it, a dtype the format lacks, or
      metadata that is not JSON.
  """
  leaves = {}
  flushed: dict[str, int] = {}
  for name, leaf in sorted(rules.flatten(tree).items()):
    array = np.asarray(jax.device_get(leaf))
    try:
      casting.check_finite(name, array, "choose a sound checkpoint")
      if dtype is not None and casting.is_floating(array.dtype):
        array, zeros = casting.cast(name, array, dtype, _WIDER)
        flushed |= {name: zeros} if zeros else {}
    except casting.BadValues as error:
      raise CheckpointError(str(error)) from error
    if array.dtype.kind not in "fiub":
      raise CheckpointError(
        f"{name}: {array.dtype} cannot be stored; pass dtype='float16'."
      )
    leaves[name] = np.ascontiguousarray(array).reshape(array.shape)
  try:
    metadata = json.loads(json.dumps(metadata))
  except TypeError as error:
    raise CheckpointError(f"Metadata must be JSON: {error}.") from error
  text = json.dumps(
    {"metadata": metadata, "sha256": _digest(leaves, metadata)}, sort_keys=True
  )
  with files.atomic_write(path) as file:
    file.write(safetensors.numpy.save(leaves, {_KEY: text}))
  return flushed


def load_weights(
  path: str | pathlib.Path,
  dtype: Any = None,
  keep: Callable[[dict], Keep] = lambda metadata: Keep(),
) -> tuple[dict, dict]:
  """Reads (tree of arrays, metadata) that `save_weights` wrote.

  A tensor at a time; all are compared with the SHA-256 in the end.

  Args:
    path: the file.
    dtype: what floating leaves become; None: as stored.
    keep: of the metadata, before any tensor is read, how they are kept.

  Raises:
    FileNotFoundError: no such file.
    WeightsCorrupt: the content does not match its SHA-256.
    CheckpointError: the file has other weights than `keep` asks for.
  """
  path = pathlib.Path(path)
  with _readable(path):
    with safetensors.safe_open(path, framework="numpy") as file:
      about = file.metadata() or {}
    if _KEY not in about:
      raise ValueError(_FOREIGN)
    header = json.loads(about[_KEY])
    stored = tensors(path)
    metadata, digest = header["metadata"], header["sha256"]
    current = current_meta(metadata)
  kept = keep(current)
  kept.check({name: one.shape for name, one in stored.items()})
  leaves: dict[str, Any] = {}
  sha = _begun(metadata)
  with _readable(path):
    for name, one in sorted(stored.items()):
      x = mapped(one)
      _add(sha, name, x)
      floating = np.issubdtype(x.dtype, np.floating)
      leaves[name] = kept.put(name, x, dtype if floating else None)
  if digest != sha.hexdigest():
    raise WeightsCorrupt(
      f"{path} does not match the SHA-256 it was written with; get it again."
    )
  return rules.unflatten(leaves), current


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
  """What reading raises means that the file is damaged."""
  try:
    yield
  except FileNotFoundError:
    raise
  except (
    safetensors.SafetensorError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
  ) as error:
    found = files.instead(path)
    if not found and pathlib.Path(path).suffix != _SUFFIX:
      found = f"it is no {_SUFFIX} file, and others are not read"
    if not found and _FOREIGN in error.args:
      found = _FOREIGN
    raise WeightsCorrupt(
      f"{path} is not a readable weight file: {found}."
      if found
      else f"{path} is not a readable weight file ({type(error).__name__}: "
      f"{error}); get it again."
    ) from error


def _digest(leaves: dict[str, np.ndarray], metadata: dict) -> str:
  """Over metadata, and name, dtype, shape and bytes of each leaf in order."""
  sha = _begun(metadata)
  for name, x in sorted(leaves.items()):
    _add(sha, name, x)
  return sha.hexdigest()


def _begun(metadata: dict) -> Any:
  return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())


def _add(sha: Any, name: str, x: np.ndarray) -> None:
  sha.update(f"\n{name} {x.dtype} {x.shape}\n".encode())
  # As bytes: Python's buffers do not know every dtype.
  sha.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
