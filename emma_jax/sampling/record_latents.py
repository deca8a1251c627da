"""Latents of all pictures of folders of records, written beside them once.

A shard at a time, in the sizes that a config gives its pictures; what was
written already stays. Several processes may share a folder by shards.
"""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
import dataclasses
import fcntl
import json
import os
import time

import jax.numpy as jnp
import numpy as np

from emma_jax import files
from emma_jax.data.batching import row_cost
from emma_jax.data.pictures.images import GRID, BadRecord
from emma_jax.data.records import latents as stored
from emma_jax.data.records.lengths import Lengths
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.transforms import ToSample
from emma_jax.exits import Exit
from emma_jax.models.emma import Emma
from emma_jax.sampling import latents

# Seconds between two lines of progress.
_QUIET = 10.0


class EncodeError(ValueError):
  """Latents that are another's, or that another process is making."""


class EncodedElsewhere(EncodeError):
  """Another process is making them."""

  exit_code = Exit.IN_USE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
  """An autoencoder, and what a config does to pictures before it.

  Args:
    emma, autoencoder: the model, and weights of its autoencoder.
    weights: fingerprint of these.
    settings: what latents depend on besides.
    to_sample: one for each size of drawn pictures.
    dtype: of the stored values.
    pixels: encoded at once.
    threads: that decode pictures.
  """

  emma: Emma
  autoencoder: dict
  weights: str
  settings: stored.Settings
  to_sample: Sequence[ToSample]
  dtype: str
  pixels: int
  threads: int

  @property
  def channels(self) -> int:
    """Numbers of a token's latents."""
    return self.emma.config.autoencoder.latent_channels

  def encode(
    self,
    source: RecordsSource,
    shards: Sequence[int],
    on_progress: Callable[[str], None],
  ) -> tuple[str, int]:
    """Writes what is missing of some shards' latents.

    Args:
      source: the records.
      shards: numbers of them.
      on_progress: gets a line now and then, and one of what has no latents.

    Returns:
      (the folder of latents, how many shards were missing).

    Raises:
      EncodeError: latents of something else are there, or being made.
    """
    wanted = self.settings.of(source.card)
    folder = stored.folder_of(source.folder, wanted)
    os.makedirs(folder, exist_ok=True)
    files.write_text(os.path.join(folder, "settings.json"), json.dumps(wanted))
    done = 0
    for number in shards:
      shard = source.card.shards[number]
      part = stored.Part.load(stored.marker(folder, shard))
      if part is None:
        part = _Shard(self, source, number, folder, on_progress).write()
        done += 1
      elif (part.records_sha256, part.weights, part.dtype) != (
        shard.sha256,
        self.weights,
        self.dtype,
      ):
        raise EncodeError(
          f"{folder} holds latents of other records, of another autoencoder "
          "or in another dtype; remove it to make them again."
        )
      if part.missing:
        on_progress(
          f"{shard.file}: {part.missing} of {part.pictures} pictures have "
          "no latents; their records will be holes."
        )
    return folder, done


