"""dataset.json and README.md: what a folder of records holds, and since when.

A folder is a data set if and only if it has a dataset.json, which is written
last, and is ours: others call their tables so, too.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
from typing import Any

from emma_jax import files
from emma_jax.data.records import schema

FILE = "dataset.json"
FORMAT = "emma-records"


def is_data_set(folder: str | os.PathLike) -> bool:
  """Whether a folder is one of records: others have a dataset.json, too.

  Of one that is damaged, `Card.load` says so.
  """
  path = os.path.join(folder, FILE)
  if not os.path.isfile(path):
    return False
  with open(path, "rb") as file:
    if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
      return False  # a table, of any size
    file.seek(0)
    try:
      return _is_card(json.load(file))
    except ValueError:
      return True


def _is_card(values: Any) -> bool:
  return isinstance(values, dict) and "format" in values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """One ArrayRecord file and the side file beside it."""

  file: str  # relative to the folder
  records: int
  bytes: int
  sha256: str
  lengths: str
  lengths_sha256: str
  tasks: Mapping[str, int]  # records per task
  text_tokens: int
  pictures: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """The content of dataset.json."""

  name: str
  shards: tuple[Shard, ...]
  tokenizer: str  # fingerprint of the one that counted the lengths
  weighted: bool  # some record's weight is not 1
  rejected: int  # rows of the input that are not here; see rejected.jsonl
  provenance: Mapping[str, Any]  # inputs, format, licence, options
  version: int = schema.VERSION
  format: str = FORMAT

  @property
  def records(self) -> int:
    """Records of all shards."""
    return sum(shard.records for shard in self.shards)

  @property
  def tasks(self) -> dict[str, int]:
    """Records per task, for the tasks that occur."""
    total = dict.fromkeys(schema.TASKS, 0)
    for shard in self.shards:
      for task, count in shard.tasks.items():
        total[task] += count
    return {task: count for task, count in total.items() if count}

  def save(self, folder: str | os.PathLike) -> None:
    """README.md first, dataset.json last: it says that all is there."""
    files.write_text(os.path.join(folder, "README.md"), self._readme())
    text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
    files.write_text(os.path.join(folder, FILE), text + "\n")

  @classmethod
  def load(cls, folder: str | os.PathLike) -> "Card":
    """Raises ValueError where the folder is no data set of this version."""
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
      hint = "give the folder that `emma-data convert` wrote"
      if os.path.isdir(f"{os.fspath(folder).rstrip('/')}.partial"):
        hint = "its conversion has not ended; give the same command again"
      raise ValueError(f"{folder} is no data set, it has no {FILE}; {hint}.")
    try:
      with open(path, encoding="utf-8") as file:
        values = json.load(file)
      if not _is_card(values):
        raise ValueError("it is no card of a data set")
      if values["format"] != FORMAT:
        raise ValueError(f"format is {values['format']!r}, not {FORMAT!r}")
      if values["version"] != schema.VERSION:
        raise ValueError(
          f"version {values['version']} of the records; this program reads "
          f"{schema.VERSION}"
        )
      shards = tuple(Shard(**shard) for shard in values.pop("shards"))
      return cls(**values, shards=shards)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      raise ValueError(f"{path} is not right: {error}.") from error

  def _readme(self) -> str:
    tasks = "\n".join(f"| {k} | {n:,} |" for k, n in self.tasks.items())
    shards = "\n".join(
      f"| {s.file} | {s.records:,} | {s.bytes:,} | {s.sha256} |"
      for s in self.shards
    )
    origin = "\n".join(
      f"- {key}: {value}" for key, value in self.provenance.items()
    )
    tokens = sum(s.text_tokens for s in self.shards)
    pictures = sum(s.pictures for s in self.shards)
    return f"""# {self.name}

{self.records:,} records, {pictures:,} pictures, {tokens:,} text tokens
(tokenizer {self.tokenizer[:12]}), records version {self.version}.
{self.rejected:,} rows of the input are not here: rejected.jsonl says why.

| task | records |
|---|---|
{tasks}

## Where it comes from

{origin}

## Files

ArrayRecord; `emma_jax/data/README.md` describes the records. Train with
`--config.data.sources.NAME=records:THIS_FOLDER`.

| file | records | bytes | SHA-256 |
|---|---|---|---|
{shards}
"""


def sha256(path: str | os.PathLike) -> str:
  """Hexadecimal digest of a file's bytes."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def origin(name: str) -> Any:
  """An input as a card names it; of a folder of records, its origin, too."""
  kind, _, folder = name.partition(":")
  if kind != "records":
    return name
  card = Card.load(folder)
  return {
    "records": folder,
    "name": card.name,
    "of": card.provenance,
    "sha256": sha256(os.path.join(folder, FILE)),
  }
