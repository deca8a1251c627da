"""Hugging Face folders: config.json and safetensors, read lazily and written.

Headers are read by `headers`, and tensors are mapped one at a time, since
the `safetensors` package keeps a whole file mapped while any of it is open: its
pages would count as ours, and a 4B import would take twice its size.
"""

from collections.abc import Iterable
import dataclasses
import json
import math
import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from emma_jax.convert import lookup
from emma_jax.convert.headers import (
  DTYPES,
  FolderError,
  Stored,
  read_header,
  read_json,
  some,
)
from emma_jax.files import replace, write_text

_CODES = {dtype: code for code, dtype in DTYPES.items()}
# The names `transformers` and `diffusers` save under.
STEMS = ("model", "diffusion_pytorch_model")
_INDEX = ".safetensors.index"  # ends in .json, perhaps after a variant's name


@dataclasses.dataclass(frozen=True)
class Folder:
  """A Hugging Face folder; opening it reads no tensor.

  path: the folder.
  config: its config.json.
  tensors: name -> where it lies.
  """

  path: pathlib.Path
  config: dict[str, Any]
  tensors: dict[str, Stored]

  @classmethod
  def open(cls, path: str | os.PathLike) -> "Folder":
    """Reads config.json and the headers of the safetensors.

    One file (`model.safetensors`, `diffusion_pytorch_model.safetensors`, or
    any single one), or shards under a `*.safetensors.index.json`.

    Raises:
      FolderError: something is missing, cut off or contradicts itself.
    """
    try:
      path = pathlib.Path(path).expanduser()
      if not path.is_dir():
        raise FolderError(
          f"{path} is not a folder; give the one that holds config.json."
        )
      if not (path / "config.json").exists():
        lookup.explain_no_config(path)
      return cls(path, read_json(path / "config.json"), _find(path))
    except (
      OSError,
      RuntimeError,
    ) as error:  # a name too long, a disk that fails
      raise FolderError(f"{path} cannot be read: {error}.") from error

  def names(self) -> tuple[str, ...]:
    """The names of all tensors, in the order of the files."""
    return tuple(self.tensors)

  def shape(self, name: str) -> tuple[int, ...]:
    """A tensor's shape, from its file's header."""
    return self._stored(name).shape

  def dtype(self, name: str) -> np.dtype:
    """A tensor's dtype, from its file's header; bfloat16 is JAX's."""
    return jnp.dtype(self._stored(name).dtype)

  def read(self, name: str) -> np.ndarray:
    """One tensor, read-only and mapped: pages are read when touched.

    The mapping covers this tensor alone and goes with the array.
    """
    return mapped(self._stored(name))

  def _stored(self, name: str) -> Stored:
    if name not in self.tensors:
      raise FolderError(
        f"{self.path} has no tensor {name!r}; it has {some(self.tensors)}."
      )
    return self.tensors[name]


def mapped(stored: Stored) -> np.ndarray:
  """One tensor; see `Folder.read`."""
  dtype = jnp.dtype(stored.dtype)
  size = math.prod(stored.shape) * dtype.itemsize
  if not size:  # nothing to map
    return np.zeros(stored.shape, dtype)
  raw = np.memmap(stored.file, np.uint8, "r", stored.start, (size,))
  return np.asarray(raw).view(dtype).reshape(stored.shape)


def tensors(path: pathlib.Path) -> dict[str, Stored]:
  """Where the tensors of one safetensors file lie.

  Raises:
    FolderError: it is not a whole one.
  """
  return read_header(path)


def _find(path: pathlib.Path) -> dict[str, Stored]:
  """The tensors of a folder's single file, or of its shards."""
  # As the libraries do: a single file of theirs goes before shards.
  whole = [f"{stem}.safetensors" for stem in STEMS]
  files = [path / name for name in whole if _there(path / name)]
  shards = [p for p in path.glob(f"*{_INDEX}*.json") if not files]
  # `variant` puts a word into the index's name; without one goes before.
  indices = [p for p in shards if p.name.endswith(f"{_INDEX}.json")] or shards
  if len(indices) == 1:
    return _read_shards(indices[0])
  files = files or sorted(path.glob("*.safetensors"))
  if not indices and len(files) == 1:
    lookup.refuse_unfinished(files[0])
    return read_header(files[0])
  if indices or files:
    found = some(sorted(f.name for f in (*indices, *files)))
    raise FolderError(
      f"{path}: cannot tell which weights are meant: {found}. Leave one file,"
      f" or shards with one index (*{_INDEX}.json)."
    )
  raise FolderError(f"{path} holds no safetensors{lookup.others(path)}.")


def _there(path: pathlib.Path) -> bool:
  """Whether something has the name, were it a link to nothing."""
  return path.is_file() or path.is_symlink()


