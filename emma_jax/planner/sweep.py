"""Meshes and remat policies tried one after the other, and ranked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import copy
import dataclasses
import itertools
import multiprocessing
from multiprocessing.connection import Connection
import os
from typing import Any

import jax

from emma_jax import rules
from emma_jax.build import sections
from emma_jax.planner import chips, row_shapes
from emma_jax.planner import plan as plan_lib
from emma_jax.planner.chips import PlanError, Topology


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Devices along each axis of the mesh, and what the LLM keeps."""

  mesh: Mapping[str, int]
  remat: str

  def __str__(self) -> str:
    axes = " ".join(f"{k}={n}" for k, n in self.mesh.items() if n > 1)
    return f"{axes or 'one device'} {self.remat}"


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A candidate and its plan, or why there is none."""

  candidate: Candidate
  plan: plan_lib.Plan | None
  error: str = ""


def candidates(
  topology: Topology,
  config: Mapping[str, Any],
  *,
  fsdp: Sequence[int] = (),
  tensor: Sequence[int] = (1,),
  remat: Sequence[str] = (),
) -> list[Candidate]:
  """All combinations; the rest of the devices holds copies (`data`).

  Args:
    topology: whose slices lie along the axis `slice`.
    config: whose remat policy is one of those tried.
    fsdp: devices that weights are split over; none: all of a slice, a half,
      a quarter and an eighth of them.
    tensor: devices that heads are split over.
    remat: none: full, attention's output and the config's own.

  Raises:
    PlanError: sizes that do not divide a slice.
  """
  inside = topology.devices // topology.slices
  fsdp = fsdp or [inside // n for n in (1, 2, 4, 8) if inside % n == 0]
  own = config["model"].get("llm", {}).get("remat", "none")
  remat = remat or list(dict.fromkeys(["full", "names:attn_out", own]))
  out = []
  for f, t in itertools.product(fsdp, tensor):
    if inside % (f * t):
      continue
    mesh = dict(slice=topology.slices, data=inside // (f * t), fsdp=f, tensor=t)
    out += [Candidate(mesh, r) for r in remat]
  if not out:
    raise PlanError(
      f"No product of {fsdp=} and {tensor=} divides the {inside} "
      "devices of a slice; give divisors."
    )
  return out


def changed(config: Mapping[str, Any], candidate: Candidate) -> dict:
  """The config with the candidate's mesh and remat policy."""
  out = copy.deepcopy(sections.plain(config))
  out["mesh"] = dict(candidate.mesh)
  if "llm" in out["model"]:
    out["model"]["llm"]["remat"] = candidate.remat
  return out


def run(
  config: Mapping[str, Any],
  stage: str,
  topology: Topology,
  devices: Sequence[jax.Device],
  flags: Mapping[str, str],
  tried: Sequence[Candidate],
  report: Callable[[Outcome], None],
  *,
  quick: bool = False,
) -> list[Outcome]:
  """Plans of all candidates, the best first; `report` hears of each.

  Quick ones (see `plan.make`) rank by the roofline's estimate.
  """
  out = []
  for candidate in tried:
    try:
      wanted = changed(config, candidate)
      if quick:
        plan = _quick(wanted, stage, topology, flags)
      else:
        job = row_shapes.largest(wanted, stage, devices)
        plan = plan_lib.make(job, topology, flags)
      outcome = Outcome(candidate, plan)
    except PlanError as error:
      outcome = Outcome(candidate, None, str(error))
    jax.clear_caches()  # programs of this size would pile up
    report(outcome)
    out.append(outcome)
  return list(ranked(out))


def _quick(
  config: Mapping[str, Any],
  stage: str,
  topology: Topology,
  flags: Mapping[str, str],
) -> plan_lib.Plan:
  """Made in a process of its own, which alone can stop the compiler."""
  context = multiprocessing.get_context("spawn")  # JAX has threads: no fork
  receiver, sender = context.Pipe(duplex=False)
  process = context.Process(
    target=_answer, args=(sender, config, stage, topology, flags)
  )
  process.start()
  sender.close()
  try:
    answer = receiver.recv()
  except EOFError:
    process.join()
    raise PlanError(
      f"The compiler's process ended with {process.exitcode}; a negative "
      "number is a signal, -9 mostly of a machine without memory left."
    ) from None
  process.join()
  if isinstance(answer, PlanError):
    raise answer
  return answer


def _answer(
  sender: Connection,
  config: Mapping[str, Any],
  stage: str,
  topology: Topology,
  flags: Mapping[str, str],
) -> None:
  """Sends a plan, or why there is none, and ends."""
  # As in the process that asks: no chip is looked for, nothing is cached.
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    job = row_shapes.largest(config, stage, chips.describe(topology))
    answer: plan_lib.Plan | PlanError = plan_lib.make(
      job, topology, flags, quick=True
    )
  except (PlanError, sections.ConfigError, rules.RuleError) as error:
    answer = PlanError(str(error))
  sender.send(answer)
  os._exit(0)


def ranked(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
  """What fits by tokens a second, then what does not by its memory."""

  def key(o: Outcome):
    if o.plan is None:
      return 2, 0.0
    if o.plan.fits:
      return 0, -o.plan.tokens_per_second
    return 1, float(o.plan.hbm_bytes)

  return iter(sorted(outcomes, key=key))
