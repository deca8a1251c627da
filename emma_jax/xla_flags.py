"""XLA's flags for each chip, one table, the reason beside each.

  eval "$(python -m emma_jax.xla_flags v5p)"

prints what a shell exports: LIBTPU_INIT_ARGS on TPUs (their compiler reads no
other), XLA_FLAGS and the like on GPUs. What the variables hold already comes
last, and so wins. Every line is compiled in the tests for its chip with the
libtpu that belongs to the jax in use; stale flags are rejected there.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import importlib.util
import os
import pathlib
import shlex
import sys


@dataclasses.dataclass(frozen=True)
class Flag:
  """A flag of the compiler, or (without --) a variable of the environment."""

  name: str
  value: str
  reason: str


def _vmem(mebibytes: int) -> Flag:
  # Compiling takes longer the larger the tiles; a v5e gains nothing, by the
  # compiler's cycles of the 4B's MLP, from more than it has here.
  return Flag(
    "--xla_tpu_scoped_vmem_limit_kib",
    str(1024 * mebibytes),
    "more scoped memory: larger tiles, matmuls nearer to the peak",
  )


_DATA_PARALLEL = (
  Flag(
    "--xla_tpu_enable_data_parallel_all_reduce_opt",
    "true",
    "gradients of several slices are reduced while the backward runs",
  ),
  Flag(
    "--xla_tpu_data_parallel_opt_different_sized_ops",
    "true",
    "the same for gradients of unequal size, which layers have",
  ),
)
_REDUCE_SCATTER = Flag(
  "--xla_tpu_enable_sparse_core_collective_offload_nd_reduce_scatter",
  "true",
  "gradients go by reduce-scatter; without it each is reduced everywhere",
)
# The set of the newest published recipes, without what compilers now refuse.
_SPARSE_CORE = (
  Flag(
    "--xla_tpu_enable_sparse_core_reduce_scatter_v2",
    "true",
    "reduce-scatter on the SparseCore, beside the matmuls",
  ),
  _REDUCE_SCATTER,
  Flag(
    "--xla_tpu_enable_sparse_core_collective_offload_reduce_scatter",
    "true",
    "the same on one axis",
  ),
  Flag(
    "--xla_tpu_enable_sparse_core_collective_offload_all_gather",
    "true",
    "weights are gathered by the SparseCore, beside the matmuls",
  ),
  Flag(
    "--xla_tpu_enable_sparse_core_collective_offload_2d_all_gather",
    "true",
    "the same over two axes of the torus",
  ),
  Flag(
    "--xla_tpu_enable_sparse_core_collective_offload_3d_all_gather",
    "true",
    "the same over three",
  ),
  Flag(
    "--xla_tpu_enable_sparse_core_collective_offload_all_reduce",
    "true",
    "what remains of all-reduces (norms, replicated axes) goes there too",
  ),
  Flag(
    "--xla_tpu_use_single_sparse_core_for_all_gather_offload",
    "true",
    "one SparseCore gathers; the other is free for the gradients",
  ),
  Flag(
    "--xla_tpu_use_tc_device_shape_on_sc",
    "true",
    "no relayout between TensorCore and SparseCore",
  ),
  Flag(
    "--xla_sc_disable_megacore_partitioning",
    "true",
    "each SparseCore serves both TensorCores of a chip",
  ),
  Flag(
    "--xla_enable_async_all_gather",
    "true",
    "a gather may start before its weights are needed",
  ),
  Flag(
    "--xla_tpu_prefer_async_allgather_to_allreduce",
    "true",
    "a 3-D torus would gather by all-reduce of zero-padded buffers",
  ),
  Flag(
    "--xla_tpu_enable_latency_hiding_layer_scheduler",
    "true",
    "the next layer's gather runs under this layer's matmuls",
  ),
  Flag(
    "--xla_tpu_enable_layer_scheduler_for_dependent_collectives",
    "true",
    "also where a collective waits for another",
  ),
  Flag(
    "--xla_tpu_scheduler_percent_shared_memory_limit",
    "150",
    "room for the gathers that run ahead",
  ),
  Flag(
    "--xla_tpu_enable_sparse_core_collective_aggregator",
    "true",
    "small collectives travel together",
  ),
  Flag(
    "--xla_tpu_enable_all_gather_offload_tracing",
    "true",
    "the offloaded gathers are seen in profiles",
  ),
)
_GPU = (
  Flag(
    "--xla_gpu_enable_latency_hiding_scheduler",
    "true",
    "collectives start early and run under the matmuls",
  ),
  Flag(
    "--xla_gpu_all_gather_combine_threshold_bytes",
    "536870912",
    "at least a layer's weights in one gather",
  ),
  Flag(
    "--xla_gpu_reduce_scatter_combine_threshold_bytes",
    "536870912",
    "at least a layer's gradients in one reduce-scatter",
  ),
  Flag(
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "0.9",
    "of the memory is JAX's; the rest is NCCL's and cuDNN's",
  ),
  Flag("NCCL_NVLS_ENABLE", "1", "NVLink switches add up by themselves"),
)

# Chip -> its flags, in order.
TABLE: Mapping[str, tuple[Flag, ...]] = {
  "v4": _DATA_PARALLEL,
  # No SparseCore that offloads; gathers overlap by default.
  "v5e": (_vmem(32), *_DATA_PARALLEL, _REDUCE_SCATTER),
  "v5p": (_vmem(64), *_SPARSE_CORE),
  "v6e": (_vmem(64), *_SPARSE_CORE),
  "tpu7x": (_vmem(64), *_SPARSE_CORE),
  "h100": _GPU,
  "h200": _GPU,
  # No NVLink switch that adds, or no NVLink at all.
  "a100": _GPU[:-1],
  "a100-40gb": _GPU[:-1],
  "a6000": _GPU[:-1],
  "l4": _GPU[:-1],
  "l40s": _GPU[:-1],
  "rtx3090": _GPU[:-1],
  "rtx4090": _GPU[:-1],
}
_GPUS = tuple(
  chip for chip, flags in TABLE.items() if flags[: len(_GPU) - 1] == _GPU[:-1]
)


def variables(
  chip: str, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
  """What to put into the environment before JAX starts.

  >>> variables("v4", {"LIBTPU_INIT_ARGS": "--xla_mine=1"})[
  ...     "LIBTPU_INIT_ARGS"].split()[-1]
  '--xla_mine=1'

  Args:
    chip: a key of TABLE.
    environ: whose values come last, and so win. None: empty.

  Raises:
    ValueError: an unknown chip.
  """
  if chip not in TABLE:
    raise ValueError(f"{chip=} is unknown; choose {', '.join(TABLE)}.")
  variable = "XLA_FLAGS" if chip in _GPUS else "LIBTPU_INIT_ARGS"
  environ, out, flags = environ or {}, {}, []
  for flag in TABLE[chip]:
    if flag.name.startswith("--"):
      flags.append(f"{flag.name}={flag.value}")
    else:
      out[flag.name] = environ.get(flag.name, flag.value)
  flags += environ.get(variable, "").split()
  return {variable: " ".join(flags)} | out


def pairs(
  chip: str, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
  """Flags as names and values, for a compiler that takes them as options.

  Args:
    chip: a key of TABLE.
    environ: as in `variables`, of TPUs' flags only: XLA_FLAGS, the variable of
      GPUs, has in this process those of its own CPU in it.
  """
  variable, text = next(iter(variables(chip, environ).items()))
  if variable == "XLA_FLAGS":
    text = variables(chip)[variable]
  parts = (f.removeprefix("--").partition("=") for f in text.split())
  return {name: value or "true" for name, _, value in parts}


# What libtpu would ask a cloud for, and sound alarm where there is none.
_NO_CLOUD = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",
  "TPU_WORKER_HOSTNAMES": "localhost",
}
_GOOGLE = "0x1ae0"  # of PCI's vendors


def has_tpu(root: pathlib.Path = pathlib.Path("/")) -> bool:
  """Whether the machine shows a TPU: a device file, or Google's on its bus."""
  devices = root / "dev"
  if any(devices.glob("accel*")) or any(devices.glob("vfio/[0-9]*")):
    return True
  for file in (root / "sys/bus/pci/devices").glob("*/vendor"):
    try:
      if file.read_text().strip() == _GOOGLE:
        return True
    except OSError:
      continue
  return False


def calm_libtpu() -> None:
  """Where libtpu is installed and no TPU is there, it is not looked for aloud.

  Before JAX looks for devices. Where a TPU is there, nothing is changed.
  """
  if importlib.util.find_spec("libtpu") and not has_tpu():
    _set(_NO_CLOUD)


def only_compile() -> None:
  """For compiling: libtpu's machine is none that this one need be.

  XLA's own warnings are left out if JAX has not been imported yet.
  """
  _set(_NO_CLOUD | {"TF_CPP_MIN_LOG_LEVEL": "3"})


def _set(variables: Mapping[str, str]) -> None:
  for key, value in variables.items():
    os.environ.setdefault(key, value)


def main(argv: list[str] | None = None) -> int:
  """Prints `export` lines, or the table; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="emma_jax.xla_flags",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("chip", choices=TABLE)
  parser.add_argument(
    "--explain",
    action="store_true",
    help="each flag with its reason, not for a shell",
  )
  args = parser.parse_args(argv)
  if args.explain:
    for flag in TABLE[args.chip]:
      print(f"{flag.name}={flag.value}\n    {flag.reason}")
    return 0
  for name, value in variables(args.chip, os.environ).items():
    print(f"export {name}={shlex.quote(value)}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
