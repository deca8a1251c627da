"""What a run reports: JSON lines, TensorBoard, and a line for people.

`metrics.jsonl` has one object per logged step. Wall-clock figures stand under
its key "timing"; everything else is a function of config and step, so a run
that was killed and resumed leaves the same file as one that was not.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import math
import pathlib
import sys
import time
from typing import IO, Any

import jax
import numpy as np

from emma_jax import files, storage
from emma_jax.structs import Mean
from emma_jax.training import writers
from emma_jax.training.display import Display, Values


class Accumulator:
  """Sums named Means on the host, one step late.

  `add` fetches what the previous `add` was given, so that the device is never
  waited for while it has nothing else to do.

  >>> a = Accumulator()
  >>> a.add({"loss": Mean(6.0, 3.0)}); a.add({"loss": Mean(1.0, 1.0)})
  >>> a.flush()
  {'loss': 1.75}
  """

  def __init__(self):
    self._sums: dict[str, list[float]] = {}
    self._pending: dict[str, Mean] | None = None

  def add(self, means: Mapping[str, Mean]):
    """Takes a step's means, still being computed; they must not be donated."""
    self._collect()
    self._pending = dict(means)

  def flush(self) -> dict[str, float]:
    """The means since the last flush; names that counted nothing are left out.

    (A task that was not in these batches has no loss; 0 would be a lie.)
    """
    self._collect()
    sums, self._sums = self._sums, {}
    return {k: total / n for k, (total, n) in sorted(sums.items()) if n}

  def state(self) -> dict[str, list[float]]:
    """What is summed so far, as JSON: a checkpoint between two flushes."""
    self._collect()
    return {name: list(sums) for name, sums in self._sums.items()}

  def restore(self, state: Mapping[str, list[float]]):
    """Undoes `state`, exactly."""
    self._pending = None
    self._sums = {name: list(sums) for name, sums in state.items()}

  def _collect(self):
    means, self._pending = self._pending, None
    for name, mean in jax.device_get(means or {}).items():
      sums = self._sums.setdefault(name, [0.0, 0.0])
      sums[0] += float(mean.total)
      sums[1] += float(mean.count)


class Timer:
  """Where the wall-clock time of the steps since the last flush went."""

  def __init__(self, clock=time.perf_counter):
    self._clock = clock
    self._flushed = (0.0, 0)
    self._reset()

  def _reset(self):
    self._start, self._waited = self._clock(), 0.0
    self._steps, self._tokens = 0, 0

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Around `next(data)`: the device may have nothing to do meanwhile."""
    start = self._clock()
    try:
      yield
    finally:
      self._waited += self._clock() - start

  @contextlib.contextmanager
  def excluded(self) -> Iterator[None]:
    """Around compiling, saving and evaluating: no part of a step's time."""
    start = self._clock()
    try:
      yield
    finally:
      self._start += self._clock() - start

  def step(self):
    """Counts one finished step."""
    self._steps += 1

  def count(self, tokens: int):
    """Counts the tokens of steps."""
    self._tokens += tokens

  def so_far(self) -> tuple[float, int]:
    """Seconds and steps since it was made, without what was excluded."""
    seconds, steps = self._flushed
    return seconds + self._clock() - self._start, steps + self._steps

  def flush(self) -> dict[str, float]:
    """Seconds per step, seconds and share of it waiting for data, tokens per
    second."""
    self._flushed = self.so_far()
    total = max(self._clock() - self._start, 1e-9)
    steps = max(self._steps, 1)
    result = {
      "step_seconds": total / steps,
      "data_seconds": self._waited / steps,
      "data_share": self._waited / total,
      "tokens_per_second": self._tokens / total,
    }
    self._reset()
    return result


