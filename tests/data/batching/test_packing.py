"""The ids of packed rows, drawn for known cases, and the laws of packing."""

import dataclasses
import time

import numpy as np
import pytest

from emma_jax.data.batching.packing import pack
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Picture, Sample, Text
from tests import neutral

pytestmark = pytest.mark.smoke

# 32 x 64 pixels: two tokens a picture.
LAYOUT = neutral.layout(
  rows=2,
  und_tokens=16,
  und_pictures=1,
  references=1,
  targets=2,
  height=32,
  width=64,
)


def _picture(role: str, value: int = 0, stem: int = -1) -> Picture:
  return Picture(np.full((32, 64, 3), value, np.uint8), role, stem)


def _drawing(first: int = 10, n: int = 3, value: int = 1) -> Sample:
  text = Text(tuple(range(first, first + n)))
  return Sample("drawing", (text, _picture("target", value)), f"d{first}")


def _editing(first: int = 20) -> Sample:
  parts = (
    Text((first,)),
    _picture("ref", 2),
    Text((first + 1, first + 2)),
    _picture("target", 3),
  )
  return Sample("editing", parts, f"e{first}")


def _understanding(first: int = 30) -> Sample:
  parts = (
    Text((first,)),
    _picture("und", 4, stem=1),
    Text((first + 1,)),
    Text((first + 2, first + 3), loss=True),
    Text((first + 4,)),
    Text((first + 5,), loss=True),
  )
  return Sample("understanding", parts, f"u{first}")


def _reading_order(batch, layout: Layout, row: int) -> dict[str, list]:
  """Both buffers in reading order; '.' where nothing stands."""
  out = {
    n: ["."] * layout.slots
    for n in ("what", "segment", "last_visible", "noise_group", "position")
  }
  for name, ids in (("und", batch.und_ids), ("gen", batch.gen_ids)):
    for i, slot in enumerate(ids.order[row]):
      if ids.segment[row, i] == 0:
        assert (slot, ids.last_visible[row, i]) == (layout.slots, 0)
        continue
      assert out["what"][slot] == "."  # no slot is taken twice
      what = "g" + str(i)
      if name == "und":
        v = batch.visual_BU[row, i]
        what = "v" + str(v) if v >= 0 else str(batch.tokens_BU[row, i])
      out["what"][slot] = what
      for key in ("segment", "last_visible", "noise_group", "position"):
        out[key][slot] = int(getattr(ids, key)[row, i])
  used = sum(w != "." for w in out["what"])
  assert "." not in out["what"][:used]
  return {key: values[:used] for key, values in out.items()}


def test_a_row_in_reading_order():
  """Gen buffer: g0 g1 reference; g2 g3 and g4 g5 targets."""
  batch, info = pack([_drawing(), _editing()], LAYOUT)
  assert _reading_order(batch, LAYOUT, 0) == {
    "what": "10 11 12 g2 g3 20 g0 g1 21 22 g4 g5".split(),
    "segment": [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2],
    "last_visible": [0, 1, 2, 4, 4, 5, 7, 7, 8, 9, 11, 11],
    "noise_group": [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 2],
    "position": [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6],
  }
  assert batch.gen_task_BM.tolist() == [[1, 2], [0, 0]]
  assert batch.ref_valid_BR.tolist() == [[True], [False]]
  assert batch.ref_pixels_BRYXC[0, 0].max() == 2
  assert [batch.gen_pixels_BMYXC[0, m].max() for m in range(2)] == [1, 3]
  assert info.placed == ((0, 1), ())
  assert info.samples_per_task == {"drawing": 1, "editing": 1}
  assert (info.und_tokens, info.gen_tokens) == (6, 6)
  assert info.fill == 12 / (2 * LAYOUT.slots)


def test_understanding_is_causal_and_learned_where_it_can_be_predicted():
  batch, _ = pack([_drawing(), _understanding()], LAYOUT)
  assert _reading_order(batch, LAYOUT, 0) == {
    "what": "10 11 12 g2 g3 30 v0 v1 31 32 33 34 35".split(),
    "segment": [1] * 5 + [2] * 8,
    "last_visible": [0, 1, 2, 4, 4, *range(5, 13)],
    "noise_group": [0, 0, 0, 1, 1] + [0] * 8,
    "position": [0, 1, 2, 3, 4, *range(8)],
  }
  # 31 predicts 32, 32 predicts 33, 34 predicts 35.
  assert batch.weights_BU[0].tolist() == [0] * 6 + [1, 1, 0, 1, 0] + [0] * 5
  assert batch.targets_BU[0, 6:8].tolist() == [32, 33]
  assert batch.targets_BU[0, 9] == 35
  # Samples and pictures are never predicted across.
  assert batch.targets_BU[0, 2] == 0
  assert batch.stem_BN.tolist() == [[1], [-1]]
  assert batch.und_valid_BN.tolist() == [[True], [False]]


def test_a_picture_token_may_predict_an_answer():
  sample = Sample("understanding", (_picture("und"), Text((5,), loss=True)), "")
  batch, _ = pack([sample], LAYOUT)
  assert batch.weights_BU[0, :3].tolist() == [0, 1, 0]
  assert batch.targets_BU[0, 1] == 5


