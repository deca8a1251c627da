"""Saves that may fail: told within a step, tried again, given up in time.

A save is written in the background. What became of it is looked for after
every step, and told to all processes with the step's other counts. A cause
that may pass by itself (a network folder that does not answer) is tried again
soon, after pauses that double; others wait for the next save that is due.
Training goes on meanwhile, for at most `limit` failed saves in a row.

`WORKDIR/saved.json` says which step was saved last. A folder `checkpoints/`
without it, or without any, is one whose disk is not mounted.
"""

from collections.abc import Callable, Mapping
import json
import math
import pathlib
import time
from typing import Any

import jax

from emma_jax import files, storage
from emma_jax.checkpoints import sound, together
from emma_jax.checkpoints.checkpointer import Checkpointer

RECORD = "saved.json"
_PAUSE = 1.0  # seconds before the first retry
_LONGEST = 60.0


def needed_bytes(state: Any) -> int:
  """Of a checkpoint, at most: what its arrays, or their shapes, take, and about
  a kilobyte for each in what is written beside them."""
  total = 2**16
  for leaf in jax.tree.leaves(state):
    total += 2**10
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.eval_shape(jax.random.key_data, leaf)
    total += math.prod(leaf.shape) * leaf.dtype.itemsize
  return total


def check_space(
  checkpoints: Checkpointer, needed: int, keep: int | None = None
) -> None:
  """Raises StorageError unless two more checkpoints fit on the disk.

  One is enough where `keep` are there: each next one replaces one of them.
  """
  free = storage.free_bytes(checkpoints.directory)
  there = len(checkpoints.steps())
  count = 1 if keep and there >= keep else 2
  if free is None or free >= count * needed:
    return
  raise storage.StorageError(
    f"{checkpoints.directory}: no space for {count} checkpoints, which need "
    f"{storage.size(count * needed)}: {storage.size(free)} are free. "
    f"{_newest(checkpoints)}; make room, or name another --workdir."
  )


def check_history(
  workdir: pathlib.Path, logged: int, save_every: int
) -> int | None:
  """What was saved last, None if unknown; before `checkpoints/` is opened.

  Args:
    workdir: of a run.
    logged: the last step that its metrics tell of; 0 for none.
    save_every: steps between two saves.

  Raises:
    Vanished: no checkpoint is there, but the run has saved some.
  """
  folder = workdir / "checkpoints"
  last = read_record(workdir)
  if sound.saved_steps(folder) or any(folder.glob("damaged_*")):
    newest = max(sound.saved_steps(folder), default=0)
    if last and last > newest and not any(folder.glob(f"damaged_{last}*")):
      sound.warn(
        f"{folder} has no step {last}, which was saved there; going on from "
        f"step {newest}."
      )
    return last
  # Without a record, of an older version: what was logged since a save that
  # has begun is of at most two intervals.
  gone = bool(last) or (
    logged > 0
    and (not folder.is_dir() or (last is None and logged >= 2 * save_every))
  )
  if gone:
    told = f"step {last} was saved" if last else f"{logged} steps were logged"
    raise storage.Vanished(
      f"{folder} holds no checkpoint, but {told} in {workdir}: is a disk not "
      "mounted? Nothing was changed. Bring the checkpoints back and give the "
      "same command; or, to begin anew, name another --workdir, or move "
      f"metrics.jsonl and {RECORD} out of {workdir}."
    )
  return last


def read_record(workdir: pathlib.Path) -> int | None:
  """The step that was saved last, 0 for none yet; None without a record."""
  try:
    return int(json.loads((workdir / RECORD).read_text())["step"])
  except (OSError, ValueError, KeyError, TypeError):
    return None


