"""How fast and how large the published sizes are, on this machine.

  emma-speed torch [--rows R ...] [--dtypes D ...] [--threads N]
  emma-speed memory [--dtypes D ...]
  emma-speed gpu [--config FILE:STAGE,MACHINE] [--parts P ...] [--json FILE]
  emma-speed data [--pictures FILE ...] [--frame HEIGHTxWIDTH]

The same as `python -m emma_jax.cli.speed`. `torch` times Qwen3-0.6B
(prefill and cached decode), SigLIP2 so400m and DC-AE f32c32 on the CPU beside
transformers and diffusers (extra `torch`). `memory` says what coding pictures
of 1024x1024 and 2048x512 takes with DC-AE, whole and in tiles. `gpu` times a
stage's train step on the GPU that is here, the same step in PyTorch, and a
denoising step of another config's model; launch/bench_gpu.sh calls it. `data`
counts pictures per second and core from ArrayRecord to packed rows, beside
PyTorch's DataLoader with Pillow (extras `torch` and `fast`). Weights are
random.
"""

import argparse
from collections.abc import Mapping, Sequence
import contextlib
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

from emma_jax.cli import common
from emma_jax.speed import child, data_command, gpu, memory

ROWS = (
  "qwen3_prefill",
  "qwen3_decode",
  "siglip2",
  "dcae_decode",
  "dcae_encode",
)
DTYPES = ("float32", "bfloat16")
# Others' share of the cores up to which a repetition counts as clean.
CLEAN = 0.06


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-speed",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest="command", required=True)
  torch = commands.add_parser("torch", help="seconds beside torch, on the CPU")
  torch.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
  torch.add_argument(
    "--sides",
    nargs="+",
    choices=child.SIDES,
    default=child.SIDES,
    help="eager and compile are torch (default: all)",
  )
  torch.add_argument(
    "--threads",
    type=int,
    default=None,
    help="cores for either side (default: all there are)",
  )
  torch.add_argument(
    "--repetitions",
    type=int,
    default=5,
    metavar="N",
    help="clean ones to take the median of (default: 5)",
  )
  torch.add_argument(
    "--patience",
    type=float,
    default=120.0,
    metavar="SECONDS",
    help="of a row, to find clean ones (default: 120)",
  )
  torch.add_argument(
    "--clock",
    choices=("wall", "cpu"),
    default="wall",
    help="cpu: the processes' own time, for one thread on a "
    "machine that is not idle (default: wall)",
  )
  size = commands.add_parser(
    "memory", help="DC-AE's memory, with and without tiles"
  )
  size.add_argument(
    "--pictures",
    nargs="+",
    default=memory.PICTURES,
    metavar="HEIGHTxWIDTH",
    help=f"(default: {' '.join(memory.PICTURES)})",
  )
  lent = commands.add_parser("gpu", help="a train step and a denoising step")
  _add_gpu(lent)
  for sub in (torch, size):
    sub.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
  for sub in (torch, size, lent):
    sub.add_argument(
      "--sizes",
      choices=("full", "micro"),
      default="full",
      help="micro: to try the command (default: full)",
    )
  pictures = commands.add_parser(
    "data", help="pictures per second and core, beside PyTorch's DataLoader"
  )
  data_command.add_arguments(pictures)
  for sub in (torch, size, lent, pictures):
    sub.add_argument(
      "--json",
      type=pathlib.Path,
      metavar="FILE",
      help="also write the results there",
    )
    sub.add_argument(
      "--debug", action="store_true", help="show stack traces of errors"
    )
  return parser


def _add_gpu(parser: argparse.ArgumentParser):
  add = parser.add_argument
  add(
    "--config",
    default="emma_0_6b.py:stage1,h100",
    metavar="FILE",
    help="of the train step; --config.section.key=value changes it "
    "(default: %(default)s)",
  )
  add("--stage", help="of the config; needed where it has several")
  add(
    "--denoise-config",
    default="emma_4b.py",
    metavar="FILE",
    help="of the denoising step (default: %(default)s)",
  )
  add("--parts", nargs="+", choices=gpu.PARTS, default=gpu.PARTS)
  add(
    "--attention",
    nargs="+",
    metavar="PATH",
    help="ways of the decoder, and after a + of the vision tower, each "
    "compiled and timed, such as kernel cudnn+cudnn chunked (default: "
    "auto and chunked)",
  )
  add(
    "--torch",
    nargs="+",
    choices=gpu.MODES,
    default=["eager", "compile"],
    help="whole takes minutes to compile (default: eager compile)",
  )
  add(
    "--tasks",
    nargs="+",
    choices=gpu.TASKS,
    default=["edit"],
    help="what is denoised (default: edit)",
  )
  add(
    "--side",
    type=int,
    default=1024,
    help="pixels of what is denoised (default: 1024)",
  )
  add("--steps", type=int, default=15, help="that count (default: 15)")
  add("--warmup", type=int, default=3, help="that do not (default: 3)")
  add(
    "--limit",
    type=float,
    default=540.0,
    metavar="SECONDS",
    help="of all parts together; what would come later is left out "
    "(default: 540)",
  )
  add(
    "--plan",
    type=pathlib.Path,
    metavar="FILE",
    help="what `emma-plan --json` printed for this step, to compare memory",
  )
  add(
    "--profile",
    default="",
    metavar="DIR",
    help="also trace two train steps into this folder",
  )


