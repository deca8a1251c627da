"""A compiled program, judged: does it fit, how long does it take, and why."""

from collections.abc import Mapping
import dataclasses
import pathlib
import re
import time
from typing import Any

import jax

from emma_jax.planner import buffers, costs, hlo, tpu
from emma_jax.planner import collectives as collectives_lib
from emma_jax.planner import program as program_lib
from emma_jax.planner.chips import PlanError, Topology
from emma_jax.planner.jobs import Job
from emma_jax.planner.recipe import Recipe

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Numbers are of one device and one step, unless said otherwise.

  `hbm` is by kind; `step_seconds_bound` and `mfu_bound` are bounds: no step can
  be faster (see `costs`). `mfu_with_kernels` adds `kernel_seconds` (FLOPs at
  the chip's peak, no tile skipped, or bytes at its bandwidth), the estimate
  also the communication that nothing hides.
  """

  name: str
  topology: str
  devices: int
  mesh: Mapping[str, int]
  remat: str
  fits: bool
  hbm: Mapping[str, int]
  hbm_bytes: int
  hbm_capacity_bytes: int
  parameters: int  # of the whole model
  tokens: int  # of all devices
  model_flops: int  # of all devices, without recomputation and kernels
  asked_flops: int  # of all devices, with recomputation
  kernel_flops: int  # of all devices, at most
  compile_seconds: float
  causes: tuple[str, ...]
  advice: tuple[str, ...]
  whole_weights: tuple[str, ...]
  quick: bool = False  # without the code's size
  share: float = 1.0  # of the stage's steps that are so
  recipe: Recipe | None = None  # of a train step
  # What only a compiled program tells; empty where it does not fit.
  matmul_flops: int = 0
  step_seconds_bound: float = 0.0
  step_seconds_estimate: float = 0.0
  kernel_seconds: float = 0.0
  mfu_bound: float = 0.0
  mfu_with_kernels: float = 0.0
  mfu_estimate: float = 0.0
  tokens_per_second: float = 0.0
  method: str = ""
  seconds_by_work: Mapping[str, float] = dataclasses.field(default_factory=dict)
  seconds_by_source: Mapping[str, float] = dataclasses.field(
    default_factory=dict
  )
  collectives: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  link_seconds: float = 0.0  # of all communication
  exposed_seconds: float = 0.0  # of what cannot overlap
  kernels: Mapping[str, int] = dataclasses.field(default_factory=dict)
  largest: tuple[buffers.Buffer, ...] = ()
  square: tuple[buffers.Buffer, ...] = ()
  unknown_loops: tuple[str, ...] = ()

  @property
  def redundancy(self) -> float:
    """Matmul FLOPs of all devices over those asked for; 1 is none twice."""
    return self.matmul_flops * self.devices / max(self.asked_flops, 1)

  def as_json(self) -> dict[str, Any]:
    """All fields by name, and the redundancy."""
    out = dataclasses.asdict(self) | {"redundancy": self.redundancy}
    return out | {"recipe": self.recipe and self.recipe.as_json()}


def make(
  job: Job,
  topology: Topology,
  flags: Mapping[str, str],
  *,
  top: int = 8,
  save_hlo: str = "",
  quick: bool = False,
) -> Plan:
  """Compiles the job and reads what the compiler made of it.

  Args:
    job: see `jobs`.
    topology: what it is for.
    flags: the compiler's, without dashes; see `xla_flags`.
    top: how many of the largest buffers and of the costliest lines to name.
    save_hlo: a file to write the program to.
    quick: of TPUs, stop before the compiler writes code: times are those of a
      roofline, the code's size is missing, and the process has to be left by
      `os._exit` (see `tpu`).

  Raises:
    PlanError: the compiler refuses the program or a flag.
  """
  start = time.monotonic()
  chip = topology.chip
  base: dict[str, Any] = dict(
    name=job.name,
    topology=str(topology),
    devices=topology.devices,
    mesh=dict(job.mesh.shape),
    remat=job.remat,
    hbm_capacity_bytes=chip.hbm_bytes,
    parameters=job.parameters,
    tokens=job.tokens,
    model_flops=job.model.matmul,
    asked_flops=job.asked.matmul,
    kernel_flops=job.asked.kernel,
    whole_weights=job.whole_weights,
    share=job.share,
    recipe=job.recipe,
  )
  lowered, options = job.traced.lower(), _options(flags, chip.platform)
  try:
    if quick:
      text, stats = tpu.compile_without_code(lowered, options)
    elif chip.platform == "tpu":
      text, stats = tpu.compile_whole(lowered, options)
    else:
      compiled = lowered.compile(compiler_options=options)
      text, stats = compiled.as_text(), compiled.memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    spent = time.monotonic() - start
    return _too_large(job, base, str(error), spent)
  spent = time.monotonic() - start
  if save_hlo:
    pathlib.Path(save_hlo).write_text(text, "utf-8", "backslashreplace")
  program = program_lib.trace(hlo.parse(text))
  hbm = _memory(job, stats, program)
  used = sum(hbm.values())
  fits = used <= chip.hbm_bytes
  return Plan(
    **base,
    **_times(job, topology, program, top, quick),
    fits=fits,
    quick=quick,
    hbm=hbm,
    hbm_bytes=used,
    compile_seconds=spent,
    causes=() if fits else _causes(hbm, buffers.largest(program, 3)),
    advice=() if fits else advice(job, hbm),
    matmul_flops=program_lib.matmul_flops(program),
    largest=tuple(buffers.largest(program, top)),
    square=tuple(
      buffers.square(program, {n for n in job.lengths if n >= 1024})
    ),
    unknown_loops=program.unknown_loops,
  )


def _options(flags: Mapping[str, str], platform: str) -> dict[str, Any]:
  """XLA takes its own flags by type; libtpu's are unknown to it, and text."""
  if platform == "tpu":
    return dict(flags)
  kinds = {"true": True, "false": False}
  typed = lambda v: int(v) if re.fullmatch(r"-?\d+", str(v)) else v
  out = {k: kinds.get(v, typed(v)) for k, v in flags.items()}
  if platform == "cuda":
    # Without a GPU nothing can be tuned, and of some products the compiler then
    # finds no tiles of its own: the library's stand for them.
    out.setdefault("xla_gpu_enable_triton_gemm", False)
  return out


# ------------------------------------------------------------------ memory


def _memory(job: Job, stats: Any, program: program_lib.Program) -> dict:
  """Bytes by kind; they sum to what the program occupies."""
  out = dict(job.arguments)
  padding = stats.argument_size_in_bytes - sum(out.values())
  if padding > 0:
    out["padding"] = padding
  temporary = stats.temp_size_in_bytes
  out["accumulated gradients"] = min(job.accumulated, temporary)
  temporary -= out["accumulated gradients"]
  activations = min(buffers.kept(program, backward=False), temporary)
  gradients = min(buffers.kept(program, backward=True), temporary - activations)
  out["activations"] = activations
  out["gradients"] = gradients
  out["temporary"] = temporary - activations - gradients
  # Outputs that do not take the place of an argument.
  out["outputs"] = max(
    stats.output_size_in_bytes - stats.alias_size_in_bytes, 0
  )
  out["code"] = stats.generated_code_size_in_bytes
  return {k: int(v) for k, v in out.items() if v > 0}


def _too_large(
  job: Job, base: Mapping[str, Any], message: str, spent: float
) -> Plan:
  """The plan of a program that the compiler found no room for."""
  if not message.startswith("RESOURCE_EXHAUSTED"):
    raise PlanError(
      f"The compiler refuses the program: {message.splitlines()[0]}"
    )
  hbm = dict(job.arguments)
  # Padding of arguments and outputs included: nothing tells them apart here.
  hbm["temporary"] = max(needed(message) - sum(hbm.values()), 0)
  listed = [f"{_gib(size)} {what}" for size, what in allocations(message)[:3]]
  return Plan(
    **base,
    fits=False,
    hbm=hbm,
    hbm_bytes=sum(hbm.values()),
    compile_seconds=spent,
    causes=tuple(listed) or _causes(hbm, ()),
    advice=advice(job, hbm),
  )


def needed(message: str) -> int:
  """Bytes of all that a program needs, by a complaint; 0: it does not say.

  Arguments and outputs are in it, though libtpu speaks of temporaries.

  >>> needed("... memory required for HLO temporaries (2.50G) exceeds ...")
  2684354560
  >>> needed("... Used 20.00G of 15.48G hbm. Exceeded hbm capacity ...")
  21474836480
  """
  found = re.search(
    r"HLO temporaries \(([\d.]+)([KMGT]?)\)"
    r"|Used ([\d.]+)([KMGT]?) of",
    message,
  )
  if not found:
    return 0
  size, unit = (g for g in found.groups() if g is not None)
  return int(float(size) * _UNITS[unit])


def allocations(message: str) -> list[tuple[int, str]]:
  """(bytes, what) of the largest allocations that a complaint may list."""
  out = []
  for block in re.split(r"\n\s*\d+\. Size: ", message)[1:]:
    size = re.match(r"([\d.]+)([KMGT]?)", block)
    if not size:
      continue
    name = re.search(r'op_name="([^"]*)"', block)
    place = re.search(r'source_file="([^"]*)" source_line=(\d+)', block)
    shape = re.search(r"Shape: (\w+\[[\d,]*\])", block)
    what = [
      m
      for m in (
        shape and shape[1],
        name and name[1],
        place and f"{place[1]}:{place[2]}",
      )
      if m
    ]
    out.append((int(float(size[1]) * _UNITS[size[2]]), " ".join(what)))
  return out


def _causes(hbm: Mapping[str, int], largest) -> tuple[str, ...]:
  """The three largest kinds; of temporaries the largest arrays."""
  out = []
  for kind in sorted(hbm, key=lambda k: -hbm[k])[:3]:
    detail = ""
    if kind == "temporary" and largest:
      detail = ": " + "; ".join(
        f"{b.array} {_gib(b.bytes)} {b.source}" for b in largest
      )
    out.append(f"{_gib(hbm[kind])} {kind}{detail}")
  return tuple(out)


def _gib(n: int) -> str:
  return f"{n / 2**30:.2f} GiB"


def advice(job: Job, hbm: Mapping[str, int]) -> tuple[str, ...]:
  """What to change, the most effective first."""
  held = ("parameters", "optimizer", "average", "padding")
  state = sum(hbm.get(k, 0) for k in held)
  moving = sum(v for k, v in hbm.items() if k not in held)
  shape = dict(job.mesh.shape)
  fixed, flexible = [], []
  if shape.get("data", 1) > 1:
    fixed.append(
      f"split the weights over more devices: --config.mesh.fsdp="
      f"{shape['fsdp'] * shape['data']} --config.mesh.data=1"
    )
  fixed.append("take more chips: state per chip falls in proportion")
  if job.remat not in ("full", "none") or (
    job.name.startswith("train") and job.remat == "none"
  ):
    flexible.append(
      f"recompute more: --config.model.llm.remat=full (now {job.remat})"
    )
  shards = max(1, job.mesh.size // shape.get("tensor", 1))
  r = job.recipe
  if r and r.rows > r.accumulation * shards:
    flexible.append(
      "the same batch in more micro-batches: raise "
      f"--config.stages.{r.stage}.accumulation (now {r.accumulation}), up to "
      f"{r.rows // shards}"
    )
  flexible.append(
    f"fewer rows a device: the batch needs {shards} at least, one for each"
  )
  if shape.get("tensor", 1) == 1:
    flexible.append(
      "split heads and hidden units of a row: "
      "--config.mesh.tensor=2, and half of fsdp"
    )
  return tuple(fixed + flexible if state > moving else flexible + fixed)


# -------------------------------------------------------------------- time


def _times(
  job: Job,
  topology: Topology,
  program: program_lib.Program,
  top: int,
  quick: bool,
) -> dict[str, Any]:
  chip, devices = topology.chip, topology.devices
  if chip.clock_hz and chip.platform == "tpu" and not quick:
    spent = costs.by_cycles(program, chip.clock_hz)
    method = f"cycles of the compiler at {chip.clock_hz / 1e9} GHz"
  else:
    spent = costs.by_roofline(program, chip.peak_flops, chip.hbm_bandwidth)
    method = "roofline"
  bound = sum(c.seconds for c in spent)
  found = collectives_lib.collectives(program)
  link = lambda c: (
    c.sent(devices)
    / (chip.network_bytes if _leaves(c, topology) else chip.link_bytes)
  )
  exposed = sum(link(c) for c in found if not c.overlapped)
  hidden = sum(link(c) for c in found if c.overlapped)
  kernels = sum(
    costs.by_kernel(
      program,
      {k: n // devices for k, n in job.asked.kernels.items()},
      chip.peak_flops,
      chip.hbm_bandwidth,
    ).values()
  )
  work = bound + kernels
  estimate = work + exposed + max(hidden - work, 0.0)
  share = lambda seconds: (
    job.model.matmul / devices / chip.peak_flops / (seconds or float("inf"))
  )
  return dict(
    step_seconds_bound=bound,
    step_seconds_estimate=estimate,
    kernel_seconds=kernels,
    mfu_bound=share(bound),
    mfu_with_kernels=share(work),
    mfu_estimate=share(estimate),
    tokens_per_second=job.tokens / estimate if estimate else 0.0,
    method=method,
    seconds_by_work=_sums(spent, lambda c: c.work, 20),
    seconds_by_source=_sums(
      spent, lambda c: f"{c.work} {c.source or 'unknown place'}", top
    ),
    collectives=collectives_lib.summary(found),
    link_seconds=exposed + hidden,
    exposed_seconds=exposed + max(hidden - work, 0.0),
    kernels=costs.kernel_calls(program),
  )


def _leaves(c: collectives_lib.Collective, topology: Topology) -> bool:
  """Whether it crosses the network between slices or hosts."""
  if topology.chip.platform == "cuda":
    return (c.group or topology.devices) > topology.chip.host_devices
  return c.kind == "send"


def _sums(spent, key, top: int) -> dict[str, float]:
  out: dict[str, float] = {}
  for c in spent:
    out[key(c)] = out.get(key(c), 0.0) + c.seconds
  order = sorted(out, key=lambda k: -out[k])[:top]
  return {k: out[k] for k in order}
