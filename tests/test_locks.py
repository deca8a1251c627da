"""One folder, one writer: taken, refused, given back, told."""

import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from emma_jax import locks, storage
from emma_jax.exits import Exit

ROOT = pathlib.Path(__file__).parents[1]
# Holds a folder until it is killed, with a child that does nothing.
HOLD = """
import multiprocessing, sys, time
from emma_jax import locks
with locks.hold(sys.argv[1], "emma-train"):
  child = multiprocessing.get_context("fork").Process(
      target=time.sleep, args=(600,))
  child.start()
  print(child.pid, flush=True)
  time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
  """(folder, process that holds it, its forked child)."""
  folder = tmp_path / "run"
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(folder)],
    stdout=subprocess.PIPE,
    cwd=ROOT,
    text=True,
  )
  assert process.stdout is not None
  child = int(process.stdout.readline())
  yield folder, process, child
  os.kill(child, signal.SIGKILL)  # first: it holds the pipe open too
  process.kill()
  process.communicate()


def test_the_second_is_refused_and_told_who_has_it(other):
  folder, process, _ = other
  with pytest.raises(locks.InUse) as error, locks.hold(folder, "emma-train"):
    pass
  said = str(error.value)
  assert str(folder) in said and f"process {process.pid}" in said
  assert f"kill {process.pid}" in said and "emma-train" in said
  assert error.value.exit_code == Exit.IN_USE
  found = locks.holder(folder)
  assert found is not None and found.pid == process.pid and found.sure


def test_it_ends_with_its_holder_though_a_forked_child_lives(other):
  folder, process, child = other
  process.kill()
  process.wait()
  os.kill(child, 0)  # lives
  assert locks.holder(folder) is None
  with locks.hold(folder, "emma-train"):
    assert locks.holder(folder).pid == os.getpid()
  assert locks.holder(folder) is None


@pytest.mark.smoke
def test_within_a_process_an_inner_block_has_what_the_outer_holds(tmp_path):
  with locks.hold(tmp_path / "a", "x") as outer:
    with locks.hold(tmp_path / "b" / ".." / "a", "y") as inner:
      assert inner is outer
    assert locks.holder(tmp_path / "a") is not None
  assert locks.holder(tmp_path / "a") is None


def test_a_forked_process_does_not_empty_the_lock_of_its_parent(tmp_path):
  with locks.hold(tmp_path, "x"):
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
    assert json.loads((tmp_path / locks.NAME).read_text())["pid"] == os.getpid()
    assert locks.holder(tmp_path) is not None


def test_a_lock_file_that_was_removed_is_made_anew(tmp_path):
  with locks.hold(tmp_path, "x") as lock:
    (tmp_path / locks.NAME).unlink()
    assert locks.holder(tmp_path) is None
    lock.check()
    assert locks.holder(tmp_path) is not None


def test_a_lock_that_another_got_after_its_removal_is_lost(tmp_path):
  with locks.hold(tmp_path, "x") as lock:
    (tmp_path / locks.NAME).unlink()
    thief = locks.FolderLock(tmp_path, "thief")
    with pytest.raises(locks.InUse, match="thief"):
      lock.check()
    thief.release()


def test_what_cannot_be_written_is_an_error_of_storage(tmp_path, monkeypatch):
  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(locks, "open", full, raising=False)
  with (
    pytest.raises(storage.StorageError, match="no space is left") as error,
    locks.hold(tmp_path / "run", "x"),
  ):
    pass
  assert str(tmp_path / "run" / locks.NAME) in str(error.value)


def test_a_file_in_the_folders_place_is_none(tmp_path):
  (tmp_path / "run").write_text("")
  for folder in (tmp_path / "run", tmp_path / "run" / "x"):
    with (
      pytest.raises(NotADirectoryError, match="is a file, or lies below"),
      locks.hold(folder, "x"),
    ):
      pass
  assert locks.holder(tmp_path / "run") is None
  assert locks.holder(tmp_path / "nowhere") is None


# ---------------------------------------------------------- where it lies

MOUNTS = r"""
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:1 / /shared rw shared:1 - nfs4 server:/x rw
24 23 0:2 / /shared/my\040disk rw - xfs /dev/sdb rw
25 22 0:3 / /mnt/emma rw - fuse.gcsfuse bucket rw
26 22 0:4 / /mnt/emma rw - tmpfs none rw
""".strip()


@pytest.mark.parametrize(
  "path, name",
  [
    ("/home/a", "ext4"),
    ("/shared/run", "nfs4"),
    ("/shared", "nfs4"),
    ("/sharedness", "ext4"),
    ("/shared/my disk/run", "xfs"),
    ("/mnt/emma/run", "tmpfs"),  # what was mounted last lies on top
  ],
)
def test_the_file_system_of_a_path(tmp_path, path, name):
  (tmp_path / "mountinfo").write_text(MOUNTS)
  assert locks.file_system(path, str(tmp_path / "mountinfo")) == name


@pytest.mark.parametrize(
  "system, kind",
  [("ext4", "file"), ("", "file"), ("nfs4", "lease"), ("odd", "lease")],
)
def test_locks_of_files_are_for_local_disks(
  tmp_path, monkeypatch, system, kind
):
  monkeypatch.delenv("EMMA_LOCK", raising=False)
  monkeypatch.setattr(locks, "file_system", lambda path: system)
  assert locks.kind_of(tmp_path) == kind
  monkeypatch.setenv("EMMA_LOCK", "lease")
  assert locks.kind_of(tmp_path) == "lease"
  monkeypatch.setenv("EMMA_LOCK", "none")
  with pytest.raises(ValueError, match="EMMA_LOCK='none'"):
    locks.kind_of(tmp_path)
