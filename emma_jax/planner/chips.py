"""Chips by name, and descriptions of pods that nobody needs to own.

A TPU topology comes from libtpu, which knows every chip on any machine; a GPU
is described to XLA in a text, from which it compiles without a driver.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import math
import os
import re
from typing import Any

import jax


class PlanError(ValueError):
  """A plan that cannot be made; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """What one device (a chip; of v4 and tpu7x see `devices_per_chip`) can do.

  `hbm_bytes` is what a program may use: of a TPU what libtpu leaves, of a GPU
  the share that launch scripts give to JAX (XLA_PYTHON_CLIENT_MEM_FRACTION).
  `link_bytes` is the bandwidth of one ring, both directions, each device's;
  `network_bytes` its share of the network between slices or hosts.
  """

  name: str
  platform: str  # "tpu" or "cuda"
  hbm_bytes: int
  peak_flops: float  # dense, bfloat16
  hbm_bandwidth: float
  link_bytes: float
  network_bytes: float = 6.25e9
  clock_hz: float | None = None  # None: no cycles to convert
  axes: int = 0  # of the torus
  config_name: str = ""  # libtpu's, where the default is another
  devices_per_chip: int = 1
  target: str = ""  # description for XLA; GPUs only
  host_devices: int = 8  # GPUs joined by NVLink


_GIB = 2**30
# Public data sheets; usable memory as libtpu 0.0.42 reports it when a program
# does not fit. Clocks reproduce the peak on large matmuls; v6e's is assumed.
_TPUS = (
  Chip(
    name="v4",
    platform="tpu",
    hbm_bytes=int(30.5 * _GIB),
    peak_flops=275e12,
    hbm_bandwidth=1.2e12,
    link_bytes=90e9,
    clock_hz=1.05e9,
    axes=3,
    config_name="megacore",
  ),
  Chip(
    name="v5e",
    platform="tpu",
    hbm_bytes=int(15.75 * _GIB),
    peak_flops=197e12,
    hbm_bandwidth=0.81e12,
    link_bytes=90e9,
    clock_hz=1.5e9,
    axes=2,
  ),
  Chip(
    name="v5p",
    platform="tpu",
    hbm_bytes=int(95.74 * _GIB),
    peak_flops=459e12,
    hbm_bandwidth=2.765e12,
    link_bytes=180e9,
    clock_hz=1.75e9,
    axes=3,
  ),
  Chip(
    name="v6e",
    platform="tpu",
    hbm_bytes=int(31.25 * _GIB),
    peak_flops=918e12,
    hbm_bandwidth=1.64e12,
    link_bytes=180e9,
    clock_hz=1.75e9,
    axes=2,
  ),
  # Two devices a chip, each with half of everything.
  Chip(
    name="tpu7x",
    platform="tpu",
    hbm_bytes=int(94.75 * _GIB),
    peak_flops=1153e12,
    hbm_bandwidth=3.69e12,
    link_bytes=180e9,
    axes=3,
    devices_per_chip=2,
  ),
)

_H100: dict[str, Any] = dict(
  name="NVIDIA H100 80GB HBM3",
  cores=132,
  major=9,
  minor=0,
  fpus=128,
  shared_core=233472,
  shared_block=232448,
  l2=52428800,
  clock=1.98,
  bandwidth=3_352_320_000_000,
  memory=84_942_979_072,
)
_GPU_TARGETS: dict[str, dict[str, Any]] = {
  "h100": _H100,
  "h200": _H100
  | dict(
    name="NVIDIA H200", bandwidth=4_800_000_000_000, memory=150_121_545_728
  ),
  "a100": dict(
    name="NVIDIA A100-SXM4-80GB",
    cores=108,
    major=8,
    minor=0,
    fpus=64,
    shared_core=167936,
    shared_block=166912,
    l2=41943040,
    clock=1.41,
    bandwidth=2_039_000_000_000,
    memory=84_987_740_160,
  ),
}
_GPU_FLOPS = {"h100": 989.4e12, "h200": 989.4e12, "a100": 312e12}
_NVLINK = {"h100": 450e9, "h200": 450e9, "a100": 300e9}  # one direction
_SHARE = 0.9  # of a GPU's memory


