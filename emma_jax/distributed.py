"""Several processes as one run: who starts whom, and what they tell each other.

Every process runs the same command. Where the others are comes from flags,
from EMMA_* variables (the supervisor and launch/ set them), or from the
cluster itself: a TPU slice or several, SLURM, Open MPI.
"""

from collections.abc import Callable, Mapping
import dataclasses
import os
import pathlib
import signal
import socket
import sys
import threading
from typing import Any
import uuid

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.exits import Exit

_joined: list = []  # the settings, once this process is one of several
_FLAGS = ("coordinator", "num_processes", "process_id")


class StartError(ValueError):
  """Flags or environment that do not say where the other processes are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How this process finds the others.

  Args:
    coordinator: host:port on which process 0 listens.
    num_processes: of the whole run.
    process_id: of this one, from 0.
    cluster: whose environment tells the three above where they are None.
    start_seconds: how long to wait until all are there.
    peer_seconds: how long a silent process counts as living; then all end.
  """

  coordinator: str | None = None
  num_processes: int | None = None
  process_id: int | None = None
  cluster: str = ""
  start_seconds: int = 300
  peer_seconds: int = 60

  def __post_init__(self):
    for name in ("start_seconds", "peer_seconds"):
      if getattr(self, name) < 1:
        raise StartError(f"{name}={getattr(self, name)} must be at least 1.")
    given = [getattr(self, name) for name in _FLAGS]
    if all(x is None for x in given):
      return
    if (
      self.coordinator is None
      or self.num_processes is None
      or self.process_id is None
    ):
      missing = [n for n, x in zip(_FLAGS, given) if x is None]
      raise StartError(
        f"{' and '.join(missing)} missing: give all of --coordinator "
        "HOST:PORT, --num_processes N and --process_id I (or "
        f"{', '.join(map(variable, _FLAGS))}), or none of them."
      )
    host, _, port = self.coordinator.rpartition(":")
    if not host or not port.isdigit():
      raise StartError(
        f"coordinator={self.coordinator!r} is not HOST:PORT, such as "
        "10.0.0.1:8476."
      )
    if not 0 <= self.process_id < self.num_processes:
      raise StartError(
        f"process_id={self.process_id} is outside of "
        f"0..{self.num_processes - 1} (num_processes={self.num_processes})."
      )


def variable(name: str) -> str:
  """The environment variable that stands for a flag.

  >>> variable("process_id")
  'EMMA_PROCESS_ID'
  """
  return f"EMMA_{name.upper()}"


def settings(
  environ: Mapping[str, str], mode: str = "auto", **flags: Any
) -> Settings | None:
  """What flags and environment say; None: this process is alone.

  >>> settings({"SLURM_STEP_NUM_TASKS": "2"}).cluster
  'SLURM'
  >>> settings({}) is None
  True

  Args:
    environ: such as `os.environ`.
    mode: "auto"; "on" asks JAX to detect the cluster even where nothing in
      the environment tells (TPU machines without GKE know it from their
      metadata server); "off" stays alone.
    **flags: fields of Settings; None where not given, then EMMA_* counts.

  Raises:
    StartError: half of the flags, or values that contradict each other.
  """
  if mode not in ("auto", "on", "off"):
    raise StartError(f"distributed={mode!r}: choose auto, on or off.")
  if mode == "off":
    return None
  given = {}
  for field in dataclasses.fields(Settings):
    value = flags.get(field.name)
    text = environ.get(variable(field.name))
    if value is None and text:
      try:
        value = text if field.name == "coordinator" else int(text)
      except ValueError as error:
        raise StartError(
          f"{variable(field.name)}={text!r} is no whole number."
        ) from error
    if value is not None:
      given[field.name] = value
  cluster = _cluster(environ)
  if any(name in given for name in _FLAGS):
    return Settings(**given)
  if not cluster and mode == "auto":
    return None
  return Settings(**given, cluster=cluster or "JAX's own detection")