class Saver:
  """Saves a run's steps by a `Checkpointer`; see above."""

  def __init__(
    self,
    checkpoints: Checkpointer,
    workdir: pathlib.Path,
    limit: int,
    note: Callable[[str], None],
  ):
    """Records what is there.

    Args:
      checkpoints: of the run.
      workdir: gets the record.
      limit: so many saves in a row may fail; with the last of them it ends.
      note: gets a line about each failed save.
    """
    self._checkpoints, self._workdir = checkpoints, workdir
    self._limit, self._note = limit, note
    self._pending: int | None = None  # step that is being written
    self._began = 0.0  # reading of the clock
    self._needed = 0
    self._error: tuple[int, BaseException] | None = None
    self._told = False
    self._failures = 0  # in a row
    self._retry_at: float | None = None
    self.due = False  # all processes save again after this step
    self._record(checkpoints.latest_step() or 0)

  def save(
    self,
    step: int,
    state: Any,
    meta: dict,
    wait: bool = False,
    first: Callable[[], None] = lambda: None,
  ) -> None:
    """Begins to save a step, or saves it; failures are for `take`.

    Args:
      step, state, meta: as `Checkpointer.save`.
      wait: until it is on the disk; then a failure is raised here.
      first: what has to be on the disk before; raises OSError.

    Raises:
      StorageError: `wait`, and it could not be saved.
    """
    self._needed, self.due, self._retry_at = needed_bytes(state), False, None
    self._finish()  # what is written still
    self._agree()
    while True:
      self._begin(step, state, meta, first)
      if not wait:
        return
      self._finish()
      if self._agree(waited=True):
        return
      time.sleep(self._pause())

  def _begin(self, step: int, state: Any, meta: dict, first: Callable) -> None:
    try:
      first()
      self._check_folder()
    except Exception as error:
      self._fail(step, error)
    # A save is a collective: none begins it alone.
    if not sound.all_agree(self._error is None):
      return
    try:
      self._pending, self._began = step, time.monotonic()
      self._checkpoints.save(step, state, meta=meta)
    except Exception as error:
      self._fail(step, error)

  def _check_folder(self) -> None:
    """Orbax would make the folder anew, below where a disk was mounted."""
    folder = self._checkpoints.directory
    newest = self._checkpoints.latest_step()
    if not (folder / str(newest) if newest is not None else folder).is_dir():
      lacks = "is not there" if newest is None else f"lacks step {newest}"
      raise FileNotFoundError(2, f"{folder} {lacks}", str(folder))

  def _finish(self) -> None:
    """Waits for what is being written."""
    if self._pending is None:
      return
    step, self._pending = self._pending, None
    try:
      self._checkpoints.wait()
    except Exception as error:
      self._fail(step, error)
      return
    self._failures = 0
    self._record(step)
    path = self._workdir / self._checkpoints.directory.name / str(step)
    seconds = time.monotonic() - self._began
    self._note(f"saved step {step} -> {path} [{seconds:.1f} s]")

  def _fail(self, step: int, error: Exception) -> None:
    self._pending = None
    if isinstance(error, together.PeerFailed):
      return  # the other one counts it for all
    self._checkpoints.tell_failed()
    if storage.cause(error) is None:
      raise error  # a bug, or a step that cannot be saved
    self._error = step, error

  def counts(self) -> dict[str, int]:
    """After a step: what became of a save here, to be summed over processes."""
    if self._pending is not None and not self._checkpoints.is_saving():
      self._finish()
    found = None
    if self._error and not self._told:
      found, self._told = storage.cause(self._error[1]), True
    again = self._retry_at is not None and time.monotonic() >= self._retry_at
    return {
      "save_failed": int(found is not None),
      "save_passing": int(found is not None and found.passing),
      "save_again": int(again and jax.process_index() == 0),
    }

  def take(self, sums: Mapping[str, int]) -> None:
    """Acts on the sums over all processes, in each of them alike.

    Raises:
      StorageError: so many saves in a row failed.
    """
    self.due |= sums["save_again"] > 0
    if sums["save_failed"]:
      passing = sums["save_passing"] == sums["save_failed"]
      self._count_failure(passing)
      if passing:
        self._retry_at = time.monotonic() + self._pause()

  def _agree(self, waited: bool = False) -> bool:
    """Whether nothing failed in any process; collective. Counts a failure, and
    raises StorageError where it is not tried again."""
    found = storage.cause(self._error[1]) if self._error else None
    if sound.all_agree(found is None):
      return True
    passing = sound.all_agree(found is None or found.passing)
    self._count_failure(passing, waited)
    return False

  def _count_failure(self, passing: bool, waited: bool = False) -> None:
    """Says it, makes the checkpointer ready for the next one, or gives up."""
    self._failures += 1
    text = self._sentence()
    self._error, self._told, self._pending = None, False, None
    if self._failures >= self._limit or (waited and not passing):
      raise storage.StorageError(
        f"{text} Failed saves in a row: {self._failures}, which "
        "train.max_failed_saves allows no more of."
        if self._failures >= self._limit
        else text
      )
    then = "It is tried again soon" if passing else "Training goes on"
    self._note(
      f"WARNING: {text} {then}; failed saves in a row: {self._failures} of at "
      f"most {self._limit}."
    )
    self._checkpoints.reopen()

  def _sentence(self) -> str:
    if self._error is None:
      return "A save failed in another process."
    step, error = self._error
    found = storage.cause(error)
    assert found is not None
    folder = self._checkpoints.directory
    free = storage.free_bytes(folder)
    left = "" if free is None else f", {storage.size(free)} are free"
    return (
      f"The save of step {step} failed: {found.path or folder}: {found.words} "
      f"(a checkpoint needs {storage.size(self._needed)}{left}). "
      f"{_newest(self._checkpoints)}."
    )

  def _pause(self) -> float:
    return min(_PAUSE * 2 ** max(self._failures - 1, 0), _LONGEST)

  def _record(self, step: int) -> None:
    if jax.process_index() != 0:
      return
    try:
      files.write_text(self._workdir / RECORD, json.dumps({"step": step}))
    except OSError as error:
      if not step:
        raise
      self._note(f"WARNING: {storage.failed('Recording a save', error, error)}")


def _newest(checkpoints: Checkpointer) -> str:
  step = checkpoints.latest_step()
  if step is None:
    return "There is no sound checkpoint yet"
  return f"The newest sound checkpoint is that of step {step}"
