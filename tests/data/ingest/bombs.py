"""Small files that stand for gigabytes, and how much reading them takes.

python -m tests.data.ingest.bombs FILE...  reads such files as a conversion
does, and prints the outcome of each and the peak in MB.
"""

import gzip
import json
import os
from pathlib import Path
import sys
import tarfile
from typing import Any

from emma_jax import processes

MB = 2**20


def tar(path: Path, members: int = 12, size: int = 64 * MB) -> Path:
  """Pictures of one key, all zeros: a gzip stream is parts in a row."""
  zeros = gzip.compress(bytes(MB))
  with open(path, "wb") as file:
    for i in range(members):
      info = tarfile.TarInfo(f"a.p{i}.jpg")
      info.size = size
      file.write(gzip.compress(info.tobuf()))
      for _ in range(size // MB):
        file.write(zeros)
  return path


def heavy_row(path: Path, members: int = 12, size: int = 100 * MB) -> Path:
  """The same in a plain archive with holes for the pictures."""
  with open(path, "wb") as file:
    for i in range(members):
      info = tarfile.TarInfo(f"a.p{i}.jpg")
      info.size = size
      file.write(info.tobuf())
      file.seek(size, os.SEEK_CUR)
    file.write(bytes(1024))
  return path


def long_name(path: Path) -> Path:
  """A member's name of a gigabyte."""
  info = tarfile.TarInfo("././@LongLink")
  info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1024 * MB
  with open(path, "wb") as file:
    file.write(info.tobuf(tarfile.GNU_FORMAT))
    file.truncate(1030 * MB)
  return path


def line(path: Path, end: str = "") -> Path:
  """A good line, one of 200 MB, and a good one; or such an entry of a list."""
  good = b'{"image": "a.png", "caption": "red"}'
  with open(path, "wb") as file:
    is_list = path.suffix == ".json"
    file.write(b"[" * is_list + good + (b"," if is_list else b"\n"))
    file.write(b'{"image": "a.png", "caption": "')
    file.seek(200 * MB, os.SEEK_CUR)
    file.write(b'"}' + (b"," if is_list else b"\n") + good + b"]" * is_list)
  return path


def pictures(path: Path, count: int = 60) -> Path:
  """A row of many paths to one large file."""
  with open(path.parent / "large.png", "wb") as file:
    file.truncate(90 * MB)
  row = {
    "images": ["large.png"] * count,
    "conversations": [
      {"from": "human", "value": "what?"},
      {"from": "gpt", "value": "that"},
    ],
  }
  path.write_text(json.dumps(row) + "\n")
  return path


def parquet(path: Path, rows: int, size: int, each: int = 0) -> Path:
  """Rows that share a picture of so many bytes; `each`: in lists so long."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  shared = pa.DictionaryArray.from_arrays(
    pa.array([0] * (rows * (each or 1)), pa.int32()),
    pa.array([bytes(size)], pa.binary()),
  )
  if each:
    offsets = pa.array(range(0, rows * each + 1, each), pa.int32())
    column = pa.ListArray.from_arrays(offsets, shared)
    table = pa.table({"images": column, "texts": [[]] * rows})
  else:
    table = pa.table({"image": shared, "caption": ["red"] * rows})
  pq.write_table(table, path, compression="zstd")
  return path


def page(path: Path, size: int) -> Path:
  """One value of so many bytes, which no rows share."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  table = pa.table({"image": [bytes(size)], "caption": ["red"]})
  pq.write_table(table, path, compression="zstd", use_dictionary=False)
  return path


def make(folder: Path) -> dict[str, Path]:
  """All of them, in a second or two."""
  found = {
    "a tar.gz of one key": tar(folder / "a.tar.gz"),
    "a tar of one key": heavy_row(folder / "b.tar"),
    "a name of a gigabyte": long_name(folder / "c.tar"),
    "a line": line(folder / "d.jsonl"),
    "an entry of a list": line(folder / "e.json"),
    "pictures of a row": pictures(folder / "f.jsonl"),
    "rows that share": parquet(folder / "g.parquet", 400, 60 * MB),
    "lists that share": parquet(folder / "h.parquet", 2, MB, 2000),
    "a page": page(folder / "i.parquet", 160 * MB),
  }
  return found


def outcomes(path: Path) -> list[str]:
  """What becomes of each row, as a conversion would say it."""
  from emma_jax.data.ingest import containers, part, sequences
  from emma_jax.data.pictures.images import BadRecord
  from tests.data import made

  found = []
  for piece in containers.split(str(path), 100, sequences.Options()):
    for where, row in containers.read(piece, sequences.Options()):
      if isinstance(row, BadRecord):
        found.append(row.reason)
        continue
      form = "conversations" if "conversations" in row else "captions"
      recipe: Any = part.Recipe(form=form, tokenizer=made.TOKENIZER)
      try:
        part.stored_of(row, recipe, where, str(path))
        found.append("used")
      except BadRecord as error:
        found.append(error.reason)
  return found


def main(paths: list[str]) -> None:
  found = {path: outcomes(Path(path)) for path in paths}
  print(json.dumps({"found": found, "peak": processes.peak_memory() // 2**20}))


if __name__ == "__main__":
  main(sys.argv[1:])
