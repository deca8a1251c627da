"""Several real processes (Gloo on this CPU) are one run."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

from emma_jax.checkpoints import weight_files
from emma_jax.exits import Exit
from tests import tiny
from tests.data import recorded
from tests.training.test_loop import STEPS

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 300  # seconds for what takes a few; a hang fails
# Sums over rows in another order; float32.
NEAR = dict(rel=1e-4, abs=1e-6)

MICRO = """
from configs import stages
from tests import tiny

def get_config():
  c = tiny.config()
  c.name = "micro"
  c.weights = ""
  c.data.threads = 1
  c.data.packing_groups = 2
  c.train.update(log_every=1, save_every=3, evaluate=False)
  c.stages = {"3_quality": stages.stage(
      "3_quality", steps=16, learning_rate=1e-3, schedule="constant",
      warmup_steps=0, ema_decay=0.9, load=((".*", "weights:{weights}"),),
      policy=(("heads/.*", "train"), (".*", "frozen")),  # compiles fast
      mixture=((0.0, dict(drawing=1.0)),), samples_per_batch=4, rows=4,
      und_tokens=64, und_pictures=0, references=0, targets=1)}
  return c
"""


def environment(root: pathlib.Path, **more: str) -> dict[str, str]:
  return (
    os.environ
    | {
      "EMMA_CACHE": str(root / "cache"),
      "PYTHONPATH": str(ROOT),
      "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles faster
      "EMMA_PEER_SECONDS": "10",
      "EMMA_START_SECONDS": "200",
    }
    | more
  )


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def toys(
  root: pathlib.Path, name: str, count: int, *options: str
) -> tuple[list[int], list[str]]:
  """Exit codes and outputs of the processes of one toy run."""
  address = f"127.0.0.1:{free_port()}"
  processes = []
  for i in range(count):
    env = environment(root)
    if count > 1:
      env |= {
        "EMMA_COORDINATOR": address,
        "EMMA_NUM_PROCESSES": str(count),
        "EMMA_PROCESS_ID": str(i),
      }
    processes.append(
      subprocess.Popen(
        [
          sys.executable,
          "-m",
          "tests.training.hosts",
          str(root / name),
          *options,
        ],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  said = [p.communicate(timeout=TIMEOUT)[0] for p in processes]
  return [p.returncode for p in processes], said


def logged(folder: pathlib.Path) -> list[dict]:
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in json.loads(x).items() if k != "timing"} for x in lines
  ]


def same(a: list[dict], b: list[dict]):
  assert [x["step"] for x in a] == [x["step"] for x in b]
  for x, y in zip(a, b):
    assert x.pop("stage") == y.pop("stage")
    assert x == pytest.approx(y, **NEAR)


def saved(folder: pathlib.Path) -> list[int]:
  return sorted(
    int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdigit()
  )


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def alone(root) -> pathlib.Path:
  codes, said = toys(root, "alone", 1)
  assert codes == [0], said
  return root / "alone"


@pytest.mark.slow
def test_four_processes_are_one_run_and_only_the_first_writes(root, alone):
  codes, said = toys(root, "four", 4)
  assert codes == [0] * 4, said
  same(logged(root / "four"), logged(alone))
  # All hold the same weights at the end.
  assert len({s.split("\nw ")[-1].split("\n")[0] for s in said}) == 1
  assert "Stage 1_pretraining" in said[0]
  assert not any("Stage" in s for s in said[1:])
  assert len(list((root / "four" / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_planned_batches_on_two_processes_are_those_of_one(root):
  """Each reads its rows; the account, and what is learned, is of all."""
  sources = root / "records"
  sources.mkdir()
  recorded.folders(sources)
  for name, count in (("planned_one", 1), ("planned_two", 2)):
    codes, said = toys(root, name, count, "--records", str(sources))
    assert codes == [0] * count, said
  one, two = logged(root / "planned_one"), logged(root / "planned_two")
  assert len(one) > 2 and one[-1]["realised/drawing"] > 0
  same(two, one)


@pytest.mark.slow
def test_sigterm_to_one_stops_all_and_one_process_goes_on(root, alone):
  """They save the same step; another number of processes continues."""
  codes, said = toys(root, "stopped", 2, "--at", "1=term", "--only", "1")
  assert codes == [Exit.STOPPED] * 2, said
  assert "by another process at step 2 of 1_pretraining; saved" in said[0]
  assert "by SIGTERM at step 2 of 1_pretraining; saved" in said[1]
  assert saved(root / "stopped") == [2]
  codes, said = toys(root, "stopped", 1)
  assert codes == [0], said
  assert "at stage 1_pretraining, step 2: 2 of 10 steps" in said[0]
  same(logged(root / "stopped"), logged(alone))
  assert saved(root / "stopped")[-1] == 2 * STEPS


@pytest.mark.slow
@pytest.mark.parametrize(
  "name, code", [("kill", -signal.SIGKILL), ("raise", 1)]
)
def test_a_dead_peer_ends_the_others_in_time(root, name, code):
  codes, said = toys(root, name, 2, "--at", f"4={name}", "--only", "1")
  assert codes[1] == code
  # JAX aborts, or the collective fails first; either is restarted.
  assert codes[0] not in (0, Exit.STOPPED, Exit.MISTAKE), said


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 1])
def test_a_save_that_fails_in_one_process_fails_in_both(root, alone, where):
  """Neither waits for the other's part; training goes on until it has to be
  saved, then both end. With room again nothing is lost."""
  name = f"full_{where}"
  codes, said = toys(root, name, 2, "--at", "1=full", "--only", str(where))
  assert codes == [Exit.STORAGE] * 2, said
  assert "the file is larger than the limit" in said[where], said
  assert "A save failed in another process" in said[1 - where], said
  assert not saved(root / name)
  codes, said = toys(root, name, 2)
  assert codes == [0, 0], said
  same(logged(root / name), logged(alone))


@pytest.mark.slow
def test_killed_at_random_and_restarted_two_processes_end_as_one(root):
  """The real model by the command line, under the supervisor."""
  (root / "micro.py").write_text(MICRO)
  weight_files.save_weights(root / "start.safetensors", tiny.params(), {})
  command = [
    sys.executable,
    "-m",
    "emma_jax.cli.train",
    "--config",
    str(root / "micro.py"),
    f"--config.weights={root / 'start.safetensors'}",
    "--workdir",
  ]
  supervisor = [
    sys.executable,
    "-m",
    "emma_jax.supervise",
    "--processes",
    "2",
    "--backoff",
    "0.1",
    "--",
    *command,
    str(root / "two"),
  ]
  where, when = random.randrange(2), random.randrange(4, 8)
  with (root / "two.txt").open("w") as log:
    process = subprocess.Popen(
      supervisor, env=environment(root), cwd=root, stdout=log, stderr=log
    )
    kill_one(process, root / "two", where, when)
    code = process.wait(TIMEOUT)
  said = (root / "two.txt").read_text()
  told = f"process {where} killed after step {when}\n{said}"
  assert code == 0, told
  assert f"process {where} ended with -9 (SIGKILL)" in said, told
  assert "goes on at stage 3_quality" in said, told
  done = subprocess.run(
    [*command, str(root / "one")],
    env=environment(root),
    cwd=root,
    capture_output=True,
    text=True,
    timeout=TIMEOUT,
  )
  assert done.returncode == 0, done.stderr
  same(logged(root / "two"), logged(root / "one"))
  assert len(logged(root / "one")) == 16, told


def kill_one(
  supervisor: subprocess.Popen, folder: pathlib.Path, where: int, when: int
):
  end = time.monotonic() + TIMEOUT
  log = folder / "metrics.jsonl"
  # Saving goes on in the background: something must be there to continue.
  while not (saved(folder) and len(log.read_bytes().splitlines()) >= when):
    assert supervisor.poll() is None, "ended before it was disturbed"
    assert time.monotonic() < end, "nothing happened"
    time.sleep(0.002)
  tasks = pathlib.Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
  children = sorted(map(int, tasks.read_text().split()))  # in order of start
  assert len(children) == 2
  os.kill(children[where], signal.SIGKILL)
