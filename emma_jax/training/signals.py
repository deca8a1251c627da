"""Stopping a run politely: the loop finishes its step, saves, and leaves."""

import signal
import threading


class StopRequest:
  """Turns the first SIGINT or SIGTERM into a flag that the loop reads.

  ```
  with StopRequest() as stop:
    for step in steps:
      ...
      if stop.requested: save(step); break
  ```

  It is this process's flag. Several processes add theirs up first (see
  distributed.Exchange): one that saves while the others train would wait for
  ever.

  A second SIGINT raises KeyboardInterrupt at once. The former handlers come
  back on exit. Outside the main thread, where Python allows no handlers, the
  flag can only be set by `set()`.
  """

  def __init__(self):
    self._signal: str = ""
    self._former = {}

  @property
  def requested(self) -> bool:
    """Whether this process was asked to stop."""
    return bool(self._signal)

  @property
  def reason(self) -> str:
    """Name of the signal, "" where none came."""
    return self._signal

  def set(self, reason: str = "request"):
    """Asks for a stop; the first reason stays."""
    self._signal = self._signal or reason

  def __enter__(self) -> "StopRequest":
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        self._former[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *_):
    for number, handler in self._former.items():
      # None stands for a handler that was not set from Python.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
    self._former = {}

  def _handle(self, number: int, frame):
    del frame
    if self._signal and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.set(signal.Signals(number).name)
