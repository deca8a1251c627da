"""Whether a stage's rows hold what is drawn for them; what to set if not."""

from collections.abc import Mapping
import math

from emma_jax.data.batching.row_layout import Layout

# Samples that find no room, and records that no row could hold, up to which
# nothing is said; the share of the slots from which on rows are full enough.
MOST_LOST, LEAST_FILL = 0.05, 0.5
# What first fit fills of rows whose capacities suit the data.
_GOOD = 0.9


def advice(
  stage: str,
  layout: Layout,
  samples_per_batch: int,
  measured: Mapping[str, float],
) -> list[str]:
  """Sentences for a stage that loses samples, or computes padding; [] for none.

  Args:
    stage: its name.
    layout: of its batches.
    samples_per_batch: that are drawn; 0: rows are planned.
    measured: means of `loading.batch_stats.means` over some steps.
  """
  key, start = f"config.stages.{stage}", f"Stage {stage}, first steps:"
  dropped = measured.get("data/dropped", 0.0)
  oversized = measured.get("data/oversized", 0.0)
  fill = measured.get("data/fill", 1.0)
  out = []
  if oversized > MOST_LOST:
    out.append(
      f"{start} {oversized:.0%} of the records are longer than a row and left "
      f"out: raise {key}.und_tokens, und_pictures, references or targets; "
      "`emma-data plan` says which."
    )
  if dropped > MOST_LOST and samples_per_batch:
    rows = math.ceil(layout.rows / (1 - min(dropped, 0.9)))
    fewer = max(1, math.floor(samples_per_batch * (1 - dropped)))
    out.append(
      f"{start} {dropped:.0%} of the samples find no room in {layout.rows} "
      f"rows: set {key}.rows={rows} or samples_per_batch={fewer}"
      + (_ratio(key, layout) if fill < LEAST_FILL else ".")
    )
  elif fill < LEAST_FILL and samples_per_batch:
    more = math.floor(samples_per_batch * _GOOD / max(fill, 0.01))
    rows = max(1, math.ceil(layout.rows * fill / _GOOD))
    out.append(
      f"{start} the rows are {fill:.0%} full, the rest is computed for "
      f"nothing: set {key}.rows={rows} or samples_per_batch={more}."
    )
  elif fill < LEAST_FILL:
    out.append(
      f"{start} the rows are {fill:.0%} full, the rest is computed for "
      f"nothing: `emma-data plan --stage {stage}` with this config says which "
      "capacities would fill them."
    )
  return out


def _ratio(key: str, layout: Layout) -> str:
  """Where rows are too small and empty at once, one capacity is lacking."""
  return (
    f"; a row has room for {layout.targets} targets, {layout.references} "
    f"references and {layout.und_pictures} pictures in questions beside "
    f"{layout.und_tokens} tokens, and one of them is used up while the others "
    f"are empty: raise that one of {key}.targets, references, und_pictures, or "
    "lower und_tokens. With sources records:DIR, samples_per_batch=0 plans "
    "full rows."
  )