def _torch(args: argparse.Namespace) -> list[dict[str, Any]]:
  cores = len(os.sched_getaffinity(0))
  threads = cores if args.threads is None else args.threads
  if not 1 <= threads <= cores:
    raise common.UserError(f"--threads {threads}: there are {cores} cores.")
  if args.repetitions < 1:
    raise common.UserError(f"--repetitions {args.repetitions}: at least one.")
  results = []
  for row in args.rows:
    for dtype in args.dtypes:
      sides = _compare(row, dtype, threads, args)
      results.append(
        {
          "row": row,
          "dtype": dtype,
          "threads": threads,
          "clock": args.clock,
          "sides": sides,
          "ratio": ratio(sides),
        }
      )
      print(_line(results[-1]), flush=True)
  return results


def _compare(
  row: str, dtype: str, threads: int, args: argparse.Namespace
) -> dict[str, dict[str, Any]]:
  """Runs the sides of a row in turns, so that a disturbance meets them all."""
  with contextlib.ExitStack() as stack:
    children, out = {}, {}
    for side in args.sides:
      process = stack.enter_context(
        child.Child(row, side, args.sizes, dtype, threads)
      )
      try:  # one after the other: compilers must not compete
        out[side] = process.ready()
        children[side] = process
      except child.ChildError as error:
        out[side] = {"error": str(error)}
    found: dict[str, list[child.Repetition]] = {s: [] for s in children}
    start = time.monotonic()
    while children and not _enough(found, args, time.monotonic() - start):
      for side, process in children.items():
        found[side].append(process.repeat())
    for side, repetitions in found.items():
      out[side] |= summary(repetitions, args.repetitions, args.clock)
  return out


def _enough(
  found: Mapping[str, Sequence[child.Repetition]],
  args: argparse.Namespace,
  seconds: float,
) -> bool:
  if min(map(len, found.values())) < args.repetitions:
    return False
  clean = min(sum(r.others <= CLEAN for r in x) for x in found.values())
  return clean >= args.repetitions or seconds > args.patience


def summary(
  repetitions: Sequence[child.Repetition], count: int, clock: str
) -> dict[str, Any]:
  """Medians of the `count` repetitions that others disturbed least."""
  best = sorted(repetitions, key=lambda r: r.others)[:count]
  middle = lambda name: statistics.median(getattr(r, name) for r in best)
  times = {"wall": middle("seconds"), "cpu": middle("cpu")}
  return {
    "seconds": times[clock],
    **times,
    "others": middle("others"),
    "repetitions": len(repetitions),
  }


def ratio(sides: Mapping[str, Mapping[str, Any]]) -> float | None:
  """The better torch's seconds over ours; None where a side is missing.

  >>> ratio({"jax": {"seconds": 2.0}, "eager": {"seconds": 3.0},
  ...        "compile": {"seconds": 5.0}})
  1.5
  """
  seconds = {name: x["seconds"] for name, x in sides.items() if "seconds" in x}
  ours = seconds.pop("jax", None)
  return min(seconds.values()) / ours if ours and seconds else None


def _line(result: Mapping[str, Any]) -> str:
  """A result on one line; what went wrong with a side, on further ones."""
  sides = result["sides"]
  cells, notes = [], []
  for side in child.SIDES:
    x = sides.get(side, {})
    cells.append(f"{x['seconds']:9.3f}" if "seconds" in x else f"{'-':>9}")
    if "error" in x:
      notes.append(f"\n  {side}: {x['error']}")
  against = result["ratio"]
  disturbed = max((x.get("others", 0.0) for x in sides.values()), default=0.0)
  cells.append(f"{'-':>9}" if against is None else f"{against:9.2f}")
  return (
    f"{result['row']:14} {result['dtype']:9}{''.join(cells)}"
    f"{disturbed:9.0%}{''.join(notes)}"
  )


def _run_torch(args: argparse.Namespace) -> list[dict[str, Any]]:
  columns = ("JAX", "eager", "compiled", "ratio", "others")
  print(" " * 23, *(f"{name:>8}" for name in columns), flush=True)
  results = _torch(args)
  versions = {
    f"{'JAX' if side == 'jax' else 'torch'} {x['version']}"
    for r in results
    for side, x in r["sides"].items()
    if "version" in x
  }
  threads = {r["threads"] for r in results}
  print(
    f"Seconds ({args.clock}); threads: {threads.pop()}; "
    f"{', '.join(sorted(versions))}. ratio: the better torch's seconds "
    "over ours, 1 or more is as fast. others: share of the cores that "
    "other processes took."
  )
  return results


