"""How far a conversion is, said to whoever watches."""

import time
from typing import Any

# Seconds between two lines where nobody watches.
_QUIET = 10.0


class Progress:
  """A bar where a person watches, a line now and then where not."""

  def __enter__(self) -> "Progress":
    import rich.progress

    from emma_jax import terminal

    self._console = terminal.console(stderr=True)
    self._start = self._told = time.monotonic()
    self._first: int | None = None
    self._bar = self._task = None
    if self._console.is_terminal:
      self._bar = rich.progress.Progress(
        "{task.description}",
        rich.progress.BarColumn(),
        rich.progress.TimeRemainingColumn(),
        console=self._console,
      )
      self._bar.start()
      self._task = self._bar.add_task("converting", total=None)
    return self

  def __exit__(self, *unused) -> None:
    if self._bar:
      self._bar.stop()

  def __call__(self, state: Any) -> None:
    """Shows a state of the job, or leaves it out where one has just been."""
    now = time.monotonic()
    if self._first is None:
      self._first = state.rows  # what an earlier run has done costs no time
    rate = (state.rows - self._first) / max(now - self._start, 1e-3)
    text = (
      f"{state.parts_done}/{state.parts} parts, {state.rows} rows, "
      f"{state.rejected} rejected, {state.bytes / 1e6:.0f} MB, "
      f"{rate:.0f} rows/s"
    )
    if self._bar and self._task is not None:
      known = state.rows_known
      self._bar.update(
        self._task,
        description=text,
        total=known or state.parts,
        completed=state.rows if known else state.parts_done,
      )
    elif now - self._told >= _QUIET:
      self._told = now
      self._console.print(text)
