"""One part of an input to one shard, in a process of its own or not."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import dataclasses
import json
import math
import os
from typing import Any, Literal, NamedTuple, Protocol

from emma_jax import files
from emma_jax.data.ingest import containers, limits, rows, sequences, trees
from emma_jax.data.ingest import files as files_lib
from emma_jax.data.pictures import budget, images
from emma_jax.data.pictures.encoded import Outside, encoded
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import card, schema, shard
from emma_jax.data.records.lengths import Measure
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.structs import STEM_UNKNOWN, Understanding

# Columns of the public formats that tell where a row comes from or what it is.
_ORIGIN = ("data_source", "task", "task_type", "edit_type")
_MAX_NOTE = 300  # characters of a provenance value
# Of an edit that `emma-data convert` keeps. Each is a group of tokens as large
# as the result: eight of 1K take the 8,192 tokens that the longest rows of the
# full-size configs have for text. What a stage's rows hold is its `references`.
MAX_SOURCES = 8


# Told after every row: (rejected?, bytes written). May raise, to stop.
Tick = Callable[[bool, int], None]


class Converted(NamedTuple):
  """A record to be written, and (y, x) of its pictures."""

  stored: schema.Stored
  sizes: Sequence[tuple[int, int]]


class Skipped(NamedTuple):
  """What is sound, but not wanted; `kind` is what it is counted as."""

  kind: str
  reason: str


class FirstPass(Protocol):
  """Looks at all rows before any is made: see job.run."""

  @property
  def folder(self) -> str:
    """Of the new data set; for reports."""
    ...

  @property
  def work(self) -> str:
    """Folder for what later runs of an interrupted job need."""
    ...

  def collect(
    self, name: str, function: Callable[..., Any], *arguments: Any
  ) -> list[str]:
    """Runs function(part, path, *arguments, tick) of every part, in processes.

    It writes `path`, whole or not at all; paths that are there already, from
    an earlier run, are not made again. Returns them in the parts' order.
    """
    ...


class Converter(Protocol):
  """What becomes of a row: none, one or more records. It must pickle."""

  @property
  def base(self) -> "Recipe":
    """How a row of the input becomes a record in the first place."""
    ...

  def with_source(self, base: "Recipe") -> "Converter":
    """The same on another base."""
    ...

  def identity(self) -> Any:
    """JSON of all that decides the result."""
    ...

  def describe(self) -> dict[str, Any]:
    """What the card tells."""
    ...

  def ready(self, first: FirstPass) -> "Converter":
    """Called once per run, before `make`."""
    ...

  def make(
    self, row: Mapping[str, Any], where: str, path: str
  ) -> Iterator[Converted | Skipped]:
    """Of a row of the input `path`; BadRecord where it cannot be used."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """A row becomes the record that it describes.

  Args:
    form: a name of rows.FORMATS.
    tokenizer: counts the text tokens of the side file.
    columns: our key -> the input's, for rows with other names.
    images_dir: relative paths of pictures begin here, in a folder or a zip;
      None: beside the file.
    dataset: name that every record carries as its origin.
    stem: label of understanding records that have none of their own.
    weight: of records that have none of their own.
    keep: further columns to keep in the provenance.
    check: "decode" reads every picture whole, "header" its size only.
    max_pixels: larger pictures are rejected.
    max_sources: edits with more sources are left out, and counted; None: no
      limit.
    allow_outside: pictures may lie outside of the set's folder.
    mixed: rows of other formats than `form`, which was found out, are read as
      what they are.
    options: of the containers.
  """

  form: str
  tokenizer: Tokenizer
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
  images_dir: str | None = None
  dataset: str = ""
  stem: int = STEM_UNKNOWN
  weight: float = 1.0
  keep: tuple[str, ...] = ()
  check: Literal["decode", "header"] = "decode"
  max_pixels: int = images.MAX_PIXELS
  max_sources: int | None = None
  allow_outside: bool = False
  mixed: bool = False
  options: sequences.Options = dataclasses.field(
    default_factory=sequences.Options
  )

  @property
  def base(self) -> "Recipe":
    """Itself: it makes records of rows."""
    return self

  def found(self, form: str) -> "Recipe":
    """With the form that most rows have, unless one was given."""
    return dataclasses.replace(self, form=form, mixed=not self.form)

  def with_source(self, base: "Recipe") -> "Recipe":
    """The other base, in place of this one."""
    return base

  def identity(self) -> Any:
    """Every field as text; of the tokenizer its fingerprint."""
    out = {
      f.name: repr(getattr(self, f.name)) for f in dataclasses.fields(self)
    }
    for field in ("allow_outside", "mixed"):  # as it was before there were any
      if not getattr(self, field):
        del out[field]
    return out | {"tokenizer": self.tokenizer.fingerprint()}

  def describe(self) -> dict[str, Any]:
    """For the card: format, names of columns, check."""
    return {
      "format": self.form,
      "columns": dict(self.columns),
      "check": self.check,
    }

  def ready(self, first: FirstPass) -> "Recipe":
    """Itself: it needs no first pass."""
    return self

  def make(
    self, row: Mapping[str, Any], where: str, path: str
  ) -> Iterator[Converted | Skipped]:
    """The one record of the row; BadRecord where it cannot be used."""
    if self.form == "records":
      made = Converted(_restore(row["stored"], self), row["sizes"])
    else:
      made = Converted(*stored_of(row, self, where, path))
    count = len(getattr(made.stored.record, "sources", ()))
    if self.max_sources is not None and count > self.max_sources:
      yield Skipped(
        "sources",
        f"{count} sources of an edit, {self.max_sources} are the most; raise "
        "--max-sources",
      )
    else:
      yield made


@dataclasses.dataclass(frozen=True)
class Done:
  """What became of a part."""

  shard: card.Shard | None
  rows: int
  rejected: int  # rows that gave no record because they are broken
  left_out: Mapping[str, int]  # by kind
  outside: int = 0  # of the rejected: a picture is outside of the folder


def convert(
  part: containers.Part,
  maker: Converter,
  folder: str,
  stem: str,
  rejected_path: str,
  tick: Tick,
  threads: int = 1,
) -> Done:
  """Writes `folder`/`stem`.array_record and its side file, and the rejects.

  `threads`: rows that are made at a time, for makers that wait for servers; the
  result is the same.
  """
  count = rejected = outside = 0
  left_out: Counter[str] = Counter()
  writer = shard.ShardWriter(folder, stem, Measure.of(maker.base.tokenizer))
  try:
    with contextlib.ExitStack() as stack:
      rejects = stack.enter_context(files.atomic_write(rejected_path, "w"))
      note = lambda **words: rejects.write(json.dumps(words) + "\n")
      outcomes = stack.enter_context(
        contextlib.closing(_made(part, maker, threads))
      )
      for where, made, error in outcomes:
        count += 1
        size, bad = 0, False
        try:
          for one in made:
            if isinstance(one, Skipped):
              left_out[one.kind] += 1
              note(where=where, reason=one.reason, left_out=one.kind)
            else:
              size += writer.add(*one, where)
          if error is not None:
            raise error
        except BadRecord as lost:
          bad = True
          rejected += 1
          outside += isinstance(lost, Outside)
          note(where=where, reason=lost.reason)
        tick(bad, size)
  except BaseException:
    with contextlib.suppress(OSError):
      writer.abandon()
    raise
  return Done(writer.finish(), count, rejected, dict(left_out), outside)


# Of a row: where it is, what was made, and why no more of it can be.
_Outcome = tuple[str, list[Converted | Skipped], BadRecord | None]


def _made(
  part: containers.Part, maker: Converter, threads: int
) -> Generator[_Outcome, None, None]:
  """What becomes of the part's rows, in order."""
  rows = containers.read(part, maker.base.options)
  of = lambda where, row: _outcome(maker, where, row, part.path)
  if threads == 1:
    yield from (of(*item) for item in rows)
    return
  waiting: deque[futures.Future[_Outcome]] = deque()
  held: deque[int] = deque()  # bytes of each
  with futures.ThreadPoolExecutor(threads) as pool:
    try:
      for item in rows:
        waiting.append(pool.submit(of, *item))
        held.append(limits.row_bytes(item[1]))
        # One is ready while the others work; large ones are not heaped up.
        while len(waiting) > threads or (waiting and sum(held) > budget.HEAVY):
          held.popleft()
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()


