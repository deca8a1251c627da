"""The working folder of a run: this run's alone, and whole."""

from collections.abc import Callable, Iterator
import contextlib
import pathlib

import jax
from jax.sharding import Mesh
import numpy as np

from emma_jax import locks
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.checkpoints import saving
from emma_jax.exits import Exit
from emma_jax.training import metrics as metrics_lib
from emma_jax.training.run import Run
from emma_jax.training.step import abstract_state


class FirstFailed(Exception):
  """Process 0 ends, so this one does; `exit_code` is the other's."""


@contextlib.contextmanager
def claimed(
  workdir: pathlib.Path, work: str = "emma-train"
) -> Iterator[Callable[[], None]]:
  """A working folder that no other run works in; process 0 holds its lock.

  Gives what raises InUse, there, where the lock is lost: to be called before
  anything is written.

  Raises:
    InUse: another run is at work in it; in all processes FirstFailed.
    StorageError: nothing can be written there.
  """
  with contextlib.ExitStack() as stack:
    check: Callable[[], None] = lambda: None

    def take() -> None:
      nonlocal check
      check = stack.enter_context(locks.hold(workdir, work)).check

    first(take)
    yield check


def first(act: Callable[[], None]) -> None:
  """Process 0 acts; what it raises ends all of them, with one exit code.

  Raises:
    FirstFailed: in the others.
  """
  error: Exception | None = None
  if jax.process_index() == 0:
    try:
      act()
    except Exception as raised:
      error = raised
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    code = getattr(error, "exit_code", Exit.FAULT) if error else Exit.DONE
    told = int(multihost_utils.broadcast_one_to_all(np.int32(code)))
    if told and error is None:
      failed = FirstFailed("Process 0 ends, as it says; so does this one.")
      failed.exit_code = Exit(told)  # type: ignore[attr-defined]
      raise failed
  if error is not None:
    raise error


def check_history(run: Run, workdir: pathlib.Path) -> None:
  """Raises Vanished where the run has saved checkpoints, but none is there."""

  def check() -> None:
    logged = metrics_lib.read_metrics(workdir)[-1:]
    last = logged[0]["step"] if logged else 0
    saving.check_history(workdir, last, run.save_every)

  first(check)


def check_space(run: Run, checkpoints: ckpt.Checkpointer, mesh: Mesh) -> None:
  """Raises StorageError unless two checkpoints of the largest stage fit."""
  needed = max(
    (saving.needed_bytes(abstract_state(run, s, mesh)) for s in run.stages),
    default=0,
  )
  first(lambda: saving.check_space(checkpoints, needed, run.keep))
