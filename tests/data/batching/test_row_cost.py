"""What lengths say a record takes is what its sample takes."""

import dataclasses

import numpy as np
import pytest

from emma_jax.data.batching import row_cost
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.records.lengths import Length, Lengths
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests import neutral
from tests.data import recorded

LAYOUT = neutral.layout(
  rows=2,
  und_tokens=40,
  und_pictures=2,
  references=1,
  targets=1,
  height=32,
  width=64,
)
FIT = neutral.preprocess(height=32, width=64)


def _rules(max_turns=3, **changes) -> row_cost.RowLimits:
  layout = dataclasses.replace(LAYOUT, **changes)
  return row_cost.RowLimits(
    layouts=tuple(
      dataclasses.replace(layout, height=y, width=x)
      for y, x in recorded.BUCKETS
    ),
    framing=neutral.framed(FIT),
    max_turns=max_turns,
  )


@pytest.mark.parametrize(
  "branch, fusion", [("gen", "channel"), ("und", "channel"), ("gen", "token")]
)
@pytest.mark.parametrize("task", [*recorded.COUNTS, "sources"])
def test_needs_are_those_of_the_samples(task, branch, fusion, tmp_path):
  source = RecordsSource(recorded.folder(tmp_path / "d", task, 12))
  more = dict(references=2, und_tokens=60) if task == "sources" else {}
  rules = _rules(reference_branch=branch, fusion=fusion, **more)
  table = row_cost.count(source.lengths, rules)
  if task == "sources":  # of three, of which a row has room for two
    few = [len(source[i].sources) < 3 for i in range(12)]
    assert table.fits.tolist() == few
    assert table.reasons(rules) == {"references": 4}
  seen = set()
  for i in range(12):
    bucket, turns = int(table.bucket[i]), int(table.turns[i])
    seen.add(bucket)
    layout = rules.layouts[bucket]
    to_sample = neutral.to_sample(
      tokenizer=TinyTokenizer(),
      max_turns=turns or rules.max_turns,
      framing=neutral.framed(FIT).sized(layout.height, layout.width),
    )
    sample = to_sample(source[i])
    told = dict(zip(CAPACITIES, table.need[i].tolist()))
    assert told == layout.row_cost(sample)
    assert table.tokens[i] == layout.length(sample)
    assert table.fits[i] == (not layout.too_large_reason(sample))
    if turns:  # one more would not fit
      more = dataclasses.replace(to_sample, max_turns=turns + 1)
      assert layout.too_large_reason(more(source[i]))
  free = {row_cost.ANY_BUCKET} if task == "understanding" else set()
  assert seen == {0, 1} | free


def _talk(turns: list[int], sizes=()) -> Length:
  """A conversation with so many tokens per turn."""
  return Length(
    task="understanding" if sizes else "text",
    stem=-1,
    weight=1.0,
    turn_tokens=tuple((n - 1, 1) for n in turns),
    sizes=tuple(sizes),
  )


def test_what_is_too_long_is_cut_else_left_out():
  talks = [
    _talk([10, 10]),
    _talk([30, 10, 1]),
    _talk([10, 20, 20]),
    _talk([41, 2]),
    _talk([10], [(32, 64)] * 3),
    _talk([30, 9], [(9, 9)] * 1),
    _talk([1, 1, 1, 99]),
  ]
  rules = _rules()
  table = row_cost.count(Lengths.of(talks, "t"), rules)
  assert table.fits.tolist() == [True, True, True, False, False, True, True]
  assert table.turns.tolist() == [0, 2, 2, 0, 0, 1, 0]
  assert table.need[:, 0].tolist() == [20, 40, 30, 43, 16, 32, 3]
  assert (table.truncated, table.dropped) == (4, 2)  # one by max_turns
  assert table.reasons(rules) == {"und_tokens": 1, "und_pictures": 1}
  assert row_cost.count(Lengths.of(talks, "t"), _rules(None)).turns[-1] == 3


def test_native_pictures_cost_what_they_measure():
  rules = _rules(und_tokens=100, und_patches=64)
  rules = dataclasses.replace(
    rules,
    framing=neutral.framed(
      dataclasses.replace(FIT, native=True, min_tokens=2, max_tokens=12)
    ),
  )
  sizes = [(64, 96), (33, 32)]
  table = row_cost.count(
    Lengths.of([_talk([5], sizes), _talk([5], [(64, 96)] * 3)], "t"), rules
  )
  # 2 x 3 and 2 x 1 tokens; no bucket is asked for.
  assert table.need[0].tolist() == [5 + 8, 2, 0, 0, 4 * 8]
  assert table.bucket.tolist() == [row_cost.ANY_BUCKET] * 2
  assert table.fits.tolist() == [True, False]
  assert table.reasons(rules) == {"und_pictures": 1, "und_patches": 1}


def test_native_sizes_are_those_of_the_preprocessing():
  fit = neutral.preprocess(
    height=32, width=32, native=True, min_tokens=6, max_tokens=20
  )
  rng = np.random.default_rng(0)
  sizes = np.concatenate(
    [rng.integers(1, 400, (150, 2)), [(1, 90), (90, 1), (192, 32), (640, 33)]]
  )
  made = [fit(np.zeros((y, x, 3), np.uint8)).pixels_YXC.shape for y, x in sizes]
  grids = row_cost.native_grids(sizes, fit)
  assert (32 * grids).tolist() == [list(shape[:2]) for shape in made]
  narrow = dataclasses.replace(fit, min_tokens=7, max_tokens=7)
  with pytest.raises(ValueError, match="widen min_tokens"):
    row_cost.native_grids(np.array([(64, 64)]), narrow)


def test_layouts_differ_in_size_only():
  other = dataclasses.replace(LAYOUT, targets=2, height=64, width=32)
  with pytest.raises(ValueError, match="of one kind"):
    row_cost.RowLimits(
      layouts=(LAYOUT, other), framing=neutral.framed(FIT), max_turns=None
    )