class MetricWriter:
  """Writes `metrics.jsonl` and TensorBoard event files into a directory."""

  def __init__(
    self,
    workdir: str | pathlib.Path,
    display: Display | None = None,
    active: bool = True,
    others: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
  ):
    """Nothing is opened before the first write.

    Args:
      workdir: created when missing.
      display: also shown there.
      active: False on all processes but the first: does nothing.
      others: writers beside TensorBoard, see `writers`.
      config: of the run, for those; JSON.
    """
    self.path = pathlib.Path(workdir) / "metrics.jsonl"
    self._display = display
    self._active = active
    self._purge_step: int | None = None
    self._file: IO[bytes] | None = None
    self._waiting = b""  # what a full disk has not taken yet
    self._others, self._config = others, config or {"name": ""}
    self._writers: list[writers.Writer] = []

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(self, kind, error, trace):
    with contextlib.suppress(*([OSError] if error else [])):
      self.close()

  def truncate_after(self, step: int):
    """Forgets what was logged after `step`; call it once, on every start.

    With 0 for a run that starts afresh. A line that a kill cut short goes too.
    TensorBoard hides the later steps of older event files.
    """
    if self._file:
      raise RuntimeError("truncate_after comes before the first write.")
    if not self._active or not self.path.exists():
      return
    self._purge_step = step + 1
    kept = []
    for line in files.lines(self.path):
      if line.endswith(b"\n") and _step(line) <= step:
        kept.append(line)
    with files.atomic_write(self.path) as file:
      file.write(b"".join(kept))

  def write(
    self,
    step: int,
    values: Values,
    timing: Values | None = None,
    shown: bool = True,
  ):
    """Logs one step; `values` are flat: "stage", "loss/drawing", ...

    `shown`: on the display, too.
    """
    if not self._active:
      return
    self._open()
    entry = {"step": step} | {k: _plain(v) for k, v in values.items()}
    if timing:
      entry["timing"] = {k: _plain(v) for k, v in timing.items()}
    self._waiting += (json.dumps(entry, allow_nan=False) + "\n").encode()
    try:
      self.flush()  # a kill loses nothing that was logged
    except OSError as error:  # kept; the next checkpoint needs it to succeed
      self.note(f"WARNING: {self.path}: {storage.in_words(error)}.")
    scalars = dict(values)
    scalars |= {f"timing/{k}": v for k, v in (timing or {}).items()}
    numbers = {
      k: float(v) for k, v in scalars.items() if not isinstance(v, str)
    }
    for writer in self._writers:
      writer.scalars(step, numbers)
    if self._display and shown:
      self._display.show(step, values, timing)

  def flush(self) -> None:
    """Writes what waits for room on the disk; raises OSError."""
    while self._file is not None and self._waiting:
      self._waiting = self._waiting[self._file.write(self._waiting) :]

  def show(
    self,
    step: int,
    pictures: Mapping[str, np.ndarray],
    texts: Mapping[str, str],
  ):
    """Pictures, uint8 (Y, X, 3), and texts by name: to the writers alone."""
    if not self._active:
      return
    self._open()
    for writer in self._writers:
      writer.pictures(step, pictures)
      writer.texts(step, texts)

  def scores(self, step: int, scores: Values) -> None:
    """What an evaluation found, by name: to the writers alone."""
    if not self._active or not scores:
      return
    self._open()
    for writer in self._writers:
      writer.scalars(step, {k: float(v) for k, v in scores.items()})

  def _open(self) -> None:
    if self._file is None:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self._file = self.path.open("ab", buffering=0)
      self._writers = writers.opened(
        self._others,
        self.path.parent,
        self._purge_step,
        self._config,
        self.note,
      )

  def note(self, text: str, everywhere: bool = False):
    """A line for the reader, not for the files.

    `everywhere`: of inactive processes too, which otherwise keep silent.
    """
    if self._active and self._display:
      self._display.note(text)
    elif self._active or everywhere:
      print(text, file=sys.stderr, flush=True)

  def doing(self, what: str) -> None:
    """What takes its time now, for the reader."""
    if self._active and self._display:
      self._display.doing(what)

  def close(self):
    """Closes the files; does nothing the second time."""
    if self._file:
      try:
        self.flush()
      finally:
        for writer in self._writers:
          writer.close()
        self._file.close()
        self._file = None


def _plain(value: Any) -> Any:
  """JSON value; "nan", "inf" as text, since JSON has no such numbers."""
  if isinstance(value, (str, bool, int)):
    return value
  value = float(value)
  return value if math.isfinite(value) else str(value)


def _step(line: bytes) -> float:
  try:
    return json.loads(line)["step"]
  except (ValueError, KeyError, TypeError):
    return math.inf  # not a line of ours: drop it


def read_metrics(workdir: str | pathlib.Path) -> list[dict]:
  """The entries of `metrics.jsonl`, oldest first; [] without a file."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  if not path.exists():
    return []
  return [json.loads(x) for x in files.lines(path) if _step(x) < math.inf]
