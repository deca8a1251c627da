"""Who the other processes are, and which rows each of them feeds."""

import dataclasses
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from emma_jax import distributed, sharding
from emma_jax.distributed import Settings, StartError, settings
from emma_jax.exits import Exit

pytestmark = pytest.mark.smoke

HERE = dict(coordinator="10.0.0.1:8476", num_processes=4, process_id=3)


def test_alone_unless_told():
  assert settings({}) is None
  assert settings({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}) is None
  assert settings({"TPU_WORKER_HOSTNAMES": "localhost"}) is None
  for name in (
    "SLURM_STEP_NUM_TASKS",
    "OMPI_COMM_WORLD_SIZE",
    "MEGASCALE_NUM_SLICES",
  ):
    for text in ("1", "0", "", "two"):
      assert settings({name: text}) is None, (name, text)
  assert settings({"SLURM_STEP_NUM_TASKS": "8"}, "off") is None
  distributed.start(None)


@pytest.mark.parametrize(
  "environ, cluster",
  [
    ({"SLURM_STEP_NUM_TASKS": "8"}, "SLURM"),
    ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, "TPU"),
    ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "TPU"),
    ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, "TPU"),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
    ({"OMPI_COMM_WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "2"}, "SLURM"),
    ({"SLURM_STEP_NUM_TASKS": "2", "MEGASCALE_NUM_SLICES": "4"}, "TPU"),
    # One host by its own addresses, though another list names more.
    (
      {
        "TPU_PROCESS_ADDRESSES": "a:1",
        "TPU_WORKER_HOSTNAMES": "a,b",
        "OMPI_COMM_WORLD_SIZE": " 3 ",
      },
      "Open MPI",
    ),
  ],
)
def test_clusters_are_known_by_their_variables(environ, cluster):
  found = settings(environ)
  assert found == Settings(cluster=cluster)


def test_flags_win_over_variables_and_both_over_the_cluster():
  environ = {
    "EMMA_COORDINATOR": "h:1",
    "EMMA_NUM_PROCESSES": "2",
    "EMMA_PROCESS_ID": "1",
    "EMMA_PEER_SECONDS": "7",
    "SLURM_STEP_NUM_TASKS": "8",
  }
  assert settings(environ) == Settings(
    coordinator="h:1", num_processes=2, process_id=1, peer_seconds=7
  )
  assert settings(environ, **HERE) == Settings(**HERE, peer_seconds=7)
  assert settings(environ, process_id=0, num_processes=None).process_id == 0
  assert settings({}, "on").cluster == "JAX's own detection"


@pytest.mark.parametrize(
  "changes, words",
  [
    (dict(process_id=None), "process_id missing.*EMMA_PROCESS_ID"),
    (
      dict(coordinator=None, num_processes=None),
      "coordinator and num_processes missing",
    ),
    (dict(process_id=4), r"process_id=4 is outside of 0\.\.3"),
    (dict(coordinator="host"), "'host' is not HOST:PORT"),
    (dict(peer_seconds=0), "peer_seconds=0"),
  ],
)
def test_half_of_the_flags_and_wrong_ones_are_refused(changes, words):
  with pytest.raises(StartError, match=words):
    settings({}, **HERE | changes)


def test_every_field_has_its_variable_and_its_default():
  assert Settings() == Settings(
    coordinator=None,
    num_processes=None,
    process_id=None,
    cluster="",
    start_seconds=300,
    peer_seconds=60,
  )
  environ = {
    "EMMA_COORDINATOR": "a:9",
    "EMMA_NUM_PROCESSES": "5",
    "EMMA_PROCESS_ID": "4",
    "EMMA_START_SECONDS": "11",
    "EMMA_PEER_SECONDS": "12",
  }
  assert settings(environ) == Settings(
    coordinator="a:9",
    num_processes=5,
    process_id=4,
    start_seconds=11,
    peer_seconds=12,
  )
  # The cluster's run keeps what is said of patience.
  patient = {"EMMA_START_SECONDS": "11", "SLURM_STEP_NUM_TASKS": "2"}
  assert settings(patient) == Settings(cluster="SLURM", start_seconds=11)


