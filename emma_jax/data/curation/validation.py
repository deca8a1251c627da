"""Every record of a source read, decoded and laid out, as training would."""

from collections import Counter
from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
import re

from emma_jax.data.curation import base
from emma_jax.data.ingest import pool
from emma_jax.data.loading import sources
from emma_jax.data.loading.batch_stats import Bad
from emma_jax.data.pictures import images
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.records import card as card_lib
from emma_jax.data.records import latents, schema
from emma_jax.data.records.lengths import Lengths, Measure
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.data.transforms import ToSample
from emma_jax.structs import Record
from emma_jax.world.language import is_chinese

# Elements that a process looks at in one go, and errors it brings back of them.
_STRETCH, _MOST = 1000, 1000
# Pictures keep their size here.
_NATIVE = Preprocess(
  height=images.GRID,
  width=images.GRID,
  native=True,
  min_tokens=1,
  max_tokens=images.MAX_PIXELS,
  codec="pillow",
  fit="pad",
  max_crop=0.0,
)
_FRAMING = Framing(understanding=_NATIVE, generation=_NATIVE, buckets=())


@dataclasses.dataclass(frozen=True)
class Findings:
  """What `validate` saw; `bad` holds the first errors, `kinds` counts all.

  `chinese` counts, by task, sound drawings and edits whose text holds Chinese
  characters: the paper's are English, so that pictures from Chinese prompts
  were never trained.
  """

  records: int
  bad: tuple[Bad, ...]
  kinds: Counter[str]
  chinese: Counter[str]

  @property
  def errors(self) -> int:
    """How many there are, those not in `bad` included."""
    return self.kinds.total()


def kind(reason: str) -> str:
  """A reason without what differs from record to record.

  >>> kind("cannot read the picture (12 bytes): OSError: truncated (7 left)")
  'cannot read the picture (N bytes): OSError: truncated (N left)'
  >>> kind("image: no such picture 'a.png'")
  'image: no such picture ...'
  >>> kind("a.txt is not UTF-8 (3 of 4)")
  'a.txt is not UTF-8 (N of N)'
  """
  text = re.sub(r"'[^']*'|\"[^\"]*\"", "...", reason)
  return re.sub(r"(?<![\w-])-?\d[\d.]*", "N", text)[:120]


def validate(
  spec: str,
  tokenizer: Tokenizer,
  workers: int = 0,
  on_progress: Callable[[pool.Counts], None] = lambda _: None,
  max_pixels: int = images.MAX_PIXELS,
) -> Findings:
  """Findings of a source's spec; of a folder of records also about its files.

  Raises OSError or ValueError where the source does not open.
  """
  source = sources.open_whole(spec)
  count = _length(source)
  bad = list(_files(source)) if isinstance(source, RecordsSource) else []
  known = isinstance(source, RecordsSource) and not bad
  name = os.urandom(8).hex()
  calls = [
    (
      _stretch,
      (
        name,
        spec,
        tokenizer,
        start,
        min(start + _STRETCH, count),
        max_pixels,
        known,
      ),
    )
    for start in range(0, count, _STRETCH)
  ]
  kinds = Counter(kind(b.reason) for b in bad)
  chinese = Counter[str]()
  for found in pool.run(calls, workers, on_progress):
    bad += found.bad
    kinds += found.kinds
    chinese += found.chinese
  return Findings(count, tuple(bad), kinds, chinese)


def _length(source: sources.Source) -> int:
  """All records, those of weight 0 too, where they are on disk."""
  if isinstance(source, RecordsSource):
    return source.card.records
  return len(source)


def _files(source: RecordsSource) -> Sequence[Bad]:
  """Shards and side files whose checksum is not the card's."""
  bad = []
  for shard in source.card.shards:
    for name, wanted in (
      (shard.file, shard.sha256),
      (shard.lengths, shard.lengths_sha256),
    ):
      path = f"{source.folder}/{name}"
      try:
        if card_lib.sha256(path) != wanted:
          bad.append(Bad(path, "the checksum is not that of dataset.json"))
      except OSError as error:
        bad.append(Bad(path, f"cannot be read: {error.strerror}"))
  return bad + [Bad(*found) for found in latents.damaged(source.folder)]


@functools.lru_cache(maxsize=1)
def _opened(name: str, spec: str) -> sources.Source:
  """Once per process and validation, not once per stretch."""
  del name
  return sources.open_source(spec)


def _stretch(
  name: str,
  spec: str,
  tokenizer: Tokenizer,
  start: int,
  stop: int,
  max_pixels: int,
  known: bool,
  tick: Callable[[bool, int], None],
) -> Findings:
  """Elements start..stop; `known`: the side files are sound."""
  source = _opened(name, spec)
  to_sample = ToSample(
    tokenizer=tokenizer,
    framing=_FRAMING,
    text_dropout=0.0,
    reference_dropout=0.0,
    max_turns=None,
    max_pixels=max_pixels,
  )
  lengths = None
  if known and isinstance(source, RecordsSource):
    lengths = source.lengths
  if lengths and lengths.tokenizer != tokenizer.fingerprint():
    lengths = None  # counted by another one; nothing to compare with
  measure = Measure.of(tokenizer)
  bad: list[Bad] = []
  kinds, chinese = Counter[str](), Counter[str]()
  for index in range(start, stop):
    where = _where(source, index)
    try:
      record = _look(source, index, where, to_sample, lengths, measure)
      chinese.update(_chinese(record))
      tick(False, 0)
    except BadRecord as error:
      kinds[kind(error.reason)] += 1
      if len(bad) < _MOST:
        bad.append(Bad(where, error.reason))
      tick(True, 0)
  return Findings(stop - start, tuple(bad), kinds, chinese)


def _where(source: sources.Source, index: int) -> str:
  if isinstance(source, RecordsSource):
    return source.where_row(index)
  return source.where(index) if hasattr(source, "where") else f"[{index}]"


def _look(
  source: sources.Source,
  index: int,
  where: str,
  to_sample: ToSample,
  lengths: Lengths | None,
  measure: Measure,
) -> Record:
  """The record; BadRecord where training could not use it."""
  if not isinstance(source, RecordsSource):
    record = source[index]
    to_sample(record)
    return record
  stored = source.stored_row(index)
  to_sample(stored.record)
  if lengths is None:
    return stored.record
  sizes = [images.measure_picture(p, where) for p in stored.pictures]
  if measure(stored, sizes) != lengths[index]:
    raise BadRecord(where, "the side file has other lengths")
  return stored.record


def _chinese(record: Record) -> list[str]:
  """[its task] of a drawing or edit whose text is Chinese, wholly or not."""
  task = schema.task_of(record)
  if task not in ("drawing", "editing"):
    return []
  return [task] * any(map(is_chinese, base.texts_of(record)))
