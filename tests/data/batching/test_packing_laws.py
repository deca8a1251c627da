"""Every field of a batch, against packing by brute force (oracle.py).

Over all variants (fusion and branch of references) and modes (one size, native
patches, stored latents, several pictures, none).
"""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from emma_jax.data.batching.pack_info import joined
from emma_jax.data.batching.packing import pack
from emma_jax.data.batching.row_layout import CAPACITIES, Layout
from emma_jax.data.transforms import Picture, Sample, Text
from tests import neutral
from tests.data import oracle
from tests.laws import laws

VARIANTS = [
  (fusion, branch)
  for fusion in ("channel", "token")
  for branch in ("gen", "und")
]
CHANNELS = 2


@st.composite
def layouts(draw, fusion: str, branch: str) -> Layout:
  height, width = draw(
    st.sampled_from([(32, 32), (32, 64), (64, 32), (64, 64)])
  )
  pictures = draw(st.integers(0, 3))
  native = pictures > 0 and draw(st.booleans())
  return neutral.layout(
    rows=draw(st.integers(1, 3)),
    und_tokens=draw(st.integers(12, 64)),
    und_pictures=pictures,
    references=draw(st.integers(0, 3)),
    targets=draw(st.integers(0, 3)),
    height=height,
    width=width,
    und_patches=4 * draw(st.integers(2, 9)) if native else 0,
    latent_channels=draw(st.sampled_from([0, CHANNELS])),
    fusion=fusion,
    reference_branch=branch,
  )


