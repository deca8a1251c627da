"""Chips by name: what data sheets, CUDA and libtpu say of each."""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """What one device (a chip; of v4 and tpu7x see `devices_per_chip`) can do.

  `hbm_bytes` is what a program may use: of a TPU what libtpu leaves, of a GPU
  the share that launch scripts give to JAX (XLA_PYTHON_CLIENT_MEM_FRACTION).
  `link_bytes` is the bandwidth of one ring, both directions, each device's;
  `network_bytes` its share of the network between slices or hosts. A TPU that
  the installed libtpu lacks is `compiled_as` the nearest one that it knows; its
  own are the numbers here, so leave `clock_hz` out: times are a roofline's.
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
  compiled_as: str = ""  # libtpu's name of the chip; "": the same
  devices_per_chip: int = 1
  target: str = ""  # description for XLA; GPUs only
  host_devices: int = 8  # GPUs joined by NVLink


_GIB = 2**30
# Public data sheets; memory of GPUs as CUDA reports it, with ECC where that is
# the default; usable memory of TPUs as libtpu 0.0.42 reports it when a program
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
_A100: dict[str, Any] = dict(
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
)
# Of people's own machines, and of small servers.
_AMPERE: dict[str, Any] = dict(
  major=8,
  minor=6,
  fpus=128,
  shared_core=102400,
  shared_block=101376,
  threads=1536,
)
_ADA = _AMPERE | dict(minor=9)
_GPU_TARGETS: dict[str, dict[str, Any]] = {
  "h100": _H100,
  "h200": _H100
  | dict(
    name="NVIDIA H200", bandwidth=4_800_000_000_000, memory=150_121_545_728
  ),
  "a100": _A100,
  "a100-40gb": _A100
  | dict(
    name="NVIDIA A100-SXM4-40GB",
    bandwidth=1_555_200_000_000,
    memory=42_331_013_120,
  ),
  "a6000": _AMPERE
  | dict(
    name="NVIDIA RTX A6000",
    cores=84,
    l2=6_291_456,
    clock=1.8,
    bandwidth=768_096_000_000,
    memory=51_041_271_808,
  ),
  "rtx3090": _AMPERE
  | dict(
    name="NVIDIA GeForce RTX 3090",
    cores=82,
    l2=6_291_456,
    clock=1.695,
    bandwidth=936_096_000_000,
    memory=int(23.69 * _GIB),
  ),
  "l4": _ADA
  | dict(
    name="NVIDIA L4",
    cores=58,
    l2=50_331_648,
    clock=2.04,
    bandwidth=300_096_000_000,
    memory=int(22.03 * _GIB),
  ),
  "l40s": _ADA
  | dict(
    name="NVIDIA L40S",
    cores=142,
    l2=100_663_296,
    clock=2.52,
    bandwidth=864_096_000_000,
    memory=45_467 * 2**20,
  ),
  "rtx4090": _ADA
  | dict(
    name="NVIDIA GeForce RTX 4090",
    cores=128,
    l2=75_497_472,
    clock=2.52,
    bandwidth=1_008_096_000_000,
    memory=int(23.64 * _GIB),
  ),
}
# Dense products of bfloat16 that are summed in float32.
_GPU_FLOPS = {
  "h100": 989.4e12,
  "h200": 989.4e12,
  "a100": 312e12,
  "a100-40gb": 312e12,
  "a6000": 154.8e12,
  "l4": 121e12,
  "l40s": 362e12,
  "rtx3090": 71e12,
  "rtx4090": 165.2e12,
}
# One direction, NVLink; without it PCIe 4.0 of 16 lanes.
_LINKS = {"h100": 450e9, "h200": 450e9, "a100": 300e9, "a100-40gb": 300e9}
_PCIE = 32e9
_SHARE = 0.9  # of a GPU's memory


def _target(d: Mapping[str, Any]) -> str:
  """XLA's description of a GPU, as protocol buffer text."""
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {d["shared_core"]}
  threads_per_core_limit: {d.get("threads", 2048)}
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
    link_bytes=_LINKS.get(name, _PCIE),
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


def of_kind(kind: str) -> Chip | None:
  """The chip of a device by what JAX calls it; None: it is none of the table.

  >>> of_kind("NVIDIA GeForce RTX 4090").name, of_kind("TPU v6 lite").name
  ('rtx4090', 'v6e')
  >>> of_kind("NVIDIA L40")
  """
  if kind in _KINDS:
    return CHIPS[_KINDS[kind]]
  text = kind.lower().replace("rtx ", "rtx")
  for name, chip in CHIPS.items():
    if re.search(rf"{name}(?![0-9a-z])", text):
      return chip
  return None
