"""Rendered words are read; by the judge, too. Prints a table with -s."""

import collections
from concurrent import futures

import pytest

pytest.importorskip("rapidocr")
pytest.importorskip("onnxruntime")

from emma_jax.scorers import make, ocr
from tests.scorers import common, photos

# (pixels, text), a dozen words of each size.
LINES = (
  (10, "harbour window market silver orange Thursday bicycle 2026 tea"),
  (10, "kitchen Monday lantern"),
  (14, "purple seventeen window castle December bridge"),
  (14, "hammer garden 1984 yellow station pencil"),
  (20, "GRAND OPENING library forty copper"),
  (20, "winter train SALE north engine"),
  (20, "violet camera"),
  (32, "mountain ticket Sunday"),
  (32, "coffee EXIT carpet 365"),
  (32, "printer bottle"),
  (32, "meadow August"),
  (48, "rocket 19:45"),
  (48, "autumn OPEN"),
  (48, "square fifty"),
  (48, "journal desk"),
  (48, "Tuesday"),
  (48, "keyboard"),
)


def test_words_of_10_to_48_pixels_are_read():
  """At least nine of ten of all, eight of ten of each size: where words of ten
  pixels stand close, the space between them may be lost."""
  lines = ocr.read_words(common.written(LINES, 840), threads=2)
  read = collections.Counter(w for line in lines for w in line.text.split())
  print("\npixels  words read")
  shares = {}
  for size in sorted({size for size, _ in LINES}):
    words = [w for s, text in LINES if s == size for w in text.split()]
    right = (collections.Counter(words) & read).total()
    print(f"{size:6d}  {right} of {len(words)}")
    shares[size] = right / len(words)
  assert sum(shares.values()) / len(shares) >= 0.9, lines
  assert min(shares.values()) >= 0.8, lines
  assert all(0.5 <= line.score <= 1 for line in lines)
  tops = [line.box[1] for line in lines]
  assert tops == sorted(tops)
  left, top, right, bottom = lines[0].box
  assert 5 < left < 18 and 4 < top < 14 < bottom < 30 and left < right < 400


def test_the_judge_replies_with_lines_to_several_threads():
  judge = make.make({"kind": "ocr"})
  given = {
    "words": common.png(common.written([(24, "silver"), (24, "harbour")], 140)),
    "empty": common.png(common.plain("white", 64, 64)),
    "broken": b"broken",
  }
  with futures.ThreadPoolExecutor(3) as pool:
    asked = {
      k: pool.submit(judge.ask, common.call(v)) for k, v in given.items()
    }
  found = {k: future.result() for k, future in asked.items()}
  assert found["words"].text == "silver\nharbour"
  assert found["words"].model.startswith("rapidocr ")
  assert (found["empty"].status, found["empty"].text) == ("ok", "")
  assert found["broken"].status == "unreachable" and found["broken"].error


def test_models_and_settings_are_the_identity():
  known = make.make({"kind": "ocr"}).identity()
  assert len(known["models"]) == 3
  assert all(len(digest) == 64 for digest in known["models"].values())
  assert make.make({"kind": "ocr", "min_score": 0.7}).identity() != known


def test_photographs_without_text_are_nearly_silent():
  photo = photos.resized(photos.portrait(), 0.5)
  assert sum(len(line.text) for line in ocr.read_words(photo)) <= 1
