"""Are the persons of two pictures the same? By dlib's face embedding.

Faces are found by dlib's histogram-of-gradients detector, turned upright by
five landmarks, and embedded in 128 dimensions by its ResNet, whose authors call
faces within a distance of 0.6 the same person (http://dlib.net/python/,
face_recognition_model_v1). The models are files of face-recognition-models; its
68-landmark file is never read, since the pictures that it was trained on may
not be used commercially.
"""

import functools
import threading
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from emma_jax import files
from emma_jax.scorers import packages
from emma_jax.scorers.pictures import Picture, rgb

SAME_PERSON = 0.6  # distance
_EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"
_LANDMARKS = "shape_predictor_5_face_landmarks.dat"
# Of six photographs of groups and one portrait, real faces are above 0.26, all
# else is below 0.14.
_MIN_SCORE = 0.2
_MAX_SIDE = 1600  # pixels; larger pictures are shrunk before faces are sought
_LOCK = threading.Lock()


class Face(NamedTuple):
  """A face.

  box: (left, top, right, bottom) in pixels.
  score: of the detector.
  embedding: float64 (128,).
  """

  box: tuple[float, float, float, float]
  score: float
  embedding: np.ndarray


def find_faces(picture: Picture) -> list[Face]:
  """All faces of 40 pixels and more, the surest first.

  Raises:
    ScorerError: the extra `scorers` is not installed.
    BadPicture: it cannot be read.
  """
  image = Image.fromarray(rgb(picture))
  scale = min(1.0, _MAX_SIDE / max(image.size))
  if scale < 1:
    size = [max(1, round(n * scale)) for n in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
  pixels = np.asarray(image)
  with _LOCK:  # dlib's networks keep buffers from call to call
    detect, landmarks, embed = _engine()
    # 1: doubled once, so that faces of 40 pixels are found and not of 80.
    boxes, scores, _ = detect.run(pixels, 1, _MIN_SCORE)
    return [
      Face(
        _corners(box, scale),
        score,
        np.array(embed.compute_face_descriptor(pixels, landmarks(pixels, box))),
      )
      for box, score in zip(boxes, scores)
    ]


def similarity(a: Picture, b: Picture) -> float | None:
  """How alike the persons of two pictures are, 0..1; None without a face.

  Faces are paired, the closest first, until one picture has none left; the
  pair that is least alike counts. So a person who is added or removed does not
  count, and None also says that one of the pictures shows nobody.
  """
  faces_a, faces_b = find_faces(a), find_faces(b)
  if not faces_a or not faces_b:
    return None
  return of_distance(max(_paired(distances(faces_a, faces_b))))


def distances(faces_a: list[Face], faces_b: list[Face]) -> np.ndarray:
  """(A, B) between embeddings."""
  one = np.stack([face.embedding for face in faces_a])
  two = np.stack([face.embedding for face in faces_b])
  return np.linalg.norm(one[:, None] - two[None], axis=-1)


def of_distance(distance: float) -> float:
  """1 at a distance of 0, and 0.6 at that of 0.6: one threshold for both.

  >>> of_distance(0.0), round(of_distance(SAME_PERSON), 6), of_distance(9.0)
  (1.0, 0.6, 0.0)
  """
  return max(0.0, 1.0 - distance * (1.0 - SAME_PERSON) / SAME_PERSON)


def _paired(distance_AB: np.ndarray) -> list[float]:
  """Distances of the pairs, the closest first; each face is in one pair."""
  left = distance_AB.astype(np.float64)
  found = []
  for _ in range(min(left.shape)):
    row, column = np.unravel_index(np.argmin(left), left.shape)
    found.append(float(left[row, column]))
    left[row], left[:, column] = np.inf, np.inf
  return found


def identity() -> dict[str, Any]:
  """JSON of what decides a similarity: versions, models, the lowest score."""
  folder = _folder()
  return {
    "packages": {"dlib": packages.version("dlib", "dlib-bin")},
    "models": {
      name: files.sha256(folder / name) for name in (_EMBEDDING, _LANDMARKS)
    },
    "min_score": _MIN_SCORE,
  }


def _folder() -> Any:
  # Its own functions import pkg_resources, which setuptools no longer has.
  name = "face-recognition-models"
  return packages.folder("face_recognition_models", name) / "models"


@functools.cache
def _engine() -> tuple[Any, Any, Any]:
  dlib, folder = packages.load("dlib", "dlib-bin"), _folder()
  return (
    dlib.get_frontal_face_detector(),
    dlib.shape_predictor(str(folder / _LANDMARKS)),
    dlib.face_recognition_model_v1(str(folder / _EMBEDDING)),
  )


def _corners(box: Any, scale: float) -> tuple[float, float, float, float]:
  left, top, right, bottom = box.left(), box.top(), box.right(), box.bottom()
  return left / scale, top / scale, right / scale, bottom / scale
