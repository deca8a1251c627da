"""Objects in pictures: who finds them, and GenEval's reply about them.

  {"objects": {"dog": [{"box": [x1, y1, x2, y2], "score": 0.95,
                        "color": "red"}]}}

Boxes are pixels from the top left, classes GenEval's 80, the surest first.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any, NamedTuple, Protocol

import numpy as np

from emma_jax import files
from emma_jax.judge.base import Call, Reply
from emma_jax.scorers import replies
from emma_jax.scorers.classes import geneval_name
from emma_jax.scorers.colours import ColourClassifier
from emma_jax.scorers.packages import ScorerError
from emma_jax.scorers.pictures import rgb

MIN_SCORE = 0.05  # GenEval itself looks at scores above 0.3


@dataclasses.dataclass(frozen=True)
class Detection:
  """An object.

  Args:
    label: of GenEval's 80.
    score: 0..1.
    box: (x1, y1, x2, y2) in pixels, from the top left.
    mask: bool (Y, X) of the picture's size, where it is known.
    color: where it was named beforehand.
  """

  label: str
  score: float
  box: tuple[float, float, float, float]
  mask: np.ndarray | None = None
  color: str = ""


class Detector(Protocol):
  """Finds objects; safe to use from several threads."""

  def identity(self) -> Mapping[str, Any]:
    """JSON of all that decides what is found."""
    ...

  def __call__(self, picture: bytes) -> list[Detection]:
    """What is in a picture file."""
    ...


class Recorded(NamedTuple):
  """A line of a file of detections; `picture` is "" where only its sum is."""

  sha256: str
  picture: str
  detections: list[Detection]


def read_detections(path: str) -> Iterator[Recorded]:
  """Lines of a file of detections.

    {"picture": "00000/samples/0000.png", "detections":
      [{"label": "dog", "score": 0.95, "box": [8, 9, 90, 99], "color": "red"}]}

  Pictures are named beside the file, or by "sha256" of their bytes. "color" and
  "mask" may be missing; a mask is COCO's run lengths, uncompressed:
  {"size": [height, width], "counts": [...]}.

  Raises:
    ScorerError: no such file, or a line that is not so.
  """
  folder = os.path.dirname(os.path.abspath(path))
  try:
    with open(path, encoding="utf-8") as file:
      for number, line in enumerate(file, start=1):
        if line.strip():
          try:
            yield _recorded(json.loads(line), folder)
          except (ValueError, TypeError, LookupError, OSError) as error:
            raise ScorerError(
              f"{path}:{number} is no line of detections: "
              f"{type(error).__name__}: {error}"
            ) from error
          except ScorerError as error:
            raise ScorerError(f"{path}:{number}: {error}") from error
  except (OSError, UnicodeDecodeError) as error:
    raise ScorerError(f"{path} cannot be read: {error}") from error


def _recorded(row: Mapping[str, Any], folder: str) -> Recorded:
  name = row.get("picture", "")
  picture = os.path.join(folder, name) if name else ""
  digest = files.sha256(picture) if picture else row["sha256"]
  if row.get("sha256", digest) != digest:
    raise ValueError(f"{name} has the sum {digest}, not {row['sha256']}")
  return Recorded(digest, picture, [_detection(d) for d in row["detections"]])


def _detection(given: Mapping[str, Any]) -> Detection:
  x1, y1, x2, y2 = map(float, given["box"])
  score = float(given["score"])
  if not (x1 <= x2 and y1 <= y2 and 0 <= score <= 1):
    raise ValueError(f"box {given['box']}, score {score}: not x1, y1, x2, y2")
  mask = given.get("mask")
  return Detection(
    geneval_name(given["label"]),
    score,
    (x1, y1, x2, y2),
    None if mask is None else run_lengths(mask["size"], mask["counts"]),
    given.get("color", ""),
  )


def run_lengths(size: Sequence[int], counts: Sequence[int]) -> np.ndarray:
  """A mask, bool (height, width), of lengths of runs down the columns.

  >>> run_lengths([2, 3], [1, 3, 2]).astype(int).tolist()
  [[0, 1, 0], [1, 1, 0]]

  Raises:
    ValueError: compressed counts, or a sum that is not the number of pixels.
  """
  if isinstance(counts, str):
    raise ValueError("the mask's counts are compressed; give their numbers")
  height, width = size
  if sum(counts) != height * width:
    raise ValueError(f"runs of {sum(counts)} pixels in a mask of {size}")
  values = np.arange(len(counts)) % 2 == 1
  return np.repeat(values, counts).reshape(width, height).T


class FileDetector:
  """Detections that were made before; see `read_detections`.

  Raises:
    ScorerError: the file cannot be read, or differs about a picture.
  """

  def __init__(self, path: str):
    self._path = path
    self._known: dict[str, list[Detection]] = {}
    for line in read_detections(path):
      if line.sha256 in self._known:
        raise ScorerError(
          f"{path} has two lines of the picture {line.sha256}; leave one."
        )
      self._known[line.sha256] = line.detections

  def identity(self) -> Mapping[str, Any]:
    """The file's content."""
    return {"detections": files.sha256(self._path)}

  def __call__(self, picture: bytes) -> list[Detection]:
    """Of the file; replies.Unknown where it has none of this picture."""
    name = hashlib.sha256(picture).hexdigest()
    if name not in self._known:
      raise replies.Unknown(f"{self._path} has no line of the picture {name}.")
    return self._known[name]


class DetectorJudge:
  """Replies with the objects of a call's one picture, see the module.

  The option "colors" of a call lists the classes whose colours are wanted; a
  detection's own colour comes first, and without it or a classifier there is no
  key "color".

  Args:
    detector: finds objects.
    colours: names their colours.
    min_score: detections with a lower score are left out.
  """

  def __init__(
    self,
    detector: Detector,
    colours: ColourClassifier | None = None,
    *,
    min_score: float = MIN_SCORE,
  ):
    if not 0 <= min_score <= 1:
      raise ScorerError(f"min_score={min_score} must be 0 to 1.")
    self._detector, self._colours = detector, colours
    self._min_score = min_score
    self._identity = {
      "kind": "detector",
      "detector": dict(detector.identity()),
      "colours": None if colours is None else dict(colours.identity()),
      "min_score": min_score,
    }

  def identity(self) -> Mapping[str, Any]:
    """JSON of the detector, the classifier and the lowest score."""
    return self._identity

  def ask(self, call: Call) -> Reply:
    """Objects as JSON; "absent" where a file has none of this picture."""
    picture = replies.only_picture(call)
    named = [geneval_name(name) for name in call.options.get("colors", ())]
    return replies.reply(
      type(self._detector).__name__, lambda: self._objects(picture, named)
    )

  def _objects(self, picture: bytes, named: Sequence[str]) -> str:
    classes: dict[str, list[Detection]] = {}
    for one in sorted(self._detector(picture), key=lambda d: -d.score):
      if one.score >= self._min_score:
        classes.setdefault(one.label, []).append(one)
    objects = {}
    for label, found in classes.items():
      colours = [d.color for d in found]
      if label in named and self._colours is not None and not all(colours):
        seen = self._colours(rgb(picture), label, found)
        colours = [own or other for own, other in zip(colours, seen)]
      objects[label] = [
        {"box": list(d.box), "score": d.score}
        | ({"color": colour} if label in named and colour else {})
        for d, colour in zip(found, colours)
      ]
    return json.dumps({"objects": objects})
