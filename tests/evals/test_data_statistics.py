"""The page of data sets: samples, words, near-copies between sets, crops."""

import io
import pathlib

import numpy as np
from PIL import Image
import pytest

from emma_jax.data.curation import statistics
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.evals import data_statistics
from emma_jax.structs import Editing
from emma_jax.world import tasks
from tests.data import made
from tests.pages import reading

PAD = Preprocess(
  height=96,
  width=96,
  native=False,
  min_tokens=1,
  max_tokens=64,
  codec="pillow",
  fit="pad",
  max_crop=0.4,
)
FRAMING = Framing(
  understanding=PAD,
  generation=Preprocess(**{**vars(PAD), "fit": "cover"}),
  buckets=(),
)


def png(picture_YXC: np.ndarray) -> bytes:
  out = io.BytesIO()
  Image.fromarray(np.asarray(picture_YXC)).save(out, "PNG")
  return out.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> reading.Page:
  """A set of four pictures, one of them twice as wide as high, and a held-out
  one that has a picture of it under another caption; and one of edits."""
  folder = tmp_path_factory.mktemp("sets")
  pictures = [tasks.sample("drawing", "val", i).picture for i in (1, 2, 4, 5)]
  wide = np.concatenate([pictures[2], pictures[3]], axis=1)
  edits = [tasks.sample("editing", "val", i) for i in range(3)]
  assert all(isinstance(one, Editing) for one in edits)
  sets: dict[str, list] = {
    "train": [pictures[0], pictures[1], wide, pictures[3]],
    "val": [pictures[1]],
  }
  found = {}
  for name, some in sets.items():
    rows = []
    for i, picture in enumerate(some):
      file = f"{name}{i}.png"
      (folder / file).write_bytes(png(picture))
      rows.append({"image": file, "caption": f"{name} number {i}"})
    found[name] = _found(made.jsonl(folder / f"{name}.jsonl", *rows))
  rows = []
  for i, one in enumerate(edits):
    (folder / f"s{i}.png").write_bytes(png(one.sources[0]))
    (folder / f"t{i}.png").write_bytes(png(one.sources[0]))  # an edit of none
    rows.append(
      {
        "source": f"s{i}.png",
        "instruction": one.instruction,
        "target": f"t{i}.png",
      }
    )
  found["edits"] = _found(made.jsonl(folder / "edits.jsonl", *rows))
  return reading.check(data_statistics.html(found, FRAMING, "mine", 100))


def _found(path: pathlib.Path):
  spec = f"jsonl:{path}"
  return spec, statistics.collect(spec, made.TOKENIZER)


def test_a_held_out_picture_that_is_trained_on_is_told(page):
  text = " ".join(page.text.split())
  assert "1 groups lie in several sets" in text
  near = text[text.index("Near-copies") :]
  assert "train.jsonl:2: train number 1" in near
  assert "val.jsonl:1: val number 0" in near
  # The source and the target of an edit are no copies of each other.
  assert "edits.jsonl" not in near


def test_samples_words_and_crops_are_there(page):
  text = " ".join(page.text.split())
  for i in range(4):
    assert f"train number {i}" in text
  assert "number (4)" in text  # in more than half of the records
  assert "192x96 to 96x96: 50.0% cropped, refused" in text
  alts = [a["alt"] for tag, a in page.tags if tag == "img"]
  assert "picture of: train number 0" in alts
  assert sum(alt.startswith("target of: ") for alt in alts) == 3
