"""The world's rows become the records that the world has."""

import numpy as np
import pytest

from emma_jax.data.ingest import rows as formats
from emma_jax.data.pictures import images
from emma_jax.structs import STEM_UNKNOWN, Drawing, Editing, Understanding
from emma_jax.world import rows, tasks


def _given(value, key, where):
  del key, where
  return value


def _pixels(record) -> list[np.ndarray]:
  pictures = {
    Understanding: lambda r: r.pictures,
    Drawing: lambda r: (r.picture,),
    Editing: lambda r: (*r.sources, r.target),
  }[type(record)](record)
  return [images.load_picture(picture) for picture in pictures]


@pytest.mark.parametrize(
  "make",
  [
    rows.understanding_shapes,
    rows.stem_shapes,
    rows.drawing_shapes,
    rows.editing_shapes,
    rows.editing_two,
  ],
)
def test_rows_are_the_worlds_records(make):
  found = make()
  assert len(found) == rows.LENGTH
  for index in range(3):
    form = formats.detect(found[index])
    assert form is not None
    record = formats.read(found[index], form, "here", _given)
    want = tasks.sample(found.task, "train", index)
    assert type(record) is type(want)
    for have, pixels in zip(_pixels(record), _pixels(want), strict=True):
      np.testing.assert_array_equal(have, pixels)
    for name in ("turns", "prompt", "instruction"):
      assert getattr(record, name, "") == getattr(want, name, "")
    assert getattr(record, "stem", STEM_UNKNOWN) == getattr(
      want, "stem", STEM_UNKNOWN
    )
  with pytest.raises(IndexError, match="outside of"):
    found[rows.LENGTH]
