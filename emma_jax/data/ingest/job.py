"""A whole conversion: parallel, restartable after kill -9, atomic.

Everything happens in OUT.partial. A part's shard has a temporary name until it
is complete, and `.work/done-00003.json` says that part 3 needs no second look.
When all parts are done, dataset.json is written and OUT.partial becomes OUT.
The same command again after a crash goes on with the parts that are missing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import pickle
import shutil
from typing import Any, NamedTuple

from emma_jax import files, locks, ranges
from emma_jax.data.ingest import (
  containers,
  pool,
  rejected_rows,
  rows,
  suggested,
)
from emma_jax.data.ingest import part as part_lib
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import card as card_lib
from emma_jax.data.records.card import Card, Shard
from emma_jax.data.records.lengths import Lengths

# Rows seen before the share of rejected ones may end a conversion early.
_MIN_SEEN = 200


class ConversionError(ValueError):
  """A conversion that cannot go on; the message says what to do."""


class TooManyRejected(ConversionError):
  """Of the input too little can be used."""


# on_progress, as pool.run.
Execute = Callable[
  [Sequence[pool.Call], int, Callable[[pool.Counts], None]], Any
]


class State(NamedTuple):
  """How far a conversion is, over all its runs."""

  parts: int
  parts_done: int
  rows: int
  rejected: int
  bytes: int
  rows_known: int | None  # of the whole input, where that is known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What is to be converted, and how fast.

  Args:
    inputs: files, tfds:NAME:SPLIT, python:MODULE:FUNCTION, records:DIR.
    out: folder that must not exist.
    maker: what becomes of a row; the `form` of its base may be "" to find it
      out.
    rows_per_shard: about; a tar is one shard in any case.
    workers: processes; 0 works in this one.
    requests: rows that are made at a time by all of them together, for makers
      that wait for servers; no fewer than the processes.
    max_rejected: share of broken rows above which the conversion stops.
    provenance: for the card, such as {"licence": ...}.
    execute: runs the calls in place of pool.run; the result is the same.
  """

  inputs: Sequence[str]
  out: str
  maker: part_lib.Converter
  rows_per_shard: int = 4096
  workers: int = 1
  requests: int = 1
  max_rejected: float = 0.2
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  execute: Execute = pool.run

  def __post_init__(self):
    if not self.inputs:
      raise ConversionError("There is no input to convert.")
    if self.rows_per_shard < 1 or self.workers < 0:
      raise ConversionError(
        f"{self.rows_per_shard=} must be positive, {self.workers=} not "
        "negative."
      )
    if self.max_rejected not in ranges.SHARE:
      raise ConversionError(f"{self.max_rejected=} is no share from 0 to 1.")


def run(job: Job, progress: Callable[[State], None] = lambda _: None) -> Card:
  """Converts, or goes on with a conversion; returns the new data set's card.

  Raises:
    ConversionError: what the inputs or the folder are not fit for.
    TooManyRejected: the input is not what it should be.
    InUse: another process converts into the folder.
  """
  out = os.path.abspath(job.out)
  if os.path.exists(out):
    raise ConversionError(f"{job.out} exists; remove it or name a new folder.")
  folder = f"{out}.partial"
  work = os.path.join(folder, ".work")
  os.makedirs(work, exist_ok=True)
  with locks.hold(work, "emma-data"):
    form, parts = _plan(job, work)
    base = job.maker.base.found(form)
    maker = job.maker.with_source(base).ready(
      _FirstPass(job, parts, folder, work, progress)
    )
    _convert_parts(job, maker, parts, folder, work, progress)
    card = _finish(job, maker, len(parts), folder, work)
  os.rename(folder, out)
  shutil.rmtree(os.path.join(out, ".work"))
  return card