@pytest.mark.parametrize("peer, farewell", [(60, 300), (301, 301)])
def test_joining_waits_as_long_as_it_was_told(peer, farewell, monkeypatch):
  """Our own message comes before JAX's; a writer's last save is waited for."""
  calls = []
  monkeypatch.setattr(
    "jax.distributed.initialize", lambda *a, **k: calls.append((a, k))
  )
  monkeypatch.setattr("jax.config.update", lambda *a: None)
  monkeypatch.setattr(distributed, "_joined", [])
  monkeypatch.setattr(distributed, "_restore_signals", lambda: None)
  distributed.start(Settings(**HERE, start_seconds=40, peer_seconds=peer))
  assert calls == [
    (
      ("10.0.0.1:8476", 4, 3),
      dict(
        initialization_timeout=70,
        heartbeat_timeout_seconds=peer,
        shutdown_timeout_seconds=farewell,
      ),
    )
  ]
  assert len(distributed._joined) == 1


def test_variables_are_numbers_and_modes_are_three():
  with pytest.raises(StartError, match="EMMA_PROCESS_ID='x' is no whole"):
    settings({"EMMA_PROCESS_ID": "x"})
  with pytest.raises(StartError, match="choose auto, on or off"):
    settings({}, "yes")


@pytest.mark.parametrize(
  "process_id, words",
  [
    (0, "not all processes came to 127.0.0.1:{port} within 1 s"),
    (1, "nothing listens at 127.0.0.1:{port} after 1 s"),
  ],
)
def test_who_finds_nobody_says_where_it_looked(process_id, words, repo):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  program = (
    "import os; from emma_jax import distributed as d; "
    "d.start(d.settings(os.environ))"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=repo,
    capture_output=True,
    text=True,
    timeout=120,
    env=os.environ
    | {
      "EMMA_COORDINATOR": f"127.0.0.1:{port}",
      "EMMA_NUM_PROCESSES": "2",
      "EMMA_PROCESS_ID": str(process_id),
      "EMMA_START_SECONDS": "1",
    },
  )
  assert done.returncode == Exit.UNREACHABLE
  assert f"error: process {process_id} of 2: " in done.stderr
  assert words.format(port=port) in done.stderr


def test_alone_an_exchange_gives_back_what_it_got():
  exchange = distributed.Exchange()
  assert exchange.add({"a": 3, "b": 0}) == {"a": 3, "b": 0}
  assert exchange.finish() is None


# ---------------------------------------------------------------- shares


@dataclasses.dataclass(frozen=True)
class Device:
  process_index: int
  number: int


@dataclasses.dataclass(frozen=True)
class Sharding:
  """Stands in for one over devices of several processes.

  `owners`: processes by place in the mesh, rows split over the first axis.
  """

  owners: np.ndarray

  def devices_indices_map(self, shape):
    size = shape[0] // len(self.owners)
    return {
      Device(p, (i, j)): (slice(i * size, (i + 1) * size),)
      for i, row in enumerate(self.owners.tolist())
      for j, p in enumerate(row)
    }


@pytest.mark.parametrize(
  "owners, shares",
  [
    ([[0], [1]], [(0, 2, True), (1, 2, True)]),
    # The mesh orders devices as the torus wants it.
    ([[1], [1], [0], [0]], [(1, 2, True), (0, 2, True)]),
    # A tensor axis over two hosts: both feed the same rows.
    (
      [[0, 1], [2, 3]],
      [(0, 2, True), (0, 2, False), (1, 2, True), (1, 2, False)],
    ),
    ([[0, 0]], [(0, 1, True)]),
  ],
)
def test_shares_follow_the_sharding(owners, shares, monkeypatch):
  where = Sharding(np.array(owners))
  for process, share in enumerate(shares):
    monkeypatch.setattr("jax.process_index", lambda p=process: p)
    got = sharding.share_of_rows(where, 8)
    assert (got.index, got.count, got.first) == share


def test_rows_of_a_process_follow_each_other(monkeypatch):
  monkeypatch.setattr("jax.process_index", lambda: 0)
  with pytest.raises(ValueError, match="do not follow each other"):
    sharding.share_of_rows(Sharding(np.array([[0], [1], [0], [1]])), 8)
  with pytest.raises(ValueError, match="unequal"):
    sharding.share_of_rows(Sharding(np.array([[0], [1], [1], [1]])), 8)
