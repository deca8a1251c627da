"""Stopping a run politely: the loop finishes its step, saves, and leaves."""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import socket
import threading
from typing import Any

from emma_jax import processes
from emma_jax.exits import Exit

# Told which signal came, and how many there were with it.
Answer = Callable[[str, int], None]
_INSISTS = 3  # so many interrupts end the process, whatever it is doing


class Interrupted(BaseException):
  """A signal came where there is nothing to be saved."""


class StopRequest:
  """Turns the first of `processes.stop_signals` into a flag the loop reads.

  ```
  with StopRequest() as stop:
    for step in steps:
      ...
      if stop.requested: save(step); break
  ```

  It is this process's flag. Several processes add theirs up first (see
  distributed.Exchange): one that saves while the others train would wait for
  ever.

  A second SIGINT raises KeyboardInterrupt, a third one ends the process. The
  former handlers come back on exit. Outside the main thread, where Python
  allows no handlers, the flag can only be set by `set()`.

  Python's handlers wait until a program of the device, or its compiler, has
  returned. So a thread, which the system wakes, answers at once.
  """

  def __init__(self, answer: Answer | None = None):
    """`answer`: called by a thread when a signal comes."""
    self._signal: str = ""
    self._former: dict[signal.Signals, Any] = {}
    self._answer, self._at_once = answer, False
    self._ends: tuple[socket.socket, socket.socket] | None = None
    self._former_fd = -1
    self._thread: threading.Thread | None = None

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

  @contextlib.contextmanager
  def at_once(self, active: bool = True) -> Iterator[None]:
    """Meanwhile nothing is lost: a signal, also one that has come, raises
    `Interrupted`."""
    if not active:
      yield
      return
    if self._signal:
      raise Interrupted
    self._at_once = True
    try:
      yield
    finally:
      self._at_once = False

  def __enter__(self) -> "StopRequest":
    if threading.current_thread() is threading.main_thread():
      for number in processes.stop_signals():
        self._former[number] = signal.signal(number, self._handle)
      if self._answer is not None:
        self._listen()
    return self

  def __exit__(self, *_):
    if self._ends is not None:
      signal.set_wakeup_fd(self._former_fd)
      self._ends[1].close()  # the thread reads that there is no more
      if self._thread is not None:
        self._thread.join()
      self._ends[0].close()
      self._ends = None
    for number, handler in self._former.items():
      # None stands for a handler that was not set from Python.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
    self._former = {}

  def _handle(self, number: int, frame):
    del frame
    if self._signal and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.set(signal.Signals(number).name)
    if self._at_once:
      raise Interrupted

  def _listen(self) -> None:
    self._ends = socket.socketpair()
    self._ends[1].setblocking(False)
    self._former_fd = signal.set_wakeup_fd(
      self._ends[1].fileno(), warn_on_full_buffer=False
    )
    self._thread = threading.Thread(
      target=self._read, args=(self._ends[0],), daemon=True
    )
    self._thread.start()

  def _read(self, end: socket.socket) -> None:
    count = interrupts = 0
    while data := end.recv(16):
      for number in data:
        if number not in self._former:
          continue
        count += 1
        interrupts += number == signal.SIGINT
        if self._answer is not None:
          self._answer(signal.Signals(number).name, count)
        if interrupts >= _INSISTS:
          os._exit(Exit.INTERRUPTED)