def _target(d: Mapping[str, Any]) -> str:
  """XLA's description of a GPU, as protocol buffer text."""
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {d["shared_core"]}
  threads_per_core_limit: 2048
  core_count: {d["cores"]}
  fpus_per_core: {d["fpus"]}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {d["bandwidth"]}
  l2_cache_size: {d["l2"]}
  clock_rate_ghz: {d["clock"]}
  device_memory_size: {d["memory"]}
  shared_memory_per_block_optin: {d["shared_block"]}
  cuda_compute_capability {{ major: {d["major"]} minor: {d["minor"]} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{d["name"]}"
"""


_GPUS = tuple(
  Chip(
    name=name,
    platform="cuda",
    hbm_bytes=int(d["memory"] * _SHARE),
    peak_flops=_GPU_FLOPS[name],
    hbm_bandwidth=float(d["bandwidth"]),
    link_bytes=_NVLINK[name],
    network_bytes=50e9,
    target=_target(d),
  )
  for name, d in _GPU_TARGETS.items()
)

CHIPS = {chip.name: chip for chip in (*_TPUS, *_GPUS)}

# What JAX calls a TPU -> its chip; a GPU's name is that of its description.
_KINDS = {
  "TPU v4": "v4",
  "TPU v5 lite": "v5e",
  "TPU v5": "v5p",
  "TPU v5p": "v5p",
  "TPU v6 lite": "v6e",
  "TPU7x": "tpu7x",
}


def usable_bytes(kind: str) -> int | None:
  """Bytes that programs can have of a device of that kind, at most; None: it is
  none of the table. Of a GPU all of it.

  >>> usable_bytes("TPU v5 lite") == CHIPS["v5e"].hbm_bytes
  True
  >>> usable_bytes("NVIDIA H100 80GB HBM3")
  84942979072
  """
  gpus = {d["name"]: d["memory"] for d in _GPU_TARGETS.values()}
  if kind in _KINDS:
    return CHIPS[_KINDS[kind]].hbm_bytes
  return gpus.get(kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """A pod slice or GPUs, and how many slices of it."""

  chip: Chip
  sizes: tuple[int, ...]  # of the torus; of GPUs their number
  slices: int = 1

  @property
  def chips(self) -> int:
    """Chips of all slices."""
    return math.prod(self.sizes) * self.slices

  @property
  def devices(self) -> int:
    """What JAX sees: of some chips two each."""
    return self.chips * self.chip.devices_per_chip

  def __str__(self) -> str:
    name = f"{self.chip.name}:{'x'.join(map(str, self.sizes))}"
    return f"{self.slices} x {name}" if self.slices > 1 else name


def topology(name: str, slices: int = 1) -> Topology:
  """`v5p:4x4x4`, `v5e:16x16`, `h100:8`, ...

  >>> topology("v6e:16x16", 2).chips
  512

  Raises:
    PlanError: a name that is no chip's, or sizes it cannot have.
  """
  kind, _, text = name.partition(":")
  if kind not in CHIPS:
    raise PlanError(
      f"Unknown topology {name!r}: chips are {', '.join(CHIPS)}. Write "
      "v5e:16x16, v5p:4x4x4 or h100:8."
    )
  chip = CHIPS[kind]
  example = (
    "h100:8"
    if chip.platform == "cuda"
    else f"{kind}:{'x'.join(['4'] * chip.axes)}"
  )
  if not re.fullmatch(r"\d+(x\d+)*", text):
    raise PlanError(f"Topology {name!r} lacks its size: write {example}.")
  sizes = tuple(map(int, text.split("x")))
  if len(sizes) != (chip.axes or 1) or min(sizes) < 1:
    raise PlanError(
      f"Topology {name!r}: a {kind} has {chip.axes or 1} axes; write {example}."
    )
  if slices < 1 or (slices > 1 and chip.platform == "cuda"):
    raise PlanError(
      f"{slices=}: give 1 or more, and 1 for GPUs (name them "
      "all, as h100:64; hosts of 8 are joined by the network)."
    )
  if (
    chip.platform == "cuda"
    and sizes[0] > chip.host_devices
    and sizes[0] % chip.host_devices
  ):
    raise PlanError(
      f"Topology {name!r}: beyond {chip.host_devices} GPUs give "
      f"a multiple of {chip.host_devices}, whole hosts."
    )
  return Topology(chip=chip, sizes=sizes, slices=slices)


def describe(wanted: Topology) -> Sequence[jax.Device]:
  """Devices to compile for; nothing can run on them.

  Raises:
    PlanError: a compiler that is missing or does not belong to this jax, or
      sizes that it refuses.
  """
  from jax.experimental import topologies  # opens the compiler's library

  chip = wanted.chip
  if chip.platform == "cuda":
    check_cuda()
    count = wanted.sizes[0]
    hosts = -(-count // chip.host_devices)
    options: dict[str, Any] = dict(
      target_config=chip.target, topology=f"1x{hosts}x{count // hosts}"
    )
    name = ""
  else:
    check_libtpu()
    name = f"{chip.name}:{'x'.join(map(str, wanted.sizes))}"
    options = {}
    if wanted.slices > 1:
      options["num_slices"] = wanted.slices
    if chip.config_name:
      options["chip_config_name"] = chip.config_name
  _quiet()
  try:
    found = topologies.get_topology_desc(name, chip.platform, **options)
  except Exception as error:
    reason = str(error).splitlines()[0]
    raise PlanError(f"The compiler refuses {wanted}: {reason}") from error
  devices = list(found.devices)
  if len(devices) != wanted.devices:
    raise PlanError(
      f"{wanted} has {len(devices)} devices here, not "
      f"{wanted.devices} as the planner's table says."
    )
  return devices


def _quiet() -> None:
  """libtpu looks for the machine it would run on; this one need not be any."""
  for key, value in (
    ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
    ("TPU_SKIP_MDS_QUERY", "1"),
    ("TF_CPP_MIN_LOG_LEVEL", "3"),
  ):
    os.environ.setdefault(key, value)


# ------------------------------------------------------------------- pairs


def check_libtpu() -> None:
  """Raises PlanError unless libtpu is the one that this jax is made for.

  With another one compiling seems to work, until reading the program fails.
  """
  wanted = required_libtpu()
  command = f'pip install "jax[tpu]=={jax.__version__}"'
  try:
    found = importlib.metadata.version("libtpu")
  except importlib.metadata.PackageNotFoundError as error:
    raise PlanError(
      f"Compiling for TPUs needs libtpu {wanted}, which belongs to jax "
      f"{jax.__version__} and runs on any Linux machine: {command}"
    ) from error
  if not matches(found, wanted):
    raise PlanError(
      f"jax {jax.__version__} and libtpu {found} are no pair: this jax is "
      f"made for libtpu {wanted}. Install the pair: {command}"
    )


def required_libtpu() -> str:
  """What the installed jax asks for, such as 0.0.42.*."""
  for line in importlib.metadata.requires("jax") or ():
    found = re.match(r"libtpu\s*==\s*([\d.*]+)", line)
    if found:
      return found.group(1)
  raise PlanError(
    f"jax {jax.__version__} does not say which libtpu it needs; "
    "install a released jax."
  )


def matches(version: str, pattern: str) -> bool:
  """Whether a version is one of `0.0.42.*`.

  >>> matches("0.0.42.1", "0.0.42.*"), matches("0.0.52", "0.0.42.*")
  (True, False)
  """
  if not pattern.endswith(".*"):
    return version == pattern
  return f"{version}.".startswith(pattern[:-1])


def check_cuda() -> None:
  """Raises PlanError unless XLA for GPUs is there, as old as this jax."""
  for major in ("13", "12"):
    try:
      found = importlib.metadata.version(f"jax-cuda{major}-plugin")
    except importlib.metadata.PackageNotFoundError:
      continue
    if found != jax.__version__:
      raise PlanError(
        f"jax {jax.__version__} and jax-cuda{major}-plugin {found} are no "
        f'pair. Install the pair: pip install "jax[cuda{major}]=='
        f'{jax.__version__}"'
      )
    return
  raise PlanError(
    "Compiling for GPUs needs XLA's part for them, but no GPU "
    'and no driver: pip install "emma-jax[cuda]"'
  )