class _Shard:
  """One shard: pictures by size, latents back in the order of the records."""

  def __init__(
    self,
    work: Encoder,
    source: RecordsSource,
    number: int,
    folder: str,
    on_progress: Callable[[str], None],
  ):
    self.work, self.source, self.folder = work, source, folder
    self.on_progress = on_progress
    self.shard = source.card.shards[number]
    self.first = sum(s.records for s in source.card.shards[:number])
    rows = range(self.first, self.first + self.shard.records)
    lengths = [source.lengths[row] for row in rows]
    bucket = row_cost.bucket_of(
      Lengths.of(lengths, ""),
      work.settings.framing.sizes,
      work.settings.framing.understanding.native,
    )
    # Those of no bucket have no picture that depends on it.
    fits = [work.to_sample[max(b, 0)] for b in bucket.tolist()]
    # Of every picture of the shard: record, place in it, role, what fits it,
    # its size then.
    self.pictures = [
      (row, place, role, fit, fit.framing.of(role).place(*size).full)
      for row, fit, length in zip(rows, fits, lengths)
      for place, (role, size) in enumerate(
        zip(_roles(length.task, len(length.sizes)), length.sizes)
      )
    ]
    self.counts = [len(length.sizes) for length in lengths]
    pixels = np.array([y * x for *_, (y, x) in self.pictures], np.int64)
    self.start = np.concatenate([[0], np.cumsum(pixels // GRID**2)])
    self.missing: set[int] = set()

  def write(self) -> stored.Part:
    """Encodes all and writes the part; a spool on disk holds the latents."""
    path = os.path.join(
      self.folder, os.path.splitext(self.shard.file)[0] + ".spool"
    )
    with open(path, "ab") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError as error:
        raise EncodedElsewhere(
          f"Another process encodes {self.shard.file}; give each its own "
          "--shard I/N."
        ) from error
      kind = jnp.dtype(self.work.dtype)
      # At least one: an empty file cannot be mapped.
      spool = np.memmap(
        path,
        kind,
        "w+",
        shape=(max(1, int(self.start[-1])), self.work.channels),
      )
      self._fill(spool)
      part = stored.write_part(
        self.folder,
        self.shard,
        self._elements(spool),
        pictures=len(self.pictures),
        missing=len(self.missing),
        weights=self.work.weights,
        dtype=self.work.dtype,
      )
      del spool
      os.remove(path)
    return part

  def _fill(self, spool: np.ndarray) -> None:
    """Latents of all pictures, in the order in which sizes come up."""
    chunks = latents.chunks(
      [size for *_, size in self.pictures], self.work.pixels
    )
    begun = told = time.monotonic()
    done = 0
    for members, pixels in self._decoded(chunks):
      made = latents.encode(self.work.emma, self.work.autoencoder, pixels)
      for i, latent in zip(members, np.asarray(made)):
        spool[self.start[i] : self.start[i + 1]] = latent.reshape(
          -1, self.work.channels
        )
      done += len(members)
      now = time.monotonic()
      if now - told >= _QUIET:
        told = now
        self.on_progress(
          f"{self.shard.file}: {done}/{len(self.pictures)} pictures, "
          f"{len(self.missing)} missing, {done / (now - begun):.1f} a "
          "second"
        )

  def _decoded(self, chunks: Sequence[list[int]]) -> Iterator[tuple]:
    """(members, pixels (P, Y, X, 3)) of each chunk, the next one ahead."""
    with concurrent.futures.ThreadPoolExecutor(self.work.threads) as pool:
      waiting = [
        (c, [pool.submit(self._pixels, i) for i in c]) for c in chunks[:1]
      ]
      for n in range(len(chunks)):
        members, futures = waiting.pop()
        if n + 1 < len(chunks):
          ahead = chunks[n + 1]
          waiting = [(ahead, [pool.submit(self._pixels, i) for i in ahead])]
        yield members, np.stack([f.result() for f in futures])

  def _pixels(self, i: int) -> np.ndarray:
    """A picture in its size; black where it cannot be had."""
    row, place, role, fit, size = self.pictures[i]
    try:
      where = self.source.where_row(row)
      raw = self.source.stored_row(row).pictures[place]
      fitted = fit.framing.of(role).read(raw, where, fit.max_pixels)
      pixels = fitted.pixels_YXC
      if pixels.shape[:2] == size:
        return pixels
    except BadRecord:
      pass  # training names it again, with the reason
    self.missing.add(i)
    return np.zeros((*size, 3), np.uint8)

  def _elements(self, spool: np.ndarray) -> Iterator[bytes]:
    i = 0
    for count in self.counts:
      of_record = []
      for _ in range(count):
        y, x = (n // GRID for n in self.pictures[i][-1])
        latent = spool[self.start[i] : self.start[i + 1]].reshape(y, x, -1)
        of_record.append(None if i in self.missing else latent)
        i += 1
      yield stored.encode(of_record, self.work.dtype)


def _roles(task: str, pictures: int) -> tuple[str, ...]:
  """What the pictures of a record are to the model."""
  if task == "drawing":
    return ("target",)
  if task == "editing":
    return (*("ref",) * (pictures - 1), "target")
  return ("und",) * pictures