def _read_shards(index: pathlib.Path) -> dict[str, Stored]:
  """The tensors of all shards; the index must say exactly what they hold."""
  weight_map = read_json(index).get("weight_map")
  if (
    not isinstance(weight_map, dict)
    or not weight_map
    or not all(isinstance(shard, str) for shard in weight_map.values())
  ):
    raise FolderError(f"{index} has no map of names to files; get it again.")
  shards = dict.fromkeys(weight_map.values())
  outside = [s for s in shards if pathlib.PurePath(s).name != s]
  if outside:
    raise FolderError(
      f"{index} names {some(outside)}, which would lie outside of"
      f" {index.parent}; get it again."
    )
  absent = [s for s in shards if not _there(index.parent / s)]
  if absent:
    raise FolderError(
      f"{index} names {some(absent)}, which {index.parent} lacks; get them."
    )
  for shard in shards:
    lookup.refuse_unfinished(index.parent / shard)
  tensors: dict[str, Stored] = {}
  for shard in shards:
    header = read_header(index.parent / shard)
    listed = {name for name, file in weight_map.items() if file == shard}
    if listed != set(header):
      raise FolderError(
        f"{index.parent / shard} and {index.name} disagree: only the index"
        f" has {some(sorted(listed - set(header)))}; only the shard has"
        f" {some(sorted(set(header) - listed))}. Get both again."
      )
    tensors |= header
  return tensors


# ---------------------------------------------------------------- writing


def write_folder(
  path: str | os.PathLike,
  config: dict[str, Any],
  tensors: Iterable[tuple[str, np.ndarray]],
  stem: str = "model",
  max_shard_bytes: float = 5e9,
) -> None:
  """Writes config.json and safetensors as `save_pretrained` lays them out.

  Holds one tensor at a time in memory. Each file appears under its name only
  when it is complete.

  Args:
    path: the folder, made if missing.
    config: JSON for config.json.
    tensors: (name, array), consumed once.
    stem: "model" (transformers) or "diffusion_pytorch_model" (diffusers).
    max_shard_bytes: more than this goes into several shards with an index.

  Raises:
    FolderError: the folder holds safetensors already, a name comes twice, or
      a dtype the format lacks.
  """
  path = pathlib.Path(path)
  path.mkdir(parents=True, exist_ok=True)
  old = [*path.glob("*.safetensors"), *path.glob("*.safetensors.index.json")]
  if old:
    raise FolderError(
      f"{path} holds {some(sorted(f.name for f in old))} already; remove"
      " them or write to another folder."
    )
  raw = path / f"{stem}.partial"  # the tensors of the shard being filled
  shards: list[tuple[pathlib.Path, dict[str, int]]] = []
  spans: dict[str, _Span] = {}
  seen: set[str] = set()
  file = open(raw, "wb")  # noqa: SIM115, one after the other; closed below
  try:
    for name, array in tensors:
      x = np.asarray(array)
      if name in seen:
        raise FolderError(f"{name} was to be written to {path} twice.")
      if x.dtype not in _CODES:
        raise FolderError(
          f"{name}: safetensors cannot hold {x.dtype}; cast it first."
        )
      if spans and file.tell() + x.nbytes > max_shard_bytes:
        file.close()
        shards.append(_close_shard(raw, spans, len(shards)))
        file, spans = open(raw, "wb"), {}  # noqa: SIM115
      spans[name] = (x.dtype, x.shape, file.tell())
      seen.add(name)
      # As bytes: Python's buffers do not know bfloat16.
      file.write(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
    file.close()
    shards.append(_close_shard(raw, spans, len(shards)))
    _name_shards(path, stem, shards)
  finally:
    file.close()
    for partial in (raw, *(shard for shard, _ in shards)):
      partial.unlink(missing_ok=True)  # what is complete has its name by now
  text = json.dumps(config, indent=2, sort_keys=True) + "\n"
  write_text(path / "config.json", text)


_Span = tuple[np.dtype, tuple[int, ...], int]  # dtype, shape, place in `raw`


def _close_shard(
  raw: pathlib.Path, spans: dict[str, _Span], number: int
) -> tuple[pathlib.Path, dict[str, int]]:
  """Header and tensors into one file: (file, name -> bytes).

  Wide dtypes come first, so that every tensor begins at a multiple of its
  width: torch refuses to view it elsewhere.
  """
  order = sorted(spans, key=lambda name: -spans[name][0].itemsize)
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  sizes, end = {}, 0
  for name in order:
    dtype, shape, _ = spans[name]
    sizes[name] = math.prod(shape) * dtype.itemsize
    header[name] = {
      "dtype": _CODES[dtype],
      "shape": list(shape),
      "data_offsets": [end, end + sizes[name]],
    }
    end += sizes[name]
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  path = raw.with_name(f"{raw.stem}-{number}.partial")
  with open(path, "wb") as out, open(raw, "rb") as data:
    out.write(len(text).to_bytes(8, "little") + text)
    for name in order:
      data.seek(spans[name][2])
      _copy(data, out, sizes[name])
  return path, sizes


def _copy(source: Any, target: Any, size: int) -> None:
  """Copies `size` bytes, some megabytes at a time."""
  while size:
    chunk = source.read(min(size, 1 << 24))
    if not chunk:
      raise OSError(f"{source.name} ended {size} bytes early.")
    target.write(chunk)
    size -= len(chunk)


def _name_shards(
  path: pathlib.Path, stem: str, shards: list[tuple[pathlib.Path, dict]]
) -> None:
  """Final names: one file, or numbered shards with their index."""
  if len(shards) == 1:
    replace(shards[0][0], path / f"{stem}.safetensors")
    return
  weight_map: dict[str, str] = {}
  total = 0
  for i, (partial, sizes) in enumerate(shards):
    name = f"{stem}-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    replace(partial, path / name)
    weight_map |= dict.fromkeys(sizes, name)
    total += sum(sizes.values())
  index = {"metadata": {"total_size": total}, "weight_map": weight_map}
  text = json.dumps(index, indent=2, sort_keys=True) + "\n"
  write_text(path / f"{stem}.safetensors.index.json", text)
