"""The same person is alike, others are not. Prints a table with -s."""

import numpy as np
import pytest

pytest.importorskip("dlib")
pytest.importorskip("skimage")

from emma_jax.scorers import faces
from tests.scorers import photos

STRANGERS = tuple(range(8))


def test_one_person_in_several_guises_and_others():
  """Below dlib's 0.6, and above."""
  portrait = photos.portrait()
  (face,) = faces.find_faces(portrait)
  tint = np.uint8(np.clip(portrait * np.array([1.1, 0.9, 0.8]), 0, 255))
  same = {
    "mirrored": portrait[:, ::-1],
    "half size": photos.resized(portrait, 0.5),
    "tinted": tint,
  }
  near = {}
  print("\npicture     distance  similarity")
  for name, picture in same.items():
    distance_AB = faces.distances([face], faces.find_faces(picture))
    near[name] = distance_AB.min()
    print(
      f"{name:10}  {near[name]:8.3f}  {faces.of_distance(near[name]):10.3f}"
    )
  others = [faces.find_faces(photos.stranger(n, 200)) for n in STRANGERS]
  far = [faces.distances([face], found).min() for found in others if found]
  print(f"{len(far)} others  {min(far):.3f} to {max(far):.3f}")
  assert max(near.values()) < faces.SAME_PERSON
  assert len(far) > len(STRANGERS) / 2 and min(far) > faces.SAME_PERSON


def test_similarity_of_pictures():
  portrait = photos.resized(photos.portrait(), 0.5)
  assert faces.similarity(portrait, portrait) == 1.0
  mirrored = faces.similarity(portrait, portrait[:, ::-1])
  assert mirrored is not None and mirrored > 0.8
  other = faces.similarity(portrait, photos.stranger(1))
  assert other is not None and other < 0.6


def test_of_two_persons_the_one_that_changed_counts():
  portrait = photos.resized(photos.portrait(), 0.5)[:180]
  beside = lambda n: np.concatenate([portrait, photos.stranger(n, 180)], axis=1)
  assert len(faces.find_faces(beside(1))) == 2
  changed = faces.similarity(beside(1), beside(3))
  assert faces.similarity(beside(1), beside(1)) == 1.0
  assert changed is not None and changed < 0.6
  # Who is added does not count.
  assert faces.similarity(portrait, beside(1)) > 0.9


@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_without_a_face_there_is_no_similarity(name):
  picture = photos.nobody()[name]
  assert faces.find_faces(picture) == []
  assert faces.similarity(picture, photos.portrait()) is None


def test_places_are_those_of_the_large_picture(monkeypatch):
  portrait = photos.portrait()
  (whole,) = faces.find_faces(portrait)
  monkeypatch.setattr(faces, "_MAX_SIDE", 300)
  (small,) = faces.find_faces(portrait)
  np.testing.assert_allclose(small.box, whole.box, atol=12)


def test_the_68_points_are_never_opened():
  assert not any("68" in name for name in faces.identity()["models"])
