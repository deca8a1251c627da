"""A summary says what the batches of its plan hold, counted one by one."""

import dataclasses

import numpy as np
import pytest

from emma_jax.data.batching import plan as plan_lib
from emma_jax.data.batching import summary
from emma_jax.data.batching.row_layout import CAPACITIES
from tests import neutral
from tests.data.batching import simulated

COUNTS = {"understanding": 300, "drawing": 80, "editing": 40}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> plan_lib.Plan:
  """Rows too small for some, three phases that end within segments."""
  layout = dataclasses.replace(
    simulated.LAYOUT, rows=3, und_tokens=2200, und_patches=8000
  )
  phases = (
    neutral.phase({"drawing": 1, "editing": 1}, steps=2),
    neutral.phase(simulated.WEIGHTS, unit="tokens", steps=5),
    neutral.phase({"understanding": 3, "editing": 1}),
  )
  config = simulated.config(layout, simulated.BUCKETS, phases, segment=4)
  out = plan_lib.Plan(config, str(tmp_path_factory.mktemp("plan")))
  out.use(simulated.drawer(config, COUNTS))
  return out


@pytest.mark.parametrize("batches", [1, 4, 6, 13])
def test_all_of_a_summary(made, batches):
  found = summary.summarise(made, batches=batches)
  rules, tables = (
    made.config.rules,
    dict(zip(made.drawer.names, made.drawer.tables)),
  )
  need, tokens, gen_room = np.zeros(5, int), 0, 0
  buckets, passed, cut, samples = [0, 0, 0], 0, 0, 0
  phases = [[{n: 0 for n in tables} for _ in "st"] for _ in range(3)]
  for step in range(batches):
    batch = made.batch(step)
    phase = 0 if step < 2 else 1 if step < 7 else 2
    buckets[batch.bucket] += 1
    passed += batch.passed
    gen_room += 3 * rules.layouts[batch.bucket].gen_tokens
    for draw in (d for row in batch.rows for d in row):
      table = tables[draw.name]
      need += table.need[draw.index]
      tokens += int(table.tokens[draw.index])
      cut += table.turns[draw.index] > 0
      assert draw.turns == table.turns[draw.index]
      samples += 1
      phases[phase][0][draw.name] += 1
      phases[phase][1][draw.name] += int(table.tokens[draw.index])
  assert (found.batches, found.samples, found.tokens) == (
    batches,
    samples,
    tokens,
  )
  assert (found.passed, found.truncated) == (passed, cut)
  names = [f"{y}x{x}" for y, x in rules.buckets]
  assert found.buckets == dict(zip(names, buckets))
  room = 3 * batches * np.array(rules.capacities)
  want = {n: k / m for n, k, m in zip(CAPACITIES, need, room) if m}
  want |= {
    "gen_tokens": (tokens - need[0]) / gen_room,
    "slots": tokens / (gen_room + room[0]),
  }
  assert found.fill == pytest.approx(want)
  shares = lambda counts: {
    n: k / sum(counts.values()) for n, k in counts.items()
  }
  there = [i for i in range(3) if sum(phases[i][0].values())]
  assert [p.first for p in found.phases] == [[0, 2, 7][i] for i in there]
  for told, i in zip(found.phases, there):
    phase = made.config.phases[i]
    assert told.samples == pytest.approx(shares(phases[i][0]))
    assert told.tokens == pytest.approx(shares(phases[i][1]))
    assert told.wanted == pytest.approx(
      shares({n: phase.weights.get(n, 0) for n in tables})
    )
    assert told.unit == phase.unit


def test_what_is_left_out_of_an_epoch(made):
  found = summary.summarise(made, batches=13)
  assert found.passed > 0 and found.truncated > 0
  for name, table in zip(made.drawer.names, made.drawer.tables):
    told = found.sources[name]
    assert told["elements"] == COUNTS[name] == len(table)
    out = [i for i in range(len(table)) if not table.fits[i]]
    assert told["dropped"] == len(out)
    assert told["truncated"] == sum(
      table.turns[i] > 0 for i in range(len(table)) if table.fits[i]
    )
    why = {
      n: sum(int(table.need[i, k]) > size for i in out)
      for k, (n, size) in enumerate(
        zip(CAPACITIES, made.config.rules.capacities)
      )
    }
    assert told["too much of"] == {n: k for n, k in why.items() if k}


def test_so_many_samples_and_no_batch_more(made):
  sizes = [sum(map(len, made.batch(s).rows)) for s in range(12)]
  for wanted in (1, sizes[0], sizes[0] + 1, sum(sizes[:5]), sum(sizes[:6]) + 1):
    found = summary.summarise(made, samples=wanted)
    enough = next(n for n in range(1, 12) if sum(sizes[:n]) >= wanted)
    assert (found.batches, found.samples) == (enough, sum(sizes[:enough]))
