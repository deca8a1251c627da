"""The supervisor with small stand-ins for a trainer."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from emma_jax import supervise
from emma_jax.exits import Exit

ROOT = pathlib.Path(__file__).parents[1]
TIMEOUT = 120  # seconds for what takes one; a hang fails


def start(program: str, *options: str, **more) -> subprocess.Popen:
  # Without what the run of the tests itself was told.
  own = {k: v for k, v in os.environ.items() if not k.startswith("EMMA_")}
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "emma_jax.supervise",
      "--backoff",
      "0.01",
      *options,
      "--",
      sys.executable,
      "-c",
      program,
    ],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=own | {"PYTHONPATH": str(ROOT)},
    **more,
  )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
  out, err = process.communicate(timeout=TIMEOUT)
  return process.returncode, out, err


@pytest.mark.smoke
def test_processes_are_told_who_they_are():
  # Each line in one write: the two processes share a pipe.
  code, out, _ = ended(
    start(
      "import os; os.write(1, b' '.join(sorted(os.fsencode(v) for k, v in "
      "os.environ.items() if k.startswith('EMMA_'))) + b'\\n')",
      "--processes",
      "2",
      "--first_process",
      "1",
      "--num_processes",
      "3",
      "--coordinator",
      "10.0.0.1:99",
    )
  )
  assert code == 0
  assert sorted(out.splitlines()) == ["1 10.0.0.1:99 3", "10.0.0.1:99 2 3"]


def test_one_death_ends_all_and_all_start_again(tmp_path):
  """The first process dies once; the second would wait for ever."""
  program = f"""
import os, pathlib, time
root, me = pathlib.Path({str(tmp_path)!r}), os.environ["EMMA_PROCESS_ID"]
(root / f"{{me}}_{{os.getpid()}}").touch()
if len(list(root.glob(me + "_*"))) == 1:
  if me == "0":
    while not list(root.glob("1_*")): time.sleep(0.01)
    os.kill(os.getpid(), 9)
  time.sleep(1000)
"""
  code, _, err = ended(start(program, "--processes", "2"))
  assert code == 0
  assert "process 0 ended with -9 (SIGKILL)" in err and "restart 1 of" in err
  assert len(list(tmp_path.glob("0_*"))) == len(list(tmp_path.glob("1_*"))) == 2


@pytest.mark.parametrize(
  "program, code, words",
  [
    ("import sys; sys.exit(2)", Exit.MISTAKE, "ended with 2"),
    ("import sys; sys.exit(76)", Exit.NOT_FINITE, "ended with 76"),
    ("import sys; sys.exit(73)", Exit.IN_USE, "ended with 73"),
    ("import sys; sys.exit(5)", Exit.GAVE_UP, "giving up after 1"),
    ("import sys; sys.exit(75)", Exit.STOPPED, ""),
  ],
)
def test_exit_codes(program, code, words):
  got, _, err = ended(start(program, "--max_restarts", "1"))
  assert (got, words in err) == (code, True), err


def start_two(program: str) -> subprocess.Popen:
  """Two processes, both of which have said that they are ready."""
  process = start(program, "--processes", "2")
  for _ in range(2):
    assert process.stdout.readline() == "ready\n"
  return process


@pytest.mark.parametrize("signals, code", [(1, Exit.STOPPED), (2, Exit.KILLED)])
def test_sigterm_is_passed_on_and_a_second_one_kills(signals, code):
  """The children obey the first only where there is just one."""
  program = f"""
import os, signal, sys, time
def stop(*_):
  os.write(1, b"asked\\n")
  if {signals} == 1: sys.exit(75)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"ready\\n")
while True: time.sleep(0.05)
"""
  process = start_two(program)
  process.terminate()
  for _ in range(2):
    assert process.stdout.readline() == "asked\n"
  if signals == 2:
    process.send_signal(signal.SIGINT)
  assert ended(process)[0] == code


@pytest.mark.usefixtures("hangups_heard")
def test_a_closed_terminal_asks_once_however_often_it_says_so():
  """The kernel and the shell both do."""
  program = """
import os, signal, sys, time
def stop(*_):
  time.sleep(0.5)
  sys.exit(75)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"ready\\n")
while True: time.sleep(0.05)
"""
  process = start_two(program)
  for _ in range(3):
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
  assert ended(process)[0] == Exit.STOPPED


def test_no_worker_and_no_shared_memory_survives():
  """As Grain's: spawned, deaf to signals, holding named shared memory."""
  program = """
import multiprocessing, os, signal, time
from multiprocessing import shared_memory
context = multiprocessing.get_context("spawn")
block = shared_memory.SharedMemory(create=True, size=64)
worker = context.Process(target=time.sleep, args=(1000,))
for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, signal.SIG_IGN)
worker.start()
print(block.name, worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
  code, out, err = ended(start(program, "--max_restarts", "0"))
  assert code == Exit.GAVE_UP, err
  name, worker = out.split()
  assert not pathlib.Path("/dev/shm", name).exists()
  assert not alive(int(worker))


def test_children_stop_when_the_supervisor_itself_is_killed():
  program = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
  process = start(program)
  child = int(process.stdout.readline())
  process.kill()
  process.communicate()
  end = time.monotonic() + TIMEOUT
  while alive(child):
    assert time.monotonic() < end
    time.sleep(0.02)


def alive(pid: int) -> bool:
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
  except OSError:
    return False
  return state.split()[0] != "Z"


@pytest.mark.parametrize(
  "options",
  [
    [],
    ["--processes", "0", "--", "true"],
    ["--num_processes", "4", "--", "true"],  # no coordinator
    ["--first_process", "3", "--num_processes", "3", "--", "true"],
  ],
)
def test_mistakes_are_told(options, capsys):
  assert supervise.main(options) == Exit.MISTAKE
  assert "error: " in capsys.readouterr().err
