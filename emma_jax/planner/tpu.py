"""What libtpu decides about a program: instructions, and every buffer's place.

It writes both to a folder before it writes code, which takes nine tenths of the
time, for the 4B ten minutes on two cores. What fits, what is computed and what
is sent can be read then; only the cycles that it counts and the code's own size
come with the code.

The memory is that of the buffer assignment, code or not: by its sum libtpu
refuses a program, and the finished program carries it. `memory_analysis` has
another `temp_size_in_bytes`: it adds what it takes for gaps between buffers,
and overlooks those that loops carry. By it programs that libtpu accepts, and
the 4B among them (15.8 instead of 11.2 GiB on v5e), would not fit.
"""

from collections.abc import Iterable, Mapping
import glob
import os
import re
import shutil
import tempfile
import threading
import time
from typing import Any, NamedTuple

from emma_jax.planner.chips import PlanError

_TEXT = "*.after_optimizations_after_buffer_assignment.txt"
_BUFFERS = "*.after_optimizations-buffer-assignment.txt"
_POLL = 0.5  # seconds
_STILL = 3  # polls of one size after which a file is whole


class Stats(NamedTuple):
  """Bytes of the main memory; names as in `Compiled.memory_analysis`."""

  argument_size_in_bytes: int
  output_size_in_bytes: int
  alias_size_in_bytes: int
  temp_size_in_bytes: int
  generated_code_size_in_bytes: int = 0


def compile_whole(
  lowered: Any, options: Mapping[str, Any]
) -> tuple[str, Stats]:
  """The program's text, with cycles, and its memory, with code.

  Args:
    lowered: a `jax.stages.Lowered` for TPUs.
    options: the compiler's.

  Raises:
    jax.errors.JaxRuntimeError: the compiler refuses the program.
    PlanError: its files are not called as those of the libtpu that is known.
  """
  with tempfile.TemporaryDirectory(prefix="emma_plan_") as folder:
    compiled = lowered.compile(compiler_options={**options, **_dumps(folder)})
    with open(_written(folder, _BUFFERS)) as lines:
      found = stats(lines)
  code = compiled.memory_analysis().generated_code_size_in_bytes
  return compiled.as_text(), found._replace(generated_code_size_in_bytes=code)


def compile_without_code(
  lowered: Any, options: Mapping[str, Any]
) -> tuple[str, Stats]:
  """The same without cycles and the code's size, before there is code.

  The compiler cannot be told to stop: it goes on in a thread until the process
  ends, which `os._exit` does without waiting for it.
  """
  failed: list[Exception] = []
  folder = tempfile.mkdtemp(prefix="emma_plan_")

  def work():
    try:
      lowered.compile(compiler_options={**options, **_dumps(folder)})
    except Exception as error:
      failed.append(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    while True:
      running = thread.is_alive()
      if _files(folder, _TEXT) and _files(folder, _BUFFERS):
        break
      if not running and failed:
        raise failed[0]
      if not running:
        break
      time.sleep(_POLL)
    with open(_settled(_written(folder, _TEXT))) as file:
      text = file.read()
    with open(_settled(_written(folder, _BUFFERS))) as lines:
      return text, stats(lines)
  finally:
    shutil.rmtree(folder, ignore_errors=True)  # the 4B's takes 50 MB


def stats(lines: Iterable[str]) -> Stats:
  """Sums of a buffer assignment, line by line.

  >>> stats(["allocation 1: size 64, output shape is |s8[64]|, maybe-live-out:",
  ...        "allocation 2: size 32, parameter 0, shape |f32[8]| at ShapeInde",
  ...        "allocation 3: size 99, preallocated-temp:",
  ...        "allocation 4: size 1, constant:",
  ...        "allocation 5: size 7, color 1, preallocated-temp:"])
  Stats(argument_size_in_bytes=32, output_size_in_bytes=64, \
alias_size_in_bytes=0, temp_size_in_bytes=100, generated_code_size_in_bytes=0)
  """
  arguments = outputs = shared = temporary = 0
  for line in lines:
    found = re.match(r"allocation \d+: size (\d+), (.*)", line)
    # Other colors are other memories: of vectors, of scalars, of the host.
    if not found or "color" in found[2]:
      continue
    size, kind = int(found[1]), found[2]
    if kind.startswith("parameter"):
      arguments += size
      shared += size * ("maybe-live-out" in kind)
    elif "maybe-live-out" in kind:
      outputs += size
    else:  # temporaries, constants, and what is local to an instruction
      temporary += size
  return Stats(arguments, outputs + shared, shared, temporary)


def _dumps(folder: str) -> dict[str, Any]:
  return {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}


def _files(folder: str, pattern: str) -> list[str]:
  return sorted(glob.glob(os.path.join(folder, pattern)))


def _written(folder: str, pattern: str) -> str:
  found = _files(folder, pattern)
  if not found:
    raise PlanError(
      f"The compiler wrote no {pattern}, but {os.listdir(folder)[:5]}: this "
      "libtpu names its files otherwise; take the one that belongs to jax."
    )
  return found[0]


def _settled(path: str) -> str:
  """The same path, once nobody has written to the file for a while."""
  sizes = [0]
  while not (sizes[-1] and sizes[-_STILL:] == [sizes[-1]] * _STILL):
    time.sleep(_POLL)
    sizes.append(os.path.getsize(path))
  return path
