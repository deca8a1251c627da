"""The data stream as a function of one integer, the number of the batch.

Sources are random access, the mixture says which elements a step takes, packing
fills a static batch with them. So a stream resumes exactly from a step number,
on any number of hosts and workers. A corrupt record leaves a hole in its batch
and is counted; nothing shifts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
import numpy as np

from emma_jax.data import transforms
from emma_jax.data.batching import mixture, pack_info, packing, row_layout
from emma_jax.data.batching import plan as plan_lib
from emma_jax.data.loading import labels as labels_lib
from emma_jax.data.loading import probe, sources

# Spelled twice: users of the pipeline find these here, too.
from emma_jax.data.loading.batch_stats import Bad as Bad
from emma_jax.data.loading.batch_stats import BadSampleLimit as BadSampleLimit
from emma_jax.data.loading.batch_stats import BatchStats as BatchStats
from emma_jax.data.loading.batch_stats import (
  TooManyBadRecords as TooManyBadRecords,
)
from emma_jax.data.loading.config import DataConfig as DataConfig
from emma_jax.data.loading.loader import DataLoader as DataLoader
from emma_jax.data.loading.loader import stream as stream
from emma_jax.data.pictures import images
from emma_jax.data.text import tokenizer as tokens_lib
from emma_jax.structs import Batch, Record

# Batches of the endless stream, for libraries that want a length.
_FOR_EVER = 2**40


@struct.dataclass
class HostBatch:
  """This host's rows of a batch, and its account (a leaf that is no array)."""

  batch: Batch
  info: Any  # BatchStats


class _Part(NamedTuple):
  """Rows that are packed together, and what is drawn for them."""

  first: int  # of its rows
  start: int  # place of its first draw among the batch's
  draws: Sequence[mixture.Draw]
  layout: row_layout.Layout
  planned: Sequence[range] | None  # draws of each row; None: first fit
  passed: int  # records passed over since the batch before

  def name(self, i: int) -> str:
    """Which sample draw `i` is: of two draws of one name, the same sample."""
    draw = self.draws[i]
    return f"{draw.name}/{draw.epoch}/{draw.index}"