def _outcome(maker: Converter, where: str, row: Any, path: str) -> _Outcome:
  made: list[Converted | Skipped] = []
  try:
    if isinstance(row, BadRecord):
      raise row
    for one in maker.make(row, where, path):
      made.append(one)
  except BadRecord as error:
    return where, made, error
  return where, made, None


def stored_of(
  row: Mapping[str, Any], recipe: Recipe, where: str, path: str
) -> tuple[schema.Stored, list[tuple[int, int]]]:
  """A row as a record with bytes, and its pictures' sizes; or BadRecord."""
  named, form = renamed(row, recipe.columns), recipe.form
  if recipe.mixed:
    named, form = rows.form_of(named, form)
  else:
    named = rows.as_given(named, form)
  place = recipe.images_dir or path
  folder, zipped = folder_of(place), files_lib.kind_of(place) == "zip"
  inside = "" if recipe.images_dir else str(named.get(containers.FOLDER, ""))
  left = limits.ROW

  def resolve(value: Any, key: str, where: str) -> bytes:
    nonlocal left
    if zipped:
      value = trees.picture(place, inside, value, key, where)
    data = encoded(value, key, where, folder, recipe.allow_outside, left)
    left -= len(data)
    return data

  record = rows.read(named, form, where, resolve)
  if isinstance(record, Understanding) and record.stem == STEM_UNKNOWN:
    record = dataclasses.replace(record, stem=recipe.stem)
  weight = named.get("weight")
  stored = schema.Stored(
    record=record,
    weight=recipe.weight if weight is None else weight,
    provenance=_provenance(named, recipe, where),
  )
  if not isinstance(stored.weight, (int, float)):
    raise BadRecord(where, f"weight is {weight!r}, not a number")
  schema.check(stored, where)
  return stored, [size_of(p, recipe, where) for p in stored.pictures]


