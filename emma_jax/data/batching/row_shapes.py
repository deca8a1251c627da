"""Rows of the shape that a phase's samples fill.

A row has two buffers, whose tokens a mixture takes in one ratio: where its
shape has another, one of them stays empty. Of shapes with no more slots than
the stage's own row, the fullest is found by placing some thousand samples in
each.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.batching import first_fit, order
from emma_jax.data.batching.plan import SegmentPlanner
from emma_jax.data.batching.row_layout import CAPACITIES, PATCHES_PER_CELL

# Samples that are placed in each shape. Of the first ones full rows close, and
# the others stay open: they are not counted.
SAMPLES = 12288
_BEGIN = SAMPLES // 3
# Und tokens beside what the samples take on average: too few leave the Gen
# buffer empty, too many themselves.
_SLACK = (0.98, 1.0, 1.02, 1.05, 1.09)
# Sizes of the Und buffer: what attention's blocks hold; of small rows, finer.
_MULTIPLE, _FINE = 128, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
  """Capacities of a row, and how full samples leave it."""

  row: dict[str, int]
  slots: int
  fill: float  # of the slots
  patches: float  # of what the vision tower computes, 1 where it shows nothing
  row_samples: float


def best(planner: SegmentPlanner, number: int) -> Shape:
  """The fullest shape for a phase's samples, the largest of equally full ones.

  It has no more slots than the stage's own row, and holds every record that
  the phase's row holds now.
  """
  return _Trial(planner, number).best()


def mixture(
  planner: SegmentPlanner, phases: Sequence[Sequence[Any]], low: float
) -> tuple[list[Any], list[tuple[Shape, Shape]]]:
  """(a stage's mixture with fuller rows, (rows now, rows then) by phase).

  Args:
    planner: of the stage.
    phases: its mixture, as in a config.
    low: phases whose rows are filled less than that get others.
  """
  out, pairs = [], []
  for number, phase in enumerate(phases):
    trial = _Trial(planner, number)
    now = trial.now()
    then = trial.best() if now.fill < low else now
    pairs.append((now, then))
    changed = then.row != now.row
    base = dict(zip(CAPACITIES, planner.config.rules.capacities))
    row = {k: n for k, n in then.row.items() if n != base[k]}
    out.append([*phase, {"row": row}] if changed else list(phase))
  return out, pairs


class _Trial:
  """Some samples of a phase, drawn as its batches draw them."""

  def __init__(self, planner: SegmentPlanner, number: int):
    self._d, c = planner, planner.config
    phase = c.phases[number]
    none = np.zeros(len(planner.lanes), np.int64)
    chunk = planner.order.chunk(
      order.Position(none, none), planner.weights(phase), phase.unit, SAMPLES
    )
    samples = planner.samples_of(chunk)
    self._bucket = planner.buckets_of(chunk)
    self._need = planner.needs_of(samples)
    self._tokens = np.zeros(len(samples), np.int64)
    self._largest = np.zeros(len(CAPACITIES), np.int64)
    for i in np.unique(samples.source):
      table, mine = planner.tables[i], samples.source == i
      self._tokens[mine] = table.tokens[samples.index[mine]]
      self._largest = np.maximum(self._largest, table.need[table.fits].max(0))
    self._base = c.rules
    self._now = c.rules.with_row(phase.row)

  def now(self) -> Shape:
    """The phase's own rows."""
    return self.shape(dict(zip(CAPACITIES, self._now.capacities)))

  def best(self) -> Shape:
    """See the function of this name."""
    found = [self.shape(row) for row in self._candidates()]
    full = max(round(x.fill, 2) for x in found)
    return max(
      (x for x in found if round(x.fill, 2) == full),
      key=lambda x: (round(x.patches, 2), x.slots),
    )

  def _candidates(self) -> Iterator[dict[str, int]]:
    """Of more and more samples, as long as the slots last; today's first."""
    now = dict(zip(CAPACITIES, self._now.capacities))
    yield now
    mean = dict(zip(CAPACITIES, self._need.mean(axis=0).tolist()))
    least = dict(zip(CAPACITIES, self._largest.tolist()))
    if not mean["targets"]:  # one buffer, which any shape fills
      return
    budget = max(x.slots for x in self._base.layouts)
    multiple = _MULTIPLE if now["und_tokens"] >= 8 * _MULTIPLE else _FINE
    for targets in range(max(1, least["targets"]), 65):
      samples = targets / mean["targets"]
      wanted = samples * mean["references"]
      for references in {int(wanted), int(np.ceil(wanted))}:
        row = dict(targets=targets)
        row["references"] = max(references, least["references"])
        for slack in _SLACK:
          part = samples * slack
          row["und_tokens"] = _up(
            max(part * mean["und_tokens"], least["und_tokens"]), multiple
          )
          row["und_patches"] = _up(
            max(part * mean["und_patches"], least["und_patches"]),
            multiple * PATCHES_PER_CELL,
          )
          if self._base.native and not row["und_patches"]:
            row["und_patches"] = multiple * PATCHES_PER_CELL
          row["und_pictures"] = now["und_pictures"]
          if not self._base.native:  # each is of the full size, used or not
            row["und_pictures"] = max(
              round(part * mean["und_pictures"]), least["und_pictures"]
            )
          rules = self._base.with_row(row)
          if max(x.slots for x in rules.layouts) <= budget:
            yield dict(row)

  def shape(self, row: dict[str, int]) -> Shape:
    """What a row holds."""
    rules = self._base.with_row(row)
    rows = first_fit.Rows(
      rules.capacities, len(rules.layouts), first_fit.OPEN_ALL, self._d.least
    )
    slots = np.array([x.slots for x in rules.layouts])
    used = room = samples = count = patches = 0
    for full in rows.fill(0, self._need, self._bucket):
      if full.placed < _BEGIN:
        continue
      held = [i for row in full.rows for i in row]
      used += int(self._tokens[held].sum())
      patches += int(self._need[held, CAPACITIES.index("und_patches")].sum())
      samples += len(held)
      count += first_fit.OPEN_ALL
      room += int(slots[full.bucket]) * first_fit.OPEN_ALL
    return Shape(
      row=row,
      slots=int(slots.max()),
      fill=used / max(room, 1),
      patches=patches / max(count * row["und_patches"], 1)
      if row["und_patches"]
      else 1.0,
      row_samples=samples / max(count, 1),
    )


def _up(value: float, multiple: int) -> int:
  return int(-(-value // multiple) * multiple)
