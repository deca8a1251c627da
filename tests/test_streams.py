"""Who stops reading, or begins without streams, loses words and no work."""

import errno
import io
import os
import subprocess
import sys

import pytest

from emma_jax import streams, terminal

_MANY = "print('x' * 100, flush=True)\n" * 4
_SAY = f"""
import sys
from emma_jax.cli import common
def main(argv):
  {_MANY.replace(chr(10), chr(10) + "  ")}
  print("word", file=sys.stderr)
  open(argv[0], "w").write("done")
  print("the last, which the buffer holds")
  return 3
sys.exit(common.run(main))
"""


def _run(shell: str, tmp_path, **environ: str) -> subprocess.CompletedProcess:
  """A command in bash, `$SAY` in it; the file `done` is where it ended."""
  (tmp_path / "say.py").write_text(_SAY)
  say = f"{sys.executable} {tmp_path / 'say.py'} {tmp_path / 'done'}"
  root = os.path.dirname(os.path.dirname(terminal.__file__))
  return subprocess.run(
    ["bash", "-c", f"set -o pipefail; {shell.replace('$SAY', say)}"],
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": root} | environ,
  )


@pytest.mark.smoke
@pytest.mark.parametrize(
  "shell",
  [
    "$SAY | true",
    "$SAY | head -n 1",
    "$SAY 2>&1 | true",
    "$SAY 2>&1 >/dev/null | true",
    "$SAY >&-",
    "$SAY 2>&-",
    "$SAY <&- >&- 2>&-",
  ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_work_is_done_and_its_code_is_the_commands(
  shell, unbuffered, tmp_path
):
  done = _run(shell, tmp_path, PYTHONUNBUFFERED=unbuffered)
  assert done.returncode == 3
  assert (tmp_path / "done").read_text() == "done"  # and no word of stderr
  assert "Traceback" not in done.stderr and "ignored" not in done.stderr


def test_other_failures_of_a_stream_are_told():
  """A log on a full disk is no reader that went away."""
  with open("/dev/full", "w") as full:
    stream = terminal.Guarded(full)
    stream.write("word")
    with pytest.raises(OSError) as error:
      stream.flush()
    assert error.value.errno == errno.ENOSPC
    assert streams.has_reader(full)
    streams._lead_nowhere(full.fileno(), os.O_WRONLY)  # for its close


def test_whoever_waits_for_words_learns_that_nobody_reads():
  read, write = os.pipe()
  os.close(read)
  with open(write, "w") as pipe:
    stream = terminal.Guarded(pipe)
    assert streams.has_reader(stream)
    stream.write("word")
    stream.flush()
    assert not streams.has_reader(stream)
  streams._LOST.discard(write)
  assert streams.has_reader(io.StringIO())
