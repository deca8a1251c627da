"""A row in a process of its own, which repeats its work when told to.

    python -m emma_jax.speed.child ROW SIDE SIZES DTYPE THREADS

SIDE is jax, eager or compile; of the row "data", one of data_rows.SIDES, and
SIZES is its folder. A line comes out when it is ready, and then one
for every line that goes in; they are JSON.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import IO, Any

SIDES = ("jax", "eager", "compile")


class ChildError(RuntimeError):
  """A row that could not be built or run; the message is its last line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repetition:
  """One run of a row's work.

  seconds: of the clock on the wall. cpu: of this process on all its cores.
  others: what other processes took of these cores meanwhile, 0 to 1.
  """

  seconds: float
  cpu: float
  others: float


class Child:
  """The parent's end; a context manager that ends the process."""

  def __init__(self, row: str, side: str, sizes: str, dtype: str, threads: int):
    arguments = [row, side, sizes, dtype, str(threads)]
    self.name = f"{row} {dtype} {side}"
    process = self._process = subprocess.Popen(
      [sys.executable, "-m", __spec__.name, *arguments],
      text=True,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env=environment(threads),
    )
    self._stdin, self._stdout, self._stderr = map(
      _piped, (process.stdin, process.stdout, process.stderr)
    )

  def __enter__(self) -> "Child":
    return self

  def __exit__(self, *_) -> None:
    self._stdin.close()
    try:
      self._process.wait(timeout=10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    for pipe in (self._stdout, self._stderr):
      pipe.close()

  def ready(self) -> dict[str, Any]:
    """Waits until the work has run twice; versions and first call's time."""
    return self._read()

  def repeat(self) -> Repetition:
    """Runs the work once."""
    self._stdin.write("again\n")
    self._stdin.flush()
    return Repetition(**self._read())

  def _read(self) -> dict[str, Any]:
    line = self._stdout.readline()
    if not line:
      errors = self._stderr.read().strip().splitlines()
      raise ChildError(
        f"{self.name} ended with code {self._process.wait()}:"
        f" {errors[-1] if errors else 'without a word'}"
      )
    return json.loads(line)


def _piped(pipe: IO[str] | None) -> IO[str]:
  assert pipe is not None  # `Popen` was asked for all three
  return pipe


def outcome(
  module: str, *arguments: str, what: Any, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """The JSON on the last line that a module prints, in a process of its own.

  No arenas of malloc that keep what is free: a peak of memory is to be that of
  the work.

  Args:
    module, arguments: of `python -m`.
    what: is done, for the error.
    env: more of the environment.

  Raises:
    ValueError: the process failed, with its last line.
  """
  result = subprocess.run(
    [sys.executable, "-m", module, *arguments],
    text=True,
    capture_output=True,
    env=os.environ | {"MALLOC_ARENA_MAX": "1"} | dict(env or {}),
    check=False,
  )
  if result.returncode:
    errors = result.stderr.strip().splitlines() or ["killed: too much memory?"]
    raise ValueError(f"{what} ended with {result.returncode}: {errors[-1]}")
  return json.loads(result.stdout.splitlines()[-1])


def environment(threads: int) -> dict[str, str]:
  """Same for both sides.

  Large pages for glibc's malloc: neither side is to be measured by how fast the
  kernel clears small ones.
  """
  return os.environ | {
    "OMP_NUM_THREADS": str(threads),
    "MKL_NUM_THREADS": str(threads),
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
  }


def busy(cores: Sequence[int]) -> float:
  """Seconds that all processes have spent on these cores; 0 if unknown."""
  try:
    with open("/proc/stat") as file:
      lines = {line.split()[0]: line.split()[1:9] for line in file}
  except OSError:
    return 0.0
  ticks = 0
  for core in cores:
    user, nice, system, _, _, *interrupts = map(int, lines[f"cpu{core}"])
    ticks += user + nice + system + sum(interrupts)
  return ticks / os.sysconf("SC_CLK_TCK")


def _measure(work, cores: Sequence[int]) -> Repetition:
  all_before, own_before = busy(cores), time.process_time()
  start = time.perf_counter()
  work()
  seconds = time.perf_counter() - start
  cpu = time.process_time() - own_before
  others = max(0.0, busy(cores) - all_before - cpu)
  # Ticks are hundredths of a second: short work cannot tell.
  others /= len(cores) * max(seconds, 0.05)
  return Repetition(seconds=seconds, cpu=cpu, others=others)


def _work(row: str, side: str, sizes: str, dtype: str, threads: int):
  from emma_jax.speed import data_rows

  if row == data_rows.ROW:
    return data_rows.work(side, sizes)
  from emma_jax.speed import rows, torch_rows
  from emma_jax.speed import sizes as known

  if side == "jax":
    import jax

    return rows.ROWS[row](known.BY_NAME[sizes], dtype), jax.__version__
  import torch

  work = torch_rows.work(row, known.BY_NAME[sizes], dtype, side, threads)
  return work, torch.__version__


def main(argv: list[str]) -> None:
  """Serves the parent until it closes the pipe."""
  row, side, sizes, dtype, threads = argv
  # What libraries print must not come between the lines.
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  cores = sorted(os.sched_getaffinity(0))[: int(threads)]
  os.sched_setaffinity(0, cores)  # XLA takes as many threads
  work, version = _work(row, side, sizes, dtype, int(threads))
  start = time.perf_counter()
  work()
  first = time.perf_counter() - start
  work()
  print(json.dumps({"version": version, "first": first}), file=answers)
  for _ in sys.stdin:
    repetition = _measure(work, cores)
    print(json.dumps(dataclasses.asdict(repetition)), file=answers)


if __name__ == "__main__":
  main(sys.argv[1:])