def _plan(job: Job, work: str) -> tuple[str, list[containers.Part]]:
  """The format and the parts; of an earlier run, if it was the same job."""
  identity = _identity(job)
  path = os.path.join(work, "plan.json")
  if os.path.exists(path):
    with open(path, encoding="utf-8") as file:
      plan = json.load(file)
    if plan["identity"] != identity:
      raise ConversionError(
        f"{os.path.dirname(work)} is left of a conversion with other inputs "
        "or options. Give its command again, or remove the folder."
      )
    return plan["form"], [containers.Part(**p) for p in plan["parts"]]
  try:
    parts = [
      p
      for name in job.inputs
      for p in containers.split(
        name, job.rows_per_shard, job.maker.base.options
      )
    ]
    if not parts:
      raise TooManyRejected(
        f"{', '.join(job.inputs)} has no rows: it is empty."
      )
    form = job.maker.base.form or _detect(parts, job.maker.base)
  except (OSError, ValueError, ImportError, AttributeError) as error:
    shutil.rmtree(os.path.dirname(work))  # nothing is in it yet
    if isinstance(error, ConversionError):
      raise
    raise ConversionError(str(error)) from error
  plan = {
    "identity": identity,
    "form": form,
    "parts": [dataclasses.asdict(p) for p in parts],
  }
  files.write_text(path, json.dumps(plan))
  return form, parts


def _identity(job: Job) -> str:
  """Changes with the inputs' content, as far as size and time tell, and with
  all that decides the result."""
  text = json.dumps(
    [
      [file_state(name) for name in job.inputs],
      job.maker.identity(),
      job.rows_per_shard,
      dict(job.provenance),
    ]
  )
  return hashlib.sha256(text.encode()).hexdigest()


def file_state(name: str) -> list[Any]:
  """Name, size and time of a file; of records:DIR, those of its card; of a
  folder, how many files it has, their sizes and the newest time."""
  kind, _, folder = name.partition(":")
  path = os.path.join(folder, card_lib.FILE) if kind == "records" else name
  if not os.path.exists(path):
    return [name]
  if os.path.isdir(path):
    return [name, *_folder_state(path)]
  status = os.stat(path)
  return [name, status.st_size, status.st_mtime_ns]


def _folder_state(path: str) -> tuple[int, int, int]:
  files_of = [
    os.path.join(folder, name)
    for folder, _, names in os.walk(path)
    for name in names
  ]
  states = [os.lstat(name) for name in files_of]
  newest = max((s.st_mtime_ns for s in states), default=0)
  return len(states), sum(s.st_size for s in states), newest


def _detect(parts: Sequence[containers.Part], recipe: part_lib.Recipe) -> str:
  """The format of the first row that has one."""
  records = [part.kind == "records" for part in parts]
  if any(records) and not all(records):
    raise ConversionError(
      "Folders of records and other inputs do not go together; convert the "
      "others first."
    )
  if any(records):
    return "records"
  seen: list[str] = []
  bad: list[BadRecord] = []
  for part in parts[:3]:
    for number, (_, row) in enumerate(containers.read(part, recipe.options)):
      if number == 100:
        break
      if isinstance(row, dict):
        form = rows.detect(part_lib.renamed(row, recipe.columns))
        if form:
          return form
        seen = seen or sorted(map(str, row))
      else:
        bad.append(row)
  if not seen:
    names = ", ".join(sorted({part.path for part in parts}))
    raise TooManyRejected(
      f"None of the first {len(bad)} rows can be read: "
      f"{rejected_rows.quoted([(b.where, b.reason) for b in bad])}"
      if bad
      else f"{names} has no rows."
    )
  raise ConversionError(suggested.none_of_the_formats(seen))


@dataclasses.dataclass(frozen=True)
class _FirstPass:
  """part.FirstPass over the parts of a job."""

  job: Job
  parts: Sequence[containers.Part]
  folder: str
  work: str
  progress: Callable[[State], None]

  def collect(
    self, name: str, function: Callable[..., Any], *arguments: Any
  ) -> list[str]:
    paths = [
      os.path.join(self.work, f"{name}-{i:05d}.npz")
      for i in range(len(self.parts))
    ]
    todo = [i for i, path in enumerate(paths) if not os.path.exists(path)]
    done = len(paths) - len(todo)
    # What is rejected here is so again later, where it is counted.
    self.job.execute(
      [(function, (self.parts[i], paths[i], *arguments)) for i in todo],
      self.job.workers,
      lambda c: self.progress(
        State(len(paths), done + c.finished, c.rows, c.rejected, 0, None)
      ),
    )
    return paths


