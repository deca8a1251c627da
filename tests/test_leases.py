"""Leases: who has one, who may take it, and who finds it taken."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from emma_jax import leases, locks
from emma_jax.leases import Record

SHORT = 1.2  # seconds that the leases of these tests last


@pytest.fixture(autouse=True)
def on_a_network(monkeypatch):
  monkeypatch.setenv("EMMA_LOCK", "lease")


def record(**changes) -> Record:
  values = dict(
    kind="lease",
    host="far",
    machine="another",
    pid=7,
    token="theirs",
    work="emma-train",
    seconds=SHORT,
  )
  return Record(**(values | changes))


def put(folder: pathlib.Path, one: Record) -> pathlib.Path:
  folder.mkdir(exist_ok=True)
  (folder / locks.NAME).write_bytes(one.as_bytes())
  return folder / locks.NAME


def take(folder: pathlib.Path) -> locks.FolderLock:
  return locks.FolderLock(folder, "mine", lease=SHORT)


def beat_on(path: pathlib.Path, one: Record, end: threading.Event):
  while not end.wait(SHORT / 6):
    one = dataclasses.replace(one, beat=one.beat + 1)
    path.with_suffix(".new").write_bytes(one.as_bytes())
    path.with_suffix(".new").replace(path)


def test_a_lease_is_taken_beats_and_is_given_back(tmp_path):
  lock = take(tmp_path / "run")
  path = tmp_path / "run" / locks.NAME
  first = leases.read(path)
  assert first.kind == "lease" and first.pid == os.getpid()
  assert leases.watch(path, first, 10 * SHORT) is True
  assert locks.holder(tmp_path / "run").sure
  lock.check()
  lock.release()
  assert not path.exists() and locks.holder(tmp_path / "run") is None


def test_one_that_beats_is_not_taken(tmp_path):
  path, end = put(tmp_path / "run", record()), threading.Event()
  thread = threading.Thread(target=beat_on, args=(path, record(), end))
  thread.start()
  try:
    with pytest.raises(locks.InUse, match="process 7 on far"):
      take(tmp_path / "run")
    assert locks.holder(tmp_path / "run", watch=10 * SHORT).sure
  finally:
    end.set()
    thread.join()
  assert leases.read(path).token == "theirs"


def test_one_that_does_not_beat_is_taken_whatever_the_clocks_say(tmp_path):
  path = put(tmp_path / "run", record(since="2999-01-01 00:00:00"))
  os.utime(path, (2**33, 2**33))
  assert not locks.holder(tmp_path / "run").sure
  assert locks.holder(tmp_path / "run", watch=1.1 * SHORT) is None
  lock = take(tmp_path / "run")
  assert leases.read(path).work == "mine"
  lock.release()


def test_one_of_an_ended_process_of_this_machine_is_stale_at_once(tmp_path):
  gone = subprocess.Popen([sys.executable, "-c", ""])
  gone.wait()
  for pid, started in ((gone.pid, 1), (os.getpid(), 1)):  # the id used again
    one = record(machine=leases.machine(), pid=pid, started=started)
    put(tmp_path / "run", dataclasses.replace(one, seconds=1e6))
    assert leases.has_ended(one)
    assert locks.holder(tmp_path / "run") is None
    take(tmp_path / "run").release()


@pytest.mark.smoke
def test_one_of_a_living_process_of_this_machine_is_refused_at_once(tmp_path):
  one = record(
    machine=leases.machine(),
    pid=os.getpid(),
    started=leases.start_of(os.getpid()),
    seconds=1e6,
  )
  put(tmp_path / "run", one)
  with pytest.raises(locks.InUse, match=f"kill {os.getpid()}"):
    take(tmp_path / "run")


def test_a_holder_whose_lease_was_taken_ends_before_it_writes(tmp_path):
  lock = take(tmp_path / "run")
  path = put(tmp_path / "run", record())
  lock._lease._seen -= SHORT  # held up for so long
  with pytest.raises(locks.InUse, match="taken over by emma-train .process 7"):
    lock.check()
  lock.release()
  assert leases.read(path).token == "theirs"  # not removed


def test_of_two_who_start_at_once_one_is_refused(tmp_path):
  (tmp_path / "run").mkdir()
  results = []

  def start():
    try:
      results.append(take(tmp_path / "run"))
    except locks.InUse:
      results.append(None)

  threads = [threading.Thread(target=start) for _ in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  held = [x for x in results if x is not None]
  assert len(held) == 1
  held[0].check()
  held[0].release()


def test_what_another_version_wrote_is_not_trusted():
  assert leases.parse(b"") is None and leases.parse(b"[]") is None
  assert leases.parse(json.dumps({"moon": 1}).encode()) is None


def test_the_clock_only_goes_forward():
  before = leases.clock()
  time.sleep(0.01)
  assert leases.clock() > before
