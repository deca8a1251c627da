"""What each record takes of a row, from lengths alone.

The rule for what is too long for any row: of a conversation the leading turns
that fit are kept; where not even the first one fits, or the record has too many
pictures, and for everything else, the record is left out. Side files do not say
in which turn a picture stands, so a cut conversation is counted with all of
its pictures.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from emma_jax.data.batching.row_layout import (
  CAPACITIES,
  PATCHES_PER_CELL,
  Layout,
)
from emma_jax.data.pictures import aspect_buckets as buckets_lib
from emma_jax.data.pictures import preprocess as fit_lib
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.images import GRID
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.records import schema
from emma_jax.data.records.lengths import Lengths
from emma_jax.structs import GEN_TASKS, RECORDS, Editing

# Of a record without a picture that has to be of a certain size.
ANY_BUCKET = -1
_DRAWN = [schema.TASKS.index(task) for task in GEN_TASKS]
_EDITED = [
  schema.TASKS.index(task)
  for task, record in RECORDS.items()
  if issubclass(record, Editing)
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowLimits:
  """All that decides what a record takes.

  Args:
    layouts: one per bucket, which differ in their pictures' size only.
    framing: its rules for native sizes, where the layouts have und_patches,
      and for what is cropped and padded of a picture to draw.
    max_turns: turns kept of a conversation; None keeps all.
  """

  layouts: tuple[Layout, ...]
  framing: Framing
  max_turns: int | None

  def __post_init__(self):
    same = {
      dataclasses.replace(x, height=GRID, width=GRID) for x in self.layouts
    }
    if len(same) != 1:
      raise ValueError(f"Buckets need layouts of one kind, not {self.layouts}.")
    buckets_lib.check(self.buckets)

  def with_row(self, row: Mapping[str, int]) -> "RowLimits":
    """With other capacities, by name.

    Raises:
      ValueError: one that is unknown, or native sizes where there were none.
    """
    unknown = sorted(set(row) - set(CAPACITIES))
    if unknown:
      raise ValueError(
        f"A phase's row names {unknown}; a row has {list(CAPACITIES)}."
      )
    if bool(row.get("und_patches", self.native)) != self.native:
      raise ValueError(
        f"A phase's row has und_patches={row['und_patches']}, the stage has "
        f"{self.layouts[0].und_patches}: all phases of a stage show pictures "
        "at their own sizes, or none does."
      )
    layouts = tuple(x.with_row(row) for x in self.layouts)
    return dataclasses.replace(self, layouts=layouts)

  def least(self, rows: Sequence[Mapping[str, int]]) -> "RowLimits":
    """With what rows of all these shapes have."""
    every = [self.with_row(row).capacities for row in rows]
    return self.with_row(dict(zip(CAPACITIES, map(min, zip(*every)))))

  @property
  def buckets(self) -> tuple[tuple[int, int], ...]:
    """(height, width) in pixels of the pictures of each layout."""
    return tuple((x.height, x.width) for x in self.layouts)

  @property
  def capacities(self) -> tuple[int, ...]:
    """What a row has of each of CAPACITIES; equal in all buckets."""
    return tuple(getattr(self.layouts[0], name) for name in CAPACITIES)

  @property
  def native(self) -> bool:
    """Pictures to understand keep their own sizes."""
    return self.layouts[0].und_patches > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowCost:
  """Of n records, in their order."""

  need: np.ndarray  # (n, len(CAPACITIES)) int32
  tokens: np.ndarray  # (n,) int32, in both buffers
  bucket: np.ndarray  # (n,) int8, of RowLimits.layouts, or ANY_BUCKET
  turns: np.ndarray  # (n,) int32: kept of a conversation that is cut, 0: whole
  limited: np.ndarray  # (n,) bool: has more turns than are kept of any
  cropped: np.ndarray  # (n,) float32: share of its target that framing loses
  too_cropped: np.ndarray  # (n,) bool: a picture would lose over max_crop
  fits: np.ndarray  # (n,) bool: some row could hold it, and nothing too cropped

  def __len__(self) -> int:
    return self.tokens.size

  def take(self, rows: np.ndarray | None) -> "RowCost":
    """Those of some records, as often as they are named; None: all."""
    if rows is None:
      return self
    fields = [f.name for f in dataclasses.fields(self)]
    return RowCost(**{name: getattr(self, name)[rows] for name in fields})

  @property
  def truncated(self) -> int:
    """Conversations that lose turns: for max_turns, or so that they fit."""
    return int(np.count_nonzero(self.loses_turns[self.fits]))

  @property
  def loses_turns(self) -> np.ndarray:
    """(n,) bool: not all turns of the conversation are kept."""
    return self.limited | (self.turns > 0)

  @property
  def dropped(self) -> int:
    """Records that no row could hold."""
    return int(np.count_nonzero(~self.fits))

  @property
  def draws(self) -> np.ndarray:
    """(n,) bool: there is a picture to draw."""
    return self.need[:, CAPACITIES.index("targets")] > 0

  @property
  def mean_cropped(self) -> float:
    """Over the targets used: the share of their area that framing loses."""
    used = self.fits & self.draws
    return float(self.cropped[used].mean(dtype=float)) if used.any() else 0.0

  def reasons(self, rules: RowLimits) -> dict[str, int]:
    """Why records are left out -> how many.

    By the capacity of which they need more than a row has, or max_crop.
    """
    large = self.need[~self.fits] > np.array(rules.capacities)
    counts = collections.Counter(
      dict(zip(CAPACITIES, large.sum(axis=0).tolist()))
    )
    counts["max_crop"] = int(np.count_nonzero(self.too_cropped))
    return {name: n for name, n in counts.most_common() if n}


def count(lengths: Lengths, rules: RowLimits) -> RowCost:
  """RowCost of all records of a side file, vectorised."""
  drawn = np.isin(lengths.task, _DRAWN)
  editing, asked = np.isin(lengths.task, _EDITED), ~drawn
  bucket = bucket_of(lengths, rules.buckets, rules.native)
  clean = np.array([x.clean_cost for x in rules.layouts])[bucket]
  patches = np.zeros(len(lengths), np.int64)
  pictures = np.where(asked, lengths.pictures, 0).astype(np.int64)
  if rules.native:
    tokens = _sums(_native_tokens(lengths, rules), lengths.pictures)
    patches = np.where(asked, PATCHES_PER_CELL * tokens, 0)
    shown = tokens * rules.layouts[0].per_cell
  else:
    shown = lengths.pictures * clean
  shown = np.where(asked, shown, 0)
  in_gen = rules.layouts[0].reference_branch == "gen"
  # All but the last of an edit's pictures.
  references = np.where(editing, lengths.pictures - 1, 0).astype(np.int64)
  reference = references * clean
  besides = shown if in_gen else shown + reference
  text, turns = _cut(lengths, rules, besides, asked)
  need = np.stack(
    [text + besides, pictures, references, drawn, patches], axis=1
  )
  T, cropped, too_cropped = _framed(lengths, rules, bucket)
  gen = np.where(asked, 0, T) + (reference if in_gen else 0)
  return RowCost(
    need=need.astype(np.int32),
    tokens=(need[:, 0] + gen).astype(np.int32),
    bucket=bucket,
    turns=turns,
    limited=asked & (lengths.turns > (rules.max_turns or np.inf)),
    cropped=cropped,
    too_cropped=too_cropped,
    fits=np.all(need <= np.array(rules.capacities), axis=1) & ~too_cropped,
  )


def _framed(
  lengths: Lengths, rules: RowLimits, bucket: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of each record's target: (tokens, share cropped), and whether any of its
  pictures to draw or to edit would lose too much. 0 and False for questions.

  The rule of `Preprocess.place` for all pictures at once.
  """
  fit = rules.framing.generation
  drawn = np.isin(lengths.task, _DRAWN)
  record = np.repeat(np.arange(len(lengths)), lengths.pictures)
  seen = drawn[record]
  record = record[seen]
  y, x = lengths.sizes[seen].T.astype(np.float64)
  height, width = np.array(rules.buckets, np.float64)[bucket[record]].T
  if fit.fit == "pad_cells":
    cells = fit_lib.whole_cells(y, x, height, width)
    height, width = cells[0] * GRID, cells[1] * GRID
  lost = np.zeros(record.size)
  if fit.fit != "pad":
    lost = fit_lib.share_outside(fit_lib.centre(y, x, height, width), y, x)
  # The last picture of a record is its target.
  target = (np.cumsum(lengths.pictures) - 1)[drawn]
  target = (np.cumsum(seen) - 1)[target]
  tokens = np.zeros(len(lengths), np.int64)
  tokens[drawn] = (height * width)[target] // GRID**2
  cropped = np.zeros(len(lengths), np.float32)
  cropped[drawn] = lost[target]
  too_cropped = np.zeros(len(lengths), bool)
  too_cropped[record[lost > fit.max_crop]] = True
  return tokens, cropped, too_cropped


