"""Pictures and captions as vectors, by encoders whose ONNX files a user has.

Settings beside an encoder of pictures, all of them needed:

  {"size": 224, "crop": 224, "resample": "bicubic",
   "mean": [0.481, 0.458, 0.408], "std": [0.269, 0.261, 0.276]}

The shorter side becomes `size` pixels, the square of `crop` pixels in the
middle stays; mean and std are of pixels in 0..1. The input is float32 (1, 3,
crop, crop). Beside an encoder of texts:

  {"length": 77, "pad": 0}

Its input `input_ids`, or the only one, is int32 or int64 (1, length): what a
tokenizer.json of the package tokenizers gives, cut or padded to the length;
`attention_mask` is fed where the file has it. The output is image_embeds,
text_embeds, embedding, or the only one: float (1, width).
"""

from collections.abc import Mapping
import dataclasses
import json
import os
from typing import Any

import numpy as np
from PIL import Image

from emma_jax import files
from emma_jax.judge.base import Call, Reply
from emma_jax.scorers import networks, packages, replies
from emma_jax.scorers.networks import Device, Network
from emma_jax.scorers.packages import ScorerError
from emma_jax.scorers.pictures import Picture, rgb

_OUTPUTS = ("image_embeds", "text_embeds", "embedding")
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclasses.dataclass(frozen=True)
class PictureSettings:
  """See the module."""

  size: int
  crop: int
  resample: str
  mean: list[float]
  std: list[float]

  def __post_init__(self):
    if not 0 < self.crop <= self.size:
      raise ScorerError(
        f"crop is {self.crop}, size {self.size}: a crop of 1 to size pixels"
      )
    if self.resample not in networks.RESAMPLE:
      raise ScorerError(
        f"resample is {self.resample!r}, none of {[*networks.RESAMPLE]}"
      )
    networks.check_channels(self.mean, self.std)


@dataclasses.dataclass(frozen=True)
class TextSettings:
  """See the module."""

  length: int
  pad: int

  def __post_init__(self):
    if self.length < 1 or self.pad < 0:
      raise ScorerError(f"length={self.length}, pad={self.pad}: below 1 and 0")


class PictureEncoder:
  """An encoder of pictures.

  Raises:
    ScorerError: a file is missing, or other than the module says.
  """

  def __init__(self, path: str, *, threads: int = 0, device: Device = "cpu"):
    self._network = Network(path, threads=threads, device=device)
    self._settings = networks.read_settings(path, PictureSettings)
    self._input = self._network.picture_input()
    self._output = _output(self._network)

  def identity(self) -> dict[str, Any]:
    """Of the file and its settings."""
    return self._network.identity()

  def __call__(self, picture: Picture) -> np.ndarray:
    """float32 (width,), as the network gives it, not normalised."""
    c = self._settings
    pixels = squared(rgb(picture), c.size, c.crop, c.resample)
    feed = networks.normalised(pixels, c.mean, c.std)
    return _vector(self._network, {self._input: feed}, self._output)


class TextEncoder:
  """An encoder of texts.

  Raises:
    ScorerError: a file is missing, or other than the module says.
  """

  def __init__(
    self, path: str, tokenizer: str, *, threads: int = 0, device: Device = "cpu"
  ):
    self._network = Network(path, threads=threads, device=device)
    self._settings = networks.read_settings(path, TextSettings)
    self._output = _output(self._network)
    ports = {port.name: port for port in self._network.inputs}
    self._mask = ports.pop("attention_mask", None)
    port = ports.get("input_ids") or next(iter(ports.values()), None)
    if len(ports) != 1 or port is None or port.type not in _INTEGERS:
      raise ScorerError(
        f"{path} must have an input of ids, int64 or int32, and at most "
        f"attention_mask beside it; it has {self._network.inputs}."
      )
    self._port, self._file = port, tokenizer
    self._tokenizer = _tokenizer(path, tokenizer, self._settings)

  def identity(self) -> dict[str, Any]:
    """Of the file, its settings and its tokenizer."""
    return {**self._network.identity(), "tokenizer": files.sha256(self._file)}

  def __call__(self, text: str) -> np.ndarray:
    """float32 (width,), as the network gives it, not normalised."""
    found = self._tokenizer.encode(text)
    feed = {self._port.name: _row(found.ids, self._port)}
    if self._mask is not None:
      feed["attention_mask"] = _row(found.attention_mask, self._mask)
    return _vector(self._network, feed, self._output)


