"""What is cropped is shown as it is in the data."""

import json

import numpy as np
from PIL import Image
import pytest

from emma_jax.data.loading import dataset
from emma_jax.data.pictures.preprocess import Placement
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.evals import crops
from tests import neutral


def test_what_is_lost_is_dark_and_nothing_else():
  picture = np.full((4, 10, 3), 200, np.uint8)
  made = crops.darkened(picture, Placement((0, 2.4, 4, 7.6), (1, 1), (1, 1)))
  assert made[:, [0, 1, 8, 9]].max() == 60 and made[:, 2:8].min() == 200
  assert picture.min() == 200  # the data's own stays


@pytest.fixture
def source(tmp_path):
  """Drawings of 96x96, 96x144 and 64x64 pixels, rows x columns."""
  rows = []
  for i, size in enumerate([(96, 96), (96, 144), (64, 64)]):
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(
      tmp_path / f"{i}.png"
    )
    rows.append(json.dumps({"image": f"{i}.png", "caption": "red"}))
  path = tmp_path / "rows.jsonl"
  path.write_text("\n".join(rows))
  config = neutral.data_config(
    seed=0,
    sources={"draw": f"jsonl:{path}"},
    phases=(neutral.phase({"draw": 1}),),
    samples_per_batch=3,
    layout=neutral.layout(
      rows=1,
      und_tokens=60,
      und_pictures=0,
      references=0,
      targets=3,
      height=96,
      width=96,
    ),
    framing=neutral.framing(height=96, width=96, fit="cover", max_crop=0.5),
  )
  return dataset.open_pipeline(config, TinyTokenizer(["red"]))


def test_only_pictures_that_lose_something_are_drawn(source):
  (crop,) = crops.of_draws(source, 0, range(3))
  assert "target, 144x96 to 96x96: 33.3% cropped" in crop.text
  assert "rows.jsonl:2" in crop.text
  # All of the batch is counted, too.
  counts = source[0].info.counts()
  assert counts["num_targets"] == 3
  assert counts["cropped_ppm"] == round(1e6 / 3)


def test_a_records_place_is_its_draws(source):
  names = source.names(0)
  for draw, name in enumerate(names):
    record = source.record(0, draw)
    assert record.prompt == "red" and name.startswith("draw: ")
  assert source.config.framing.generation.cropped(96, 144) == pytest.approx(
    1 / 3
  )