def _cut(
  lengths: Lengths, rules: RowLimits, besides: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(text tokens of the turns kept, turns kept or 0 where all are)."""
  text = lengths.text_tokens(rules.max_turns)
  kept = np.zeros(len(lengths), np.int32)
  room = rules.layouts[0].und_tokens - besides
  long = np.flatnonzero(asked & (text > room))
  # Turns of all records in one row: where the running sum leaves the room.
  running = np.concatenate(
    [[0], np.cumsum(lengths.turn_tokens.sum(axis=1, dtype=np.int64))]
  )
  first = (np.cumsum(lengths.turns, dtype=np.int64) - lengths.turns)[long]
  last = np.searchsorted(running, running[first] + room[long], "right") - 1
  turns = last - first
  some = turns >= 1
  kept[long[some]] = turns[some]
  text[long[some]] = (running[last] - running[first])[some]
  return text, kept


def bucket_of(
  lengths: Lengths, buckets: Sequence[tuple[int, int]], native: bool
) -> np.ndarray:
  """(n,) int8: that of the picture to draw; of questions that of the first.

  In an edit it is the result's, to whose size the references are fitted.
  `native` questions, and those without a picture, are of none: ANY_BUCKET.
  """
  out = np.full(len(lengths), ANY_BUCKET, np.int8)
  asked = ~np.isin(lengths.task, _DRAWN)
  last = np.cumsum(lengths.pictures, dtype=np.int64)
  drawn = np.flatnonzero(~asked)
  out[drawn] = buckets_lib.nearest(lengths.sizes[last[drawn] - 1], buckets)
  if not native:
    seen = np.flatnonzero(asked & (lengths.pictures > 0))
    first = (last - lengths.pictures)[seen]
    out[seen] = buckets_lib.nearest(lengths.sizes[first], buckets)
  return out


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Sums of consecutive stretches, `counts` long each."""
  running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
  last = np.cumsum(counts, dtype=np.int64)
  return running[last] - running[last - counts]


def _native_tokens(lengths: Lengths, rules: RowLimits) -> np.ndarray:
  grids_P2 = native_grids(lengths.sizes, rules.framing.understanding)
  return grids_P2[:, 0] * grids_P2[:, 1]


def native_grids(sizes_P2: np.ndarray, preprocess: Preprocess) -> np.ndarray:
  """(P, 2) int64: rows and columns of tokens, as `preprocess` will make them.

  The rule of Preprocess for one picture, for all of them at once.
  """
  low, high = preprocess.min_tokens, preprocess.max_tokens
  grids = lambda sizes: -(-sizes // GRID)
  out = grids(sizes_P2.astype(np.int64))
  tokens = out.prod(axis=1)
  left = np.flatnonzero((tokens < low) | (tokens > high))
  own = sizes_P2[left].astype(np.float64)
  limit = np.where(tokens[left] > high, high, low)
  scale = np.sqrt(limit * GRID * GRID / own.prod(axis=1))
  for _ in range(10_000):
    if not left.size:
      return out
    sizes = np.maximum(1, np.rint(own * scale[:, None])).astype(np.int64)
    tokens = grids(sizes).prod(axis=1)
    done = (tokens >= low) & (tokens <= high)
    out[left[done]] = grids(sizes[done])
    scale *= np.where(tokens > high, 0.995, 1.003)
    left, own, scale = left[~done], own[~done], scale[~done]
  y, x = sizes_P2[left[0]]
  raise ValueError(
    f"No size of a {y}x{x} picture has {low} to {high} tokens; widen "
    "min_tokens..max_tokens."
  )
