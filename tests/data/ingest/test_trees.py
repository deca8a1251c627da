"""Names and bytes of folders and zips, whoever made them."""

import os
from pathlib import Path
import zipfile

import pytest

from emma_jax.data.ingest import trees
from emma_jax.data.pictures.images import BadRecord

_TEXT = bytes(range(256)) * 4


def _zip(path: Path, files: dict[str, bytes], method=zipfile.ZIP_STORED) -> str:
  with zipfile.ZipFile(path, "w", method) as out:
    for name, data in files.items():
      member = zipfile.ZipInfo("x")
      member.filename, member.compress_type = name, method
      out.writestr(member, data)
  return str(path)


@pytest.mark.smoke
def test_names_of_windows_are_paths_and_none_leaves_the_archive(tmp_path):
  made = {
    r"my pictures\a.png": b"1",
    r"my pictures\@eaDir\a.png": b"small",
    r"..\b.png": b"2",
    "../c.png": b"3",
    "/d.png": b"4",
  }
  tree = trees.opened(_zip(tmp_path / "x.zip", made))
  assert tree.names == ("my pictures/a.png",)
  assert tree.read("my pictures/a.png", 9) == b"1"
  refused = {"../b.png", "../c.png", "/d.png"}
  assert {name for name, _ in tree.refused} == refused


@pytest.mark.parametrize(
  "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_damage_of_any_method_is_a_row_that_is_told(tmp_path, method):
  path = Path(_zip(tmp_path / "x.zip", {"a.txt": _TEXT}, method))
  data = bytearray(path.read_bytes())
  begin = data.index(b"a.txt") + 5
  for at in range(begin + 12, begin + 20):
    data[at] ^= 0x5A
  path.write_bytes(data)
  with pytest.raises(BadRecord, match="damaged in the archive"):
    trees.opened(str(path)).read("a.txt", 2000)


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
  """Left out without a word, its pictures would be missed by nobody."""
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "x.png").write_bytes(b"p")
  scan = os.scandir

  def closed(path):
    if str(path).endswith("/b"):
      raise PermissionError(13, "Permission denied", str(path))
    return scan(path)

  monkeypatch.setattr(os, "scandir", closed)
  tree = trees.Folder(str(tmp_path))
  assert tree.names == ("a/x.png",)
  told = "a folder that cannot be read: Permission denied"
  assert tree.refused == (("b", told),)