class BatchDataset:
  """Random access to host batches; `source[step]` depends on nothing else.

  Without planning, the draws of the global batch are the same on every host.
  They are packed part by part; a host reads the parts that its rows are of, and
  keeps its rows. A part is counted by the host that holds its first row. A
  planned batch says what is in each row, so a host reads no more than its own.
  """

  def __init__(
    self,
    config: DataConfig,
    tokenizer: tokens_lib.Tokenizer,
    opened: Mapping[str, sources.Source],
    shard_index: int = 0,
    shard_count: int = 1,
    counted: bool = True,
    plans: str | None = None,
  ):
    """Of one host.

    Args:
      config: of all hosts.
      tokenizer: of all texts.
      opened: sources by name, those of `config.sources` or stand-ins.
      shard_index: which stretch of the rows this host keeps.
      shard_count: how many equal stretches there are.
      counted: False where another host keeps, and counts, the same rows.
      plans: folder to keep plans in; None: they go with the process.
    """
    if not 0 <= shard_index < shard_count:
      raise ValueError(f"{shard_index=} is outside of 0..{shard_count - 1}.")
    if config.layout.rows % shard_count:
      raise ValueError(
        f"layout.rows={config.layout.rows} do not split over {shard_count} "
        f"hosts; make data.layout.rows a multiple of {shard_count}."
      )
    self.config = config
    self._opened, self._counted = dict(opened), counted
    if config.planned:
      self.plan = plan_lib.Plan(_plan_config(config, tokenizer, opened), plans)
    else:
      self.mixture = _mixture(config, opened)
    self.to_sample = transforms.ToSample(
      tokenizer=tokenizer,
      framing=config.framing,
      text_dropout=config.text_dropout,
      reference_dropout=config.reference_dropout,
      max_turns=config.max_turns,
      max_pixels=config.max_pixels,
    )
    rows = config.layout.rows // shard_count
    self._rows = range(shard_index * rows, (shard_index + 1) * rows)

  @property
  def latents(self) -> dict[str, str]:
    """Source -> fingerprint of the autoencoder that made its latents."""
    return {
      name: source.latents.weights
      for name, source in self._opened.items()
      if hasattr(source, "latents") and source.latents is not None
    }

  def check_labels(self, what: str) -> None:
    """Raises NoLabels unless a router can be trained; `what`: the stage."""
    labels_lib.check(self._opened, self.config.sources, what)

  def __len__(self) -> int:
    return _FOR_EVER

  def __getitem__(self, step: int) -> HostBatch:
    step = int(step)
    parts = self._parts(step)
    batches, ids, counted, bad = [], [], [], []
    num_oversized = num_truncated = drawn = slots = 0
    lost: list[float] = []  # of the pictures to draw
    labels: Counter[int] = Counter()
    placed = {name: (0, 0) for name in self._opened}
    for part in parts:
      samples, broken = self._read(step, part)
      batch, packed = packing.pack(samples, part.layout, part.planned)
      batches.append(batch)
      ids += [tuple(map(part.name, row)) for row in packed.placed]
      if not self._counted or part.first not in self._rows:
        continue
      counted.append(packed.shifted(part.start))
      bad += broken
      num_truncated += sum(s is not None and s.truncated for s in samples)
      num_oversized, drawn = (
        num_oversized + part.passed,
        drawn + len(part.draws),
      )
      slots += part.layout.rows * part.layout.slots
      for i in (i for row in packed.placed for i in row):
        n, tokens = placed[part.draws[i].name]
        sample = samples[i]
        assert sample is not None  # a hole is in no row
        tokens += part.layout.length(sample)
        placed[part.draws[i].name] = n + 1, tokens
        lost += sample.cropped
        labels.update(labels_lib.codes_of(sample))
    start = self._rows[0] - parts[0].first
    info = BatchStats(
      step=step,
      drawn=drawn,
      bad=tuple(bad),
      slots=slots,
      num_truncated=num_truncated,
      num_oversized=num_oversized,
      num_targets=len(lost),
      cropped=sum(lost),
      sources=placed,
      labels=labels,
      packed=pack_info.joined(counted, parts[0].layout.slots),
      ids=tuple(ids[start : start + len(self._rows)]),
    )
    mine = lambda *x: np.concatenate(x)[start : start + len(self._rows)]
    return HostBatch(jax.tree.map(mine, *batches), info)

  def _parts(self, step: int) -> list[_Part]:
    """Those that this host's rows are of."""
    c = self.config
    if c.planned:
      bucket, rows, passed = self.plan.batch(step)
      first, last = self._rows[0], self._rows[-1] + 1
      stops = np.cumsum([0, *map(len, rows)]).tolist()
      start = stops[first]
      ranges = [
        range(a - start, b - start)
        for a, b in zip(stops[first:last], stops[first + 1 :])
      ]
      draws = [draw for row in rows[first:last] for draw in row]
      layout = self._shape(self.plan.config.phase(step), bucket)
      layout = dataclasses.replace(layout, rows=last - first)
      # What no row holds is of no row: the first host counts it.
      passed = passed if first == 0 else 0
      return [_Part(first, start, draws, layout, ranges, passed)]
    plan = self.mixture.batch_plan(step)
    each = c.layout.rows // c.packing_groups
    drawn = len(plan) // c.packing_groups
    layout = dataclasses.replace(c.layout, rows=each)
    return [
      _Part(
        i * each, i * drawn, plan[i * drawn : (i + 1) * drawn], layout, None, 0
      )
      for i in range(self._rows[0] // each, self._rows[-1] // each + 1)
    ]

  def _read(
    self, step: int, part: _Part
  ) -> tuple[list[transforms.Sample | None], list[Bad]]:
    """(samples, None where unusable; why) of a part's draws."""
    samples: list[transforms.Sample | None] = []
    bad = []
    for position, draw in enumerate(part.draws, part.start):
      source = self._opened[draw.name]
      try:
        # Per sample, so that what is before it in the batch has no influence.
        rng = np.random.default_rng([self.config.seed, step, position])
        to_sample = self._to_sample(part.layout, draw)
        samples.append(to_sample(source[draw.index], rng))
      except images.BadRecord as e:
        bad.append(_bad(draw, source, e))
        samples.append(None)
    return samples, bad

  def _to_sample(
    self, layout: row_layout.Layout, draw: mixture.Draw
  ) -> transforms.ToSample:
    """As the plan wants this draw: of the bucket's size, with its turns."""
    out = self.to_sample
    if self.config.framing.buckets:
      out = out.sized(layout.height, layout.width)
    return dataclasses.replace(out, max_turns=draw.turns) if draw.turns else out

  def look_ahead(self, step: int) -> None:
    """Has the plan of the batches from `step` on made before they are read."""
    if self.config.planned:
      self.plan.look_ahead(step)

  def layout(self, step: int) -> row_layout.Layout:
    """That of a batch: of its phase and bucket."""
    if not self.config.planned:
      return self.config.layout
    phase = self.plan.config.phase(step)
    return self._shape(phase, self.plan.batch(step).bucket)

  def _shape(self, phase: int, bucket: int) -> row_layout.Layout:
    row = self.config.phases[phase].row
    return self.config.layouts[bucket].with_row(row)

  def fingerprints(self) -> dict[str, str]:
    """Of the content that decides the stream, as far as it tells of itself."""
    out = {
      f"content of data.sources.{name}": source.digest
      for name, source in self._opened.items()
      if hasattr(source, "digest")
    }
    return out | ({"plan": self.plan.key} if self.config.planned else {})

  def record(self, step: int, draw: int) -> Record:
    """What a draw of a step is of, before it is framed; BadRecord."""
    found = self._draws(step)[draw]
    return self._opened[found.name][found.index]

  def _draws(self, step: int) -> Sequence[mixture.Draw]:
    if self.config.planned:
      return [d for row in self.plan.batch(step).rows for d in row]
    return self.mixture.batch_plan(step)

  def names(self, step: int) -> list[str]:
    """Where the draws of a step come from, for people: "name: file:row"."""
    out = []
    for draw in self._draws(step):
      source = self._opened[draw.name]
      where = f"[{draw.index}]"
      if hasattr(source, "where"):
        where = source.where(draw.index)
      out.append(f"{draw.name}: {where}")
    return out


def _mixture(
  config: DataConfig, opened: Mapping[str, sources.Source]
) -> mixture.Mixture:
  return mixture.Mixture(
    phases=tuple(config.phases),
    lengths={name: len(source) for name, source in opened.items()},
    shuffled=frozenset(
      name for name, spec in config.sources.items() if sources.is_shuffled(spec)
    ),
    samples_per_batch=config.samples_per_batch,
    seed=config.seed,
  )


def _plan_config(
  config: DataConfig, tokenizer: tokens_lib.Tokenizer, opened: Mapping[str, Any]
) -> plan_lib.PlanConfig:
  """Raises ValueError for a source whose lengths are not known.

  Those of `opened` that are planned are, or stand in for, a RecordsSource.
  """
  found = []
  for name, source in opened.items():
    if sources.SourceSpec.parse(config.sources[name]).kind != "records":
      raise ValueError(
        f"The source {name!r} ({config.sources[name]}) has no lengths to "
        "plan by; convert it with `emma-data convert` and name it as "
        "records:DIR, or set samples_per_batch."
      )
    if source.card.tokenizer != tokenizer.fingerprint():
      raise ValueError(
        f"The text tokens of the source {name!r} were counted by another "
        "tokenizer than data.tokenizer; count them again with `emma-data "
        f"lengths {source.folder} --tokenizer ...`."
      )
    found.append(
      plan_lib.PlannedSource(
        name=name, folder=source.folder, digest=source.digest
      )
    )
  return plan_lib.PlanConfig(
    seed=config.seed,
    sources=tuple(found),
    phases=tuple(config.phases),
    rows=config.layout.rows,
    segment=config.plan_segment,
    rules=config.rules,
  )


def _bad(
  draw: mixture.Draw, source: sources.Source, error: images.BadRecord
) -> Bad:
  """The account of a bad record: its place, whatever part of it failed."""
  if hasattr(source, "where"):
    return Bad(source.where(draw.index), error.reason)
  return Bad(error.where or f"{draw.name}[{draw.index}]", error.reason)


def open_pipeline(
  config: DataConfig,
  tokenizer: tokens_lib.Tokenizer,
  *,
  shard_index: int = 0,
  shard_count: int = 1,
  counted: bool = True,
  plans: str | None = None,
) -> BatchDataset:
  """Opens the sources the phases use; ValueError where they cannot work."""
  opened = {}
  for i, phase in enumerate(config.phases):
    for name in phase.weights:
      if name not in config.sources:
        raise ValueError(
          f"Phase {i} names the source {name!r}, which data.sources lacks; "
          f"it has {sorted(config.sources)}."
        )
      if name in opened:
        continue
      try:
        opened[name] = sources.open_source(
          config.sources[name], latents=config.latent_settings
        )
      except (OSError, ValueError) as e:
        raise ValueError(f"The source {name!r} does not open: {e}") from e
  out = BatchDataset(
    config, tokenizer, opened, shard_index, shard_count, counted, plans
  )
  for name, source in opened.items():
    if config.planned:
      probe.check_lengths(name, source, out.plan.config.limits(name))
    else:
      probe.check_samples(name, source, out.to_sample, config.layout)
  return out
