"""A plan is a function of the batch's number, fills rows, keeps its shares."""

import dataclasses
import pathlib
import pickle

import numpy as np
import pytest

from emma_jax.data.batching import plan as plan_lib
from emma_jax.data.batching import summary
from tests import neutral
from tests.data.batching import simulated

SMALL = {"understanding": 900, "drawing": 200, "editing": 90}
LAYOUT = dataclasses.replace(simulated.LAYOUT, rows=2)
PHASES = (
  neutral.phase({"understanding": 1, "drawing": 1}, steps=7),
  neutral.phase(simulated.WEIGHTS, unit="tokens", even_buckets=True),
)


def _plan(folder, phases=PHASES, counts=None, **changes) -> plan_lib.Plan:
  config = simulated.config(LAYOUT, simulated.BUCKETS, phases, segment=5)
  config = dataclasses.replace(config, **changes)
  out = plan_lib.Plan(config, str(folder))
  out.use(simulated.drawer(config, counts or SMALL))
  return out


def _files(plan: plan_lib.Plan) -> dict[str, bytes]:
  return {p.name: p.read_bytes() for p in pathlib.Path(plan.folder).iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> plan_lib.Plan:
  """Four segments, computed in order."""
  out = _plan(tmp_path_factory.mktemp("plan"))
  out.batches = [out.batch(step) for step in range(20)]
  return out


def test_any_batch_first_gives_the_same_plan_and_files(whole, tmp_path):
  other = _plan(tmp_path)
  order = np.random.default_rng(0).permutation(20).tolist()
  for step in order:
    assert other.batch(step) == whole.batches[step]
  assert _files(other) == _files(whole) and len(_files(whole)) == 4


def test_lost_and_damaged_segments_are_computed_again(whole, tmp_path):
  other = _plan(tmp_path)
  other.batch(19)
  names = sorted(pathlib.Path(other.folder).iterdir())
  names[1].unlink()
  names[2].write_bytes(names[2].read_bytes()[:-200])
  again = pickle.loads(pickle.dumps(other))
  assert "_drawer" not in pickle.dumps(other).decode("latin1")
  again.use(simulated.drawer(other.config, SMALL))
  assert [again.batch(s) for s in range(5, 15)] == whole.batches[5:15]
  assert _files(again) == _files(whole)


def test_segments_are_read_without_lengths(whole):
  """Nothing is computed, so nothing that a worker would have to load."""
  reader = pickle.loads(pickle.dumps(whole))
  assert [reader.batch(s) for s in (0, 19, 7)] == [
    whole.batches[s] for s in (0, 19, 7)
  ]
  assert reader._drawer is None


def test_looking_ahead_makes_the_next_segment(tmp_path):
  made = _plan(tmp_path)
  made.look_ahead(0)
  assert len(_files(made)) == 1
  made.look_ahead(3)
  made.batch(5)  # waits for it
  made.look_ahead(5)
  assert [n for n in _files(made) if n.endswith("npz")] and made.batch(5).rows
  with pytest.raises(ValueError, match="step=-1"):
    made.batch(-1)


@pytest.mark.parametrize(
  "change",
  [
    dict(seed=4),
    dict(rows=4),
    dict(phases=PHASES[1:]),
    dict(segment=6),
    dict(
      sources=tuple(
        plan_lib.PlannedSource(name=n, folder=n, digest="changed")
        for n in SMALL
      )
    ),
  ],
)
def test_what_decides_a_plan_is_in_its_fingerprint(change):
  config = simulated.config(LAYOUT, simulated.BUCKETS, PHASES, segment=5)
  moved = dataclasses.replace(
    config,
    sources=tuple(
      dataclasses.replace(s, folder="/elsewhere") for s in config.sources
    ),
  )
  assert moved.fingerprint() == config.fingerprint()
  other = dataclasses.replace(config, **change)
  assert other.fingerprint() != config.fingerprint()


def test_an_epoch_shows_every_record_once_and_rows_hold_their_samples(tmp_path):
  """Of three sources at once; what is in rows that are still open is due."""
  made = _plan(
    tmp_path, phases=(neutral.phase(simulated.WEIGHTS, unit="tokens"),)
  )
  drawer, seen, rules = made.drawer, {}, made.config.rules
  for number in range(40):
    segment = made.segment(number)
    s = segment.samples
    need = drawer.needs_of(s)
    start = 0
    for size in segment.row_sizes.ravel().tolist():
      assert (
        size and (need[start : start + size].sum(0) <= rules.capacities).all()
      )
      start += size
    bucket = np.repeat(segment.bucket, segment.row_sizes.sum(axis=1))
    for source, (name, table) in enumerate(zip(drawer.names, drawer.tables)):
      mine = s.source == source
      of = table.bucket[s.index[mine]]
      assert ((of == bucket[mine]) | (of == -1)).all()
      for epoch, index in zip(s.epoch[mine].tolist(), s.index[mine].tolist()):
        seen.setdefault((name, epoch), []).append(index)
  held = [
    (drawer.names[a], b, c)
    for a, b, c in zip(
      *(
        getattr(segment.after.waiting, k).tolist()
        for k in ("source", "epoch", "index")
      )
    )
  ]
  for name, epoch, index in held:
    seen[name, epoch].append(index)
  whole_epochs = 0
  for (name, epoch), indexes in seen.items():
    table = drawer.tables[drawer.names.index(name)]
    fits = np.flatnonzero(table.fits).tolist()
    assert len(set(indexes)) == len(indexes)
    if (name, epoch + 2) in seen:
      assert sorted(indexes) == fits
      whole_epochs += 1
  assert whole_epochs >= 3
  orders = [tuple(seen["understanding", e]) for e in (0, 1)]
  assert orders[0] != orders[1]


def test_rows_are_full_and_shares_exact(tmp_path):
  """On a realistic mixture; see simulated.py for larger sets."""
  counts = {"understanding": 40_000, "drawing": 8_000, "editing": 3_000}
  config = simulated.config()
  made = plan_lib.Plan(config, str(tmp_path))
  made.use(simulated.drawer(config, counts))
  found = summary.summarise(made, samples=100_000)
  assert found.fill["slots"] > 0.97
  layout = config.rules.layouts[0]
  assert found.fill["slots"] * layout.slots == pytest.approx(
    found.fill["und_tokens"] * layout.und_tokens
    + found.fill["gen_tokens"] * layout.gen_tokens
  )
  assert found.samples >= 100_000 > found.samples - 500
  for name, wanted in simulated.WEIGHTS.items():
    assert abs(found.phases[0].tokens[name] - wanted) < 1e-3


def test_phases_and_what_a_summary_says(whole, tmp_path):
  found = summary.summarise(whole, batches=20)
  assert (found.batches, [p.first for p in found.phases]) == (20, [0, 7])
  first = found.phases[0]
  assert first.samples["editing"] == 0 == first.wanted["editing"]
  rows = [row for b in whole.batches for row in b.rows]
  assert found.samples == sum(map(len, rows))
  assert {d.name for b in whole.batches[:7] for row in b.rows for d in row} == {
    "understanding",
    "drawing",
  }
  # Even buckets: a third of each source's pictures, whatever the data has.
  counts = {"understanding": 9000, "drawing": 2000, "editing": 900}
  even = _plan(tmp_path / "even", PHASES[1:], counts, segment=400)
  plain = _plan(
    tmp_path / "plain",
    (neutral.phase(simulated.WEIGHTS, unit="tokens"),),
    counts,
    segment=400,
  )
  shares = {}
  for name, made in (("even", even), ("plain", plain)):
    batches = [made.batch(step) for step in range(400)]
    drawn = np.array(
      [
        [sum(d.name == "drawing" for d in row) for row in b.rows]
        for b in batches
      ]
    ).sum(axis=1)
    of = np.array([b.bucket for b in batches])
    shares[name] = [drawn[of == k].sum() / drawn.sum() for k in range(3)]
  assert np.abs(np.array(shares["even"]) - 1 / 3).max() < 0.03
  assert np.abs(np.array(shares["plain"]) - 1 / 3).max() > 0.08


def test_long_conversations_are_cut_and_counted(tmp_path):
  layout = dataclasses.replace(LAYOUT, und_tokens=900, und_pictures=2)
  config = simulated.config(
    layout, phases=(neutral.phase({"understanding": 1}),), segment=20
  )
  made = plan_lib.Plan(config, str(tmp_path))
  made.use(simulated.drawer(config, SMALL))
  found = summary.summarise(made, batches=20)
  told = found.sources["understanding"]
  assert told["dropped"] > 0 and told["truncated"] > 0
  assert set(told["too much of"]) == {"und_pictures", "und_tokens"}
  epochs = found.samples / (told["elements"] - told["dropped"])
  assert abs(found.passed - epochs * told["dropped"]) < 20
  assert 0 < found.truncated <= (epochs + 1) * told["truncated"]
  assert sum(made.batch(s).passed for s in range(20)) == found.passed


@pytest.mark.parametrize(
  "phases, message",
  [
    ((), "at least one phase"),
    (
      (neutral.phase({"a": 1}), neutral.phase({"a": 1})),
      "Phase 0 of 2 has no `steps`",
    ),
    (
      (neutral.phase({"b": 1}),),
      r"names the source 'b'; the sources are \['a'\]",
    ),
  ],
)
def test_phases_that_cannot_be_planned_are_refused_at_once(phases, message):
  """As a mixture that is not planned refuses them."""
  source = plan_lib.PlannedSource(name="a", folder="", digest="")
  with pytest.raises(ValueError, match=message):
    plan_lib.PlanConfig(
      seed=0, sources=(source,), phases=phases, rules=None, rows=1, segment=1
    )
