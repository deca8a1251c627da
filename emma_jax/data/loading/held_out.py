"""Labelled pictures that no stage trains on, in batches of static shape."""

from collections.abc import Iterator, Mapping
import dataclasses

import jax

from emma_jax.data.batching import packing
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.loading.sources import Source
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.transforms import Picture, Sample, ToSample
from emma_jax.structs import STEM_UNKNOWN, Batch, Understanding


@dataclasses.dataclass
class LeftOut:
  """Held-out records that are not in any batch, by the reason."""

  unlabelled: int = 0
  broken: int = 0
  oversized: int = 0


def of_each(samples: int, sources: Mapping[str, Source]) -> dict[str, int]:
  """How many records are taken of each source; as many, as far as it has."""
  share = max(1, samples // max(len(sources), 1))
  return {name: min(share, len(source)) for name, source in sources.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutPictures:
  """Pictures of questions, without their text.

  Args:
    sources: by spec; as many records are taken of each, evenly spread.
    samples: records in all, at most.
    to_sample: as in training.
    layout: of a batch, over all hosts.
    rows: of the batch, that this host keeps.
  """

  sources: Mapping[str, Source]
  samples: int
  to_sample: ToSample
  layout: Layout
  rows: range

  def batches(self, left_out: LeftOut) -> Iterator[Batch]:
    """This host's rows of each batch; counts what is left out.

    Every host reads all: they are few.
    """
    waiting: list[Sample] = []
    room = self.layout.rows * self.layout.und_pictures
    for sample in self._samples(left_out):
      waiting.append(sample)
      if len(waiting) == room:
        batch, waiting = self._pack(waiting)
        yield batch
    while waiting:
      batch, waiting = self._pack(waiting)
      yield batch

  def _pack(self, samples: list[Sample]) -> tuple[Batch, list[Sample]]:
    """(a batch, those it has no room for)."""
    batch, info = packing.pack(samples, self.layout)
    mine = slice(self.rows.start, self.rows.stop)
    rest = [samples[d.index] for d in info.dropped]
    return jax.tree.map(lambda x: x[mine], batch), rest

  def _samples(self, left_out: LeftOut) -> Iterator[Sample]:
    for name, count in of_each(self.samples, self.sources).items():
      source = self.sources[name]
      for i in range(count):
        try:
          record = source[i * len(source) // count]
          if not isinstance(record, Understanding) or not record.pictures:
            left_out.unlabelled += 1
            continue
          sample = self.to_sample(record)
        except BadRecord:
          left_out.broken += 1
          continue
        if record.stem == STEM_UNKNOWN:
          left_out.unlabelled += 1
          continue
        seen = tuple(p for p in sample.parts if isinstance(p, Picture))
        sample = dataclasses.replace(sample, parts=seen)
        if self.layout.too_large_reason(sample):
          left_out.oversized += 1
        else:
          yield sample
