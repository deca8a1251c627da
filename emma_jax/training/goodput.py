"""What a run's wall time went into, memory at its peak, and profiles."""

from collections.abc import Iterator
import contextlib
import pathlib
import time

import jax

STEPS = "steps"
_BEFORE = "start-up"


class Ledger:
  """Books every second since its making to exactly one cause.

  What is outside of every `of` is start-up: imports, weights, restoring. An
  inner `of` takes its seconds from the outer one.

  >>> clock = iter([0.0, 2.0, 8.0, 9.0, 10.0]).__next__
  >>> ledger = Ledger(clock)
  >>> with ledger.of("steps"):  # from 2.0 to 10.0
  ...   with ledger.of("checkpoint"):  # from 8.0 to 9.0
  ...     pass
  >>> ledger.seconds
  {'start-up': 2.0, 'steps': 7.0, 'checkpoint': 1.0}
  """

  def __init__(self, clock=time.perf_counter, since: float | None = None):
    """`since`: a reading of the clock from which on to book; default: now."""
    self._clock = clock
    self._since = clock() if since is None else since
    self._causes = [_BEFORE]
    self.seconds: dict[str, float] = {_BEFORE: 0.0}

  @contextlib.contextmanager
  def of(self, cause: str) -> Iterator[None]:
    """What happens inside is booked to `cause`."""
    self._book()
    self._causes.append(cause)
    try:
      yield
    finally:
      self._book()
      self._causes.pop()

  def _book(self) -> None:
    now = self._clock()
    cause = self._causes[-1]
    self.seconds[cause] = self.seconds.get(cause, 0.0) + now - self._since
    self._since = now

  def shares(self) -> dict[str, float]:
    """Cause -> share of the wall time so far; "steps" is the goodput."""
    self._book()
    total = max(sum(self.seconds.values()), 1e-9)
    return {cause: s / total for cause, s in self.seconds.items()}

  def summary(self) -> str:
    """One line: the goodput, and what the rest was, largest first."""
    shares = self.shares()
    good = shares.pop(STEPS, 0.0)
    rest = sorted(shares.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{cause} {share:.1%}" for cause, share in rest)
    return f"Goodput {good:.1%} of {sum(self.seconds.values()):.0f} s ({parts})"


def peak_memory() -> int | None:
  """High-water mark of this host's fullest device, bytes; None on CPUs."""
  peaks = [
    (d.memory_stats() or {}).get("peak_bytes_in_use")
    for d in jax.local_devices()
  ]
  return max((p for p in peaks if p is not None), default=None)


class Profile:
  """Traces the steps `first` to `last` of a run for xprof (`--profile 10:15`).

  Open the folder with `xprof --logdir` or TensorBoard's profile plug-in.
  """

  def __init__(self, first: int, last: int, folder: pathlib.Path):
    if not 1 <= first <= last:
      raise ValueError(
        f"--profile {first}:{last}: the first step is at least "
        "1 and not after the last."
      )
    self.first, self.last, self.folder = first, last, folder
    self._active = False

  @classmethod
  def parse(cls, text: str, folder: pathlib.Path) -> "Profile":
    """Of "10:15"; ValueError where that is no pair of steps."""
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit()):
      raise ValueError(f"--profile {text}: expected FIRST:LAST, such as 10:15.")
    return cls(int(first), int(last), folder)

  def before(self, step: int) -> None:
    """Call before a step of the run begins."""
    # A resumed run may begin in the middle.
    if not self._active and self.first <= step <= self.last:
      jax.profiler.start_trace(str(self.folder))
      self._active = True

  def after(self, step: int, result) -> None:
    """Call after it was dispatched; waits for `result` of the last one."""
    if self._active and step >= self.last:
      jax.block_until_ready(result)
      self.close()

  def close(self) -> None:
    """Writes what was traced so far."""
    if self._active:
      self._active = False
      jax.profiler.stop_trace()
