"""Archives as people make them, and as they break; bombs stay small."""

import bz2
import gzip
import io
import json
import lzma
import os
from pathlib import Path
import random
import subprocess
import sys
import tarfile

import pytest

from emma_jax.data.ingest import archives, files, limits, tars
from emma_jax.data.pictures.images import BadRecord
from tests.data.ingest import bombs

PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def _bytes(*members: tuple[str, bytes], end: bool = True) -> bytes:
  out = io.BytesIO()
  for name, data in members:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.write(info.tobuf() + data.ljust(-(-len(data) // 512) * 512, b"\0"))
  return out.getvalue() + bytes(1024 if end else 0)


def _read(path: Path, data: bytes) -> tuple[list, list[str]]:
  """(rows, reasons) of an archive."""
  path.write_bytes(data)
  found = [row for _, row in tars.read(str(path))]
  rows = [row for row in found if isinstance(row, dict)]
  return rows, [r.reason for r in found if isinstance(r, BadRecord)]


def _samples(count: int) -> list[tuple[str, bytes]]:
  return [
    (f"{i:03}.{kind}", f"{i}{kind}".encode())
    for i in range(count)
    for kind in ("jpg", "txt")
  ]


def _keys(rows: list) -> list[str]:
  return [row["__key__"] for row in rows]


@pytest.mark.parametrize(
  "name, parts",
  [
    ("a/b/000.jpg", ("a/b/000", "jpg")),
    ("000.source.PNG", ("000", "source.png")),
    ("v1.2.jpg", ("v1.2", "jpg")),
    ("2021.05.07.target.webp", ("2021.05.07", "target.webp")),
    ("a.b/c.jpg", ("a.b/c", "jpg")),
    ("./0.txt", ("./0", "txt")),
    ("红.jpg", ("红", "jpg")),
    ("readme", ("readme", "")),
    (".hidden", ("", "hidden")),
  ],
)
def test_keys(name, parts):
  assert tars.key_of(name) == parts


def test_an_archive_made_on_a_mac(tmp_path):
  """What describes a file stands beside it, under the same key but for dots."""
  members = []
  for name, data in _samples(3):
    members += [(f"._{name}", b"Mac OS X"), (name, data)]
    members.append((f"__MACOSX/._{name}", b"Mac OS X"))
  rows, bad = _read(tmp_path / "a.tar", _bytes(("._.", b""), *members))
  assert _keys(rows) == ["000", "001", "002"] and not bad
  assert rows[1]["image"] == b"1jpg" and rows[1]["caption"] == "1txt"


@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz"])
@pytest.mark.parametrize("seed", range(3))
def test_members_in_any_order(tmp_path, kind, seed):
  """`tar cf` in the order of a folder: all rows, by their first members."""
  members = _samples(23)
  random.Random(seed).shuffle(members)
  data = _bytes(*members)
  rows, bad = _read(tmp_path / "a.tar", PACKED.get(kind, bytes)(data))
  assert not bad
  assert _keys(rows) == list(dict.fromkeys(n.split(".")[0] for n, _ in members))
  for row in rows:
    number = int(row["__key__"])
    assert row["caption"] == f"{number}txt"
    assert row["image"] == f"{number}jpg".encode()


def test_a_large_archive_out_of_order_says_so(tmp_path, monkeypatch):
  monkeypatch.setattr(tars, "_SORTED", 1000)
  members = _samples(4)
  members.append(members.pop(0))
  rows, bad = _read(tmp_path / "a.tar.gz", gzip.compress(_bytes(*members)))
  assert _keys(rows) == ["001", "002", "003"]
  (reason,) = bad
  assert "members of a sample must stand together" in reason


def test_a_member_that_repeats_begins_a_row(tmp_path):
  members = [("a.jpg", b"1"), ("a.txt", b"one"), ("b.jpg", b"b")]
  members += [("b.txt", b"b"), ("a.jpg", b"2"), ("a.txt", b"two")]
  rows, bad = _read(tmp_path / "a.tar", _bytes(*members))
  assert not bad and _keys(rows) == ["a", "b", "a"]
  assert [row["caption"] for row in rows] == ["one", "b", "two"]
  several = [("a.jpg", b"1"), ("a.png", b"2"), ("a.txt", b"one")]
  rows, bad = _read(tmp_path / "b.tar", _bytes(*several))
  assert not rows and "several members give 'image'" in bad[0]


@pytest.mark.parametrize(
  "data, text",
  [
    (b"a\r\nb\r\n", "a\nb"),
    (b"a\rb", "a\nb"),
    ("\ufeffé\n".encode(), "é"),
    ("\ufeff\ufeffé\n".encode(), "é"),
    ("红\r\n".encode("utf-16"), "红"),
    ("红".encode("utf-32"), "红"),
    ("a\u2028b\x85".encode(), "a\u2028b"),
  ],
)
def test_texts_of_other_systems(tmp_path, data, text):
  members = [("1.jpg", b"1"), ("1.txt", data)]
  rows, bad = _read(tmp_path / "a.tar", _bytes(*members))
  assert not bad and rows[0]["caption"] == text


def test_texts_and_fields_that_are_none(tmp_path):
  members = [("1.txt", "é".encode("latin-1")), ("2.json", b"[1]")]
  members += [("3.json", b"{"), ("4.json", '{"a": "红"}'.encode("utf-16"))]
  rows, bad = _read(tmp_path / "a.tar", _bytes(*members))
  assert [row["a"] for row in rows] == ["红"]
  words = ("1.txt: 'utf-8' codec", "2.json is a list", "3.json: Expecting")
  assert all(w in b for w, b in zip(words, bad, strict=True))


def test_several_texts_in_json_of_one_row(tmp_path):
  """None of two that differ is taken; null says nothing, and hides nothing."""
  one, other = b'{"text": "a", "n": null}', b'{"text": "b"}'
  members = [("1.json", one), ("1.meta.json", other)]
  members += [("2.json", one), ("2.meta.json", one)]
  members += [("3.txt", b"c"), ("3.json", b'{"caption": null}')]
  rows, bad = _read(tmp_path / "a.tar", _bytes(*members))
  (reason,) = bad
  assert "differ in 'text', the last is 1.meta.json" in reason
  assert [row.get("text", row.get("caption")) for row in rows] == ["a", "c"]


def test_pictures_of_the_archive_are_not_looked_for_elsewhere(tmp_path):
  """As of a set whose JSON lines had paths, before it was packed."""
  members = [("1.jpg", b"1"), ("1.json", b'{"image": "a/1.jpg", "text": "a"}')]
  members += [("2.jpg", b"2"), ("2.jpg.txt", b"b")]
  members += [("3.txt", b"c"), ("3.json", b'{"image": "a/3.jpg"}')]
  members += [("4.jpg", b"4"), ("4.json", b'{"images": ["a/4.jpg"]}')]
  rows, bad = _read(tmp_path / "a.tar", _bytes(*members))
  assert not bad and [(r["image"], r.get("caption")) for r in rows] == [
    (b"1", None),
    (b"2", "b"),
    ("a/3.jpg", "c"),
    (b"4", None),
  ]
  assert "images" not in rows[-1]


def test_a_caption_that_is_a_pointer_is_told(tmp_path):
  text = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
  rows, bad = _read(
    tmp_path / "a.tar", _bytes(("1.jpg", b"1"), ("1.txt", text))
  )
  assert not rows and "1.txt: it is a Git LFS pointer; `git lfs pull`" in bad[0]


def test_accents_apart_or_as_one_are_one_key(tmp_path):
  """A Mac writes them apart; most programs that write texts do not."""
  members = [("e\u0301.jpg", b"1"), ("\xe9.txt", b"a")]
  rows, bad = _read(tmp_path / "a.tar", _bytes(*members))
  assert not bad and [(r["image"], r["caption"]) for r in rows] == [(b"1", "a")]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_lines_of_other_systems(tmp_path, ends):
  path = tmp_path / "a.jsonl"
  lines = ['{"a": "\u2028"}', "", '{"a": "b"}']
  path.write_bytes(b"\xef\xbb\xbf" + ends.join(x.encode() for x in lines))
  (part,) = files.split("jsonl", str(path), 10)
  assert [row["a"] for _, row in files.read(part)] == ["\u2028", "b"]


def test_links_within_an_archive(tmp_path):
  """GNU tar stores a file that it has met already as a hard link."""
  link = tarfile.TarInfo("2.jpg")
  link.type, link.linkname = tarfile.LNKTYPE, "1.jpg"
  away = tarfile.TarInfo("3.jpg")
  away.type, away.linkname = tarfile.SYMTYPE, "/etc/hostname"
  data = _bytes(("1.jpg", b"1"), end=False) + link.tobuf() + away.tobuf()
  rows, bad = _read(tmp_path / "a.tar", data + bytes(1024))
  assert not bad and [row["image"] for row in rows] == [b"1", b"1"]


# ------------------------------------------------------------------- damage


@pytest.mark.parametrize("kind", ["gz", "xz"])
@pytest.mark.parametrize("place", [0.3, 0.6, -6])
def test_a_wrong_checksum_of_all_gives_no_row(tmp_path, kind, place):
  data = bytearray(PACKED[kind](_bytes(*_samples(200))))
  at = place if place < 0 else int(place * len(data))
  data[at] ^= 1
  rows, bad = _read(tmp_path / "a.tar", bytes(data))
  assert (
    not rows and len(bad) == 1 and ("damaged" in bad[0] or "no tar" in bad[0])
  )


def test_blocks_with_checksums_of_their_own(tmp_path):
  """Of bzip2 the blocks before the damage are sound."""
  noise = [(f"{i}.jpg", random.Random(i).randbytes(150_000)) for i in range(14)]
  data = bytearray(bz2.compress(_bytes(*noise), 1))
  data[len(data) // 2] ^= 1
  rows, bad = _read(tmp_path / "a.tar", bytes(data))
  assert 3 <= len(rows) < 14 and "damaged" in bad[-1]
  assert [row["image"] for row in rows] == [d for _, d in noise[: len(rows)]]


def test_a_damaged_header_loses_what_is_behind_it_and_says_so(tmp_path):
  data = bytearray(_bytes(*_samples(5)))
  data[4 * 1024 + 3] ^= 1  # of the fifth member
  rows, bad = _read(tmp_path / "a.tar", bytes(data))
  assert _keys(rows) == ["000", "001"]
  assert "bad checksum" in bad[0] and "lost" in bad[0]


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_archives_that_are_joined_or_cut(tmp_path, kind):
  pack = PACKED.get(kind, bytes)
  one = _bytes(*_samples(2))
  rows, bad = _read(tmp_path / "a.tar", pack(one + _bytes(*_samples(3))))
  assert len(rows) == 2 and "bytes behind the end" in bad[0]
  # At the border of a member nothing but the missing end mark tells it.
  rows, bad = _read(tmp_path / "b.tar", pack(_bytes(*_samples(2), end=False)))
  assert len(rows) == 2 and "breaks off" in bad[0]
  rows, bad = _read(tmp_path / "c.tar", pack(one)[: len(pack(one)) // 2])
  assert len(rows) <= 1 and bad


def test_damage_in_parquet_is_found_by_its_checksums(tmp_path):
  pa = pytest.importorskip("pyarrow")
  import pyarrow.parquet as pq

  path = tmp_path / "a.parquet"
  noise = random.Random(0).randbytes(4000)
  table = pa.table({"image": [noise], "caption": ["red"]})
  pq.write_table(
    table,
    path,
    compression="none",
    use_dictionary=False,
    write_page_checksum=True,
    write_statistics=False,
  )
  data = bytearray(path.read_bytes())
  data[data.find(noise[100:120])] ^= 1
  path.write_bytes(data)
  (part,) = files.split("parquet", str(path), 10)
  ((_, row),) = files.read(part)
  assert isinstance(row, BadRecord) and "cannot be read" in row.reason


# -------------------------------------------------------------------- bombs

_WORDS = {
  "a tar.gz of one key": ["50 times its size"],
  "a tar of one key": ["its members have 1,258,291,200 bytes"],
  "a name of a gigabyte": ["a header of 1,073,741,824 bytes"],
  "a line": ["used", "above the 16,777,216", "used"],
  "an entry of a list": ["used", "above the 16,777,216", "used"],
  "pictures of a row": ["are more than"],
  "rows that share": ["cannot read the picture", "399 rows of row group 0"],
  "lists that share": ["expand to more than 1000 times"],
  "a page": ["its pages expand to 167"],
}


def test_bombs_are_rejected_before_they_take_memory(tmp_path, repo):
  """Gigabytes in small files: read as a conversion reads, below 800 MB."""
  pytest.importorskip("pyarrow")
  from tests.data import made

  (tmp_path / "a.png").write_bytes(made.picture())
  paths = bombs.make(tmp_path)
  on_disk = sum(os.stat(path).st_blocks * 512 for path in paths.values())
  assert on_disk < 2 * 2**20
  out = subprocess.run(
    [
      sys.executable,
      "-m",
      "tests.data.ingest.bombs",
      *map(str, paths.values()),
    ],
    cwd=repo,
    capture_output=True,
    text=True,
    check=True,
  )
  told = json.loads(out.stdout.splitlines()[-1])
  for name, path in paths.items():
    found = told["found"][str(path)]
    assert len(found) == len(_WORDS[name]), (name, found)
    assert all(w in f for w, f in zip(_WORDS[name], found)), (name, found)
  assert told["peak"] < 800


def test_a_small_archive_may_expand(tmp_path):
  """A bomb is large; little that compresses well is none."""
  members = [(f"{i}.jpg", bytes(2**20)) for i in range(4)]
  rows, bad = _read(tmp_path / "a.tar.gz", gzip.compress(_bytes(*members)))
  assert len(rows) == 4 and not bad


def test_lines_are_read_in_pieces(monkeypatch):
  monkeypatch.setattr(limits, "TEXT", 10)
  data = b"short\n" + b"x" * 10 + b"\n" + b"x" * 11 + b"\nlast"
  found = list(limits.lines(io.BytesIO(data)))
  assert found == [
    (6, b"short\n"),
    (11, b"x" * 10 + b"\n"),
    (12, None),
    (4, b"last"),
  ]
  assert [size for size, _ in limits.lines(io.BytesIO(data), 7)] == [6, 11]


def test_a_list_is_cut_the_same_whatever_its_blocks(tmp_path, monkeypatch):
  text = (
    '[{"a": "\\\\\\" ]}{[\\\\", "b": [[], {"c": "\\\\\\\\"}]}, {"d": "'
    + "é" * 9
    + '"}]'
  )
  path = tmp_path / "a.json"
  path.write_text(text)
  size = path.stat().st_size
  whole = list(files.spans(str(path), 0, size, depth=1))
  assert [json.loads(path.read_bytes()[a:b]) for a, b in whole] == json.loads(
    text
  )
  for block in range(1, 12):
    monkeypatch.setattr(files, "_BLOCK", block)
    assert list(files.spans(str(path), 0, size, depth=1)) == whole


def test_archives_are_looked_through_once(tmp_path, monkeypatch):
  path = tmp_path / "a.tar.gz"
  path.write_bytes(gzip.compress(_bytes(*_samples(2))))
  first = archives.scan(str(path))
  assert archives.scan(str(path)) is first
