"""Whether a stage's rows hold what its sources give, tried before it begins."""

from collections.abc import Callable
from typing import Any

from emma_jax.data import transforms
from emma_jax.data.batching import row_cost, row_layout
from emma_jax.data.loading import sources
from emma_jax.data.pictures import images
from emma_jax.structs import Record

# Records of a source tried, to find a layout too small for it.
_PROBES = 8


def check_lengths(name: str, source: Any, rules: row_cost.RowLimits) -> None:
  """Raises ValueError if the rows hold no record of the first file."""
  table = row_cost.count(source.first_lengths(), rules)
  if not table.fits.any():
    raise ValueError(
      f"No record of the source {name!r} fits into a row: they need more "
      + ", ".join(
        f"{key} ({n} of {len(table)} records)"
        for key, n in table.reasons(rules).items()
      )
      + "; raise these keys of the stage, or give a source of another task."
    )


def check_samples(
  name: str,
  source: sources.Source,
  to_sample: Callable[[Record], transforms.Sample],
  layout: row_layout.Layout,
) -> None:
  """Raises ValueError if the layout holds none of the first good records."""
  reason = ""
  for index in range(min(len(source), _PROBES)):
    try:
      sample = to_sample(source[index])
    except images.BadRecord:
      continue
    reason = layout.too_large_reason(sample)
    if not reason:
      return
  if reason:
    raise ValueError(f"A sample of the source {name!r} {reason} (in data).")
