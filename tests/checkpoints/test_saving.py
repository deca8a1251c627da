"""Saves that fail: told, tried again, given up; folders that lost them."""

import errno
import json
import os

import jax
import jax.numpy as jnp
import pytest

from emma_jax import storage
from emma_jax.checkpoints import saving, together
from emma_jax.exits import Exit


class Disk:
  """A checkpointer whose saves fail as they are told, in the background."""

  def __init__(self, directory, *outcomes):
    self.directory, self.outcomes = directory, list(outcomes)
    self.done, self.begun, self.error, self.opened = [], None, None, 0
    self.told = 0  # the other processes, of a failure
    directory.mkdir(exist_ok=True)

  def steps(self):
    return self.done

  def latest_step(self):
    return self.done[-1] if self.done else None

  def is_saving(self):
    return False

  def save(self, step, state, meta):
    self.begun, self.error = step, self.outcomes.pop(0)

  def tell_failed(self):
    self.told += 1

  def wait(self):
    begun, self.begun = self.begun, None
    if begun is None:
      return
    if self.error:
      raise self.error
    (self.directory / str(begun)).mkdir()
    self.done.append(begun)

  def reopen(self):
    self.opened += 1


FULL = OSError(errno.ENOSPC, "No space left on device", "/disk/x")
SICK = OSError(errno.EIO, "Input/output error", "/disk/x")
STATE = {"w": jnp.zeros((4, 8)), "key": jax.random.key(0)}


@pytest.fixture
def make(tmp_path, monkeypatch):
  """(Saver, its disk, what it said of failures) of the outcomes of saves."""
  monkeypatch.setattr(saving, "_PAUSE", 0.001)

  def build(*outcomes, limit=3):
    disk, said = Disk(tmp_path / "checkpoints", *outcomes), []
    note = lambda text: text.startswith("saved") or said.append(text)
    return saving.Saver(disk, tmp_path, limit, note), disk, said

  return build


def after_step(saver):
  saver.take(saver.counts())


def test_a_saved_step_is_told_with_its_path(tmp_path):
  disk, said = Disk(tmp_path / "checkpoints", None, FULL, None), []
  saver = saving.Saver(disk, tmp_path, 3, said.append)
  for step in (3, 6, 9):
    saver.save(step, STATE, {})
    after_step(saver)
  told = [line.partition(" [")[0] for line in said if "WARNING" not in line]
  assert told == [
    f"saved step {n} -> {tmp_path / 'checkpoints' / str(n)}" for n in (3, 9)
  ]


def test_a_failed_save_is_told_at_the_next_step(make, tmp_path):
  saver, disk, said = make(None, FULL)
  saver.save(3, STATE, {})
  after_step(saver)
  assert said == [] and saving.read_record(tmp_path) == 3
  saver.save(6, STATE, {})
  after_step(saver)
  (line,) = said
  for words in (
    "step 6 failed: /disk/x: no space is left",
    "a checkpoint needs",
    "are free",
    "newest sound checkpoint is that of step 3",
    "1 of at most 3",
  ):
    assert words in line
  assert disk.opened == 1 and saving.read_record(tmp_path) == 3


def test_what_may_pass_is_tried_again_before_the_next_save_is_due(make):
  saver, disk, said = make(SICK, None)
  saver.save(3, STATE, {})
  after_step(saver)
  assert "tried again soon" in said[0]
  while not saver.due:
    after_step(saver)
  saver.save(4, STATE, {})
  after_step(saver)
  assert disk.done == [4] and not saver.due


def test_what_does_not_pass_waits_for_the_next_save(make):
  saver, _, said = make(FULL)
  saver.save(3, STATE, {})
  after_step(saver)
  assert "Training goes on" in said[0] and saver._retry_at is None


def test_so_many_in_a_row_end_the_run_and_others_do_not(make):
  saver, _, _ = make(FULL, None, FULL, FULL, limit=2)
  for step in (1, 2, 3):
    saver.save(step, STATE, {})
    after_step(saver)
  saver.save(4, STATE, {})
  with pytest.raises(storage.StorageError, match="in a row: 2") as error:
    after_step(saver)
  assert error.value.exit_code == Exit.STORAGE
  assert "that of step 2" in str(error.value)


def test_a_failure_that_shows_at_the_next_save_loses_only_its_own(make):
  saver, disk, said = make(FULL, None)
  saver.save(3, STATE, {})
  saver.save(6, STATE, {})  # no step was between
  after_step(saver)
  assert disk.done == [6] and len(said) == 1