def _cluster(environ: Mapping[str, str]) -> str:
  """The cluster whose variables tell of several processes, or ""."""
  many = lambda name: (
    environ.get(name, "").strip().isdigit() and int(environ[name]) > 1
  )
  hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get(
    "TPU_WORKER_HOSTNAMES", ""
  )
  if "," in hosts or many("MEGASCALE_NUM_SLICES"):
    return "TPU"
  # Of the step, not of the job: a batch script itself is one process.
  if many("SLURM_STEP_NUM_TASKS"):
    return "SLURM"
  return "Open MPI" if many("OMPI_COMM_WORLD_SIZE") else ""


def start(found: Settings | None) -> None:
  """Joins the other processes; before anything else asks JAX for devices.

  Does not return, but ends the process with code UNREACHABLE and a message,
  where not all processes are there in time: JAX itself aborts without one.

  Raises:
    StartError: the cluster's environment lacks something.
  """
  if found is None:
    return
  named = jax.config.jax_platforms  # type: ignore[attr-defined]  # dynamic
  if "cpu" in (named or "cpu"):
    # The CPU's own default has no collectives between processes.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
  where = found.coordinator or f"the coordinator that {found.cluster} names"
  who = (
    f"process {found.process_id} of {found.num_processes}"
    if found.coordinator
    else "this process"
  )
  print(
    f"{who}: joining at {where}, for at most {found.start_seconds} s.",
    file=sys.stderr,
    flush=True,
  )
  late = threading.Timer(found.start_seconds, _give_up, (found, where, who))
  late.daemon = True
  late.start()
  try:
    jax.distributed.initialize(
      found.coordinator,
      found.num_processes,
      found.process_id,
      # Later than our own message.
      initialization_timeout=found.start_seconds + 30,
      heartbeat_timeout_seconds=found.peer_seconds,
      # The others may still write a checkpoint when this one is done.
      shutdown_timeout_seconds=max(300, found.peer_seconds),
    )
  except (ValueError, TypeError, RuntimeError) as error:
    raise StartError(
      f"Joining {where} failed: {error} Give --coordinator, "
      "--num_processes and --process_id, or --distributed off to run "
      "alone."
    ) from error
  finally:
    late.cancel()
  _joined.append(found)
  _restore_signals()


def leave(code: int) -> None:
  """Ends the process; after a failure at once.

  The farewell that JAX says at exit would wait for processes that wait for
  this one.
  """
  if _joined and code not in (Exit.DONE, Exit.STOPPED):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(code)


def _restore_signals() -> None:
  """JAX's own notice of preemption must not swallow SIGTERM.

  It would wait for steps that ask it; `training.signals` asks the processes
  itself, and until training begins SIGTERM ends the process as ever.
  """
  if threading.current_thread() is threading.main_thread():
    former = signal.getsignal(signal.SIGTERM)  # as Python knows it
    signal.signal(signal.SIGTERM, former or signal.SIG_DFL)


def _give_up(found: Settings, where: str, who: str) -> None:
  if found.coordinator and not _listens(found.coordinator):
    text = (
      f"nothing listens at {where} after {found.start_seconds} s. Is "
      "process 0 running, the address right, and the port open to this "
      "host?"
    )
  else:
    text = (
      f"not all processes came to {where} within {found.start_seconds} "
      "s. Look for one that failed to start, or whose number of "
      "processes differs; --start_seconds waits longer."
    )
  print(f"error: {who}: {text}", file=sys.stderr, flush=True)
  os._exit(Exit.UNREACHABLE)  # the main thread waits inside JAX


def _listens(address: str) -> bool:
  host, _, port = address.rpartition(":")
  try:
    socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
  except OSError:
    return False
  return True


# ---------------------------------------------------------------- together


