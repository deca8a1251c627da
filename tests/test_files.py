"""A file is whole or absent, whatever happens while it is written."""

import os
import signal
import subprocess
import sys

import pytest

from emma_jax import files

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
  "mode, content", [("w", "é\nb\n"), ("wb", b"\0\1\r\n"), ("w+b", b"x")]
)
def test_what_is_written_is_there_and_nothing_else(mode, content, tmp_path):
  path = tmp_path / "new" / "a.json"
  with files.atomic_write(path, mode) as file:
    file.write(content)
    assert not path.exists()
  written = content.encode() if mode == "w" else content
  assert path.read_bytes() == written
  assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path):
  path = tmp_path / "a"
  files.write_text(path, "old")
  with pytest.raises(RuntimeError), files.atomic_write(path, "w") as file:
    file.write("new")
    raise RuntimeError
  assert path.read_text() == "old"
  assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_what_was_there_and_the_next_write_passes(tmp_path):
  path = tmp_path / "a"
  files.write_text(path, "old")
  program = """
import os, signal, sys
from emma_jax import files
with files.atomic_write(sys.argv[1], "w") as file:
  file.write("new")
  file.flush()
  os.kill(os.getpid(), signal.SIGKILL)
"""
  done = subprocess.run(
    [sys.executable, "-c", program, str(path)], cwd=os.getcwd(), check=False
  )
  assert done.returncode == -signal.SIGKILL
  assert path.read_text() == "old"
  files.write_text(path, "newer")
  assert path.read_text() == "newer"
  assert list(tmp_path.iterdir()) == [path]


def test_two_processes_may_write_one_file(tmp_path):
  """Both are whole; the one that ends last stays."""
  path = tmp_path / "a"
  with files.atomic_write(path, "w", shared=True) as first:
    with files.atomic_write(path, "w", shared=True) as second:
      second.write("second")
    first.write("first")
  assert path.read_text() == "first"
  assert list(tmp_path.iterdir()) == [path]


def test_content_and_folder_are_synced_in_this_order(tmp_path, monkeypatch):
  """Renamed before its content is on the disk, a file may come back empty."""
  done = []
  fsync, replace = os.fsync, os.replace

  def synced(descriptor):
    is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
    done.append("folder" if is_folder else "file")
    fsync(descriptor)

  def renamed(*paths):
    done.append("rename")
    replace(*paths)

  monkeypatch.setattr(os, "fsync", synced)
  monkeypatch.setattr(os, "replace", renamed)
  files.write_text(tmp_path / "a", "x")
  assert done == ["file", "rename", "folder"]


def test_a_file_is_hashed_again_when_it_changes(tmp_path):
  path = tmp_path / "a"
  path.write_bytes(b"one")
  before = files.sha256(path)
  path.write_bytes(b"three")
  assert files.sha256(path) != before
