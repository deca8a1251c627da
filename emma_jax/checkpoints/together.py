"""A save of several processes: one that fails tells the others at once.

Each process writes its part in the background, then waits until all have.
Orbax's own wait knows of no failure: the others would wait for its whole
timeout, twenty minutes, for one whose disk is full, and training with them.
"""

import collections
from collections.abc import Callable, Sequence
import itertools
import re
import time
from typing import Any

import jax
from orbax.checkpoint import multihost

_PAUSE = 0.1  # seconds between two looks
# Where Orbax waits for what may have failed.
_AFTER_WRITING = re.compile("async_(write|commit)_complete")


class PeerFailed(Exception):
  """A save failed in another process, which knows why."""


# Of the barriers of a process; all processes make theirs in one order.
_numbers = itertools.count()


class Barrier:
  """What the processes of one run wait at; Orbax's `barrier_sync_fn`.

  Who has come, and whether one has failed, stands in the key-value store of
  JAX's coordination service. After a failure a new one is needed.
  """

  def __init__(self):
    self._place = f"emma_saves/{next(_numbers)}"
    self._times: collections.Counter[str] = collections.Counter()
    self._other = multihost.get_barrier_sync_fn()

  def __call__(self, *, key: str, timeout_ms: int) -> None:
    """Waits for all processes at `key`.

    Raises:
      PeerFailed: one of them has called `fail`.
      TimeoutError: not all came in time.
    """
    if not _AFTER_WRITING.search(key):  # nobody is left behind at these
      self._other(key=key, timeout_ms=timeout_ms)
      return
    client, end = _client(), time.monotonic() + timeout_ms / 1000
    self._times[key] += 1
    place = f"{self._place}/at/{key}/{self._times[key]}/"
    client.key_value_set(f"{place}{jax.process_index()}", "1")
    while len(client.key_value_dir_get(place)) < jax.process_count():
      if client.key_value_dir_get(f"{self._place}/failed/"):
        raise PeerFailed("A save failed in another process.")
      if time.monotonic() > end:
        raise TimeoutError(f"Not all processes came to {key}.")
      time.sleep(_PAUSE)

  def fail(self) -> None:
    """Tells all who wait, now or later, that nothing will come of it."""
    me = f"{self._place}/failed/{jax.process_index()}"
    _client().key_value_set(me, "1", allow_overwrite=True)


def _client() -> Any:
  from jax._src import distributed  # there is no public way to it

  return distributed.global_state.client


def telling(handler: Any, tell: Callable[[], None]) -> Any:
  """A handler of Orbax whose failures in the background are told.

  The object is changed, not its class: by the class Orbax finds what a
  checkpoint is read with.
  """
  save = handler.async_save

  async def async_save(*args, **kwargs) -> list[Any] | None:
    return _told(await save(*args, **kwargs), tell)

  vars(handler)["async_save"] = async_save
  return handler


def _told(
  futures: Sequence[Any] | None, tell: Callable[[], None]
) -> list[Any] | None:
  return None if futures is None else [_Told(f, tell) for f in futures]


class _Told:
  """A future that tells, where its result is an error."""

  def __init__(self, future: Any, tell: Callable[[], None]):
    self._future, self._tell = future, tell

  def result(self, timeout: float | None = None) -> Any:
    try:
      return self._future.result(timeout=timeout)
    except BaseException:
      self._tell()
      raise

  def cancel(self) -> bool | None:
    return self._future.cancel()
