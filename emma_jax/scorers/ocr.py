"""Texts in pictures, by PP-OCR as the package rapidocr carries it.

Its wheel holds the models (detection, recognition of Chinese and Latin script,
angle; Apache-2.0), so nothing is downloaded. Lines, not words, are found: what
stands far apart in a row is read as several.
"""

from collections.abc import Mapping
import functools
import pathlib
import threading
from typing import Any, NamedTuple

from emma_jax import files
from emma_jax.judge.base import Call, Reply
from emma_jax.scorers import packages, replies
from emma_jax.scorers.packages import ScorerError
from emma_jax.scorers.pictures import Picture, rgb

MIN_SCORE = 0.5  # rapidocr's own
_PACKAGES = ("rapidocr", "onnxruntime")  # modules of the same names
_PARTS = {"Det": "*_det_*.onnx", "Cls": "*_cls_*.onnx", "Rec": "*_rec_*.onnx"}
_LOCK = threading.Lock()


class Line(NamedTuple):
  """A line of text.

  text: as it was read.
  score: of the recognition, 0..1.
  box: (left, top, right, bottom) in pixels, of the upright rectangle around it.
  """

  text: str
  score: float
  box: tuple[float, float, float, float]


def read_words(
  picture: Picture, *, min_score: float = MIN_SCORE, threads: int = 0
) -> list[Line]:
  """All lines of text, from the top to the bottom, from left to right.

  Args:
    picture: a file's bytes, or uint8 (Y, X, 3).
    min_score: lines with a lower score are left out.
    threads: of the network; 0: as many as there are cores.

  Raises:
    ScorerError: the extra `scorers` is not installed.
    BadPicture: it cannot be read.
  """
  pixels = rgb(picture)
  with _LOCK:  # the engine keeps settings from call to call
    # It takes blue, green, red, as OpenCV does.
    found = _engine(threads)(pixels[..., ::-1], text_score=min_score)
  if getattr(found, "txts", None) is None:  # nothing is found, or nothing read
    return []
  return [
    Line(str(text), float(score), _around(corners))
    for text, score, corners in zip(found.txts, found.scores, found.boxes)
  ]


def identity(min_score: float = MIN_SCORE) -> dict[str, Any]:
  """JSON of what decides what is read: versions, models, the lowest score."""
  return {
    "packages": {name: packages.version(name, name) for name in _PACKAGES},
    "models": {p.name: files.sha256(p) for p in _models().values()},
    "min_score": min_score,
  }


class OcrJudge:
  """Replies with the lines of text in a call's one picture."""

  def __init__(self, *, min_score: float = MIN_SCORE, threads: int = 0):
    if not 0 <= min_score <= 1:
      raise ScorerError(f"min_score={min_score} must be 0 to 1.")
    self._min_score, self._threads = min_score, threads
    self._identity = {"kind": "ocr", **identity(min_score)}
    self._model = f"rapidocr {self._identity['packages']['rapidocr']}"
    with _LOCK:
      _engine(threads)  # what cannot start says so now

  def identity(self) -> Mapping[str, Any]:
    """JSON of versions, models and settings."""
    return self._identity

  def ask(self, call: Call) -> Reply:
    """Lines joined by newlines, "" where there is no text."""
    picture = replies.only_picture(call)
    read = lambda: read_words(
      picture, min_score=self._min_score, threads=self._threads
    )
    return replies.reply(
      self._model, lambda: "\n".join(line.text for line in read())
    )


@functools.cache
def _engine(threads: int) -> Any:
  module = packages.load("rapidocr", "rapidocr")
  packages.load("onnxruntime", "onnxruntime")
  named = {f"{part}.model_path": str(p) for part, p in _models().items()}
  return module.RapidOCR(
    params={
      "Global.log_level": "error",
      "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
      **named,  # without a path it would look for a model to download
    }
  )


def _models() -> dict[str, pathlib.Path]:
  folder = packages.folder("rapidocr", "rapidocr") / "models"
  found = {}
  for part, pattern in _PARTS.items():
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
      raise ScorerError(
        f"{folder} has {len(paths)} files {pattern}, not one: reinstall "
        "rapidocr, whose wheel holds its models."
      )
    found[part] = paths[0]
  return found


def _around(corners: Any) -> tuple[float, float, float, float]:
  x, y = [p[0] for p in corners], [p[1] for p in corners]
  return float(min(x)), float(min(y)), float(max(x)), float(max(y))