def _convert_parts(
  job: Job,
  maker: part_lib.Converter,
  parts: Sequence[containers.Part],
  folder: str,
  work: str,
  progress: Callable[[State], None],
) -> None:
  todo, count, rejected, size = [], 0, 0, 0
  for index in range(len(parts)):
    done = _done(work, index)
    if done is None:
      todo.append(index)
    else:
      count, rejected = count + done.rows, rejected + done.rejected
      size += done.shard.bytes if done.shard else 0
  known = [p.rows for p in parts]
  total = None if None in known else sum(r for r in known if r is not None)

  def on_progress(counts: pool.Counts) -> None:
    state = State(
      len(parts),
      len(parts) - len(todo) + counts.finished,
      count + counts.rows,
      rejected + counts.rejected,
      size + counts.bytes,
      total,
    )
    progress(state)
    if state.rows >= _MIN_SEEN:
      _check_rejected(job, state.rows, state.rejected, work)

  pickled = pickle.dumps(maker)
  threads = max(1, job.requests // max(1, min(job.workers, len(todo))))
  job.execute(
    [(_task, (parts[i], i, pickled, folder, work, threads)) for i in todo],
    job.workers,
    on_progress,
  )
  ended = [d for d in (_done(work, i) for i in range(len(parts))) if d]
  _check_rejected(
    job, sum(d.rows for d in ended), sum(d.rejected for d in ended), work
  )


def _check_rejected(job: Job, count: int, rejected: int, work: str) -> None:
  """Raises TooManyRejected above the share that may be."""
  if rejected > job.max_rejected * count:
    reasons = rejected_rows.quoted(rejected_rows.in_folder(work))
    raise TooManyRejected(
      f"{rejected} of {count} rows are rejected (--max-rejected "
      f"{job.max_rejected:g}): {reasons}. Mend the input, or give a larger "
      "share; what is done is kept."
    )


def _task(
  part: containers.Part,
  index: int,
  maker: bytes,
  folder: str,
  work: str,
  threads: int,
  tick: part_lib.Tick,
) -> None:
  """One part in a worker; its last act is to say that it is done."""
  done = part_lib.convert(
    part,
    pickle.loads(maker),
    folder,
    f"part-{index:05d}",
    os.path.join(work, f"rejected-{index:05d}.jsonl"),
    tick,
    threads,
  )
  path = os.path.join(work, f"done-{index:05d}.json")
  files.write_text(path, json.dumps(dataclasses.asdict(done)))


def _done(work: str, index: int) -> part_lib.Done | None:
  path = os.path.join(work, f"done-{index:05d}.json")
  if not os.path.exists(path):
    return None
  with open(path, encoding="utf-8") as file:
    values = json.load(file)
  shard = values.pop("shard")
  return part_lib.Done(shard=shard and Shard(**shard), **values)


def _finish(
  job: Job, maker: part_lib.Converter, parts: int, folder: str, work: str
) -> Card:
  """Gathers the rejects and writes the card."""
  done = [d for d in (_done(work, i) for i in range(parts)) if d is not None]
  shards = tuple(d.shard for d in done if d.shard is not None)
  left_out: Counter[str] = Counter()
  for one in done:
    left_out.update(one.left_out)
  outside = sum(d.outside for d in done)
  if not shards:
    reasons = rejected_rows.quoted(rejected_rows.in_folder(work, left_out=True))
    raise TooManyRejected(
      f"None of {sum(d.rows for d in done)} rows could be used: {reasons}"
    )
  with files.atomic_write(os.path.join(folder, "rejected.jsonl")) as out:
    for index in range(parts):
      path = os.path.join(work, f"rejected-{index:05d}.jsonl")
      with open(path, "rb") as file:
        shutil.copyfileobj(file, out)
  card = Card(
    name=maker.base.dataset or os.path.basename(os.path.abspath(job.out)),
    shards=shards,
    tokenizer=maker.base.tokenizer.fingerprint(),
    weighted=any(_weighted(folder, shard) for shard in shards),
    rejected=sum(d.rejected for d in done),
    provenance={
      "inputs": [card_lib.origin(name) for name in job.inputs],
      **maker.describe(),
      **job.provenance,
      **({"left out": dict(sorted(left_out.items()))} if left_out else {}),
      **({"outside": outside} if outside else {}),
    },
  )
  card.save(folder)
  return card


def _weighted(folder: str, shard: Shard) -> bool:
  weights = Lengths.load(os.path.join(folder, shard.lengths)).weight
  return bool((weights != 1).any())
