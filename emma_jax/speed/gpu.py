"""A train step beside PyTorch's, and a denoising step, part by part.

Each part has a process of its own, so that neither its memory nor its failure
reaches the next:

    python -m emma_jax.speed.gpu < JOB.json

The result is the last line that it prints, JSON; everything else goes to the
standard error.
"""

from collections.abc import Iterator, Mapping, Sequence
import copy
import json
import os
import pathlib
import subprocess
import sys
import traceback
from typing import Any

from emma_jax import xla_flags
from emma_jax.build import model as build_model
from emma_jax.build import sections

PARTS = ("train", "torch", "denoise")
MODES = ("eager", "compile", "whole")
TASKS = ("edit", "draw")
# Seconds under which a part is not begun: it would only compile.
_LEAST = 20.0

Job = dict[str, Any]


def jobs(
  config: Mapping[str, Any],
  stage: str,
  denoised: Mapping[str, Any] | None,
  *,
  parts: Sequence[str],
  attention: Sequence[str],
  modes: Sequence[str],
  tasks: Sequence[str],
  side: int,
  warmup: int,
  steps: int,
  profile: str,
) -> Iterator[Job]:
  """What is run, in order; see `emma-speed gpu --help`.

  A train step is one of a single micro-batch: the others of a stage's batch
  would take as long each, and one GPU takes a hundred of them.

  Raises:
    ValueError: no way of attention.
  """
  config = _one_micro_batch(config, stage)
  every = dict(warmup=warmup, steps=steps)
  of_stage = dict(every, stage=stage)
  for part in parts:
    if part == "train":
      for i, way in enumerate(attention):
        yield dict(
          of_stage,
          part=part,
          variant=way,
          profile=profile if i == 0 else "",
          config=_attending(config, way),
        )
    elif part == "torch":
      for mode in modes:
        yield dict(of_stage, part=part, variant=mode, config=config)
    else:
      for task in tasks:
        yield dict(
          every,
          part=part,
          variant=task,
          side=side,
          config=sections.plain(denoised),
        )


def _one_micro_batch(config: Mapping[str, Any], stage: str) -> dict[str, Any]:
  """The config with the first micro-batch of a stage's batch as its batch."""
  out = copy.deepcopy(sections.plain(config))
  section = out["stages"][stage]
  section["rows"] //= section["accumulation"]
  section["accumulation"] = 1
  return out


def _attending(config: Mapping[str, Any], way: str) -> dict[str, Any]:
  """The config with the decoder's path, and after a + the vision tower's."""
  out = copy.deepcopy(sections.plain(config))
  decoder, _, tower = way.partition("+")
  out["model"]["llm"]["attention"] = decoder
  if tower:
    out["model"]["vision"]["encoder"]["attention"] = tower
  build_model.emma_config(out["model"])  # refuses what is no path
  return out


def run(job: Job, device: str, seconds: float) -> dict[str, Any]:
  """One part's result; `error` in it says what went wrong.

  Args:
    job: of `jobs`, or `{"part": "check"}`.
    device: what the check found; empty: not known yet.
    seconds: after which it is ended.
  """
  row = {k: job[k] for k in ("part", "variant") if k in job}
  if seconds < _LEAST:
    return row | {"error": f"not begun: {max(seconds, 0):.0f} s were left"}
  try:
    done = subprocess.run(
      [sys.executable, "-m", __spec__.name],
      input=json.dumps(job),
      text=True,
      stdout=subprocess.PIPE,
      timeout=seconds,
      check=False,
      env=_environment(job["part"], device),
    )
  except subprocess.TimeoutExpired:
    return row | {"error": f"ended after {seconds:.0f} s, unfinished"}
  lines = done.stdout.splitlines()
  if not lines:
    return row | {"error": f"ended with code {done.returncode}"}
  return row | json.loads(lines[-1])


def _environment(part: str, device: str) -> dict[str, str]:
  """Compiler's flags as the launch scripts set them for the chip."""
  if part == "torch":  # jax only reads the config there
    return os.environ | {"JAX_PLATFORMS": "cpu"}
  known = [c for c in xla_flags.TABLE if c in device.lower()]
  return os.environ | (
    xla_flags.variables(known[0], os.environ) if known else {}
  )


