"""ONNX files of the user's, each with its settings in a JSON file beside it.

clip_image.onnx   clip_image.json
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from emma_jax import files
from emma_jax.scorers import packages
from emma_jax.scorers.packages import ScorerError

Device = Literal["cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RESAMPLE = {
  "bicubic": Image.Resampling.BICUBIC,
  "bilinear": Image.Resampling.BILINEAR,
}
T = TypeVar("T")


class Port(NamedTuple):
  """An input or output; a size that is not fixed is None or a text."""

  name: str
  type: str
  shape: tuple[Any, ...]


class Network:
  """An ONNX file, opened.

  Args:
    path: of the file.
    threads: 0: as many as there are cores.
    device: cuda needs the package onnxruntime-gpu in place of onnxruntime.

  Raises:
    ScorerError: there is no such file, it cannot be run, or not there.
  """

  def __init__(self, path: str, *, threads: int = 0, device: Device = "cpu"):
    if device not in _PROVIDERS:
      raise ScorerError(f"device={device!r} is none of {[*_PROVIDERS]}.")
    if not os.path.isfile(path):
      raise ScorerError(f"There is no file {path}; it is to be an ONNX file.")
    runtime = packages.load("onnxruntime", "onnxruntime")
    provider = _PROVIDERS[device]
    if provider not in runtime.get_available_providers():
      raise ScorerError(
        f"This onnxruntime has no {provider}: pip install onnxruntime-gpu in "
        "place of onnxruntime, or device=cpu."
      )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
      self._session = runtime.InferenceSession(
        path, options, providers=[provider]
      )
    except Exception as error:  # onnxruntime has a class for each reason
      raise ScorerError(
        f"{path} is no ONNX file that onnxruntime can run: {error}"
      ) from error
    ports = lambda found: [Port(p.name, p.type, tuple(p.shape)) for p in found]
    self.path = path
    self.inputs = ports(self._session.get_inputs())
    self.outputs = ports(self._session.get_outputs())
    self._device = device

  def identity(self) -> dict[str, Any]:
    """Of the file and its settings, by content, and where it runs."""
    return {
      "onnx": files.sha256(self.path),
      "settings": files.sha256(settings_path(self.path)),
      "device": self._device,
      "packages": {
        "onnxruntime": packages.version("onnxruntime", "onnxruntime")
      },
    }

  def run(
    self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]
  ) -> list[np.ndarray]:
    """The outputs of these names; ScorerError where it fails."""
    try:
      return self._session.run(list(outputs), dict(feeds))
    except Exception as error:
      raise ScorerError(f"{self.path} fails: {error}") from error

  def picture_input(self) -> str:
    """The name of the one input, which takes float32 (1, 3, Y, X)."""
    if len(self.inputs) == 1:
      name, kind, shape = self.inputs[0]
      if kind == "tensor(float)" and len(shape) == 4 and _may(shape[1], 3):
        return name
    raise ScorerError(
      f"{self.path} must have one input, float32 (1, 3, height, width); it has "
      f"{[*map(tuple, self.inputs)]}."
    )


def _may(size: Any, wanted: int) -> bool:
  return not isinstance(size, int) or size == wanted


def settings_path(model: str) -> str:
  """The JSON file beside an ONNX file."""
  return f"{os.path.splitext(model)[0]}.json"


def read_settings(model: str, cls: type[T]) -> T:
  """The settings beside an ONNX file as a dataclass.

  Raises:
    ScorerError: no such file, a key that is missing, or that there is none of.
  """
  path = settings_path(model)
  fields = dataclasses.fields(cls)  # type: ignore[arg-type]
  names = [f.name for f in fields]
  none = dataclasses.MISSING
  needed = [
    f.name for f in fields if f.default is none and f.default_factory is none
  ]
  try:
    with open(path, encoding="utf-8") as file:
      given = json.load(file)
    if not isinstance(given, dict):
      raise ValueError(f"a JSON object is wanted, not {given!r:.40}")
  except (OSError, ValueError) as error:
    raise ScorerError(
      f"{model} needs its settings in {path}, with the keys "
      f"{', '.join(needed)}: {error}"
    ) from error
  missing = [name for name in needed if name not in given]
  unknown = sorted(set(given) - set(names))
  if missing or unknown:
    raise ScorerError(
      f"{path}: missing {missing}, unknown {unknown}; the keys are "
      f"{', '.join(names)}."
    )
  try:
    return cls(**given)
  except (ScorerError, TypeError) as error:
    raise ScorerError(f"{path}: {error}") from error


def check_channels(mean: Any, std: Any) -> None:
  """Three numbers each, of pixels in 0..1."""
  for name, value, least in (("mean", mean, 0.0), ("std", std, 1e-6)):
    right = isinstance(value, list) and len(value) == 3
    if not right or not all(
      isinstance(v, (int, float)) and least <= v <= 1 for v in value
    ):
      raise ScorerError(
        f"{name} is {value!r}, not three numbers of pixels in 0..1, such as "
        "[0.485, 0.456, 0.406]"
      )


def normalised(
  pixels_YXC: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
  """float32 (1, 3, Y, X) of uint8 (Y, X, 3)."""
  offset, scale = np.array(mean, np.float32), np.array(std, np.float32)
  scaled = (pixels_YXC.astype(np.float32) / np.float32(255) - offset) / scale
  return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
