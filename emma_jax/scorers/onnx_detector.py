"""A detector in an ONNX file of the user's: Mask2Former, DETR, YOLO, ...

The file does its own post-processing. Its one input is float32 (1, 3, height,
width); its outputs, for n objects, each with or without a leading 1:

  boxes   (n, 4)     x1, y1, x2, y2
  scores  (n,)       0..1
  labels  (n,)       whole numbers, places in the settings' `classes`
  masks   (n, y, x)  0..1, over the whole input; may be missing

Settings beside it:

  {"classes": ["person", ...], "mean": [...], "std": [...],
   "shorter": 800, "longer": 1333, "multiple": 32, "boxes": "pixels"}

mean and std are of pixels in 0..1. A picture is scaled, at its own ratio, as
far as neither side passes its limit, and is then padded at the right and below
with zeros to a multiple; or it is stretched: "height" and "width" in place of
"shorter" and "longer". Boxes are in pixels of what went in, or "relative",
0..1, to it with its padding. "resample" is bilinear, "mask_threshold" 0.5;
"outputs": {"boxes": "dets"} renames outputs.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.scorers import networks
from emma_jax.scorers.classes import geneval_name
from emma_jax.scorers.detector import Detection
from emma_jax.scorers.networks import Device, Network
from emma_jax.scorers.packages import ScorerError
from emma_jax.scorers.pictures import rgb

_RANKS = {"boxes": 2, "scores": 1, "labels": 1, "masks": 3}


@dataclasses.dataclass(frozen=True)
class Settings:
  """See the module."""

  classes: list[str]
  mean: list[float]
  std: list[float]
  boxes: str
  shorter: int = 0
  longer: int = 0
  height: int = 0
  width: int = 0
  multiple: int = 1
  resample: str = "bilinear"
  mask_threshold: float = 0.5
  outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    networks.check_channels(self.mean, self.std)
    kept, stretched = (self.shorter, self.longer), (self.height, self.width)
    if (min(kept) > 0) == (min(stretched) > 0) or max(kept) * max(stretched):
      raise ScorerError(
        f"shorter, longer are {kept}, height, width {stretched}: give one pair"
      )
    if self.boxes not in ("pixels", "relative"):
      raise ScorerError(f"boxes is {self.boxes!r}, not pixels or relative")
    if self.multiple < 1 or self.resample not in networks.RESAMPLE:
      raise ScorerError(
        f"multiple={self.multiple}, resample={self.resample!r}: at least 1, "
        f"one of {[*networks.RESAMPLE]}"
      )
    if set(self.outputs) - set(_RANKS):
      raise ScorerError(f"outputs renames {[*self.outputs]}, not {[*_RANKS]}")
    if not self.classes:
      raise ScorerError("classes names no class")


class OnnxDetector:
  """See the module.

  Raises:
    ScorerError: a file is missing, or other than the module says.
  """

  def __init__(self, path: str, *, threads: int = 0, device: Device = "cpu"):
    self._network = Network(path, threads=threads, device=device)
    self._settings = networks.read_settings(path, Settings)
    self._classes = [geneval_name(name) for name in self._settings.classes]
    self._input = self._network.picture_input()
    self._outputs = self._named_outputs()

  def identity(self) -> Mapping[str, Any]:
    """Of the file and its settings."""
    return self._network.identity()

  def __call__(self, picture: bytes) -> list[Detection]:
    """What is in a picture file."""
    c, pixels = self._settings, rgb(picture)
    height, width = pixels.shape[:2]
    rows, columns = self._scaled(height, width)
    image = Image.fromarray(pixels).resize(
      (columns, rows), networks.RESAMPLE[c.resample]
    )
    feed = networks.normalised(np.asarray(image), c.mean, c.std)
    below, right = -rows % c.multiple, -columns % c.multiple
    feed = np.pad(feed, ((0, 0), (0, 0), (0, below), (0, right)))
    found = self._checked(
      self._network.run({self._input: feed}, list(self._outputs.values()))
    )
    padded = (rows + below, columns + right)
    boxes = found["boxes"].astype(np.float64)
    if c.boxes == "relative":
      boxes = boxes * np.tile(padded[::-1], 2)
    boxes = boxes * np.tile([width / columns, height / rows], 2)
    boxes = np.clip(boxes, 0, np.tile([width, height], 2))
    masks = found.get("masks")
    return [
      Detection(
        self._classes[int(label)],
        float(score),
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        None
        if masks is None
        else self._mask(masks[i], padded, (rows, columns), (height, width)),
      )
      for i, (label, score, box) in enumerate(
        zip(found["labels"], found["scores"], boxes)
      )
    ]

  def _scaled(self, height: int, width: int) -> tuple[int, int]:
    c = self._settings
    if c.height:
      return c.height, c.width
    scale = min(c.shorter / min(height, width), c.longer / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))

  def _mask(
    self,
    mask: np.ndarray,
    padded: tuple[int, int],
    inner: tuple[int, int],
    size: tuple[int, int],
  ) -> np.ndarray:
    """Bool of the picture's size, of a mask over the padded input."""
    bilinear = Image.Resampling.BILINEAR
    image = Image.fromarray(mask.astype(np.float32))
    image = image.resize(padded[::-1], bilinear).crop((0, 0, *inner[::-1]))
    image = image.resize(size[::-1], bilinear)
    return np.asarray(image) > self._settings.mask_threshold

  def _named_outputs(self) -> dict[str, str]:
    """Ours -> the file's, of those that it has."""
    named = {ours: self._settings.outputs.get(ours, ours) for ours in _RANKS}
    ports = {port.name: port for port in self._network.outputs}
    optional = "masks" not in self._settings.outputs
    if optional and named["masks"] not in ports:
      del named["masks"]
    wrong = [name for name in named.values() if name not in ports]
    wrong += [
      name
      for ours, name in named.items()
      if name in ports
      and ports[name].shape
      and len(ports[name].shape) not in (_RANKS[ours], _RANKS[ours] + 1)
    ]
    if wrong:
      raise ScorerError(
        f"{self._network.path}: of the outputs {[*map(tuple, ports.values())]} "
        f"{wrong} are missing or of another shape; wanted are boxes (n, 4), "
        "scores (n,), labels (n,), perhaps masks (n, y, x). The settings' "
        "`outputs` renames them."
      )
    return named

  def _checked(self, values: list[np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for (ours, name), value in zip(self._outputs.items(), values):
      if value.ndim == _RANKS[ours] + 1 and value.shape[0] == 1:
        value = value[0]
      found[ours] = value
      count = len(found["boxes"])
      ranked = value.ndim == _RANKS[ours] and len(value) == count
      if not ranked or (ours == "boxes" and value.shape[1] != 4):
        raise ScorerError(
          f"{self._network.path}: {name} is {value.shape}, for {count} boxes"
        )
    if not np.isfinite(found["boxes"]).all() or not np.all(
      (found["scores"] >= 0) & (found["scores"] <= 1)
    ):
      raise ScorerError(
        f"{self._network.path}: boxes are not finite, or scores not in 0..1; "
        "the file has to do the softmax or sigmoid."
      )
    labels = found["labels"]
    if not np.all((labels >= 0) & (labels < len(self._classes))):
      raise ScorerError(
        f"{self._network.path} gives labels {labels.min()} to {labels.max()}; "
        f"the settings name {len(self._classes)} classes."
      )
    return found
