"""The side file of a shard: how long its records are, without reading them.

`part-00003.npz` beside `part-00003.array_record` holds, for n records with k
turns and m pictures in all:

  task        (n,)   uint8   index into schema.TASKS
  stem        (n,)   int8    -1 unknown, 0 general, 1 science
  weight      (n,)   float32
  turns       (n,)   int32   of a record; 1 for drawing and editing
  pictures    (n,)   int32   of a record
  turn_tokens (k, 2) int32   text tokens before the answer, and of the answer
                             (0 for drawing and editing)
  sizes       (m, 2) int32   y, x of a picture, upright
  tokenizer   ()     str     fingerprint of the tokenizer that counted

Text tokens are those of the layout in `text.chat`, marks included; pictures'
tokens depend on a run's preprocessing and follow from `sizes`.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import functools
import os

import numpy as np

from emma_jax import files
from emma_jax.data.pictures import images
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.records import schema
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.data.transforms import Picture, Sample, Text, ToSample
from emma_jax.structs import STEM_UNKNOWN, Editing, Record, Understanding

_BLANK = np.zeros((images.GRID, images.GRID, 3), np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Length:
  """Of one record."""

  task: str
  stem: int
  weight: float
  turn_tokens: tuple[tuple[int, int], ...]
  sizes: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
  """Of many records; the arrays are described above."""

  task: np.ndarray
  stem: np.ndarray
  weight: np.ndarray
  turns: np.ndarray
  pictures: np.ndarray
  turn_tokens: np.ndarray
  sizes: np.ndarray
  tokenizer: str

  def __len__(self) -> int:
    return self.task.size

  def __getitem__(self, row: int) -> Length:
    turn, picture = self._first["turns"][row], self._first["pictures"][row]
    turns = self.turn_tokens[turn : turn + self.turns[row]]
    sizes = self.sizes[picture : picture + self.pictures[row]]
    return Length(
      task=schema.TASKS[self.task[row]],
      stem=int(self.stem[row]),
      weight=float(self.weight[row]),
      turn_tokens=tuple(map(tuple, turns.tolist())),
      sizes=tuple(map(tuple, sizes.tolist())),
    )

  @functools.cached_property
  def _first(self) -> dict[str, np.ndarray]:
    """Where a record's turns and pictures begin."""
    return {
      name: np.cumsum(getattr(self, name), dtype=np.int64) - getattr(self, name)
      for name in ("turns", "pictures")
    }

  def text_tokens(self, max_turns: int | None = None) -> np.ndarray:
    """(n,) int64: text tokens of the first `max_turns` turns of each record."""
    total = self.turn_tokens.sum(axis=1, dtype=np.int64)
    last = np.cumsum(self.turns)
    first = last - self.turns
    if max_turns is not None:
      last = np.minimum(last, first + max_turns)
    running = np.concatenate([[0], np.cumsum(total)])
    return running[last] - running[first]

  @classmethod
  def of(cls, rows: Sequence[Length], tokenizer: str) -> "Lengths":
    """From single records."""
    flat = lambda name, width: np.array(
      [x for row in rows for x in getattr(row, name)], np.int32
    ).reshape(-1, width)
    column = lambda values, kind: np.array(list(values), kind)
    return cls(
      task=column((schema.TASKS.index(r.task) for r in rows), np.uint8),
      stem=column((r.stem for r in rows), np.int8),
      weight=column((r.weight for r in rows), np.float32),
      turns=column((len(r.turn_tokens) for r in rows), np.int32),
      pictures=column((len(r.sizes) for r in rows), np.int32),
      turn_tokens=flat("turn_tokens", 2),
      sizes=flat("sizes", 2),
      tokenizer=tokenizer,
    )

  @classmethod
  def joined(cls, parts: Iterable["Lengths"]) -> "Lengths":
    """One after the other; ValueError where tokenizers differ."""
    parts = list(parts)
    tokenizers = {part.tokenizer for part in parts}
    if len(tokenizers) != 1:
      raise ValueError(
        f"{len(tokenizers)} tokenizers counted the text tokens; count again "
        "with `emma-data lengths`."
      )
    names = [f.name for f in dataclasses.fields(cls) if f.name != "tokenizer"]
    return cls(
      tokenizer=tokenizers.pop(),
      **{n: np.concatenate([getattr(p, n) for p in parts]) for n in names},
    )

  def save(self, path: str | os.PathLike) -> None:
    """Whole or not at all; the data are on the disk when it returns."""
    with files.atomic_write(path) as file:
      np.savez(file, **dataclasses.asdict(self))

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Lengths":
    """Raises OSError or ValueError for a file that is not one."""
    try:
      with np.load(path, allow_pickle=False) as file:
        arrays = {f.name: file[f.name] for f in dataclasses.fields(cls)}
    except (KeyError, EOFError) as error:
      raise ValueError(f"{path} is no side file of lengths: {error}") from error
    tokenizer = str(arrays.pop("tokenizer"))
    return cls(tokenizer=tokenizer, **arrays)


@dataclasses.dataclass(frozen=True)
class Measure:
  """Lengths of records, by the very code that makes samples of them."""

  to_sample: ToSample

  @classmethod
  def of(cls, tokenizer: Tokenizer) -> "Measure":
    """With blank pictures of one cell, whose size counts for nothing."""
    blank = Preprocess(
      height=images.GRID,
      width=images.GRID,
      native=False,
      min_tokens=1,
      max_tokens=1,
      codec="pillow",
      fit="pad",
      max_crop=0.0,
    )
    to_sample = ToSample(
      tokenizer=tokenizer,
      framing=Framing(understanding=blank, generation=blank, buckets=()),
      text_dropout=0.0,
      reference_dropout=0.0,
      max_turns=None,
      max_pixels=images.MAX_PIXELS,
    )
    return cls(to_sample)

  def __call__(
    self, stored: schema.Stored, sizes: Sequence[tuple[int, int]]
  ) -> Length:
    """`sizes`: y, x of the record's pictures."""
    sample = self.to_sample(_blanked(stored.record))
    return Length(
      task=stored.task,
      stem=getattr(stored.record, "stem", STEM_UNKNOWN),
      weight=stored.weight,
      turn_tokens=_turn_tokens(sample),
      sizes=tuple(sizes),
    )


def _blanked(record: Record) -> Record:
  """The same record with pictures that cost nothing."""
  if isinstance(record, Understanding):
    blanks = (_BLANK,) * len(record.pictures)
    return dataclasses.replace(record, pictures=blanks)
  if isinstance(record, Editing):
    blanks = (_BLANK,) * len(record.sources)
    return dataclasses.replace(record, sources=blanks, target=_BLANK)
  return dataclasses.replace(record, picture=_BLANK)


def _turn_tokens(sample: Sample) -> tuple[tuple[int, int], ...]:
  out, before = [], 0
  for part in sample.parts:
    if isinstance(part, Text) and part.loss:
      out.append((before, len(part.tokens)))
      before = 0
    elif isinstance(part, Text):
      before += len(part.tokens)
    elif isinstance(part, Picture) and part.role == "target":
      out.append((before, 0))
      before = 0
  return tuple(out)
