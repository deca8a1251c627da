"""emma-data plan: which samples stand in which rows, without reading any.

Plans the batches of a stage (samples_per_batch=0) from its side files of
lengths, and prints how full the rows are, how often each source and each aspect
ratio comes, and what is cut or left out since it is too long. One command at a
time keeps its plans in a folder (--plans).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import time
from typing import Any

from emma_jax import locks
from emma_jax.cli import common
from emma_jax.cli.data import stage


def add(commands: Any) -> None:
  """Adds the parser of `emma-data plan`."""
  parser = commands.add_parser(
    "plan", help="plan a stage's batches from lengths", description=__doc__
  )
  stage.add_arguments(parser)
  amount = parser.add_mutually_exclusive_group()
  amount.add_argument(
    "--steps", type=int, metavar="N", help="batches (default: all of the stage)"
  )
  amount.add_argument(
    "--samples",
    type=int,
    metavar="N",
    help="as many batches as hold so many samples",
  )
  parser.add_argument("--json", metavar="FILE", help="also write it here")
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Prints the summary of a stage's plan; 0, or UserError."""
  with contextlib.ExitStack() as stack:
    if args.plans:
      # Two would plan the same for hours.
      stack.enter_context(locks.hold(args.plans, "emma-data plan"))
    return _plan(args, overrides)


def _plan(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  from emma_jax.data.batching import summary

  given, name = stage.find(args, overrides)
  config = stage.measured(given, name, args.plans)
  source = stage.source(config, name, args.plans)
  if not source.config.planned:
    raise common.UserError(
      f"The stage {name} is not planned: its samples_per_batch="
      f"{source.config.samples_per_batch}. Set it to 0, as in "
      f"--config.stages.{name}.samples_per_batch=0."
    )
  steps = args.steps
  if steps is None and args.samples is None:
    steps = config["stages"][name]["steps"]
  start = time.perf_counter()
  found = summary.summarise(source.plan, steps, args.samples)
  seconds = time.perf_counter() - start
  size = sum(entry.stat().st_size for entry in os.scandir(source.plan.folder))
  _print(found, source.plan.key, seconds, size)
  # As given: shares of samples, which measured rows turn into steps.
  _print_rows(source.plan, given["stages"][name]["mixture"], name)
  if args.json:
    report = dataclasses.asdict(found)
    report |= {"plan": source.plan.key, "seconds": seconds, "bytes": size}
    with open(args.json, "w", encoding="utf-8") as file:
      json.dump(report, file, indent=1)
      file.write("\n")
  return 0


# Rows that are less full get a proposal.
_LOW = 0.92


def _print_rows(plan: Any, mixture: Any, name: str) -> None:
  """Of phases whose rows could be fuller."""
  from emma_jax.data.batching import row_shapes

  if len(plan.config.phases) != len(mixture):  # some are shorter than a step
    return
  then, pairs = row_shapes.mixture(plan.drawer, mixture, _LOW)
  better = [(a, b) for a, b in pairs if b.fill > a.fill + 0.01]
  if not better:
    return
  print("\nRows of no more slots that these samples would fill:")
  for a, b in better:
    row = ", ".join(f"{k}={n}" for k, n in b.row.items() if n != a.row[k])
    print(
      f"  {b.fill:.2f} instead of {a.fill:.2f} of {b.slots:,} slots, "
      f"{b.row_samples:.2f} samples each: {row}"
    )
  print(f'by --config.stages.{name}.mixture="{then}"')


def _print(found: Any, key: str, seconds: float, size: int) -> None:
  print(
    f"Plan {key[:16]}: {found.batches:,} batches, {found.samples:,} "
    f"samples, {found.tokens:,} tokens; {seconds:.1f} s, "
    f"{size / 1e6:.1f} MB."
  )
  fill = found.fill
  print(
    "Fill of the rows: "
    + ", ".join(f"{share:.4f} of {name}" for name, share in fill.items())
    + "."
  )
  if len(found.buckets) > 1:
    print(
      "Batches by picture size: "
      + ", ".join(f"{n:,} of {size}" for size, n in found.buckets.items())
      + "."
    )
  print(f"Framing crops {found.cropped:.1%} of the pictures to draw.")
  for phase in found.phases:
    print(
      f"\nfrom batch {phase.first:,}: {phase.batches:,} batches, "
      f"{phase.row_samples:.2f} samples a row, {phase.fill['slots']:.4f} of "
      f"slots filled\n{'':22}  wanted ({phase.unit})   samples    tokens"
    )
    for name, wanted in phase.wanted.items():
      if wanted:
        print(
          f"  {name:20}  {wanted:16.5f}  {phase.samples[name]:8.5f}  "
          f"{phase.tokens[name]:8.5f}"
        )
  print(
    f"\nToo long for a row so far: {found.truncated:,} samples cut after the "
    f"turns that fit, {found.passed:,} left out. In an epoch:"
  )
  for name, source in found.sources.items():
    reasons = ", ".join(f"{k} {n:,}" for k, n in source["too much of"].items())
    reasons = f" (too much of: {reasons})" if reasons else ""
    print(
      f"  {name}: {source['elements']:,} records, {source['truncated']:,} cut, "
      f"{source['dropped']:,} left out{reasons}, {source['cropped']:.1%} of "
      "what is drawn cropped"
    )
