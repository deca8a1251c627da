"""What is counted of data sets and batches, one by one and by hand."""

from collections import Counter
import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.data.batching.pack_info import Dropped, PackInfo
from emma_jax.data.curation import statistics, validation
from emma_jax.data.loading import batch_stats
from emma_jax.data.loading.batch_stats import (
  Bad,
  BadSampleLimit,
  BatchStats,
  ObservedMixture,
)
from emma_jax.data.records.lengths import Length, Lengths
from tests.data import made
from tests.data.records.test_schema_laws import LENGTH
from tests.laws import laws


def _bin(value: float, ends: list[float]) -> int:
  """The first whose end is not below the value."""
  return next((i for i, end in enumerate(ends) if value <= end), len(ends))


def _of(counts: dict[str, int]) -> list[int]:
  return [n for n in counts.values() if n]


@laws(40)
@given(st.lists(LENGTH, min_size=1, max_size=8))
def test_statistics_one_by_one(rows):
  told = statistics.of(Lengths.of(rows, "t"), bad=3, shown=5)
  assert (told.records, told.bad, told.shown) == (len(rows), 3, 5)
  assert told.tasks == Counter(r.task for r in rows)
  names = {-1: "unknown", 0: "general", 1: "science"}
  assert told.stem == Counter(
    names[r.stem] for r in rows if r.task == "understanding"
  )
  tokens = [sum(map(sum, r.turn_tokens)) for r in rows]
  assert told.total_text_tokens == sum(tokens)
  assert told.turns == Counter(
    str(len(r.turn_tokens)) for r in rows if r.task in ("understanding", "text")
  )
  assert told.pictures == Counter(str(len(r.sizes)) for r in rows)
  sizes = [size for r in rows for size in r.sizes]
  bins = Counter(_bin(t, [2**i for i in range(3, 15)]) for t in tokens)
  assert _of(told.text_tokens) == [n for _, n in sorted(bins.items())]
  sides = [64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 4096]
  bins = Counter(_bin((y * x) ** 0.5, sides) for y, x in sizes)
  assert _of(told.resolutions) == [n for _, n in sorted(bins.items())]
  cells = [-(-y // 32) * -(-x // 32) for y, x in sizes]
  bins = Counter(_bin(n, [1, *(4**i for i in range(1, 8))]) for n in cells)
  assert _of(told.picture_tokens) == [n for _, n in sorted(bins.items())]
  assert sum(told.aspects.values()) == len(sizes)
  assert told.as_json().keys() == {
    f.name for f in dataclasses.fields(statistics.Statistics)
  }


@pytest.mark.parametrize(
  "y, x, name",
  [
    (100, 100, "square"),
    (100, 124, "square"),
    (100, 125, "5:4"),
    (125, 100, "square"),
    (126, 100, "2:3"),
    (100, 149, "5:4"),
    (100, 150, "3:2"),
    (100, 200, "2:1"),
    (100, 399, "2:1"),
    (100, 800, "8:1 and over"),
    (900, 100, "under 1:8"),
    (400, 100, "1:4"),
  ],
)
def test_aspects_begin_at_their_names(y, x, name):
  row = Length(
    task="drawing", stem=-1, weight=1.0, turn_tokens=((1, 0),), sizes=((y, x),)
  )
  told = statistics.of(Lengths.of([row], "t"), 0, 1)
  assert told.aspects == {name: 1}


@pytest.mark.parametrize("stretch", [1, 2, 1000])
def test_validation_looks_at_every_record_once(stretch, tmp_path, monkeypatch):
  """However the records are dealt to processes."""
  (tmp_path / "a.png").write_bytes(made.picture())
  good = {"image": "a.png", "caption": "red"}
  path = made.jsonl(
    tmp_path / "a.jsonl", good, "{", good, good, good | {"image": "none.png"}
  )
  monkeypatch.setattr(validation, "_STRETCH", stretch)
  found = validation.validate(f"jsonl:{path}", made.TOKENIZER)
  assert found.records == 5 and found.errors == 2
  assert [b.where for b in found.bad] == [f"{path}:2", f"{path}:5"]
  assert sum(found.kinds.values()) == len(found.kinds) == 2
  monkeypatch.setattr(validation, "_MOST", 0)
  found = validation.validate(f"jsonl:{path}", made.TOKENIZER)
  assert (found.bad, found.errors) == ((), 2)


# -------------------------------------------------------------------- batches

PACKED = PackInfo(
  placed=((0, 2), (3,)),
  dropped=(
    Dropped(1, "x", "too long", True),
    Dropped(4, "y", "full", False),
    Dropped(5, "z", "too wide", True),
  ),
  samples_per_task={"drawing": 2, "understanding": 1},
  tokens_per_task={"drawing": 11, "understanding": 13},
  und_tokens=17,
  gen_tokens=7,
  fill=0.5,
)
INFO = BatchStats(
  step=9,
  drawn=10,
  bad=(Bad("a:1", "no"),),
  packed=PACKED,
  slots=48,
  sources={"a": (2, 20), "b": (0, 0)},
  num_truncated=4,
  num_oversized=5,
  num_targets=2,
  cropped=0.25,
  labels={1: 4, -1: 2},
)


def test_the_account_of_a_batch():
  assert INFO.tokens == 24
  assert INFO.unusable == (
    Bad("a:1", "no"),
    Bad("x", "too long"),
    Bad("z", "too wide"),
  )
  assert INFO.label_counts() == {
    "labels/stem": 4,
    "labels/general": 0,
    "labels/unlabelled": 2,
  }
  counts = INFO.counts()
  assert counts == {
    "drawn": 10,
    "slots": 48,
    "tokens": 24,
    "bad": 1,
    "dropped": 3,
    "unusable": 3,
    "num_truncated": 4,
    "num_oversized": 5,
    "num_targets": 2,
    "cropped_ppm": 250_000,
    "samples/understanding": 1,
    "samples/drawing": 2,
    "samples/editing": 0,
    "tokens/understanding": 13,
    "tokens/drawing": 11,
    "tokens/editing": 0,
    "source samples/a": 2,
    "source tokens/a": 20,
    "source samples/b": 0,
    "source tokens/b": 0,
  }
  means = {k: (m.total, m.count) for k, m in batch_stats.means(counts).items()}
  assert means == {
    "data/fill": (24, 48),
    "data/bad": (1, 10),
    "data/dropped": (3, 10),
    "data/truncated": (4, 10),
    "data/oversized": (5, 15),
    "data/cropped": (0.25, 2),
    "data/understanding": (1, 10),
    "data/drawing": (2, 10),
    "data/editing": (0, 10),
    "data/tokens/understanding": (13, 24),
    "data/tokens/drawing": (11, 24),
    "data/tokens/editing": (0, 24),
  }


def test_shares_are_those_of_all_steps_and_survive_a_restart():
  one = ObservedMixture()
  assert one.shares() == {}
  one.add({"source samples/a": 1, "source tokens/a": 30, "drawn": 5})
  assert one.shares() == {}  # a single source is all of it
  other = ObservedMixture()
  other.restore(json.loads(json.dumps(one.state())))
  for realised in (one, other):
    realised.add({"source samples/b": 2, "source tokens/b": 10})
    realised.add(
      {"source samples/b": 1, "source tokens/b": 0, "source samples/a": 0}
    )
    assert realised.shares() == {
      "realised/a": 0.25,
      "realised/b": 0.75,
      "realised/tokens/a": 0.75,
      "realised/tokens/b": 0.25,
    }


def test_the_fuse_blows_above_its_share_and_not_at_it():
  BadSampleLimit(0.5, 4).add(4, 2)
  with pytest.raises(batch_stats.TooManyBadRecords, match="3 of the last 4"):
    BadSampleLimit(0.5, 4).add(4, 3)
  early = BadSampleLimit(0.5, 4)
  early.add(3, 3)  # too few to tell
  with pytest.raises(batch_stats.TooManyBadRecords, match="3 of 4 in all"):
    early.add(1, 0)
  told = BadSampleLimit(0.5, 1, shown=2)
  told.see([Bad("a:1", "x"), Bad("a:1", "x"), Bad("a:2", "y"), Bad("a:3", "z")])
  assert told.state()["first"] == ["a:1: x", "a:2: y"]