def squared(
  pixels: np.ndarray, size: int, crop: int, resample: str
) -> np.ndarray:
  """uint8 (crop, crop, 3): the middle of a picture whose shorter side is size.

  As torchvision's Resize and CenterCrop have it.
  """
  height, width = pixels.shape[:2]
  short = min(height, width)
  to = (int(size * width / short), int(size * height / short))
  image = Image.fromarray(pixels).resize(to, networks.RESAMPLE[resample])
  left, top = round((to[0] - crop) / 2), round((to[1] - crop) / 2)
  return np.asarray(image.crop((left, top, left + crop, top + crop)))


@dataclasses.dataclass(frozen=True)
class Pair:
  """An encoder's two halves, as far as they are there."""

  pictures: PictureEncoder | None = None
  texts: TextEncoder | None = None


class EncoderJudge:
  """Replies with vectors of a call's pictures and captions.

  The call's text is a JSON list of captions, or empty; its option "encoder"
  names one of `pairs`, the first where it does not say. The reply is
  {"images": [[0.1, ...], ...], "texts": [[...], ...]}, in the call's order.
  """

  def __init__(self, pairs: Mapping[str, Pair]):
    if not pairs:
      raise ScorerError("An encoder needs at least one ONNX file.")
    self._pairs = dict(pairs)
    parts = {
      f"{name}_{half}": encoder.identity()
      for name, pair in pairs.items()
      for half, encoder in (("image", pair.pictures), ("text", pair.texts))
      if encoder is not None
    }
    self._identity = {"kind": "encoder", **parts}

  def identity(self) -> Mapping[str, Any]:
    """JSON of all files, by content."""
    return self._identity

  def ask(self, call: Call) -> Reply:
    """Vectors; "absent" where the half that is asked for is not there."""
    captions = json.loads(call.text) if call.text.strip() else []
    if not isinstance(captions, list) or not all(
      isinstance(caption, str) for caption in captions
    ):
      raise ValueError(f"{call.id}: {call.text!r:.80} is no list of captions.")
    name = call.options.get("encoder", next(iter(self._pairs)))
    return replies.reply(
      name, lambda: self._encoded(name, captions, call.pictures)
    )

  def _encoded(
    self, name: str, captions: list[str], pictures: tuple[bytes, ...]
  ) -> str:
    pair = self._pairs.get(name, Pair())
    lacking = [
      f"{name}_{half}"
      for half, asked, there in (
        ("image", pictures, pair.pictures),
        ("text", captions, pair.texts),
      )
      if asked and there is None
    ]
    if lacking:
      raise replies.Unknown(
        f"No ONNX file is given for {' and '.join(lacking)} (keys of the "
        f"judge's section); there are {[*self._identity][1:]}."
      )
    vectors = {
      "images": [_numbers(pair.pictures, picture) for picture in pictures],
      "texts": [_numbers(pair.texts, caption) for caption in captions],
    }
    return json.dumps(vectors)


def _numbers(encoder: Any, value: Any) -> list[float]:
  return [float(x) for x in encoder(value)]


def _output(network: Network) -> str:
  names = [port.name for port in network.outputs]
  for name in _OUTPUTS:
    if name in names:
      return name
  if len(names) != 1:
    raise ScorerError(
      f"{network.path} has the outputs {names}; one of {[*_OUTPUTS]} is "
      "wanted, or a single one."
    )
  return names[0]


def _vector(
  network: Network, feeds: Mapping[str, np.ndarray], output: str
) -> np.ndarray:
  (found,) = network.run(feeds, [output])
  if found.ndim != 2 or found.shape[0] != 1 or not np.isfinite(found).all():
    raise ScorerError(
      f"{network.path}: {output} is {found.dtype} {found.shape}, not one "
      "vector of finite numbers, (1, width)."
    )
  return found[0].astype(np.float32)


def _row(ids: list[int], port: networks.Port) -> np.ndarray:
  return np.array([ids], _INTEGERS.get(port.type, np.int64))


def _tokenizer(path: str, file: str, settings: TextSettings) -> Any:
  if not os.path.isfile(file):
    raise ScorerError(
      f"{path} needs its tokenizer: {file!r} is no tokenizer.json."
    )
  tokenizers = packages.load("tokenizers", "tokenizers")
  try:
    found = tokenizers.Tokenizer.from_file(file)
  except Exception as error:  # what it raises has no class of its own
    raise ScorerError(f"{file} is no tokenizer.json: {error}") from error
  found.enable_truncation(settings.length)
  token = found.id_to_token(settings.pad)
  if token is None:
    raise ScorerError(f"{file} has no token {settings.pad}, which is to pad.")
  found.enable_padding(
    length=settings.length, pad_id=settings.pad, pad_token=token
  )
  return found
