"""Real data workers that are killed, or whose trainer is."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from emma_jax import processes
from emma_jax.exits import Exit
from tests.data import made

TIMEOUT = 60  # seconds for what takes ten; a hang fails
PROGRAM = """
import multiprocessing, os, sys, time
from emma_jax.data.loading import dataset
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.batching.mixture import Phase
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.text.tokenizer import TinyTokenizer

FIT = Preprocess(
    height=64, width=64, native=False, min_tokens=1, max_tokens=4,
    codec="pillow", fit="pad", max_crop=0.0)

def main():
  config = dataset.DataConfig(
      seed=0, sources={"a": sys.argv[1]}, phases=(Phase(
          {"a": 1}, steps=None, unit="samples", even_buckets=False,
          row={}),),
      samples_per_batch=4, framing=Framing(
          understanding=FIT, generation=FIT, buckets=()),
      latent_settings=None, packing_groups=1,
      plan_segment=1, text_dropout=0.1, reference_dropout=0.1,
      max_turns=None, max_pixels=10**6, max_bad_share=0.01, min_samples=1000,
      workers=0, threads=2, prefetch_batches=4,
      layout=Layout(rows=2, und_tokens=200, und_pictures=0, references=0,
                    targets=2, height=64, width=64, und_patches=0,
                    latent_channels=0, fusion="channel",
                    reference_branch="gen"))
  source = dataset.open_pipeline(config, TinyTokenizer(["red"]))
  with dataset.stream(source, num_workers=2, buffer=2) as batches:
    next(batches)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()),
          flush=True)
    if sys.argv[2] == "dies":
      os.kill(os.getpid(), 9)
    for _ in batches:
      time.sleep(0.01)

if __name__ == "__main__":
  main()
"""


def _environment(repo: Path) -> dict[str, str]:
  """Not of a trainer's children, as those of this process are once a test has
  read with workers here: the one it belongs to sweeps, so not its children."""
  mine = {k: v for k, v in os.environ.items() if k != processes._VARIABLE}
  return mine | {"PYTHONPATH": str(repo)}


def _start(tmp_path: Path, repo: Path, what: str, *before: str):
  (tmp_path / "a.png").write_bytes(made.noise())
  rows = [{"image": "a.png", "caption": f"red {i}"} for i in range(8)]
  path = made.jsonl(tmp_path / "rows.jsonl", *rows)
  program = tmp_path / "program.py"
  program.write_text(PROGRAM)
  return subprocess.Popen(
    [*before, sys.executable, str(program), f"jsonl:{path}", what],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
    env=_environment(repo),
  )


def _shared() -> set[str]:
  return {n for n in os.listdir("/dev/shm") if n.startswith("emma_")}


def _left(before: set[str]) -> set[str]:
  """New shared memory that stays; that of other tests comes and goes."""
  left, end = _shared() - before, time.monotonic() + TIMEOUT
  while left and time.monotonic() < end:
    time.sleep(0.1)
    left &= _shared()
  return left


def _gone(pids: list[int]) -> bool:
  end = time.monotonic() + TIMEOUT
  while time.monotonic() < end:
    states = []
    for pid in pids:
      try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        states.append(stat.rpartition(")")[2].split()[0])
      except OSError:
        states.append("Z")
    if set(states) <= {"Z"}:
      return True
    time.sleep(0.05)
  return False


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_with_a_message(tmp_path, repo):
  before = _shared()
  process = _start(tmp_path, repo, "works")
  pids = [int(word) for word in process.stdout.readline().split()]
  assert len(pids) == 2, process.communicate()[1]
  assert _shared() - before, "arrays do not travel by named shared memory"
  os.kill(pids[0], signal.SIGKILL)
  _, said = process.communicate(timeout=TIMEOUT)
  assert process.returncode == 1
  assert "DataWorkerDied: A data worker was killed (exit code -9" in said
  assert "start again from the last checkpoint" in said
  assert _gone(pids) and not _left(before)


@pytest.mark.slow
@pytest.mark.parametrize("supervised", [True, False])
def test_nothing_is_left_of_a_trainer_that_is_killed(
  tmp_path, repo, supervised
):
  """Grain's own workers are deaf to signals and would live for ever."""
  before = _shared()
  launcher = (
    [sys.executable, "-m", "emma_jax.supervise", "--max_restarts", "0", "--"]
    if supervised
    else []
  )
  process = _start(tmp_path, repo, "dies", *launcher)
  pids = [int(word) for word in process.stdout.readline().split()]
  assert len(pids) == 2, process.communicate()[1]
  _, said = process.communicate(timeout=TIMEOUT)
  assert process.returncode == (Exit.GAVE_UP if supervised else -9), said
  assert _gone(pids) and not _left(before)


SHARER = """
import itertools, multiprocessing, os, sys
from multiprocessing import shared_memory
from emma_jax import processes

def work(started):
  processes.begin()
  prefix = shared_memory._SHM_NAME_PREFIX  # as if killed before it registers
  for i in itertools.count():
    open(f"/dev/shm{prefix}{i}", "w").close()
    started.set()

def main():
  processes.share()
  context = multiprocessing.get_context("spawn")
  started = context.Event()
  context.Process(target=work, args=(started,), daemon=True).start()
  started.wait()
  if sys.argv[1] == "dies":
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
  main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is Linux's")
@pytest.mark.parametrize("how, code", [("ends", 0), ("dies", -9)])
def test_a_worker_that_shares_to_the_last_leaves_nothing(
  tmp_path, repo, how, code
):
  before = _shared()
  program = tmp_path / "program.py"
  program.write_text(SHARER)
  done = subprocess.run(
    [sys.executable, str(program), how], timeout=TIMEOUT, env=_environment(repo)
  )
  assert done.returncode == code
  assert not _left(before)


def test_a_block_that_nobody_registered_is_swept():
  """As of a worker that is killed right after it made one."""
  name = processes.token()
  paths = [Path("/dev/shm", f"emma_{n}_1") for n in (name, f"x{name}")]
  for path in paths:
    path.write_bytes(b"")
  processes.sweep(name)
  assert [path.exists() for path in paths] == [False, True]
  paths[1].unlink()


@pytest.mark.smoke
def test_other_errors_stay_what_they_are():
  error = RuntimeError("out of cheese")
  assert processes.explained(error, 3) is error
