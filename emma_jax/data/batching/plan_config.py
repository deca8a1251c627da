"""All that decides a plan of batches, and its fingerprint."""

import bisect
import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from emma_jax.data.batching import first_fit, row_cost
from emma_jax.data.batching.mixture import Phase, check_phases

# A change of planning itself gets another number: plans of an older one are
# made anew.
VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedSource:
  """A folder of records, and what identifies its content."""

  name: str
  folder: str
  digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanConfig:
  """All that decides a plan.

  Args:
    seed: of the epochs' orders.
    sources: those that the phases name.
    phases: in order; the last goes on for ever.
    rules: what a record takes.
    rows: of a batch of all hosts.
    segment: batches of a segment.
  """

  seed: int
  sources: tuple[PlannedSource, ...]
  phases: tuple[Phase, ...]
  rules: row_cost.RowLimits
  rows: int
  segment: int

  def __post_init__(self):
    check_phases(self.phases, {source.name for source in self.sources})
    for phase in self.phases:
      self.rules.with_row(phase.row)  # raises for a row that cannot be

  @property
  def ends(self) -> list[float]:
    """Batch at which each phase ends; the last one does not."""
    steps = [p.steps for p in self.phases[:-1]]
    return [*np.cumsum(np.array(steps)).tolist(), np.inf]

  def phase(self, step: int) -> int:
    """Which phase a batch is of."""
    return bisect.bisect_right(self.ends, step)

  def limits(self, source: str) -> row_cost.RowLimits:
    """What rows have for a source, in each phase that names it.

    So an element is the same sample in all of them.
    """
    rows = [p.row for p in self.phases if source in p.weights]
    return self.rules.least(rows) if rows else self.rules

  def fingerprint(self) -> str:
    """A hash of all that decides which sample stands where; folders do not."""
    seen, drawn = (
      self.rules.framing.understanding,
      self.rules.framing.generation,
    )
    layouts = [
      dataclasses.asdict(x) | {"rows": self.rows} for x in self.rules.layouts
    ]
    settings = {
      "version": VERSION,
      "seed": self.seed,
      "rows": self.rows,
      "segment": self.segment,
      "window": [first_fit.WINDOW, first_fit.BATCHES],
      "sources": sorted((s.name, s.digest) for s in self.sources),
      "phases": [_told(p) for p in self.phases],
      "layouts": layouts,
      "max_turns": self.rules.max_turns,
      "native": None,
    }
    if self.rules.native:
      settings["native"] = [seen.min_tokens, seen.max_tokens]
    if not self.rules.native and any(p.even_buckets for p in self.phases):
      settings["even"] = "drawn"  # before, questions were evened as well
    if drawn.fit != "pad":  # which has no rule of its own
      settings["fit"] = [drawn.fit, drawn.max_crop]
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _told(phase: Phase) -> dict[str, Any]:
  """Of a fingerprint: plans of before phases had rows keep theirs."""
  out = dataclasses.asdict(phase)
  return out if out["row"] else {k: v for k, v in out.items() if k != "row"}
