"""Folders as transformers and diffusers publish them, made without our code.

Names, shapes and configs stand in the goldens' families (`tests/goldens`),
where the reference implementation has loaded exactly these; the weights are of
`store.noise`. Files are written by the safetensors package.
"""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.goldens import store

Tensors = dict[str, np.ndarray]


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """A tensor whose size keeps activations near 1, without any symmetry."""
  x = store.noise(name, shape)
  if ("norm" in name and name.endswith("weight")) or name.endswith(
    "running_var"
  ):
    return np.float32(1) + np.float32(0.5) * x
  if x.ndim < 2:
    return np.float32(0.3) * x
  return x * np.float32((3 / np.prod(shape[1:])) ** 0.5)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
  return {name: weight(name, shape) for name, shape in shapes.items()}


def write(
  folder: Path,
  config: Mapping[str, Any],
  tensors: Tensors,
  stem: str = "model",
  shards: int = 1,
) -> Path:
  """config.json and safetensors; several shards come with their index."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text(json.dumps(config))
  metadata = {"format": "pt"}
  if shards == 1:
    safetensors.numpy.save_file(
      tensors, folder / f"{stem}.safetensors", metadata
    )
    return folder
  names, place = list(tensors), {}
  for i in range(shards):
    file = f"{stem}-{i + 1:05d}-of-{shards:05d}.safetensors"
    part = {name: tensors[name] for name in names[i::shards]}
    safetensors.numpy.save_file(part, folder / file, metadata)
    place |= dict.fromkeys(part, file)
  total = sum(x.nbytes for x in tensors.values())
  index = {"metadata": {"total_size": total}, "weight_map": place}
  (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
  return folder


def read(folder: Path) -> Tensors:
  """All tensors of a folder, read by the safetensors package."""
  out: Tensors = {}
  for file in sorted(folder.glob("*.safetensors")):
    part = safetensors.numpy.load_file(file)
    assert not part.keys() & out.keys()
    out |= part
  return out


def assert_equal(found: Tensors, wanted: Tensors) -> None:
  """The same names, dtypes, shapes and bits."""
  assert set(found) == set(wanted)
  for name, x in wanted.items():
    assert found[name].dtype == x.dtype, name
    assert found[name].shape == x.shape, name
    np.testing.assert_array_equal(found[name], x, err_msg=name)
