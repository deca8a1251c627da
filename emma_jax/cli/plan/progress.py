"""What the planner does while it says nothing else, on stderr."""

from collections.abc import Iterator
import contextlib
import sys
import time

import rich.progress

from emma_jax import terminal


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
  """Shows what is being done, and for how long; a line each without a terminal.

  Compilers say nothing for minutes.
  """
  start = time.monotonic()
  console = terminal.console(stderr=True)
  if console.is_terminal:
    columns = (
      rich.progress.SpinnerColumn(),
      rich.progress.TextColumn("{task.description}", markup=False),
      rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as p:
      p.add_task(terminal.plain(what), total=None)
      yield
    return
  print(f"{what} ...", file=sys.stderr, flush=True)
  yield
  spent = time.monotonic() - start
  print(f"{what}: {spent:.0f} s", file=sys.stderr, flush=True)
