"""A TPU program as it stands when the compiler has decided all but its code.

Writing code takes libtpu nine tenths of the time, for the 4B ten minutes on two
cores. Before it begins, instructions, layouts and every buffer's place are
fixed: what fits, what is computed and what is sent can be read then. The
cycles that the compiler counts come with the code alone.
"""

from collections.abc import Mapping
import glob
import os
import re
import tempfile
import threading
import time
from typing import Any, NamedTuple

_TEXT = "*.after_optimizations_after_buffer_assignment.txt"
_BUFFERS = "*.after_optimizations-buffer-assignment.txt"
_POLL = 0.5  # seconds


class Stats(NamedTuple):
  """Of `jax.stages.Compiled.memory_analysis`, what is known so early."""

  argument_size_in_bytes: int
  output_size_in_bytes: int
  alias_size_in_bytes: int
  temp_size_in_bytes: int
  generated_code_size_in_bytes: int = 0


def compile_without_code(
    lowered: Any, options: Mapping[str, Any]
) -> tuple[str, Stats]:
  """The program's text and its memory.

  The compiler cannot be told to stop: it goes on in a thread until the process
  ends, which `os._exit` does without waiting for it.

  Args:
    lowered: a `jax.stages.Lowered` for TPUs.
    options: the compiler's.

  Raises:
    jax.errors.JaxRuntimeError: the compiler refuses the program.
  """
  failed: list[Exception] = []
  folder = tempfile.mkdtemp(prefix="emma_plan_")
  dumps = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}

  def work():
    try:
      lowered.compile(compiler_options={**options, **dumps})
    except Exception as error:
      failed.append(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  while True:
    running = thread.is_alive()
    texts = glob.glob(os.path.join(folder, _TEXT))
    if texts:
      break
    if not running:
      raise failed[0] if failed else RuntimeError(
          f"The compiler wrote no {_TEXT} to {folder}.")
    time.sleep(_POLL)
  with open(_settled(texts[0])) as file:
    text = file.read()
  with open(_settled(glob.glob(os.path.join(folder, _BUFFERS))[0])) as file:
    return text, stats(file)


def stats(lines) -> Stats:
  """Sums of a buffer assignment, line by line.

  >>> stats(["allocation 1: size 64, output shape is |f32[16]|, maybe-live-out:",
  ...        "allocation 2: size 32, parameter 0, shape |f32[8]| at ShapeInde",
  ...        "allocation 3: size 99, preallocated-temp:",
  ...        "allocation 4: size 7, color 1, preallocated-temp:"])
  Stats(argument_size_in_bytes=32, output_size_in_bytes=64, \
alias_size_in_bytes=0, temp_size_in_bytes=99, generated_code_size_in_bytes=0)
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
    elif "preallocated-temp" in kind:
      temporary += size
  return Stats(arguments, outputs + shared, shared, temporary)


def _settled(path: str) -> str:
  """The same path, once nobody writes to the file any more."""
  size = -1
  while size != os.path.getsize(path):
    size = os.path.getsize(path)
    time.sleep(_POLL)
  return path
