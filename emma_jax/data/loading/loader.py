"""Host batches one after the other, read ahead by threads or processes."""

from collections.abc import Sequence
import dataclasses
import signal
from typing import Any

from absl import flags
import grain

from emma_jax import processes


class DataLoader:
  """An iterator over host batches from a step on; its state is `step`.

  Close it (or use it in `with`): reading ahead runs in threads or processes.
  """

  def __init__(
    self,
    source: Sequence[Any],
    start_step: int,
    num_workers: int,
    threads: int,
    buffer: int,
  ):
    self.step = start_step  # of the batch that comes next
    # What all workers need is made here, once.
    self._look_ahead = getattr(source, "look_ahead", lambda step: None)
    self._look_ahead(start_step)
    if num_workers and not flags.FLAGS.is_parsed():
      # Grain reads absl flags in its workers' parent (google/grain#1355).
      flags.FLAGS.mark_as_parsed()
    threads = max(threads, 1) if num_workers else threads
    dataset = grain.MapDataset.source(_OffsetDataset(source, start_step))
    read = grain.ReadOptions(
      num_threads=threads,
      prefetch_buffer_size=max(buffer, threads) if threads else 0,
    )
    dataset = dataset.to_iter_dataset(read)
    if num_workers:
      processes.share()
      options = grain.MultiprocessingOptions(
        num_workers=num_workers, per_worker_buffer_size=max(buffer, 1)
      )
      dataset = dataset.mp_prefetch(
        options, worker_init_fn=_ignore_stop_signals
      )
    self._batches = iter(dataset)

  def __iter__(self) -> "DataLoader":
    return self

  def __next__(self) -> Any:
    """The next pipeline.HostBatch."""
    try:
      batch = next(self._batches)
    except RuntimeError as error:
      raise processes.explained(error, self.step) from error
    if batch.info.step != self.step:
      # A worker that died takes its share of the steps with it.
      raise RuntimeError(
        f"The stream skipped from batch {self.step} to {batch.info.step}; "
        "a data worker died. Restart from the last checkpoint."
      )
    self.step += 1
    self._look_ahead(self.step)
    return batch

  def close(self) -> None:
    """Ends the reading, and the processes that read ahead."""
    self._batches.close()

  def __enter__(self) -> "DataLoader":
    return self

  def __exit__(self, *unused) -> None:
    self.close()


def stream(
  source: Any,
  start_step: int = 0,
  *,
  num_workers: int | None = None,
  threads: int | None = None,
  buffer: int | None = None,
) -> DataLoader:
  """Batches from `start_step` on; how they are read changes none of them.

  `source` is a pipeline.BatchDataset. What is None is taken from its config.
  """
  c = source.config
  return DataLoader(
    source,
    start_step,
    c.workers if num_workers is None else num_workers,
    c.threads if threads is None else threads,
    c.prefetch_batches if buffer is None else buffer,
  )


@dataclasses.dataclass(frozen=True)
class _OffsetDataset:
  """A source that starts at a step: exact with any number of workers."""

  source: Sequence[Any]
  start: int

  def __len__(self) -> int:
    return len(self.source) - self.start

  def __getitem__(self, index: int) -> Any:
    return self.source[self.start + int(index)]


def _ignore_stop_signals(worker: int, count: int) -> None:
  """Workers outlive what stops a group: the loop saves, then ends.

  But not its death, whoever started it.
  """
  del worker, count
  processes.begin()
  for number in processes.stop_signals():
    signal.signal(number, signal.SIG_IGN)