def test_learned_text_behind_a_gen_picture_is_refused():
  parts = (Text((1,)), _picture("ref"), Text((2,), loss=True))
  sample = Sample("editing", parts, "")
  with pytest.raises(ValueError, match="directly follows"):
    pack([sample], LAYOUT)
  pack([sample], dataclasses.replace(LAYOUT, reference_branch="und"))


def test_references_in_the_und_branch():
  layout = dataclasses.replace(LAYOUT, reference_branch="und")
  assert layout.gen_tokens == 4
  batch, _ = pack([_understanding(), _editing()], layout)
  drawn = _reading_order(batch, layout, 0)
  # Und pictures' visual tokens come first, those of references after them.
  assert drawn["what"] == (
    "30 v0 v1 31 32 33 34 35 20 v2 v3 21 22 g0 g1".split()
  )
  assert drawn["last_visible"][8:] == [8, 10, 10, 11, 12, 14, 14]


def test_token_fusion_doubles_clean_pictures():
  layout = dataclasses.replace(LAYOUT, fusion="token", und_tokens=20)
  assert (layout.clean_cost, layout.gen_tokens) == (4, 8)
  batch, _ = pack([_understanding(), _editing()], layout)
  drawn = _reading_order(batch, layout, 0)
  assert drawn["what"] == (
    "30 v0 v1 v2 v3 31 32 33 34 35 20 g0 g1 g2 g3 21 22 g4 g5".split()
  )
  # The reference is one bidirectional picture of four tokens.
  assert drawn["last_visible"][10:] == [10, 14, 14, 14, 14, 15, 16, 18, 18]


def test_what_does_not_fit_is_dropped_and_counted():
  samples = [
    _drawing(n=20),
    *(_drawing(first=40 + i) for i in range(5)),
    _understanding(),
    None,
  ]
  _, info = pack(samples, LAYOUT)
  assert info.placed == ((1, 2, 6), (3, 4))
  assert [(d.index, d.id, d.never) for d in info.dropped] == [
    (0, "d10", True),
    (5, "d44", False),
  ]
  assert "raise layout.und_tokens" in info.dropped[0].reason
  square = Picture(np.zeros((64, 64, 3), np.uint8), "target")
  large = Sample("drawing", (square,))
  assert "64x64 pixels in a layout of 32x64" in LAYOUT.too_large_reason(large)


def _own_ids(batch, layout: Layout, row: int, segment: int):
  """A sample's own view: everything relative to its first slot."""
  drawn = _reading_order(batch, layout, row)
  at = [i for i, s in enumerate(drawn["segment"]) if s == segment]
  text = [w if w.isdecimal() else w[0] for w in drawn["what"]]
  return [
    (
      text[i],
      drawn["last_visible"][i] - at[0],
      drawn["noise_group"][i] > 0,
      drawn["position"][i],
    )
    for i in at
  ]


@pytest.mark.parametrize("fusion", ["channel", "token"])
@pytest.mark.parametrize("branch", ["gen", "und"])
def test_a_samples_ids_do_not_depend_on_its_neighbours(fusion, branch):
  layout = dataclasses.replace(
    LAYOUT, rows=3, und_tokens=30, fusion=fusion, reference_branch=branch
  )
  samples = [_drawing(), _editing(), _understanding(), _drawing(50, 5)]
  seen = []
  for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
    batch, info = pack([samples[i] for i in order], layout)
    assert not info.dropped
    seen.append(
      {
        order[i]: _own_ids(batch, layout, row, segment)
        for row, placed in enumerate(info.placed)
        for segment, i in enumerate(placed, start=1)
      }
    )
  assert seen[0] == seen[1] == seen[2]


def test_holes_shift_nothing():
  samples = [_drawing(), _editing(), _understanding()]
  full, _ = pack(samples, LAYOUT)
  holed, info = pack([None, samples[0], None, *samples[1:], None], LAYOUT)
  np.testing.assert_array_equal(full.tokens_BU, holed.tokens_BU)
  np.testing.assert_array_equal(full.gen_ids.order, holed.gen_ids.order)
  assert info.placed == ((1, 3, 4), ())


def test_an_empty_batch_has_its_shapes():
  batch, info = pack([], dataclasses.replace(LAYOUT, targets=0, references=0))
  assert batch.gen_ids.segment.shape == (2, 0)
  assert batch.gen_pixels_BMYXC.shape == (2, 0, 32, 64, 3)
  assert info.fill == 0
  assert batch.visual_BU.max() == -1


def test_layout_checks_itself():
  for wrong, match in (
    (dict(rows=0), "rows=0"),
    (dict(targets=-1), "targets=-1"),
    (dict(height=33), "height=33"),
    (dict(fusion="sum"), "fusion"),
    (dict(reference_branch="both"), "reference_branch"),
  ):
    with pytest.raises(ValueError, match=match):
      dataclasses.replace(LAYOUT, **wrong)


def test_packing_is_quick():
  layout = dataclasses.replace(LAYOUT, rows=32, und_tokens=64)
  samples = [_drawing(), _editing(), _understanding()] * 32
  best = 1.0
  for _ in range(5):
    start = time.process_time()
    pack(samples, layout)
    best = min(best, time.process_time() - start)
  assert best < 0.05  # 2 ms where nothing else runs
