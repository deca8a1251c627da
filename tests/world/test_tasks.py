"""Samples: purity, splits, held-out pairs, languages, vocabulary, balance."""

import collections
import dataclasses
import hashlib
import os
import pathlib
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

import emma_jax
from emma_jax import structs
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.world import captions, edits, scoring, vocabulary
from emma_jax.world.language import CHINESE, ENGLISH
from emma_jax.world.render import render
from emma_jax.world.scene import CANVASES, HELD_OUT, PLAIN, Scene, pairs_of
from emma_jax.world.tasks import SPLITS, TASKS, WorldSource, sample

# What the first test prompts are, and one instruction.
PROMPTS = [
  "a cross",
  "a large circle and a triangle on a grey background",
  "two diamonds",
  "a purple square",
  "a triangle right of a square",
  "a blue triangle and a green circle",
]
INSTRUCTION = "add a blue square"

ORDINARY_TASKS = tuple(task for task in TASKS if not task.endswith("_pairs"))


def texts(record: structs.Record) -> list[str]:
  if isinstance(record, structs.Understanding):
    return [text for turn in record.turns for text in turn]
  if isinstance(record, structs.Drawing):
    return [record.prompt]
  return [record.instruction]


def pictures(record: structs.Record) -> list[np.ndarray]:
  if isinstance(record, structs.Understanding):
    return list(record.pictures)
  if isinstance(record, structs.Drawing):
    return [record.picture]
  return [*record.sources, record.target]


def digest(record: structs.Record) -> str:
  sha = hashlib.sha256("|".join(texts(record)).encode())
  for picture in pictures(record):
    sha.update(picture.tobytes())
  return sha.hexdigest()


def is_chinese(text: str) -> bool:
  return bool(re.search(r"[\u4e00-\u9fff]", text))


_CHILD = """
import sys; sys.path[:0] = sys.argv[1:]
from test_tasks import *
for task in TASKS:
  print(digest(sample(task, "val", 12345)))
"""


def test_a_sample_is_the_same_in_every_process():
  here = pathlib.Path(__file__).parent
  root = pathlib.Path(emma_jax.__file__).parents[1]
  done = subprocess.run(
    [sys.executable, "-c", _CHILD, str(here), str(root)],
    env=os.environ | {"PYTHONHASHSEED": "12"},  # must not matter
    capture_output=True,
    text=True,
    check=True,
  )
  mine = [digest(sample(task, "val", 12345)) for task in TASKS]
  assert done.stdout.split() == mine


def test_a_sample_is_the_same_for_ever():
  # Scores and shipped weights refer to these streams.
  assert [sample("drawing", "test", i).prompt for i in range(6)] == PROMPTS
  assert sample("editing", "test", 7).instruction == INSTRUCTION


@pytest.mark.parametrize("task", TASKS)
def test_every_split_is_a_stream_of_its_own(task):
  seen = set()
  for split in SPLITS:
    for index in range(20):
      record = sample(task, split, index)
      assert record.id == f"{task}/{split}/{index}"
      for picture in pictures(record):
        assert picture.dtype == np.uint8
        if not task.endswith("_shapes"):
          assert picture.shape == (96, 96, 3)
      seen.add(digest(record))
  assert len(seen) >= 0.95 * 60


@pytest.mark.parametrize("task", [t for t in TASKS if t.endswith("_shapes")])
def test_shapes_and_kinds_go_round_together(task):
  """Each canvas equally often, and each with each kind of picture task."""
  kinds = {"drawing_shapes": 6, "editing_shapes": 6}.get(task, 1)
  val = [sample(task, "val", index) for index in range(10 * kinds)]
  pictured = task not in ("understanding_shapes", "stem_shapes")
  counts = collections.Counter(
    (scoring.canvas_of(r), r.kind if pictured else "") for r in val
  )
  assert len(counts) == 5 * kinds and set(counts.values()) == {2}
  assert {canvas for canvas, _ in counts} == set(CANVASES)
  train = [sample(task, "train", index) for index in range(500)]
  counts = collections.Counter(scoring.canvas_of(r) for r in train)
  assert set(counts) == set(CANVASES) and min(counts.values()) > 70
  # No stride of the index sees fewer.
  assert {scoring.canvas_of(r) for r in train[::30]} == set(CANVASES)
  for record in val:
    sizes = {picture.shape[:2] for picture in pictures(record)}
    assert sizes == {scoring.canvas_of(record)}
    marked = scoring.canvas_of(record) != PLAIN and pictured
    assert bool(re.search(r" of \d+x\d+", scoring.truth_text(record))) == marked