def _run_memory(args: argparse.Namespace) -> list[dict[str, Any]]:
  print(memory.HEADER, flush=True)
  results = []
  for case in memory.cases(args.pictures, args.dtypes):
    results.append(memory.measure(case, args.sizes))
    print(memory.line(results[-1]), flush=True)
  print(
    "MiB. compiled: what XLA reserves, weights included; peak: the "
    "process's resident memory at its highest while it ran."
  )
  return results


# ------------------------------------------------------------------ the GPU


def _run_gpu(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  jobs = _gpu_jobs(args, overrides)
  os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(common.cache_directory() / "xla")
  )
  start = time.monotonic()
  left = lambda: args.limit - (time.monotonic() - start)
  found = gpu.run({"part": "check"}, "", left())
  if "error" in found:
    raise common.UserError(f"Nothing can run here: {found['error']}")
  print(
    f"{found['devices']} x {found['device']}, jax {found['jax']}", flush=True
  )
  rows = [found]
  for job in jobs:
    rows.append(gpu.run(job, found["device"], left()))
    print(*_gpu_lines(rows[-1], args.plan), sep="\n  ", flush=True)
    _write(args.json, rows)  # what comes later may take all of them along
  against = gpu.ratio(rows[1:])
  if against is not None:
    print(f"ratio: the fastest PyTorch's step takes {against:.2f} times ours")
    rows.append({"part": "ratio", "ratio": against})
  return rows


def _gpu_jobs(args, overrides: Mapping[str, str]) -> list[gpu.Job]:
  if args.steps < 1 or args.warmup < 0:
    raise common.UserError(
      f"--steps {args.steps} --warmup {args.warmup}: at "
      "least one step, and no fewer than none."
    )
  if args.side < 32 or args.side % 32:
    raise common.UserError(f"--side {args.side}: give a multiple of 32.")
  config = common.load_config(args.config, overrides)
  stage = common.stage_name(config, args.stage)
  denoised = common.load_config(args.denoise_config)
  side, attention = args.side, args.attention or ["auto", "chunked"]
  if args.sizes == "micro":  # for CPUs, where nothing else is to be compared
    from emma_jax.speed import sizes

    config, denoised, side = sizes.micro(config), sizes.micro(denoised), 64
    attention = args.attention or ["auto"]
  return list(
    gpu.jobs(
      config,
      stage,
      denoised,
      parts=args.parts,
      attention=attention,
      modes=args.torch,
      tasks=args.tasks,
      side=side,
      warmup=args.warmup,
      steps=args.steps,
      profile=args.profile,
    )
  )


def _gpu_lines(row: Mapping[str, Any], plan: pathlib.Path | None) -> list[str]:
  """A part's result, what matters most first."""
  name = f"{row['part']} {row['variant']}:"
  if "error" in row:
    return [f"{name} {row['error']}"]
  spread = f"{1e3 * row['fastest']:.1f} to {1e3 * row['slowest']:.1f}"
  lines = [
    f"{name} {1e3 * row['seconds']:.1f} ms a step ({spread}, "
    f"{row['steps']} timed), {row['tokens_per_second']:,.0f} tokens/s"
  ]
  if "flops_per_second" in row:
    share = "" if row["mfu"] is None else f", {row['mfu']:.1%} of the peak"
    lines.append(
      f"{row['model_flops'] / 1e12:.2f} TFLOP a step, "
      f"{row['flops_per_second'] / 1e12:.1f} TFLOP/s{share}"
    )
  parts = [f"{_gib(row['peak_bytes'])} at the peak"]
  if "compiled_bytes" in row:
    parts.append(f"{_gib(row['compiled_bytes'])} as compiled")
  if row["part"] == "train" and plan:
    planned = json.loads(plan.read_text())
    parts.append(f"{_gib(planned['hbm_bytes'])} planned")
  lines.append(
    f"memory: {', '.join(parts)}; compiled in {row['compile_seconds']:.0f} s"
  )
  for kernel in row.get("kernels", ()):
    lines.append(
      f"{1e3 * kernel['seconds']:9.2f} ms {kernel['calls']:7.0f} x "
      f"{kernel['kernel'][:60]}"
    )
  return lines


def _gib(size: float | None) -> str:
  return "unknown" if size is None else f"{size / 2**30:.2f} GiB"


def _write(path: pathlib.Path | None, results: list[dict[str, Any]]):
  if path:
    path.write_text(json.dumps(results, indent=1) + "\n")


def _main(argv: list[str]) -> int:
  overrides, rest = common.parse_overrides(argv)
  args = _parser().parse_args(rest)
  if overrides and args.command != "gpu":
    raise common.UserError(
      f"{args.command} takes no --config.{next(iter(overrides))}"
      ": its sizes are the published ones."
    )
  run = {
    "torch": _run_torch,
    "memory": _run_memory,
    "data": data_command.run,
    "gpu": lambda args: _run_gpu(args, overrides),
  }[args.command]
  results = run(args)
  _write(args.json, results)
  every = [side for r in results for side in (r, *r.get("sides", {}).values())]
  return int(any("error" in one for one in every))


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, (child.ChildError, ValueError, OSError))


def entry() -> None:
  """The console script."""
  sys.exit(main())


if __name__ == "__main__":
  entry()
