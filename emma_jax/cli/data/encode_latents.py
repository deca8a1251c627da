"""emma-data encode-latents: pictures through the frozen autoencoder, once.

Latents of every picture of folders of records, in the sizes that the config
gives them: training with --config.data.latents=stored then runs no encoder.
They lie beside the records, in latents-*; the same command again goes on after
an interruption. Several processes share the work by shards: --shard 2/8.
"""

import argparse
from collections.abc import Iterator, Sequence
import concurrent.futures
import dataclasses
import fcntl
import json
import os
import sys
import time
from typing import Any

from emma_jax import files
from emma_jax.cli import common

# Seconds between two lines of progress.
_QUIET = 10.0


def add(commands: Any) -> None:
  """Adds the parser of `emma-data encode-latents`."""
  parser = commands.add_parser(
    "encode-latents",
    help="the frozen autoencoder's latents, once",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "data", nargs="+", metavar="DIR", help="folders of records"
  )
  common.add_config_arguments(parser)
  parser.add_argument(
    "--weights",
    required=True,
    metavar="NAME",
    help="of the autoencoder: a weight file, a training's "
    "folder, world_autoencoder or reference",
  )
  parser.add_argument(
    "--dtype",
    default="bfloat16",
    choices=("bfloat16", "float16", "float32"),
    help="of the stored values (default: %(default)s)",
  )
  parser.add_argument(
    "--shard",
    default="0/1",
    metavar="I/N",
    help="every Nth shard, from the Ith of 0..N-1 on",
  )
  parser.add_argument(
    "--pixels",
    type=int,
    default=2**22,
    help="encoded at once (default: %(default)s)",
  )
  parser.add_argument(
    "--threads",
    type=int,
    default=4,
    help="that decode pictures (default: %(default)s)",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the missing latents beside the records; 0, or UserError."""
  from emma_jax.build import sections
  from emma_jax.checkpoints import integrity, locate
  from emma_jax.data.records.source import RecordsSource

  index, count = _shard(args.shard)
  if args.pixels < 1 or args.threads < 1:
    raise common.UserError("--pixels and --threads must be positive.")
  config = sections.plain(common.load_config(args.config, overrides))
  if config["model"]["kind"] != "emma":
    raise common.UserError(f"{args.config} is no EMMA; latents are for one.")
  common.use_compilation_cache()
  try:
    weights = locate.read(args.weights).params
    if "autoencoder" not in weights:
      raise common.UserError(f"{args.weights} has no autoencoder.")
    work = Work(config, weights["autoencoder"], args)
    for name in args.data:
      source = RecordsSource(name.removeprefix("records:"))
      work.encode(source, range(index, len(source.card.shards), count))
  except (OSError, ValueError, integrity.CheckpointError) as error:
    raise common.UserError(str(error)) from error
  return 0


def _shard(text: str) -> tuple[int, int]:
  index, _, count = text.partition("/")
  if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
    raise common.UserError(f"--shard {text}: give I/N, 0 <= I < N.")
  return int(index), int(count)


class Work:
  """An autoencoder, and what a config does to pictures before it."""

  def __init__(self, config: dict, autoencoder: dict, args: Any):
    import jax

    from emma_jax.build import data as build_data
    from emma_jax.build import model as build_model
    from emma_jax.models.emma import Emma
    from emma_jax.training.latents import fingerprint

    self.args = args
    self.emma = Emma(build_model.emma_config(config["model"]))
    self.autoencoder = jax.tree.map(jax.numpy.asarray, autoencoder)
    self.weights = fingerprint(autoencoder)
    self.settings = build_data.latent_settings(config)
    whole = dataclasses.replace(
      build_data.to_sample(config["data"], training=False),
      generation_preprocess=self.settings.generation,
    )
    # One for each size of drawn pictures.
    self.to_sample = [whole.sized(y, x) for y, x in self.settings.sizes]
    self.channels = config["model"]["autoencoder"]["latent_channels"]

  def encode(self, source: Any, shards: Sequence[int]) -> None:
    """Writes what is missing of some shards' latents."""
    from emma_jax.data.records import latents

    wanted = self.settings.of(source.card)
    folder = latents.folder_of(source.folder, wanted)
    os.makedirs(folder, exist_ok=True)
    files.write_text(os.path.join(folder, "settings.json"), json.dumps(wanted))
    done = 0
    for number in shards:
      shard = source.card.shards[number]
      part = latents.Part.load(latents.marker(folder, shard))
      if part is None:
        part = _Shard(self, source, number, folder).write()
        done += 1
      elif (part.records_sha256, part.weights, part.dtype) != (
        shard.sha256,
        self.weights,
        self.args.dtype,
      ):
        raise common.UserError(
          f"{folder} holds latents of other records, of another autoencoder "
          "or in another dtype; remove it to make them again."
        )
      if part.missing:
        print(
          f"{shard.file}: {part.missing} of {part.pictures} pictures have "
          "no latents; their records will be holes.",
          file=sys.stderr,
        )
    print(f"{folder}: {done} shards encoded, {len(shards) - done} were there.")


class _Shard:
  """One shard: pictures by size, latents back in the order of the records."""

  def __init__(self, work: Work, source: Any, number: int, folder: str):
    import numpy as np

    from emma_jax.data.batching import row_cost
    from emma_jax.data.pictures.images import GRID
    from emma_jax.data.records.lengths import Lengths

    self.work, self.source, self.folder = work, source, folder
    self.shard = source.card.shards[number]
    self.first = sum(s.records for s in source.card.shards[:number])
    rows = range(self.first, self.first + self.shard.records)
    lengths = [source.lengths[row] for row in rows]
    bucket = row_cost.bucket_of(
      Lengths.of(lengths, ""),
      work.settings.sizes,
      work.settings.understanding.native,
    )
    # Those of no bucket have no picture that depends on it.
    fits = [work.to_sample[max(b, 0)] for b in bucket.tolist()]
    # Of every picture of the shard: record, place in it, role, what fits it,
    # its size then.
    self.pictures = [
      (row, place, role, fit, fit.of(role).size(*size)[1])
      for row, fit, length in zip(rows, fits, lengths)
      for place, (role, size) in enumerate(
        zip(_roles(length.task, len(length.sizes)), length.sizes)
      )
    ]
    self.counts = [len(length.sizes) for length in lengths]
    pixels = np.array([y * x for *_, (y, x) in self.pictures], np.int64)
    self.start = np.concatenate([[0], np.cumsum(pixels // GRID**2)])
    self.missing: set[int] = set()

  def write(self) -> Any:
    """Encodes all and writes the part; a spool on disk holds the latents."""
    import jax
    import numpy as np

    from emma_jax.data.records import latents

    path = os.path.join(
      self.folder, os.path.splitext(self.shard.file)[0] + ".spool"
    )
    with open(path, "ab") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError as error:
        raise common.UserError(
          f"Another process encodes {self.shard.file}; give each its own "
          "--shard I/N."
        ) from error
      kind = jax.numpy.dtype(self.work.args.dtype)
      # At least one: an empty file cannot be mapped.
      spool = np.memmap(
        path,
        kind,
        "w+",
        shape=(max(1, int(self.start[-1])), self.work.channels),
      )
      self._fill(spool)
      part = latents.write_part(
        self.folder,
        self.shard,
        self._elements(spool),
        pictures=len(self.pictures),
        missing=len(self.missing),
        weights=self.work.weights,
        dtype=self.work.args.dtype,
      )
      del spool
      os.remove(path)
    return part

  def _fill(self, spool: Any) -> None:
    """Latents of all pictures, in the order in which sizes come up."""
    import numpy as np

    from emma_jax.sampling import latents

    chunks = latents.chunks(
      [size for *_, size in self.pictures], self.work.args.pixels
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
        print(
          f"{self.shard.file}: {done}/{len(self.pictures)} pictures, "
          f"{len(self.missing)} missing, {done / (now - begun):.1f} a "
          "second",
          file=sys.stderr,
        )

  def _decoded(self, chunks: Sequence[list[int]]) -> Iterator[tuple]:
    """(members, pixels (P, Y, X, 3)) of each chunk, the next one ahead."""
    import numpy as np

    with concurrent.futures.ThreadPoolExecutor(self.work.args.threads) as pool:
      waiting = [
        (c, [pool.submit(self._pixels, i) for i in c]) for c in chunks[:1]
      ]
      for n in range(len(chunks)):
        members, futures = waiting.pop()
        if n + 1 < len(chunks):
          ahead = chunks[n + 1]
          waiting = [(ahead, [pool.submit(self._pixels, i) for i in ahead])]
        yield members, np.stack([f.result() for f in futures])

  def _pixels(self, i: int) -> Any:
    """A picture in its size; black where it cannot be had."""
    import numpy as np

    from emma_jax.data.pictures.images import BadRecord

    row, place, role, fit, size = self.pictures[i]
    try:
      where = self.source.where_row(row)
      raw = self.source.stored_row(row).pictures[place]
      pixels = fit.fit(raw, role, where)
      if pixels.shape[:2] == size:
        return pixels
    except BadRecord:
      pass  # training names it again, with the reason
    self.missing.add(i)
    return np.zeros((*size, 3), np.uint8)

  def _elements(self, spool: Any) -> Iterator[bytes]:
    from emma_jax.data.pictures.images import GRID
    from emma_jax.data.records import latents

    i = 0
    for count in self.counts:
      of_record = []
      for _ in range(count):
        y, x = (n // GRID for n in self.pictures[i][-1])
        latent = spool[self.start[i] : self.start[i + 1]].reshape(y, x, -1)
        of_record.append(None if i in self.missing else latent)
        i += 1
      yield latents.encode(of_record, self.work.args.dtype)


def _roles(task: str, pictures: int) -> tuple[str, ...]:
  """What the pictures of a record are to the model."""
  if task in ("drawing", "editing"):
    return (*("ref",) * (pictures - 1), "target")
  return ("und",) * pictures
