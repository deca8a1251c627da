"""The data stream as a function of one integer, the number of the batch.

Sources are random access, the mixture says which elements a step takes, packing
fills a static batch with them. So a stream resumes exactly from a step number,
on any number of hosts and workers. A corrupt record leaves a hole in its batch
and is counted; nothing shifts.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import signal
from typing import Any

from absl import flags
from flax import struct
import grain
import jax
import numpy as np

from emma_jax.data import images, mixture, packing, sources, transforms, workers
from emma_jax.data import tokenizer as tokens_lib

# Spelled twice: users of the pipeline find these here, too.
from emma_jax.data.accounts import Bad as Bad
from emma_jax.data.accounts import Fuse as Fuse
from emma_jax.data.accounts import Info as Info
from emma_jax.data.accounts import TooManyBadRecords as TooManyBadRecords
from emma_jax.structs import Batch

# Batches of the endless stream, for libraries that want a length.
_FOR_EVER = 2**40
# Records of a source tried at the start, to find a layout too small for it.
_PROBES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """All that decides the stream, and how it is read.

  Args:
    seed: of the epochs' orders and the condition dropout.
    sources: name -> spec, see sources.SourceSpec.
    phases: mixture.Phase in order; the last goes on for ever.
    samples_per_batch: samples drawn per step, over all hosts.
    layout: of the batch, over all hosts.
    parts: a batch is packed in so many stretches of rows, apart from each
      other; a host reads only those that its rows are of. 1 fills the rows
      best, and every host reads all.
    preprocess: to the layout's picture size.
    text_dropout, reference_dropout: share of generation samples without.
    max_turns: turns kept of a conversation; None keeps all.
    max_pixels: larger pictures are bad records.
    max_bad_share: of unusable samples, before the run stops.
    min_seen: samples before that share is looked at.
    workers: processes that read ahead; 0 reads in threads of this one.
    threads: per worker; 0 reads in the loop itself (only without workers).
    buffer: batches read ahead, per worker.
  """

  seed: int
  sources: Mapping[str, str]
  phases: Sequence[mixture.Phase]
  samples_per_batch: int
  layout: packing.Layout
  preprocess: images.Preprocess
  parts: int = 1
  text_dropout: float = 0.1
  reference_dropout: float = 0.1
  max_turns: int | None = None
  max_pixels: int = images.MAX_PIXELS
  max_bad_share: float = 0.01
  min_seen: int = 1000
  workers: int = 0
  threads: int = 2
  buffer: int = 4

  def __post_init__(self):
    if not 0 <= self.max_bad_share <= 1:
      raise ValueError(f"{self.max_bad_share=} is no share in [0, 1].")
    for name in ("seed", "min_seen", "workers", "threads", "buffer"):
      if getattr(self, name) < 0:
        raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
    if self.parts < 1:
      raise ValueError(f"{self.parts=} must be positive.")
    if self.samples_per_batch % self.parts or self.layout.rows % self.parts:
      raise ValueError(
          f"samples_per_batch={self.samples_per_batch} and rows="
          f"{self.layout.rows} must both be multiples of data.parts="
          f"{self.parts}."
      )
    fit = (self.preprocess.height, self.preprocess.width)
    room = (self.layout.height, self.layout.width)
    # Native pictures may have that size all the same; others are counted.
    if fit != room and not self.preprocess.native:
      raise ValueError(
          f"preprocess makes pictures of {fit} but layout holds {room}; set "
          "data.preprocess.height/width to data.layout.height/width."
      )


@struct.dataclass
class HostBatch:
  """This host's rows of a batch, and its account (a leaf that is no array)."""

  batch: Batch
  info: Any  # Info


