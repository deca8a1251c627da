"""What a data set is made of: counts and distributions, one pass.

Of a folder of records the side files are enough; other sources are read, their
pictures' headers only.
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.loading import sources
from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.data.records.lengths import Length, Lengths, Measure
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import Tokenizer

_STEM = {-1: "unknown", 0: "general", 1: "science"}
# Upper ends of the bins, and what they are called.
_TOKENS = [2**i for i in range(3, 15)]
_SIDES = [64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 4096]
_ASPECTS = [1 / 8, 1 / 4, 1 / 2, 2 / 3, 4 / 5, 1.25, 1.5, 2, 4, 8]
_ASPECT_NAMES = [
  "under 1:8",
  "1:8",
  "1:4",
  "1:2",
  "2:3",
  "square",
  "5:4",
  "3:2",
  "2:1",
  "4:1",
  "8:1 and over",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
  """Counts by name, in the order in which they are to be shown."""

  records: int
  bad: int
  shown: int  # per epoch, after weights
  tasks: dict[str, int]
  stem: dict[str, int]  # of understanding records
  text_tokens: dict[str, int]  # records by number of text tokens
  total_text_tokens: int
  turns: dict[str, int]  # understanding and text records by turns
  pictures: dict[str, int]  # records by number of pictures
  resolutions: dict[str, int]  # pictures by root of their area
  aspects: dict[str, int]  # pictures by width : height
  picture_tokens: dict[str, int]  # pictures by tokens at their own size

  def as_json(self) -> dict[str, Any]:
    """Name -> count, or name -> its counts."""
    return dataclasses.asdict(self)


def collect(spec: str, tokenizer: Tokenizer) -> Statistics:
  """Raises OSError or ValueError where the source does not open."""
  source = sources.open_whole(spec)
  if isinstance(source, RecordsSource):
    return of(source.lengths, bad=0, shown=len(source))
  measure, rows, bad = Measure.of(tokenizer), [], 0
  for index in range(len(source)):
    try:
      rows.append(_length(source[index], measure))
    except BadRecord:
      bad += 1
  lengths = Lengths.of(rows, tokenizer.fingerprint())
  return of(lengths, bad=bad, shown=len(rows))


def _length(record: Any, measure: Measure) -> Length:
  sizes = []
  for picture in schema.pictures_of(record):
    if isinstance(picture, np.ndarray):
      sizes.append(picture.shape[:2])
    else:
      sizes.append(images.measure_picture(picture, record.id))
  return measure(schema.Stored(record=record), sizes)


def of(lengths: Lengths, bad: int, shown: int) -> Statistics:
  """The statistics of lengths."""
  asked = lengths.task <= schema.TASKS.index("text")
  tokens = lengths.text_tokens()
  y, x = lengths.sizes.T.astype(np.float64)
  grid = np.ceil(lengths.sizes / images.GRID).prod(axis=1)
  count = lambda values: dict(sorted(Counter(values.tolist()).items()))
  text = lambda found: {str(k): n for k, n in found.items()}
  aspects = np.bincount(
    np.digitize(x / np.maximum(y, 1), _ASPECTS), minlength=len(_ASPECT_NAMES)
  )
  return Statistics(
    records=len(lengths),
    bad=bad,
    shown=shown,
    tasks={schema.TASKS[t]: n for t, n in count(lengths.task).items()},
    stem={
      _STEM[s]: n for s, n in count(lengths.stem[lengths.task == 0]).items()
    },
    text_tokens=binned(tokens, _TOKENS),
    total_text_tokens=int(tokens.sum()),
    turns=text(count(lengths.turns[asked])),
    pictures=text(count(lengths.pictures)),
    resolutions=binned(np.sqrt(y * x), _SIDES),
    aspects=_trimmed(dict(zip(_ASPECT_NAMES, aspects.tolist()))),
    picture_tokens=binned(grid, [1, *(4**i for i in range(1, 8))]),
  )


def binned(values: np.ndarray, ends: Sequence[int]) -> dict[str, int]:
  """How many values are up to each end, and above the end before it.

  >>> binned(np.array([1, 3, 4, 9]), [2, 4, 8])
  {'0-2': 1, '3-4': 2, '5-8': 0, 'over 8': 1}
  """
  counts = np.bincount(
    np.searchsorted(ends, values, side="left"), minlength=len(ends) + 1
  )
  starts = [0, *(end + 1 for end in ends)]
  names = [f"{a}-{b}" if a < b else f"{b}" for a, b in zip(starts, ends)]
  names.append(f"over {ends[-1]}")
  return _trimmed(dict(zip(names, counts.tolist())))


def _trimmed(counts: dict[str, int]) -> dict[str, int]:
  """Without the empty bins at both ends."""
  names = [name for name, n in counts.items() if n]
  if not names:
    return {}
  keys = list(counts)
  inside = keys[keys.index(names[0]) : keys.index(names[-1]) + 1]
  return {key: counts[key] for key in inside}
