"""Records that no stage trains on, as batches whose loss is comparable.

Every target brings its own noise and time along: numbers of the sample, not of
its place. So a validation is the same on every mesh and in every layout, and
from one to the next nothing changes but the weights.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import math
import zlib

from flax import struct
import jax
import numpy as np

from emma_jax.data.batching import packing
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.loading.held_out import LeftOut, of_each
from emma_jax.data.loading.sources import WORLD_LENGTH, Source
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.transforms import Picture, Sample, ToSample
from emma_jax.structs import Array, Batch

# Multiples of it, modulo 1, fill [0, 1) evenly however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2


@struct.dataclass
class HeldOutBatch:
  """A batch, and of each target (B, M): what its noise and time are made of."""

  batch: Batch
  stream_BM: Array  # uint32, of the noise
  quantile_BM: Array  # float32 in (0, 1), of the distribution of times


@dataclasses.dataclass(frozen=True)
class _Numbered:
  sample: Sample
  stream: int
  quantile: float


@dataclasses.dataclass(kw_only=True)
class HeldOutBatches:
  """Held-out records of a stage's mixture.

  Args:
    sources: by name; as many records are taken of each, evenly spread; of
      the world the first ones.
    samples: records in all, at most.
    to_sample: as in training, but nothing is dropped.
    layout: of a batch, over all hosts.
    rows: of the batch, that this host keeps.
  """

  sources: Mapping[str, Source]
  samples: int
  to_sample: ToSample
  layout: Layout
  rows: range
  left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
  _made: list[HeldOutBatch] | None = None

  def batches(self) -> list[HeldOutBatch]:
    """This host's rows of each batch, in host memory from the first call on.

    Every host reads all: they are few.
    """
    if self._made is None:
      self._made = list(self._batches())
    return self._made

  def _batches(self) -> Iterator[HeldOutBatch]:
    waiting = list(self._samples())
    while waiting:
      samples = [numbered.sample for numbered in waiting]
      batch, info = packing.pack(samples, self.layout)
      yield self._numbered(batch, waiting, info.placed)
      waiting = [waiting[d.index] for d in info.dropped]

  def _numbered(
    self,
    batch: Batch,
    samples: list[_Numbered],
    placed: tuple[tuple[int, ...], ...],
  ) -> HeldOutBatch:
    """The batch's own rows, with the numbers of their targets."""
    shape = batch.gen_task_BM.shape
    stream_BM = np.zeros(shape, np.uint32)
    quantile_BM = np.full(shape, 0.5, np.float32)
    for r, row in enumerate(placed):
      slot = 0  # a row's targets stand in the order of its samples
      for numbered in (samples[i] for i in row):
        for part in numbered.sample.parts:
          if isinstance(part, Picture) and part.role == "target":
            stream_BM[r, slot] = numbered.stream
            quantile_BM[r, slot] = numbered.quantile
            slot += 1
    made = HeldOutBatch(batch, stream_BM, quantile_BM)
    mine = slice(self.rows.start, self.rows.stop)
    return jax.tree.map(lambda x: x[mine], made)

  def _samples(self) -> Iterator[_Numbered]:
    """In turn of every source; what no row could hold is counted."""
    counts = of_each(self.samples, self.sources)
    seen: dict[str, int] = {}  # by task: its times fill the bins alike
    for i in range(max(counts.values(), default=0)):
      for name, source in self.sources.items():
        if i >= counts[name]:
          continue
        index = i * len(source) // counts[name]
        if len(source) >= WORLD_LENGTH:
          index = i  # its kinds go round with the index
        try:
          sample = self.to_sample(source[index])
        except BadRecord:
          self.left_out.broken += 1
          continue
        if self.layout.too_large_reason(sample):
          self.left_out.oversized += 1
          continue
        number = seen.get(sample.task, 0)
        seen[sample.task] = number + 1
        yield _Numbered(
          sample,
          stream=zlib.crc32(f"{name}/{index}".encode()),
          quantile=(0.5 + number * _GOLDEN) % 1.0,
        )