class Exchange:
  """Sums small counts over the processes, one call late.

  `add` gives the sum of what all processes gave to the call before: the
  devices are never waited for while they have nothing else to do, and all
  processes learn the same at the same call. Alone, `add` gives back its
  argument at once.
  """

  def __init__(self):
    self._pending = None

  def add(self, counts: Mapping[str, int]) -> dict[str, int] | None:
    """The sums of the call before (None at first); a collective.

    Args:
      counts: the same names on every process; whole numbers below 2^31.
    """
    if jax.process_count() == 1:
      return dict(counts)
    names = sorted(counts)
    mesh, sum_over = _processes()
    sharding = jax.sharding.NamedSharding(
      mesh, jax.sharding.PartitionSpec("process")
    )
    mine = np.array([[counts[n] for n in names]], np.int32)
    placed = jax.make_array_from_process_local_data(sharding, mine)
    before, self._pending = self._pending, (names, sum_over(placed))
    return self._read(before)

  def finish(self) -> dict[str, int] | None:
    """The sums of the last call, None where they were read already."""
    before, self._pending = self._pending, None
    return self._read(before)

  def _read(self, pending) -> dict[str, int] | None:
    if pending is None:
      return None
    names, sums = pending
    return dict(zip(names, map(int, np.asarray(sums.addressable_data(0)))))


def summed(counts: Mapping[str, int]) -> dict[str, int]:
  """Sums of small counts over all processes, which wait for each other.

  A collective; alone, a process gets back its argument.

  Args:
    counts: the same names on every process; whole numbers below 2^31.
  """
  exchange = Exchange()
  found = exchange.add(counts) or exchange.finish()
  assert found is not None  # what was just added
  return found


_cached: list = []


def _processes() -> tuple[jax.sharding.Mesh, Callable]:
  """A mesh of one device of each process, and the sum over it."""
  if not _cached:
    first: dict[int, Any] = {}
    for device in jax.devices():
      first.setdefault(device.process_index, device)
    devices = np.array([first[i] for i in sorted(first)])
    mesh = jax.sharding.Mesh(devices, ("process",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    add = jax.jit(lambda x: jnp.sum(x, 0), out_shardings=whole)
    _cached.append((mesh, add))
  return _cached[0]


def whole(tree: Any) -> Any:
  """Arrays that a process may use alone: of several, copies on its host.

  What lies on devices of many hosts only works in programs that all run.
  """
  if jax.process_count() == 1:
    return tree
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(tree, tiled=True)


def hosts() -> list[str]:
  """Names of the machines of all processes, sorted; a collective."""
  if jax.process_count() == 1:
    return [socket.gethostname()]
  from jax.experimental import multihost_utils

  name = np.zeros(256, np.uint8)
  own = socket.gethostname().encode()[:256]
  name[: len(own)] = np.frombuffer(own, np.uint8)
  names = multihost_utils.process_allgather(name)
  return sorted({bytes(n).rstrip(b"\0").decode() for n in names})


def devices() -> str:
  """All devices in words, such as "256 x TPU v5p"."""
  return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def check_shared(folder: pathlib.Path) -> None:
  """Raises StartError unless all processes see the same `folder`.

  Checkpoints are written by all of them; into folders of their own each
  would write a part that can never be read.
  """
  if jax.process_count() == 1:
    return
  from jax.experimental import multihost_utils

  token = np.frombuffer(uuid.uuid4().bytes, np.uint8)
  token = multihost_utils.broadcast_one_to_all(token).astype(np.uint8)
  file = folder / f".shared_{bytes(token).hex()[:16]}"
  if jax.process_index() == 0:
    file.touch()
  multihost_utils.sync_global_devices("shared folder: written")
  seen = multihost_utils.process_allgather(np.int32(file.exists()))
  if jax.process_index() == 0:
    file.unlink()
  blind = np.flatnonzero(np.ravel(seen) == 0)
  if blind.size:
    raise StartError(
      f"{folder} is not the same folder on all hosts: process "
      f"{', '.join(map(str, blind))} does not see what process 0 writes. "
      "Name one that all share (NFS, Lustre, a mounted bucket)."
    )