@st.composite
def samples(draw, layout: Layout) -> tuple:
  """What `build` makes a sample of; short to read where a law fails."""
  frame = (layout.height, layout.width)

  def text(low: int = 0, loss: bool = False):
    return "loss" if loss else "text", draw(st.integers(low, 5))

  def picture(role: str):
    size = frame
    if role == "und" and layout.und_patches:
      size = (32 * draw(st.integers(1, 2)), 32 * draw(st.integers(1, 3)))
    elif draw(st.integers(0, 19)) == 19:
      size = (96, 96)  # no row holds it
    content = None
    if role == "target" and draw(st.booleans()):  # padded by whole cells
      content = tuple(32 * draw(st.integers(1, n // 32)) for n in size)
    return role, size, draw(st.sampled_from([-1, 0, 1])), content

  task = draw(st.sampled_from(["understanding", "drawing", "editing"]))
  if task == "understanding":
    parts = [text()]
    for _ in range(draw(st.integers(0, 3))):
      parts += [picture("und")] + ([text()] if draw(st.booleans()) else [])
    for _ in range(draw(st.integers(1, 2))):
      parts += [text(1, loss=True), text()]
  elif task == "drawing":
    parts = [text(), picture("target")]
  else:
    parts = [text()]
    for _ in range(draw(st.integers(1, 3))):
      parts += [picture("ref"), text()]
    parts += [picture("target")]
  return task, tuple(parts), draw(st.integers(0, 99))


def build(spec: tuple | None, latents: bool) -> Sample | None:
  """Of random ids, pixels and latents."""
  if spec is None:
    return None
  task, parts, seed = spec
  rng, out = np.random.default_rng(seed), []
  for kind, size, *more in parts:
    if kind in ("text", "loss"):
      ids = tuple(rng.integers(1, 999, size).tolist())
      out.append(Text(ids, kind == "loss"))
      continue
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    cells = size[0] * size[1] // 32**2
    latent = rng.normal(size=(cells, CHANNELS)).astype(np.float32)
    out.append(
      Picture(
        pixels,
        kind,
        more[0] if kind == "und" else -1,
        latent if latents else None,
        more[1] if more[1:] else None,
      )
    )
  return Sample(task, tuple(out), f"{task} {seed}")


@st.composite
def cases(draw, fusion: str, branch: str) -> tuple:
  layout = draw(layouts(fusion, branch))
  specs = draw(st.lists(st.none() | samples(layout), min_size=1, max_size=7))
  return layout, [build(x, layout.latent_channels > 0) for x in specs]


def _assert_equal(batch, wanted) -> None:
  have, want = (
    dict(jax.tree_util.tree_flatten_with_path(x)[0]) for x in (batch, wanted)
  )
  assert have.keys() == want.keys()
  for path, array in want.items():
    name = jax.tree_util.keystr(path)
    assert have[path].dtype == array.dtype, name
    np.testing.assert_array_equal(have[path], array, err_msg=name)


# Two of everything in a row, so that no offset is 0; a hole, a sample that is
# too large, and one too many.
TALK = (
  "understanding",
  (
    ("text", 2),
    ("und", (32, 64), 1),
    ("text", 1),
    ("und", (64, 96), 0),
    ("loss", 3),
    ("text", 2),
    ("loss", 1),
  ),
  1,
)
EDIT = (
  "editing",
  (("text", 1), ("ref", (32, 64), -1), ("text", 2), ("target", (32, 64), -1)),
  2,
)
MANY = (
  "editing",
  (
    ("text", 1),
    ("ref", (32, 64), -1),
    ("text", 2),
    ("ref", (32, 64), -1),
    ("text", 2),
    ("ref", (32, 64), -1),
    ("text", 1),
    ("target", (32, 64), -1),
  ),
  5,
)
DRAW = ("drawing", (("text", 4), ("target", (32, 64), -1)), 3)
LARGE = ("drawing", (("text", 400), ("target", (32, 64), -1)), 4)


def _alike(spec: tuple) -> tuple:
  """With pictures of one size."""
  task, parts, seed = spec
  return (
    task,
    tuple((p[0], (32, 64), p[2]) if len(p) > 2 else p for p in parts),
    seed,
  )


@pytest.mark.parametrize("fusion, branch", VARIANTS)
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("latents", [False, True])
def test_full_rows_are_those_of_brute_force(fusion, branch, native, latents):
  layout = neutral.layout(
    rows=2,
    und_tokens=120,
    und_pictures=6,
    references=2,
    targets=3,
    height=32,
    width=64,
    und_patches=64 if native else 0,
    fusion=fusion,
    reference_branch=branch,
    latent_channels=CHANNELS * latents,
  )
  specs = [TALK, EDIT, LARGE, TALK, None, EDIT, DRAW, EDIT, DRAW, TALK, DRAW]
  if not native:
    specs = [x and _alike(x) for x in specs]
  given_ = [build(x, latents) for x in specs]
  assert _check(given_, layout)[0][:3] == [0, 1, 3]


@pytest.mark.parametrize("fusion, branch", VARIANTS)
def test_padding_within_a_targets_lines_by_brute_force(fusion, branch):
  """Two lines of two cells, of three that a frame's line has: behind each is
  one that is no token."""
  layout = neutral.layout(
    rows=1,
    und_tokens=60,
    und_pictures=0,
    references=1,
    targets=2,
    height=64,
    width=96,
    fusion=fusion,
    reference_branch=branch,
  )
  target = ("target", (64, 96), -1, (64, 64))
  drawing = ("drawing", (("text", 2), target), 1)
  edit = (
    "editing",
    (("text", 1), ("ref", (64, 96), -1), ("text", 1), target),
    2,
  )
  given_ = [build(x, False) for x in (drawing, edit)]
  assert _check(given_, layout) == [[0, 1]]


@pytest.mark.parametrize("fusion, branch", VARIANTS)
def test_edits_of_one_and_of_three_sources_by_brute_force(fusion, branch):
  """Two rows of both kinds; a third edit of three finds no room, and one of a
  row that has places for two alone never will."""
  layout = Layout(
    rows=2,
    und_tokens=60,
    und_pictures=0,
    references=4,
    targets=3,
    height=32,
    width=64,
    und_patches=0,
    fusion=fusion,
    reference_branch=branch,
    latent_channels=CHANNELS,
  )
  given_ = [build(x, True) for x in (EDIT, MANY, MANY, DRAW, EDIT, MANY)]
  assert _check(given_, layout) == [[0, 1, 3], [2, 4]]
  batch, _ = pack(given_, layout)
  assert batch.ref_valid_BR.sum(1).tolist() == [4, 4]
  narrow = dataclasses.replace(layout, references=2)
  info = pack([build(MANY, True)], narrow)[1]
  (left_out,) = info.dropped
  assert left_out.never and "raise layout.references" in left_out.reason
  assert "references=3 of a row but the layout has 2" in left_out.reason


@pytest.mark.parametrize("fusion, branch", VARIANTS)
@laws(20)
@given(data=st.data())
def test_a_batch_is_that_of_brute_force(fusion, branch, data):
  layout, given_ = data.draw(cases(fusion, branch))
  _check(given_, layout)


def _check(given_, layout: Layout) -> list[list[int]]:
  batch, info = pack(given_, layout)
  rows, dropped = oracle.first_fit(given_, layout)
  assert [list(row) for row in info.placed] == rows
  assert {d.index: d.never for d in info.dropped} == dropped
  assert all(d.id == given_[d.index].id and d.reason for d in info.dropped)
  _assert_equal(batch, oracle.pack(given_, layout, rows))
  _assert_counts(info, given_, layout, rows)
  return rows


def _assert_counts(info, given_, layout: Layout, rows) -> None:
  placed = [given_[i] for row in rows for i in row]
  tokens = [oracle.tokens_of(s, layout) for s in placed]
  gen = sum(t.gen for mine in tokens for t in mine)
  total = sum(map(len, tokens))
  assert (info.gen_tokens, info.und_tokens) == (gen, total - gen)
  assert info.fill == total / (layout.rows * layout.slots)
  for task in {s.task for s in placed}:
    mine = [t for s, t in zip(placed, tokens) if s.task == task]
    assert info.samples_per_task[task] == len(mine)
    assert info.tokens_per_task[task] == sum(map(len, mine))
  assert sum(info.samples_per_task.values()) == len(placed)


@pytest.mark.parametrize("fusion, branch", VARIANTS)
@laws(20)
@given(data=st.data())
def test_what_is_planned_is_packed_and_costs_what_it_is_said_to(
  fusion, branch, data
):
  """Of a plan that promises too much, the end of a row is left out."""
  layout, given_ = data.draw(cases(fusion, branch))
  for sample in filter(None, given_):
    possible = oracle.possible(sample, layout)
    assert (layout.too_large_reason(sample) == "") == possible
    if possible:
      assert layout.row_cost(sample) == oracle.need(sample, layout)
      assert layout.length(sample) == len(oracle.tokens_of(sample, layout))
  order = data.draw(st.permutations(range(len(given_))))
  cuts = sorted(
    data.draw(
      st.lists(
        st.integers(0, len(order)),
        min_size=layout.rows - 1,
        max_size=layout.rows - 1,
      )
    )
  )
  planned = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)])]
  batch, info = pack(given_, layout, planned)
  rows = [_kept(row, given_, layout) for row in planned]
  assert [list(row) for row in info.placed] == rows
  left = {i for i, s in enumerate(given_) if s} - {i for r in rows for i in r}
  assert {d.index for d in info.dropped} == left
  assert all(d.never for d in info.dropped)
  _assert_equal(batch, oracle.pack(given_, layout, rows))