class BatchSource:
  """Random access to host batches; `source[step]` depends on nothing else.

  The plan of the global batch is the same on every host. It is packed part by
  part; a host reads the parts that its rows are of, and keeps its rows. A part
  is counted by the host that holds its first row.
  """

  def __init__(
      self,
      config: DataConfig,
      tokenizer: tokens_lib.Tokenizer,
      opened: Mapping[str, sources.Source],
      shard_index: int = 0,
      shard_count: int = 1,
      counted: bool = True,
  ):
    """Of one host.

    Args:
      config: of all hosts.
      tokenizer: of all texts.
      opened: sources by name, those of `config.sources` or stand-ins.
      shard_index: which stretch of the rows this host keeps.
      shard_count: how many equal stretches there are.
      counted: False where another host keeps, and counts, the same rows.
    """
    if not 0 <= shard_index < shard_count:
      raise ValueError(f"{shard_index=} is outside of 0..{shard_count - 1}.")
    if config.layout.rows % shard_count:
      raise ValueError(
          f"layout.rows={config.layout.rows} do not split over {shard_count} "
          f"hosts; make data.layout.rows a multiple of {shard_count}."
      )
    self.config = config
    self.mixture = mixture.Mixture(
        phases=tuple(config.phases),
        lengths={name: len(source) for name, source in opened.items()},
        shuffled=frozenset(
            name
            for name, spec in config.sources.items()
            if sources.is_shuffled(spec)
        ),
        samples_per_batch=config.samples_per_batch,
        seed=config.seed,
    )
    self.to_sample = transforms.ToSample(
        tokenizer=tokenizer,
        preprocess=config.preprocess,
        text_dropout=config.text_dropout,
        reference_dropout=config.reference_dropout,
        max_turns=config.max_turns,
        max_pixels=config.max_pixels,
    )
    self._opened, self._counted = dict(opened), counted
    rows = config.layout.rows // shard_count
    self._rows = range(shard_index * rows, (shard_index + 1) * rows)

  def __len__(self) -> int:
    return _FOR_EVER

  def __getitem__(self, step: int) -> HostBatch:
    step, c = int(step), self.config
    plan = self.mixture.batch_plan(step)
    rows, drawn = c.layout.rows // c.parts, len(plan) // c.parts
    layout = dataclasses.replace(c.layout, rows=rows)
    first, last = self._rows[0] // rows, self._rows[-1] // rows
    batches, counted, bad = [], [], []
    for part in range(first, last + 1):
      start = part * drawn
      samples, broken = self._read(step, plan[start:start + drawn], start)
      batch, packed = packing.pack(samples, layout)
      batches.append(batch)
      if self._counted and part * rows in self._rows:
        counted.append(packed.shifted(start))
        bad += broken
    info = Info(
        step=step, drawn=drawn * len(counted), bad=tuple(bad),
        packed=packing.joined(counted, layout.slots),
        slots=rows * len(counted) * layout.slots,
    )  # fmt: skip
    start = self._rows[0] - first * rows
    mine = lambda *x: np.concatenate(x)[start:start + len(self._rows)]
    return HostBatch(jax.tree.map(mine, *batches), info)

  def _read(
      self, step: int, plan: Sequence[mixture.Draw], start: int
  ) -> tuple[list[transforms.Sample | None], list[Bad]]:
    """(samples, None where unusable; why) of draws from place `start` on."""
    samples, bad = [], []
    for position, draw in enumerate(plan, start):
      source = self._opened[draw.name]
      try:
        # Per sample, so that what is before it in the batch has no influence.
        rng = np.random.default_rng([self.config.seed, step, position])
        samples.append(self.to_sample(source[draw.index], rng))
      except images.BadRecord as e:
        bad.append(_bad(draw, source, e))
        samples.append(None)
    return samples, bad

  def names(self, step: int) -> list[str]:
    """Where the draws of a step come from, for people: "name: file:row"."""
    out = []
    for draw in self.mixture.batch_plan(step):
      source = self._opened[draw.name]
      where = f"[{draw.index}]"
      if hasattr(source, "where"):
        where = source.where(draw.index)
      out.append(f"{draw.name}: {where}")
    return out


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
) -> BatchSource:
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
        opened[name] = sources.open_source(config.sources[name])
      except (OSError, ValueError) as e:
        raise ValueError(f"The source {name!r} does not open: {e}") from e
  out = BatchSource(
      config, tokenizer, opened, shard_index, shard_count, counted)
  for name, source in opened.items():
    _probe(name, source, out)
  return out


def _probe(name: str, source: sources.Source, batches: BatchSource) -> None:
  """Raises ValueError if the layout holds none of the first good records."""
  reason = ""
  for index in range(min(len(source), _PROBES)):
    try:
      sample = batches.to_sample(source[index])
    except images.BadRecord:
      continue
    reason = batches.config.layout.misfit(sample)
    if not reason:
      return
  if reason:
    raise ValueError(f"A sample of the source {name!r} {reason} (in data).")


class Stream:
  """An iterator over host batches from a step on; its state is `step`.

  Close it (or use it in `with`): reading ahead runs in threads or processes.
  """

  def __init__(
      self,
      source: BatchSource,
      start_step: int,
      num_workers: int,
      threads: int,
      buffer: int,
  ):
    self.step = start_step  # of the batch that comes next
    if num_workers and not flags.FLAGS.is_parsed():
      # Grain reads absl flags in its workers' parent (google/grain#1355).
      flags.FLAGS.mark_as_parsed()
    threads = max(threads, 1) if num_workers else threads
    dataset = grain.MapDataset.source(_From(source, start_step))
    read = grain.ReadOptions(
        num_threads=threads,
        prefetch_buffer_size=max(buffer, threads) if threads else 0,
    )
    dataset = dataset.to_iter_dataset(read)
    if num_workers:
      workers.share()
      options = grain.MultiprocessingOptions(
          num_workers=num_workers, per_worker_buffer_size=max(buffer, 1)
      )
      dataset = dataset.mp_prefetch(options, worker_init_fn=_deaf)
    self._batches = iter(dataset)

  def __iter__(self) -> "Stream":
    return self

  def __next__(self) -> HostBatch:
    try:
      batch = next(self._batches)
    except RuntimeError as error:
      raise workers.explained(error, self.step) from error
    if batch.info.step != self.step:
      # A worker that died takes its share of the steps with it.
      raise RuntimeError(
          f"The stream skipped from batch {self.step} to {batch.info.step}; "
          "a data worker died. Restart from the last checkpoint."
      )
    self.step += 1
    return batch

  def close(self) -> None:
    self._batches.close()

  def __enter__(self) -> "Stream":
    return self

  def __exit__(self, *unused) -> None:
    self.close()


def stream(
    source: BatchSource,
    start_step: int = 0,
    *,
    num_workers: int | None = None,
    threads: int | None = None,
    buffer: int | None = None,
) -> Stream:
  """Batches from `start_step` on; how they are read changes none of them.

  What is None is taken from the source's config.
  """
  c = source.config
  return Stream(
      source,
      start_step,
      c.workers if num_workers is None else num_workers,
      c.threads if threads is None else threads,
      c.buffer if buffer is None else buffer,
  )


@dataclasses.dataclass(frozen=True)
class _From:
  """A source that starts at a step: exact with any number of workers."""

  source: BatchSource
  start: int

  def __len__(self) -> int:
    return len(self.source) - self.start

  def __getitem__(self, index: int) -> HostBatch:
    return self.source[self.start + int(index)]


def _deaf(worker: int, count: int) -> None:
  """Workers outlive Ctrl-C and a group's SIGTERM: the loop saves, then ends.

  But not its death, whoever started it.
  """
  del worker, count
  workers.begin()
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
