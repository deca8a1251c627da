"""Pictures, lines, records and archives, as `emma-data` meets them."""

from collections.abc import Iterator
import gzip
import io
import pathlib
import re
import tarfile
import zipfile

from tests.data import hostile, made
from tests.data.ingest import bombs, test_tars
from tests.hostile.measured import Case

DATA = "emma-data"


def pictures(folder: pathlib.Path) -> Iterator[Case]:
  """Each the picture of a set of one row, which is converted."""
  for i, one in enumerate(hostile.pictures()):
    (folder / f"{i}.png").write_bytes(one.value)
    made.jsonl(folder / f"{i}.jsonl", {"image": f"{i}.png", "caption": "red"})
    yield _converted(one.name, f"{i}.jsonl", _words(one))


def lines(folder: pathlib.Path) -> Iterator[Case]:
  """Each beside a good line, which tells the format."""
  hostile.write_lines(folder, [])
  good = {"image": "good.png", "caption": "red"}
  for i, one in enumerate(hostile.lines()):
    made.jsonl(folder / f"{i}.jsonl", good, one.value)
    # What only the rows of a run have no room for, a set may hold.
    words = "" if "layout." in one.outcome else _words(one)
    yield _validated(one.name, f"{i}.jsonl", words)


def records(folder: pathlib.Path) -> Iterator[Case]:
  """Each alone in a folder of records that no command of ours has written."""
  for i, one in enumerate(hostile.records()):
    if one.outcome != hostile.USED:
      (folder / str(i)).mkdir()
      hostile.write_records(folder / str(i), [one])
      yield _validated(one.name, f"{i}/set", _words(one))


def archives(folder: pathlib.Path) -> Iterator[Case]:
  """Those that stand for gigabytes, and those that are damaged or none."""
  (folder / "a.png").write_bytes(made.picture())
  for name, path in bombs.make(folder).items():
    words = next(w for w in test_tars._WORDS[name] if w != "used")
    yield _converted(f"bomb: {name}", path.name, re.escape(words))
  for name, (file, content, code, words) in _damaged().items():
    (folder / file).write_bytes(content)
    yield _converted(name, file, words, code)


def _words(one: hostile.Case) -> str:
  """Of the rejection; "" for what is used."""
  return "" if one.outcome == hostile.USED else re.escape(one.outcome)


def _converted(name: str, file: str, words: str, code: int = 65) -> Case:
  argv = ("convert", file, "--out", f"{file}.set", "--workers", "0")
  return Case(
    name=name,
    command=DATA,
    argv=argv,
    code=code if words else 0,
    words=words or "Wrote .* 1 records .* 0 rows rejected",
  )


def _validated(name: str, place: str, words: str) -> Case:
  return Case(
    name=name,
    command=DATA,
    argv=("validate", place),
    code=1 if words else 0,
    words=words or " 0 errors",
  )


def _tar(*members: tuple[str, bytes]) -> bytes:
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode="w") as archive:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return out.getvalue()


def _zip() -> bytes:
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w") as archive:
    archive.writestr("a.jpg", made.picture())
  return out.getvalue()


def _parquet(**columns: list) -> bytes:
  import pyarrow as pa
  import pyarrow.parquet as pq

  out = io.BytesIO()
  pq.write_table(pa.table(columns), out)
  return out.getvalue()


def _damaged() -> dict[str, tuple[str, bytes, int, str]]:
  """What is wrong -> (name of a file, its bytes, exit code, words)."""
  return _tars() | _tables() | _lists()


def _tars() -> dict[str, tuple[str, bytes, int, str]]:
  pair = [("0.jpg", made.picture()), ("0.txt", b"red")]
  good, packed = _tar(*pair), bytearray(gzip.compress(_tar(*pair)))
  packed[-8] ^= 1  # of the checksum
  split = [(f"{i}.jpg", made.picture()) for i in range(9)]
  split += [(f"{i}.txt", b"red") for i in range(9)]
  table = _parquet(image=[made.picture()], caption=["red"])
  return {
    "a tar of no bytes": ("0.tar", b"", 65, "no tar: empty file"),
    "a tar that is a text": ("1.tar", b"a text\n" * 400, 65, "no tar: invalid"),
    "a tar that is a zip": ("2.tar", _zip(), 65, "no tar: truncated header"),
    "a tar that is a Parquet file": ("3.tar", table, 65, "no tar: invalid"),
    "a tar cut in a picture": ("4.tar", good[:600], 65, "breaks off here"),
    "a tar.gz of a wrong checksum": (
      *("5.tar.gz", bytes(packed), 65),
      "the archive is damaged: CRC check failed",
    ),
    "a tar.gz cut": (
      *("6.tar.gz", gzip.compress(good)[:60], 65),
      "compressed data end too early",
    ),
    "a tar of samples torn apart": (
      *("7.tar", _tar(*split), 0),
      "Wrote .* 9 records .* 0 rows rejected",
    ),
    "a tar of texts alone": (
      *("8.tar", _tar(("0.txt", b"red")), 2),
      "of none of the formats",
    ),
    "a tar of one key twice": (
      *("9.tar", _tar(*pair, *pair), 0),
      "Wrote .* 2 records .* 0 rows rejected",
    ),
    "a tar of a device": ("10.tar", _device(), 65, "has no rows"),
  }


def _tables() -> dict[str, tuple[str, bytes, int, str]]:
  table = _parquet(image=[made.picture()], caption=["red"])
  numbers = _parquet(image=[1, 2], caption=[3, 4])
  nulls = _parquet(image=[b"x", None], caption=["a", None])
  empty = _parquet(image=[], caption=[])
  none = "is no Parquet file"
  return {
    "a Parquet file of no bytes": ("0.parquet", b"", 2, none),
    "a Parquet file cut": ("1.parquet", table[:-20], 2, none),
    "a Parquet file of other columns": (
      *("2.parquet", _parquet(x=[1]), 2),
      r"the columns \['x'\], of none of the formats",
    ),
    "a Parquet file of no rows": ("3.parquet", empty, 65, "has no rows"),
    "a Parquet file of numbers": (
      *("4.parquet", numbers, 65),
      "caption is 3, not a text",
    ),
    "a Parquet file of nulls": ("5.parquet", nulls, 65, "cannot read the pic"),
  }


def _lists() -> dict[str, tuple[str, bytes, int, str]]:
  outside = b'[{"image": "../../etc/passwd", "caption": "red"}]'
  return {
    "a list that is null": ("0.json", b"null", 2, "not with the '\\['"),
    "a list that is never closed": (
      *("1.json", b'[{"image": "a.png"', 65),
      "no JSON: Expecting ',' delimiter",
    ),
    "a list of 200,000 brackets": ("2.json", b"[" * 200_000, 65, "no JSON"),
    "a list of numbers": ("3.json", b"[1, 2, 3]", 65, "no JSON: Extra data"),
    "a list of no bytes": ("4.json", b"", 65, "has no rows: it is empty"),
    "a list in UTF-16": ("5.json", "[{}]".encode("utf-16"), 2, "is UTF-16"),
    "lines of no bytes": ("6.jsonl", b"", 65, "has no rows: it is empty"),
    "paths out of the folder": ("7.json", outside, 65, "no such picture"),
  }


def _device() -> bytes:
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode="w") as archive:
    info = tarfile.TarInfo("0.jpg")
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 5
    archive.addfile(info)
  return out.getvalue()
