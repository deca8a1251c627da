"""What a host's memory holds while a whole model's weights are restored.

    python -m emma_jax.speed.restore CASE_AS_JSON

Weights of a config's shapes, random bytes, are written to a folder without
being held, then restored by a process of its own onto simulated devices, by the
door that sampling takes. Their memory is the host's too, so what counts is the
peak beyond the weights that the devices hold in the end.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import json
import math
import os
import pathlib
import shutil
import sys
import time
from typing import Any

from emma_jax import processes
from emma_jax.speed import child

FORMS = ("export", "run")
HEADER = (
  f"{'':34}{'weights':>9}{'a device':>10}{'largest':>9}{'beside':>9}"
  f"{'seconds':>9}"
)
# Files are complete before they get their names: beside their parts.
_DISK, _MEMORY = 2.2, 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A restore.

  form: of the folder, "export" (safetensors) or "run" (a training's).
  stored: the dtype of what is written.
  dtype: see `build.session.load`.
  devices: over which weights are split by fsdp.
  folder: of the weights.
  """

  form: str
  stored: str
  dtype: str
  devices: int
  folder: str


def write(case: Case, config: Mapping[str, Any]) -> int:
  """Writes random weights; returns their bytes.

  Raises:
    ValueError: a disk, or a memory, that has too little room.
  """
  import jax.numpy as jnp

  from emma_jax import rules
  from emma_jax.build import model as build_model

  shapes = rules.flatten(build_model.model(config["model"]).shapes)
  width = jnp.dtype(case.stored).itemsize
  size = sum(math.prod(x.shape) for x in shapes.values()) * width
  folder = pathlib.Path(case.folder)
  _check_room(size, shutil.disk_usage(folder).free, _DISK, f"{folder} has")
  available = _available()
  if available is not None:
    _check_room(size, available, _MEMORY, "this machine's memory has")
  if case.form == "export":
    _export(folder, config, case.stored)
  else:
    _run(folder, config, case.stored, shapes)
  return size


def _check_room(size: int, free: int, factor: float, where: str) -> None:
  if size * factor > free:
    raise ValueError(
      f"Restoring {size / 2**30:.1f} GiB of weights takes "
      f"{size * factor / 2**30:.1f} GiB, but {where} {free / 2**30:.1f} GiB "
      "free; take fewer layers (--config.model.llm.num_layers=N), or "
      "another --folder."
    )


def _available() -> int | None:
  """Bytes of memory that programs can get; None where nothing tells."""
  try:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
  except OSError:
    return None
  found = dict(line.split(":", 1) for line in lines)
  return int(found["MemAvailable"].split()[0]) * 2**10


def _random(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
  """Numbers below 2 in magnitude, of random bits."""
  import jax.numpy as jnp
  import numpy as np

  kind = jnp.dtype(dtype)
  rng = np.random.default_rng(seed)
  bits = np.frombuffer(
    rng.bytes(math.prod(shape) * kind.itemsize), f"uint{8 * kind.itemsize}"
  )
  top = 1 << (8 * kind.itemsize - 2)  # the exponent's highest bit
  return (bits & ~bits.dtype.type(top)).view(kind).reshape(shape)


def _export(
  folder: pathlib.Path, config: Mapping[str, Any], stored: str
) -> None:
  """As `emma-convert export emma` does, without tokenizer and code."""
  from emma_jax.convert import emma, emma_names, files

  def tensors() -> Iterator[tuple[str, Any]]:
    names = emma_names.theirs(emma.model_config(config["model"]))
    for i, (name, shape) in enumerate(names.items()):
      yield name, _random(shape, stored, i)

  about = dict(format=emma.FORMAT, step=0, route="versatile", config=config)
  files.write_folder(folder, about, tensors())


def _run(
  folder: pathlib.Path,
  config: Mapping[str, Any],
  stored: str,
  shapes: Mapping[str, Any],
) -> None:
  """A checkpoint of a stage that has frozen all, from mapped files."""
  import jax.numpy as jnp
  import numpy as np

  from emma_jax import rules
  from emma_jax.checkpoints.checkpointer import save_params

  mapped = {}
  for i, (path, x) in enumerate(shapes.items()):
    x = _random(x.shape, stored, i)
    file = folder / f"{i}.raw"
    x.tofile(file)
    raw = np.memmap(file, np.uint8, "r", shape=(x.nbytes,))
    mapped[path] = np.asarray(raw).view(jnp.dtype(stored)).reshape(x.shape)
  state = {"trained": {}, "ema": {}, "frozen": rules.unflatten(mapped)}
  meta = {"config": config, "router_trained": False}
  save_params(folder / "checkpoints", state, meta)
  for file in folder.glob("*.raw"):
    file.unlink()


def measure(case: Case) -> dict[str, Any]:
  """The case and its numbers, in MiB.

  Raises:
    ValueError: the process failed, with its last line.
  """
  flag = f"--xla_force_host_platform_device_count={case.devices}"
  flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
  return child.outcome(
    __spec__.name,
    json.dumps(dataclasses.asdict(case)),
    what=case,
    env={"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
  )


def line(result: Mapping[str, Any]) -> str:
  """One row of the table."""
  name = (
    f"{result['form']} of {result['stored']} as {result['dtype']} "
    f"on {result['devices']}"
  )
  return (
    f"{name:34}{result['weights']:9,.0f}{result['a_device']:10,.0f}"
    f"{result['largest']:9,.0f}{result['beside']:9,.0f}"
    f"{result['seconds']:9.1f}"
  )


def _restored(case: Case) -> dict[str, Any]:
  import jax

  from emma_jax import sharding
  from emma_jax.build import session as build_session
  from emma_jax.checkpoints import locate
  from emma_jax.sampling.placement import Placement

  sizes = {"slice": 1, "data": 1, "fsdp": -1, "tensor": 1}
  place = Placement.over(sharding.MeshConfig(**sizes))
  keeps: list[Any] = []

  def kept(meta: Mapping[str, Any]) -> Any:
    config = meta["config"]
    if case.dtype != "float32":
      config = config | {"model": config["model"] | {"dtype": case.dtype}}
    keeps.append(build_session.kept(config, place, case.dtype))
    jax.block_until_ready([jax.device_put(0, d) for d in jax.devices()])
    before.append(_resident())
    return keeps[-1]

  before: list[float] = []
  start = time.perf_counter()
  found = locate.read(case.folder, kept=kept)
  leaves = jax.block_until_ready(jax.tree.leaves(found.params))
  seconds = time.perf_counter() - start
  shards = [s for x in leaves for s in x.addressable_shards]
  weights = sum(s.data.nbytes for s in shards)
  first = jax.devices()[0]
  itemsize = jax.numpy.dtype(case.stored).itemsize
  mib = lambda n: n / 2**20
  return dataclasses.asdict(case) | {
    "weights": mib(weights),
    "a_device": mib(sum(s.data.nbytes for s in shards if s.device == first)),
    "largest": mib(max(x.size for x in leaves) * itemsize),
    "beside": mib(processes.peak_memory()) - before[0] - mib(weights),
    "seconds": seconds,
  }


def _resident() -> float:
  """Resident memory of this process now, MiB."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
  print(json.dumps(_restored(Case(**json.loads(sys.argv[1])))))