def ratio(rows: Sequence[Mapping[str, Any]]) -> float | None:
  """The fastest PyTorch's seconds over our fastest; None: a side is missing.

  >>> ratio([{"part": "train", "seconds": 2.0}, {"part": "torch", "error": ""},
  ...        {"part": "torch", "seconds": 3.0}])
  1.5
  """
  of = lambda part: [
    r["seconds"] for r in rows if r["part"] == part and "seconds" in r
  ]
  ours, theirs = of("train"), of("torch")
  return min(theirs) / min(ours) if ours and theirs else None


def lines(row: Mapping[str, Any], plan: pathlib.Path | None) -> list[str]:
  """A part's result, what matters most first.

  plan: what `emma-plan --json` printed for a train step, to compare memory.
  """
  name = f"{row['part']} {row['variant']}:"
  if "error" in row:
    return [f"{name} {row['error']}"]
  spread = f"{1e3 * row['fastest']:.1f} to {1e3 * row['slowest']:.1f}"
  out = [
    f"{name} {1e3 * row['seconds']:.1f} ms a step ({spread}, "
    f"{row['steps']} timed), {row['tokens_per_second']:,.0f} tokens/s"
  ]
  if "flops_per_second" in row:
    share = "" if row["mfu"] is None else f", {row['mfu']:.1%} of the peak"
    out.append(
      f"{row['model_flops'] / 1e12:.2f} TFLOP a step, "
      f"{row['flops_per_second'] / 1e12:.1f} TFLOP/s{share}"
    )
  parts = [f"{_gib(row['peak_bytes'])} at the peak"]
  if "compiled_bytes" in row:
    parts.append(f"{_gib(row['compiled_bytes'])} as compiled")
  if row["part"] == "train" and plan:
    planned = json.loads(plan.read_text())
    parts.append(f"{_gib(planned['hbm_bytes'])} planned")
  out.append(
    f"memory: {', '.join(parts)}; compiled in {row['compile_seconds']:.0f} s"
  )
  for kernel in row.get("kernels", ()):
    out.append(
      f"{1e3 * kernel['seconds']:9.2f} ms {kernel['calls']:7.0f} x "
      f"{kernel['kernel'][:60]}"
    )
  return out


def _gib(size: float | None) -> str:
  return "unknown" if size is None else f"{size / 2**30:.2f} GiB"


# --------------------------------------------------------------- in the child


def _check() -> dict[str, Any]:
  import jax

  # What they lack, all parts lack.
  from emma_jax.speed import denoise, train  # noqa: F401

  return {
    "device": jax.devices()[0].device_kind,
    "devices": jax.device_count(),
    "jax": jax.__version__,
  }


def _train(job: Job) -> dict[str, Any]:
  from emma_jax.speed import train

  return train.measure(
    job["config"],
    job["stage"],
    warmup=job["warmup"],
    steps=job["steps"],
    profile=job["profile"],
  )


def _torch(job: Job) -> dict[str, Any]:
  from emma_jax.speed import torch_measure

  return torch_measure.measure(
    job["config"],
    job["stage"],
    mode=job["variant"],
    warmup=job["warmup"],
    steps=job["steps"],
  )


def _denoise(job: Job) -> dict[str, Any]:
  from emma_jax.speed import denoise

  return denoise.measure(
    job["config"],
    task=job["variant"],
    side=job["side"],
    warmup=job["warmup"],
    steps=job["steps"],
  )


def main() -> int:
  """Runs the job on standard input; returns the exit code."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # what libraries print must not come between
  job = json.load(sys.stdin)
  parts = {
    "train": _train,
    "torch": _torch,
    "denoise": _denoise,
    "check": lambda job: _check(),
  }
  try:
    result = parts[job["part"]](job)
  except Exception as error:  # whatever it is, the next part goes on
    traceback.print_exc()
    lines = str(error).splitlines() or [""]
    result = {"error": f"{type(error).__name__}: {lines[0][:300]}"}
  print(json.dumps(result), file=answers, flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