def test_the_last_save_is_tried_again_only_if_that_may_help(make):
  saver, disk, _ = make(SICK, None)
  saver.save(3, STATE, {}, wait=True)
  assert disk.done == [3]
  saver, disk, _ = make(FULL)
  with pytest.raises(storage.StorageError, match="step 4 failed"):
    saver.save(4, STATE, {}, wait=True)


def test_a_failure_in_another_process_is_counted_once_for_all(make, tmp_path):
  """By who has seen it; here nothing was saved either."""
  saver, disk, said = make(together.PeerFailed("elsewhere"), None)
  saver.save(3, STATE, {})
  counts = saver.counts()
  assert counts == dict.fromkeys(counts, 0) and disk.told == 0
  saver.take(counts | {"save_failed": 1})
  assert "A save failed in another process. Training goes on" in said[0]
  assert disk.opened == 1 and saving.read_record(tmp_path) == 0
  saver.save(6, STATE, {})
  after_step(saver)
  assert disk.done == [6] and len(said) == 1


def test_the_others_are_told_of_a_failure_here(make):
  saver, disk, _ = make(FULL)
  saver.save(3, STATE, {})
  after_step(saver)
  assert disk.told == 1


def test_what_has_to_be_there_before_is_part_of_a_save(make):
  saver, disk, said = make(None)

  def full():
    raise FULL

  saver.save(3, STATE, {}, first=full)
  after_step(saver)
  assert disk.done == [] and len(said) == 1


def test_a_folder_that_vanishes_is_a_failed_save_and_is_not_made_anew(make):
  saver, disk, said = make(None, None)
  saver.save(3, STATE, {}, wait=True)
  (disk.directory / "3").rmdir()  # unmounted: another folder lies there
  saver.save(6, STATE, {})
  after_step(saver)
  assert "it is not there" in said[0] and disk.done == [3]


def test_a_bug_is_no_failing_disk(make):
  saver, _, _ = make(KeyError("params"))
  saver.save(3, STATE, {})
  with pytest.raises(KeyError):
    saver.counts()


def test_space_for_two_checkpoints_is_asked_for(make, monkeypatch):
  _, disk, _ = make()
  needed = saving.needed_bytes(STATE)
  assert 4 * 8 * 4 + 8 < needed < 2**17
  monkeypatch.setattr(storage, "free_bytes", lambda path: 2 * needed)
  saving.check_space(disk, needed)
  monkeypatch.setattr(storage, "free_bytes", lambda path: 2 * needed - 1)
  with pytest.raises(storage.StorageError, match="no space for 2 checkpoints"):
    saving.check_space(disk, needed, keep=2)
  disk.done = [1, 2, 3]
  saving.check_space(disk, needed, keep=2)
  monkeypatch.setattr(storage, "free_bytes", lambda path: None)
  saving.check_space(disk, needed)


# --------------------------------------------------------------- vanished


def record(workdir, step):
  (workdir / saving.RECORD).write_text(json.dumps({"step": step}))


@pytest.mark.parametrize(
  "last, folder, logged, gone",
  [
    (None, False, 0, False),  # a new run
    (12, True, 12, True),  # an empty folder, where a disk was mounted
    (12, False, 0, True),
    (0, True, 4, False),  # killed before the first save was complete
    (0, False, 4, True),
    (None, True, 4, False),  # of a version without the record
    (None, True, 40, True),
    (None, False, 4, True),
  ],
)
def test_a_folder_without_its_checkpoints_is_refused(
  tmp_path, last, folder, logged, gone
):
  if last is not None:
    record(tmp_path, last)
  if folder:
    (tmp_path / "checkpoints").mkdir()
  if not gone:
    assert saving.check_history(tmp_path, logged, 3) == last
    return
  with pytest.raises(storage.Vanished, match="to begin anew") as error:
    saving.check_history(tmp_path, logged, 3)
  assert error.value.exit_code == Exit.MISSING
  assert str(tmp_path / "checkpoints") in str(error.value)


def test_a_step_that_was_removed_by_hand_is_only_told(tmp_path, capsys):
  record(tmp_path, 12)
  (tmp_path / "checkpoints" / "9").mkdir(parents=True)
  saving.check_history(tmp_path, 12, 3)
  assert "has no step 12" in capsys.readouterr().err
  os.rename(tmp_path / "checkpoints" / "9", tmp_path / "checkpoints/damaged_12")
  saving.check_history(tmp_path, 12, 3)
