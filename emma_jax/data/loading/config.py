"""What a stage's data is: sources, mixture, shapes, and how it is read."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from emma_jax.data.batching import mixture, row_cost, row_layout
from emma_jax.data.pictures.framing import Framing


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """All that decides the stream, and how it is read.

  Args:
    seed: of the epochs' orders and the condition dropout.
    sources: name -> spec, see sources.SourceSpec.
    phases: mixture.Phase in order; the last goes on for ever.
    samples_per_batch: samples drawn per step, over all hosts; 0: as many as
      fill its rows, planned from lengths (all sources must be records:DIR).
    layout: of the batch, over all hosts.
    packing_groups: a batch is packed in so many stretches of rows, apart from
      each other; a host reads only those that its rows are of. 1 fills the rows
      best, and every host reads all.
    framing: to the layout's picture size, or with buckets (planned streams
      only) to the batch's; understanding pictures of a layout with
      `und_patches` to sizes of their own (native).
    latent_settings: `records.latents.Settings` where sources have latents;
      None: the step makes them.
    text_dropout, reference_dropout: share of generation samples without.
    max_turns: turns kept of a conversation; None keeps all.
    max_pixels: larger pictures are bad records.
    max_bad_share: of unusable samples, before the run stops.
    min_samples: samples before that share is looked at.
    workers: processes that read ahead; 0 reads in threads of this one.
    threads: per worker; 0 reads in the loop itself (only without workers).
    prefetch_batches: batches read ahead, per worker.
    plan_segment: batches that are planned at a time.
  """

  seed: int
  sources: Mapping[str, str]
  phases: Sequence[mixture.Phase]
  samples_per_batch: int
  layout: row_layout.Layout
  framing: Framing
  latent_settings: Any
  packing_groups: int
  text_dropout: float
  reference_dropout: float
  max_turns: int | None
  max_pixels: int
  max_bad_share: float
  min_samples: int
  workers: int
  threads: int
  prefetch_batches: int
  plan_segment: int

  def __post_init__(self):
    if not 0 <= self.max_bad_share <= 1:
      raise ValueError(f"{self.max_bad_share=} is no share in [0, 1].")
    for name in (
      "seed",
      "min_samples",
      "workers",
      "threads",
      "prefetch_batches",
    ):
      if getattr(self, name) < 0:
        raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
    for name in ("packing_groups", "plan_segment"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be positive.")
    groups = self.packing_groups
    if self.samples_per_batch % groups or self.layout.rows % groups:
      raise ValueError(
        f"samples_per_batch={self.samples_per_batch} and rows="
        f"{self.layout.rows} must both be multiples of data.packing_groups="
        f"{groups}."
      )
    room = (self.layout.height, self.layout.width)
    for role in ("und", "target"):
      fit = self.framing.of(role)
      # Native pictures may have that size all the same; others are counted.
      if (fit.height, fit.width) != room and not fit.native:
        raise ValueError(
          f"framing makes pictures of {fit.height}x{fit.width} but the layout "
          f"holds {room}; give both one height and width."
        )
    if self.planned:
      _ = self.rules  # raises for buckets that cannot be
      return
    if self.framing.buckets or any(
      p.unit != "samples" or p.even_buckets or p.row for p in self.phases
    ):
      raise ValueError(
        "buckets, even_buckets, a phase's own row and weights in tokens need "
        "lengths: set samples_per_batch=0 to plan the batches."
      )

  @property
  def planned(self) -> bool:
    """Batches are planned from lengths."""
    return self.samples_per_batch == 0

  @property
  def layouts(self) -> tuple[row_layout.Layout, ...]:
    """Of the batches: one per bucket."""
    return tuple(
      dataclasses.replace(self.layout, height=y, width=x)
      for y, x in self.framing.sizes
    )

  @property
  def rules(self) -> row_cost.RowLimits:
    """What a record takes of a planned row."""
    return row_cost.RowLimits(
      layouts=self.layouts, framing=self.framing, max_turns=self.max_turns
    )