def _kept(row, given_, layout: Layout) -> list[int]:
  """What a row has room for, in the order of its plan."""
  kept: list[int] = []
  for i in row:
    if given_[i] is None or not oracle.possible(given_[i], layout):
      continue
    needs = [oracle.need(given_[j], layout) for j in [*kept, i]]
    if oracle.fits({k: sum(n[k] for n in needs) for k in CAPACITIES}, layout):
      kept.append(i)
  return kept


def test_stretches_are_joined():
  """`joined` and `shifted` say of two batches what one says of both."""
  layout = neutral.layout(
    rows=2,
    und_tokens=6,
    und_pictures=0,
    references=0,
    targets=1,
    height=32,
    width=32,
  )
  draw = lambda n, name: Sample(
    "drawing",
    (Text(tuple(range(n))), Picture(np.zeros((32, 32, 3), np.uint8), "target")),
    name,
  )
  talk = Sample("understanding", (Text((1, 2), loss=True),), "t")
  first = pack([draw(3, "a"), draw(9, "large")], layout)[1]
  second = pack([draw(4, "b"), talk, draw(2, "c"), draw(1, "d")], layout)[1]
  both = joined([first, second.shifted(2)], layout.slots)
  assert both.placed == ((0,), (), (2, 3), (4,))
  assert [(d.index, d.id, d.never) for d in both.dropped] == [
    (1, "large", True),
    (5, "d", False),
  ]
  assert both.samples_per_task == {"drawing": 3, "understanding": 1}
  assert both.tokens_per_task == {"drawing": 4 + 5 + 3, "understanding": 2}
  assert (both.und_tokens, both.gen_tokens) == (11, 3)
  assert both.fill == 14 / (4 * 7)
  assert joined([], 7) == dataclasses.replace(
    both,
    placed=(),
    dropped=(),
    samples_per_task={},
    tokens_per_task={},
    und_tokens=0,
    gen_tokens=0,
    fill=0.0,
  )
