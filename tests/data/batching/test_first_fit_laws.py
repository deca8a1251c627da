"""Rows of a plan, needs and the order of draws, against brute force."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from emma_jax.data.batching import first_fit, order, row_cost
from emma_jax.data.batching.packing import pack
from emma_jax.data.batching.row_cost import ANY_BUCKET
from emma_jax.data.batching.row_layout import CAPACITIES, Layout
from emma_jax.data.records.lengths import Length, Lengths
from emma_jax.data.transforms import Picture, Sample, Text
from tests import neutral
from tests.data import oracle
from tests.laws import laws

# As the page on data says: 64 open rows, or twice a batch's where that is less.
MOST_OPEN, BATCHES = 64, 2


def by_hand(capacities, buckets: int, rows: int, least, need, bucket):
  """First fit over open rows: (batches, open rows, closed rows by bucket)."""
  open_rows: list[tuple[int, list[int]]] = []
  closed: list[list[list[int]]] = [[] for _ in range(buckets)]
  full, last = [], 0
  most = min(MOST_OPEN, BATCHES * rows)

  def room(members):
    return [
      c - sum(need[i][k] for i in members) for k, c in enumerate(capacities)
    ]

  def close(at):
    kind, members = open_rows.pop(at)
    closed[kind].append(members)
    if len(closed[kind]) == rows:
      full.append((kind, closed[kind], i + 1))
      closed[kind] = []

  for i in range(len(need)):
    holds = [
      at
      for at, (kind, members) in enumerate(open_rows)
      if bucket[i] in (ANY_BUCKET, kind)
      and all(a <= b for a, b in zip(need[i], room(members)))
    ]
    if not holds:
      kind = last if bucket[i] == ANY_BUCKET else bucket[i]
      open_rows.append((kind, []))
    at = holds[0] if holds else len(open_rows) - 1
    if bucket[i] != ANY_BUCKET:
      last = bucket[i]
    open_rows[at][1].append(i)
    if any(a < b for a, b in zip(room(open_rows[at][1]), least)):
      close(at)
    elif len(open_rows) > most:
      close(0)
  return full, open_rows, closed


@laws(40)
@given(st.data())
def test_rows_are_those_of_first_fit_by_hand(data):
  buckets = data.draw(st.sampled_from([1, 3]))
  rows = data.draw(st.integers(1, 3))
  capacities = (20, 3)
  samples = data.draw(
    st.lists(
      st.tuples(
        st.integers(1, 20),
        st.integers(0, 3),
        st.integers(-1 if buckets > 1 else 0, buckets - 1),
      ),
      min_size=1,
      max_size=60,
    )
  )
  need = np.array([s[:2] for s in samples])
  bucket = np.array([s[2] for s in samples])
  least = need.min(axis=0)
  made = first_fit.Rows(capacities, buckets, rows, least)
  got = [(b.bucket, b.rows, b.placed) for b in made.fill(0, need, bucket)]
  full, open_rows, closed = by_hand(
    capacities, buckets, rows, least, need.tolist(), bucket.tolist()
  )
  assert got == full
  held, kinds, done = made.waiting()
  still = [(kind, row) for kind, row in open_rows]
  still += [(kind, row) for kind, queue in enumerate(closed) for row in queue]
  assert list(zip(kinds, held)) == still
  assert done == [False] * len(open_rows) + [True] * (
    len(still) - len(open_rows)
  )


@pytest.mark.parametrize("rows, most", [(1, 2), (3, 6), (32, 64), (500, 64)])
def test_so_many_rows_are_open_and_not_one_fewer(rows, most):
  """Samples of which no two go together: each opens a row."""
  made = first_fit.Rows((10,), 1, rows, (0,))  # none is ever full
  need = np.full((most + 1, 1), 6)
  list(made.fill(0, need[:most], np.zeros(most, int)))
  assert made.waiting()[2].count(False) == most
  list(made.fill(most, need[:1], np.zeros(1, int)))
  held, _, done = made.waiting()
  assert done.count(False) == most
  assert [row for row in held if row == [most]]  # the newest is open


# ---------------------------------------------------------------------- needs


@st.composite
def records(draw, native: bool) -> Length:
  task = draw(st.sampled_from(["understanding", "text", "drawing", "editing"]))
  side = st.integers(20, 150)
  pictures = {"text": 0, "drawing": 1}.get(task)
  if pictures is None:
    pictures = draw(st.integers(1, 3)) + (task == "editing")
  turns = draw(st.integers(1, 4)) if task in ("understanding", "text") else 1
  return Length(
    task=task,
    stem=-1,
    weight=1.0,
    turn_tokens=tuple(
      (
        draw(st.integers(1, 9)),
        draw(st.integers(1, 20)) if task in ("understanding", "text") else 0,
      )
      for _ in range(turns)
    ),
    sizes=tuple((draw(side), draw(side)) for _ in range(pictures)),
  )


def sample_of(record: Length, layout: Layout, framing, turns) -> Sample:
  """The sample that a record becomes, as far as its lengths go."""
  parts: list[Text | Picture] = []
  frame = (layout.height, layout.width)
  asked = record.task in ("understanding", "text")

  def picture(size, role):
    shape, content = frame, None
    if role == "und" and framing.understanding.native:
      shape = framing.understanding.place(*size).full
    elif role == "target" and framing.generation.fit == "pad_cells":
      content = framing.sized(*frame).generation.place(*size).content
    return Picture(np.zeros((*shape, 3), np.uint8), role, content=content)

  for i, (before, answer) in enumerate(record.turn_tokens[:turns]):
    parts.append(Text((1,) * before))
    if i == 0 and asked:
      parts += [picture(size, "und") for size in record.sizes]
    if answer:
      parts += [Text((2,) * answer, loss=True)]
  if record.task == "editing":
    *sources, target = record.sizes
    parts += [picture(source, "ref") for source in sources]
    parts += [picture(target, "target")]
  if record.task == "drawing":
    parts.append(picture(record.sizes[0], "target"))
  task = "understanding" if asked else record.task
  return Sample(task, tuple(parts))


def bucket_of(record: Length, sizes, native: bool) -> int:
  """Nearest in ratio, of the picture to draw, or the first one asked about."""
  asked = record.task in ("understanding", "text")
  if asked and (native or not record.sizes):
    return ANY_BUCKET
  y, x = record.sizes[0 if asked else -1]
  far = [abs(np.log((y / x) / (h / w))) for h, w in sizes]
  return int(np.argmin(far))


@pytest.mark.parametrize("fusion", ["channel", "token"])
@pytest.mark.parametrize("branch", ["gen", "und"])
@laws(20)
@given(data=st.data())
def test_needs_by_hand_and_what_is_planned_is_what_is_packed(
  fusion, branch, data
):
  native = data.draw(st.booleans())
  sizes = data.draw(
    st.sampled_from(
      [((32, 64),), ((32, 64), (64, 32)), ((32, 96), (64, 64), (96, 32))]
    )
  )
  max_turns = data.draw(st.sampled_from([None, 2]))
  layout = neutral.layout(
    rows=2,
    und_tokens=data.draw(st.integers(20, 90)),
    und_pictures=2,
    references=data.draw(st.integers(1, 3)),
    targets=2,
    height=32,
    width=32,
    fusion=fusion,
    reference_branch=branch,
    und_patches=4 * data.draw(st.integers(4, 12)) if native else 0,
  )
  framing = neutral.framing(
    height=32,
    width=32,
    native=native,
    min_tokens=2,
    max_tokens=9,
    fit=data.draw(st.sampled_from(["pad", "pad_cells", "cover"])),
    max_crop=data.draw(st.sampled_from([0.0, 0.2, 0.5])),
  )
  rules = row_cost.RowLimits(
    layouts=tuple(
      dataclasses.replace(layout, height=y, width=x) for y, x in sizes
    ),
    framing=framing,
    max_turns=max_turns,
  )
  found = data.draw(st.lists(records(native), min_size=1, max_size=8))
  table = row_cost.count(Lengths.of(found, "t"), rules)
  samples = []
  for i, record in enumerate(found):
    bucket = bucket_of(record, sizes, native)
    assert table.bucket[i] == bucket
    mine = rules.layouts[bucket]
    sample, turns = _cut(record, mine, framing, max_turns)
    assert table.turns[i] == turns
    lost = _lost(record, mine, framing)
    assert table.cropped[i] == np.float32(lost[-1] if lost else 0)
    assert table.too_cropped[i] == any(
      x > framing.generation.max_crop for x in lost
    )
    assert table.fits[i] == (
      oracle.possible(sample, mine) and not table.too_cropped[i]
    )
    if table.fits[i]:
      assert dict(zip(CAPACITIES, table.need[i])) == oracle.need(sample, mine)
      assert table.tokens[i] == len(oracle.tokens_of(sample, mine))
    samples.append(sample)
  assert table.dropped == (~table.fits).sum()
  assert table.truncated == sum(
    bool(table.turns[i] > 0 or _limited(record, max_turns))
    for i, record in enumerate(found)
    if table.fits[i]
  )
  if table.fits.any():
    _assert_planned_is_packed(table, samples, rules)


def _limited(record, max_turns) -> bool:
  asked = record.task in ("understanding", "text")
  return asked and len(record.turn_tokens) > (max_turns or 99)


def _lost(record, layout, framing) -> list[float]:
  """Of the pictures to draw and to edit, the share that is cropped."""
  if record.task in ("understanding", "text"):
    return []
  fit = framing.sized(layout.height, layout.width).generation
  return [fit.cropped(*size) for size in record.sizes]


def _cut(record, layout, framing, max_turns):
  """(sample, turns kept or 0): the leading turns that fit, if one does."""
  whole = sample_of(record, layout, framing, max_turns)
  if record.task not in ("understanding", "text") or (
    oracle.need(whole, layout)["und_tokens"] <= layout.und_tokens
  ):
    return whole, 0
  for turns in range(len(record.turn_tokens[:max_turns]), 0, -1):
    sample = sample_of(record, layout, framing, turns)
    if oracle.need(sample, layout)["und_tokens"] <= layout.und_tokens:
      return sample, turns
  return whole, 0


def _assert_planned_is_packed(table, samples, rules) -> None:
  which = np.flatnonzero(table.fits)
  chosen = table.take(which)
  rows = first_fit.Rows(
    rules.capacities, len(rules.layouts), 2, chosen.need.min(axis=0)
  )
  for batch in rows.fill(0, chosen.need, chosen.bucket):
    layout = rules.layouts[batch.bucket]
    planned = [[int(which[i]) for i in row] for row in batch.rows]
    batch_, info = pack(samples, layout, planned)
    assert not info.dropped
    assert [list(row) for row in info.placed] == planned
    need = table.need[[i for row in planned for i in row]].sum(axis=0)
    tokens = table.tokens[[i for row in planned for i in row]].sum()
    assert info.und_tokens == need[0]
    assert info.gen_tokens == tokens - need[0]
    assert batch_.und_valid_BN.sum() == need[1]
    assert batch_.ref_valid_BR.sum() == need[2]
    assert (batch_.gen_task_BM > 0).sum() == need[3]


# ---------------------------------------------------------------------- order


def _table(tokens, fits) -> row_cost.RowCost:
  n = len(tokens)
  return row_cost.RowCost(
    need=np.ones((n, len(CAPACITIES)), np.int32),
    tokens=np.array(tokens, np.int32),
    bucket=np.zeros(n, np.int8),
    turns=np.zeros(n, np.int32),
    limited=np.zeros(n, bool),
    cropped=np.zeros(n, np.float32),
    too_cropped=np.zeros(n, bool),
    fits=np.array(fits, bool),
  )


@laws(40)
@given(st.data())
def test_draws_come_in_the_order_of_their_times(data):
  """One after the other: the lane whose next sample's middle comes first."""
  unit = data.draw(st.sampled_from(["samples", "tokens"]))
  sources = data.draw(
    st.lists(
      st.lists(
        st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6
      ).filter(lambda x: any(f for _, f in x)),
      min_size=1,
      max_size=3,
    )
  )
  weights = [data.draw(st.integers(1, 5)) for _ in sources]
  names = [f"s{i}" for i in range(len(sources))]
  tables = [_table(*zip(*source)) for source in sources]
  lanes = order.lanes(names, tables, ((32, 32),))
  orders = order.FairQueue(lanes, tables, seed=5)
  count = data.draw(st.integers(1, 30))
  got = orders.chunk(
    order.Position(*np.zeros((2, len(sources)), np.int64)),
    np.array(weights, float),
    unit,
    count,
  )
  at, used = [0] * len(sources), [0] * len(sources)
  for k in range(len(got.lane)):
    offers = []
    for i, table in enumerate(tables):
      n, passed = at[i], 0
      while True:
        epoch, place = divmod(n, len(table))
        element = orders._order(lanes[i], epoch)[place]
        if table.fits[element]:
          break
        n, passed = n + 1, passed + 1
      cost = int(table.tokens[element]) if unit == "tokens" else 1
      offers.append(
        (
          (used[i] + cost - cost / 2) / weights[i],
          i,
          n,
          epoch,
          int(element),
          cost,
          passed,
        )
      )
    _, lane, n, epoch, element, cost, passed = min(offers)
    assert [int(getattr(got, f.name)[k]) for f in dataclasses.fields(got)] == [
      lane,
      n,
      epoch,
      element,
      cost,
      passed,
    ]
    at[lane], used[lane] = n + 1, used[lane] + cost
  after = order.Position(*np.zeros((2, len(sources)), np.int64)).after(got)
  assert (after.drawn.tolist(), after.used.tolist()) == (at, used)
