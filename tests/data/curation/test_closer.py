"""A closer look at data: what is said, what repeats, what is cut off."""

import numpy as np
import pytest

from emma_jax.data.curation import closer
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.structs import Drawing, Editing
from emma_jax.world import tasks

PAD = Preprocess(
  height=96,
  width=96,
  native=False,
  min_tokens=1,
  max_tokens=64,
  codec="pillow",
  fit="pad",
  max_crop=0.3,
)
COVER = Preprocess(**{**vars(PAD), "fit": "cover"})
SQUARE = Framing(understanding=PAD, generation=COVER, buckets=())
WIDE = Framing(
  understanding=PAD, generation=COVER, buckets=((96, 96), (64, 128))
)


@pytest.mark.smoke
def test_words_by_records():
  texts = ["A red cat.", "a red DOG", "a blue cat", "a red cat.", "红 cat 色"]
  found = closer.words([Drawing(prompt=t, picture=None) for t in texts])
  assert (found.texts, found.distinct, found.vocabulary) == (5, 5, 7)
  assert found.everywhere == {"a": 4, "cat": 4, "red": 3}
  assert found.common == {"blue": 1, "dog": 1, "红": 1, "色": 1}
  assert found.lengths == {"3-4": 5}
  again = closer.words([Drawing(prompt="x", picture=None)] * 3)
  assert again.repeated == [("x", 3)] and again.distinct == 1


def test_records_are_spread_from_the_first_to_the_last():
  class Source(list):
    def __getitem__(self, index):
      if index == 4:
        raise BadRecord("here", "broken")
      return super().__getitem__(index)

  source = Source(range(9))
  assert [i for i, _ in closer.spread(source, 3)] == [0, 8]  # 4 is broken
  assert len(list(closer.spread(source, 100))) == 8
  assert list(closer.spread(Source(), 3)) == []


def test_near_copies_are_found_and_only_they():
  pictures = [
    np.asarray(tasks.sample("drawing", "val", i).picture) for i in range(12)
  ]
  # A thing alone on a plain ground is no evidence: its copies are not told.
  assert closer.see(pictures[4]).words and closer.see(pictures[5]).words
  loud = np.random.default_rng(0).integers(-3, 4, pictures[4].shape)
  noisy = np.clip(pictures[4] + loud, 0, 255).astype(np.uint8)
  larger = pictures[5].repeat(2, axis=0).repeat(2, axis=1)
  seen = [closer.see(p) for p in [*pictures, noisy, larger, pictures[5]]]
  alone = closer.near_copies(seen[:12])
  with_copies = closer.near_copies(seen)
  assert [5, 13, 14] in with_copies and [4, 12] in with_copies
  assert len(with_copies) == len(alone) + 2
  assert closer.near_copies([]) == []


def test_framing_in_numbers():
  whole = closer.framed(SQUARE, "target", 192, 192)
  assert (whole.cropped, whole.scale, whole.refused) == (0.0, 0.5, False)
  wide = closer.framed(SQUARE, "target", 64, 128)
  assert wide.cropped == 0.5 and wide.scale == 1.5 and wide.refused
  bucket = closer.framed(WIDE, "target", 64, 128)
  assert bucket.bucket == (64, 128) and bucket.cropped == 0
  found = [whole, wide, bucket, closer.framed(WIDE, "ref", 60, 128)]
  assert closer.buckets(found) == {"96x96": 2, "128x64": 2}
  assert closer.crops(found) == {"nothing": 2, "up to 10%": 1, "refused": 1}
  assert sum(closer.scales(found).values()) == 4
  assert closer.scales([bucket]) == {"kept": 1}


def test_what_is_drawn_or_edited_has_its_role():
  one, two = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)
  edit = Editing(sources=(one,), instruction="x", target=two)
  assert [role for role, _ in closer.to_generate(edit)] == ["ref", "target"]
  asked = tasks.sample("understanding", "val", 0)
  assert list(closer.to_generate(asked)) == []