def _held_out_in(record: structs.Record) -> bool:
  """Whether a text or a picture has a held-out pair."""
  for colour, shape in HELD_OUT:
    shape_zh, colour_zh = CHINESE.shapes[shape], CHINESE.colours[colour]
    either = (
      rf"{colour} {shape}|(make|paint) the (\w+ )?{shape} {colour}"
      rf"|{colour_zh}{shape_zh}|{shape_zh}(变成|涂成){colour_zh}"
    )
    if any(re.search(either, text) for text in texts(record)):
      return True
  if isinstance(record, structs.Understanding):
    return False  # keeps no scene; its scenes come from the tested `draws`
  shown = pairs_of(scoring.scene_of(record))
  if isinstance(record, structs.Editing):
    for scene in (*record.truth.sources, *record.truth.accepted):
      shown |= pairs_of(scene)
  return bool(shown & set(HELD_OUT))


@pytest.mark.parametrize("task", ORDINARY_TASKS)
def test_held_out_pairs_occur_in_no_ordinary_task(task):
  number = 2000 if task in ("understanding", "drawing", "editing") else 500
  for index in range(number):
    record = sample(task, "train", index)
    assert not _held_out_in(record), texts(record)
  for split in ("val", "test"):
    for index in range(300):
      assert not _held_out_in(sample(task, split, index))


def test_understanding_pictures_show_no_held_out_pair(monkeypatch):
  shown = []
  render = sys.modules["emma_jax.world.tasks"].render
  monkeypatch.setattr(
    "emma_jax.world.tasks.render",
    lambda picture: shown.append(picture) or render(picture),
  )
  for index in range(1000):
    sample("understanding", "train", index)
    sample("stem", "train", index)
  assert len(shown) == 2000
  assert not any(pairs_of(picture) & set(HELD_OUT) for picture in shown)
  shown.clear()
  for index in range(200):
    sample("understanding_pairs", "test", index)
  assert all(pairs_of(picture) & set(HELD_OUT) for picture in shown)


@pytest.mark.parametrize("task", ["drawing_pairs", "editing_pairs"])
def test_pairs_tasks_contain_a_held_out_pair(task):
  seen = set()
  for index in range(300):
    record = sample(task, "test", index)
    assert _held_out_in(record), texts(record)
    shown = pairs_of(scoring.scene_of(record))
    if isinstance(record, structs.Editing):
      shown |= pairs_of(record.truth.source)
    seen |= shown
  assert set(HELD_OUT) <= seen


@pytest.mark.parametrize("task", TASKS)
def test_chinese_only_where_allowed(task):
  for split in SPLITS:
    records = [sample(task, split, index) for index in range(400)]
    chinese = [is_chinese("".join(texts(record))) for record in records]
    if task.endswith("_zh"):
      assert all(chinese)
      latin = (re.search("[a-z]", texts(record)[0]) for record in records)
      assert not any(latin)
    elif task.startswith(("understanding", "stem")):
      assert 0.18 < np.mean(chinese) < 0.32
    else:
      assert not any(chinese)


def _uncovered(text: str, words: tuple[str, ...]) -> str:
  """What greedy longest match leaves of a text."""
  while text := text.lstrip():
    for word in words:
      if text.startswith(word):
        text = text[len(word) :]
        break
    else:
      return text
  return ""


def test_vocabulary_covers_every_text():
  words = vocabulary.words()
  assert len(words) == len(set(words)) < 250
  longest_first = tuple(sorted(words, key=len, reverse=True))
  for task in TASKS:
    if task == "editing_two":
      continue  # its words came later: see below
    for index in range(600):
      for text in texts(sample(task, "test", index)):
        assert _uncovered(text, longest_first) == "", text
        assert text == text.lower() and "  " not in text and "{" not in text


def test_two_pictures_are_told_apart_by_words_of_open_text():
  """No id of the tiny tokenizer moved for them."""
  known, tiny = set(vocabulary.words()), TinyTokenizer()
  said = set()
  for index in range(200):
    (text,) = texts(sample("editing_two", "train", index))
    said |= set(text.split())
    assert tiny.decode(tiny.encode(text)) == text
  assert said - known == {"first", "picture", "second"}
  assert len(tiny.encode(" first")) == len(tiny.encode(" picture")) == 1


def test_two_sources_make_one_result():
  records = [sample("editing_two", "val", index) for index in range(60)]
  counts = collections.Counter(record.kind for record in records)
  assert counts == dict.fromkeys(edits.TWO_KINDS, 30)
  for record in records:
    first, second = record.truth.sources
    (result,) = record.truth.accepted
    assert len(record.sources) == 2 and result == record.truth.target
    assert first.background != second.background == result.background
    assert result.things == first.things
    assert (len(first.things) == 1) == (record.kind == "one")
    # Neither source, nor the two the other way round, is the answer.
    swapped = dataclasses.replace(second, background=first.background)
    for wrong in (first, second, swapped):
      assert not scoring.score_editing(record, render(wrong))
    if record.kind == "one":
      assert first.things[0].shape in record.instruction