def folder_of(path: str) -> str:
  """Where the relative paths of an input's pictures begin: a folder itself, or
  that of a file."""
  path = os.path.abspath(path)
  return path if os.path.isdir(path) else os.path.dirname(path)


def _restore(stored: schema.Stored, recipe: Recipe) -> schema.Stored:
  """A record as it was, with the recipe's words for what it does not say."""
  record = stored.record
  if isinstance(record, Understanding) and record.stem == STEM_UNKNOWN:
    record = dataclasses.replace(record, stem=recipe.stem)
  weight = recipe.weight if stored.weight == 1.0 else stored.weight
  origin = {"dataset": recipe.dataset} if recipe.dataset else {}
  kept = {
    k: v
    for k, v in stored.provenance.items()
    if not isinstance(v, float) or math.isfinite(v)
  }
  return schema.Stored(record=record, weight=weight, provenance=origin | kept)


def renamed(
  row: Mapping[str, Any], columns: Mapping[str, str]
) -> Mapping[str, Any]:
  """The row with our keys.

  >>> renamed({"blip": "a cat", "jpg": b""}, {"caption": "blip"})
  {'jpg': b'', 'caption': 'a cat'}
  """
  if not columns:
    return row
  out = {k: v for k, v in row.items() if k not in columns.values()}
  return out | {ours: row[k] for ours, k in columns.items() if k in row}


def size_of(data: bytes, recipe: Recipe, where: str) -> tuple[int, int]:
  """(y, x) of a sound picture; BadRecord of any other."""
  if recipe.check == "header":
    return images.measure_picture(data, where, recipe.max_pixels)
  image = images.load_image(data, where, recipe.max_pixels)
  return image.height, image.width


def _provenance(
  row: Mapping[str, Any], recipe: Recipe, where: str
) -> dict[str, Any]:
  out: dict[str, Any] = {"dataset": recipe.dataset} if recipe.dataset else {}
  out["row"] = where
  keys = [*_ORIGIN, *recipe.keep]
  if recipe.form == "finevision":
    keys.append("source")  # in other formats, the key of a picture
  for key in keys:
    value = row.get(key)
    if isinstance(value, (bool, int, float)):
      if math.isfinite(value):  # as None: a table's missing number
        out[key] = value
    elif isinstance(value, str):
      out[key] = value[:_MAX_NOTE]
  return out