def test_every_phrasing_is_complete_in_both_languages():
  assert ENGLISH.templates.keys() == CHINESE.templates.keys()
  for kind, english in ENGLISH.templates.items():
    fields = {frozenset(re.findall(r"{\w+}", text)) for text in english}
    fields |= {
      frozenset(re.findall(r"{\w+}", text)) for text in CHINESE.templates[kind]
    }
    assert len(fields) == 1, kind


@pytest.mark.parametrize(
  "task",
  [
    "understanding",
    "understanding_general",
    "stem",
    "understanding_pairs",
    "understanding_shapes",
    "stem_shapes",
  ],
)
def test_majority_baselines_are_low(task):
  records = [sample(task, "test", index) for index in range(2500)]
  pairs = [
    (kind, answer)
    for record in records
    for kind, (_, answer) in zip(record.kinds, record.turns, strict=True)
  ]
  for kind, share in scoring.majority_baseline(pairs).items():
    assert share < 0.55, (kind, share)
  assert 1.8 < len(pairs) / len(records) < 2.5
  science = np.mean([r.stem == structs.STEM_SCIENCE for r in records])
  shares = {"understanding": (0.3, 0.4), "stem": (1, 1)}
  low, high = shares.get(task.removesuffix("_shapes"), (0, 0))
  assert low <= science <= high


def test_drawing_tags_and_named_backgrounds():
  val = [sample("drawing", "val", index) for index in range(600)]
  counts = collections.Counter(record.kind for record in val)
  assert counts == dict.fromkeys(captions.TAGS, 100)
  train = [sample("drawing", "train", index) for index in range(1200)]
  counts = collections.Counter(record.kind for record in train)
  assert set(counts) == set(captions.TAGS) and min(counts.values()) > 150
  assert 0.2 < np.mean(["background" in r.prompt for r in train]) < 0.3
  sized = [bool(re.search("small|large", r.prompt)) for r in train]
  assert 0.15 < np.mean(sized) < 0.25
  for record in train:
    if "background" not in record.prompt:
      assert record.truth.scene.background == "white"


def test_counted_things_have_one_colour():
  """Which the caption leaves open, or names."""
  seen = set()
  for index in range(240):
    record = sample("drawing", "train", index)
    if record.kind == "counting":
      (colour,) = {thing.colour for thing in record.truth.scene.things}
      seen.add(colour)
  assert len(seen) > 3


def test_editing_kinds_and_sizes():
  val = [sample("editing", "val", index) for index in range(600)]
  counts = collections.Counter(record.kind for record in val)
  assert counts == dict.fromkeys(edits.KINDS, 100)
  for record in val:
    assert record.truth.source not in record.truth.accepted
    assert 1 <= len(record.truth.target.things) <= 4
    if record.kind == "add" and not re.search("small", record.instruction):
      (new,) = set(record.truth.target.things) - set(record.truth.source.things)
      assert new.size == "large"


def test_steps_of_multi_edits_name_different_things():
  for index in range(300):
    record = sample("editing_multi", "test", index)
    first, second = record.kind.split("+")
    assert first != second and " and " in record.instruction
    before = set(record.truth.source.things)
    after = set(record.truth.target.things)
    changed = sum(
      k in ("recolour", "replace", "move", "remove") for k in (first, second)
    )
    assert len(before - after) == changed, record.instruction


def test_autoencoder_sees_every_kind_of_picture():
  kinds = collections.Counter(
    sample("autoencoder", "train", index).kind for index in range(400)
  )
  assert set(kinds) == {"scene", "chart", "digit", "sum", "polygon"}
  assert isinstance(sample("autoencoder", "train", 0).truth.scene, Scene) == (
    sample("autoencoder", "train", 0).kind == "scene"
  )


def test_source_is_a_picklable_sequence_of_samples():
  source = pickle.loads(pickle.dumps(WorldSource("drawing", "train", 10)))
  assert len(source) == 10 and len(list(source)) == 10
  assert digest(source[7]) == digest(sample("drawing", "train", 7))
  # Samplers of indices give numpy integers.
  assert digest(source[np.int64(7)]) == digest(source[7])
  with pytest.raises(IndexError):
    source[10]
  with pytest.raises(ValueError, match="'painting' is none of"):
    WorldSource("painting", "train", 10)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match="task='painting'"):
    sample("painting", "train", 0)
  with pytest.raises(ValueError, match="split='dev'"):
    sample("drawing", "dev", 0)
  with pytest.raises(IndexError, match="negative"):
    sample("drawing", "train", -1)
