"""Plans as tables and lines for people, and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emma_jax import terminal
from emma_jax.planner.duration import Duration
from emma_jax.planner.plan import Plan
from emma_jax.planner.recipe import Recipe
from emma_jax.planner.sweep import Outcome

_METHODS = """\
Bound on time: {method}, each instruction times the trips of its loops; kernels
and communication are left out, so no step is faster, and no MFU higher.
Kernels: each the larger of its FLOPs at the chip's peak, with no tile skipped,
and of its operands and results, each once, at the memory's bandwidth.
Estimate: the bound, kernels, and communication over one ring of links that
nothing hides. MFU counts the model's matrix products without recomputation, and
without those in kernels."""


def _head(plan: Plan, console: Console) -> None:
  """Whether it fits."""
  mesh = " ".join(f"{k}={n}" for k, n in plan.mesh.items() if n > 1)
  console.print(
    Text.assemble(
      terminal.text(plan.name, "bold"),
      f" on {plan.topology} ({plan.devices} devices, "
      f"{mesh or 'one device'}, remat {plan.remat}): ",
      _yes_or_no(plan.fits, "fits", "DOES NOT FIT"),
      f", {_gib(plan.hbm_bytes)} of {_gib(plan.hbm_capacity_bytes)} a device; "
      f"compiled in {plan.compile_seconds:.0f} s",
    )
  )


def show_brief(plan: Plan, console: Console) -> None:
  """Whether it fits, and what helps where it does not."""
  _head(plan, console)
  if not plan.fits:
    _list(console, "Largest causes", plan.causes)
    _list(console, "What helps", plan.advice)


def show_duration(
  found: Duration, console: Console, usd_per_chip_hour: float | None = None
) -> None:
  """What a stage takes, on one line, and where its seconds come from."""
  price = ""
  if usd_per_chip_hour is not None:
    price = f", ${found.chip_hours * usd_per_chip_hour:,.0f}"
  console.print(
    Text.assemble(terminal.text(found.stage, "bold"), f": {found}{price}")
  )
  console.print(
    f"  Seconds a step: {found.method}. Late data, checkpoints and looks come"
    " on top.",
    style="dim",
    highlight=False,
  )


def show(plan: Plan, console: Console) -> None:
  """Everything about one plan."""
  _head(plan, console)
  if plan.recipe:
    show_recipes([plan.recipe], console)
  _memory(plan, console)
  if plan.causes and not plan.fits:
    _list(console, "Largest causes", plan.causes)
    _list(console, "What helps", plan.advice)
  if not plan.matmul_flops:
    return
  _time(plan, console)
  _collectives(plan, console)
  _places(plan, console)
  problems = [
    f"array of row x row (or x a width as long): {b.array} "
    f"{_gib(b.bytes)} {b.source}"
    for b in plan.square
  ]
  problems += [f"weight whole on every device: {w}" for w in plan.whole_weights]
  problems += [
    f"loop of unknown length, counted once: {name}"
    for name in plan.unknown_loops
  ]
  if plan.redundancy > 1.05:
    problems.append(
      f"{plan.redundancy:.2f} times the matmul FLOPs asked for: "
      "devices compute the same, or a chip's forms have more"
    )
  if problems:
    _list(console, "To look at", problems)
  console.print(
    _METHODS.format(method=plan.method), style="dim", highlight=False
  )
  if plan.quick:
    console.print(
      "Memory: without the code itself, on TPUs 0.2 to 0.3 GiB of the 4B.",
      style="dim",
      highlight=False,
    )


def show_sweep(outcomes: Sequence[Outcome], console: Console) -> None:
  """Ranked outcomes, one a line, and why some have no plan."""
  table = Table(title="Meshes and remat policies, the best first")
  for name in ("mesh", "remat"):
    table.add_column(name, overflow="fold")  # whole: they are to be typed
  for name in (
    "GiB",
    "fits",
    "bound s",
    "estimate s",
    "tokens/s",
    "MFU bound",
    "compiled s",
  ):
    table.add_column(name, justify="right")
  for o in outcomes:
    mesh = " ".join(f"{k}={n}" for k, n in o.candidate.mesh.items() if n > 1)
    if o.plan is None:
      table.add_row(mesh, o.candidate.remat, "", _yes_or_no(False))
      continue
    p = o.plan
    table.add_row(
      mesh,
      p.remat,
      f"{p.hbm_bytes / 2**30:.2f}",
      _yes_or_no(p.fits),
      f"{p.step_seconds_bound:.3f}",
      f"{p.step_seconds_estimate:.3f}",
      f"{p.tokens_per_second:,.0f}",
      f"{p.mfu_bound:.3f}",
      f"{p.compile_seconds:.0f}",
    )
  console.print(table)
  errors: dict[str, list[str]] = {}
  for o in outcomes:
    if o.error:
      errors.setdefault(o.error, []).append(str(o.candidate))
  if errors:
    _list(
      console,
      "No plan",
      [f"{'; '.join(who)}: {why}" for why, who in errors.items()],
    )
  for method in {o.plan.method for o in outcomes if o.plan and o.plan.method}:
    console.print(
      f"Ranked by the estimate; bound on time: {method}.",
      style="dim",
      highlight=False,
    )


def _yes_or_no(answer: bool, yes: str = "yes", no: str = "no") -> Text:
  return Text(yes, "green") if answer else Text(no, "red")


def line(outcome: Outcome) -> str:
  """What became of a candidate, while others are still tried."""
  p = outcome.plan
  state = (
    outcome.error.splitlines()[0]
    if p is None
    else (
      f"{'fits' if p.fits else 'does not fit'}, "
      f"{p.hbm_bytes / 2**30:.2f} GiB, {p.tokens_per_second:,.0f} tokens/s"
    )
  )
  return f"{outcome.candidate}: {state}"


def as_json(
  plans: Sequence[Plan], duration: Duration | None = None
) -> dict[str, Any]:
  """The first plan's fields; other plans (decoding) under their names."""
  others = {p.name: p.as_json() for p in plans[1:]}
  return (
    plans[0].as_json() | others | {"duration": duration and duration.as_json()}
  )


def sweep_as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
  """Candidates, best first, each with its plan or why there is none."""
  return [
    {
      "candidate": str(o.candidate),
      "error": o.error,
      "plan": o.plan and o.plan.as_json(),
    }
    for o in outcomes
  ]


def show_recipes(recipes: Sequence[Recipe], console: Console) -> None:
  """A line a stage: batch, length, rate, average; then what was rescaled."""
  table = Table(
    title="The recipe on this machine", box=box.SIMPLE_HEAD, padding=(0, 0)
  )
  table.add_column("stage", no_wrap=True)
  for name in (  # narrow, so that a line fits a terminal
    "samples\na step",
    "micro-\nbatches",
    "rows\nof each",
    "steps",
    "samples",
    "warm-up\nsteps",
    "warm-up\nsamples",
    "rate",
    "EMA\nhalf-life",
    "EMA\ndecay",
  ):
    table.add_column(name, justify="right", no_wrap=True)
  for r in recipes:
    known = bool(r.samples)
    table.add_row(
      terminal.text(r.stage),
      _samples(r.samples) if known else "planned",
      str(r.accumulation),
      str(r.rows // r.accumulation),
      f"{r.steps:,}",
      _samples(r.all_samples) if known else "-",
      f"{r.warmup_steps:,}",
      _samples(r.warmup_samples) if known else "-",
      f"{r.learning_rate:.3g}",
      _samples(r.ema_half_life) if known else "-",
      f"{r.ema_decay:.6g}",
    )
  console.print(table)
  for r in recipes:
    if r.rescaled:
      _list(console, f"Rescaled in {r.stage}", r.rescaled)
    elif r.batch:
      console.print(
        terminal.text(
          f"{r.stage}: nothing rescaled; the recipe's batch is {r.batch:,} "
          "samples"
        ),
        highlight=False,
      )


def _samples(n: float) -> str:
  """In full up to six digits, then in millions.

  >>> _samples(4096), _samples(28_400_000)
  ('4,096', '28.4 M')
  """
  return f"{n:,.0f}" if n < 1e6 else f"{n / 1e6:,.4g} M"


def _memory(plan: Plan, console: Console) -> None:
  table = Table("kind", "GiB a device", "share", title="Memory")
  for column in table.columns[1:]:
    column.justify = "right"
  for kind, n in plan.hbm.items():
    share = n / plan.hbm_capacity_bytes
    table.add_row(kind, f"{n / 2**30:.3f}", f"{share:.1%}")
  console.print(table)


def _time(plan: Plan, console: Console) -> None:
  table = Table("", "", title="A step", show_header=False)
  table.columns[1].justify = "right"
  devices, tera = plan.devices, 1e12
  rows = (
    ("parameters", f"{plan.parameters / 1e9:.3f} B"),
    ("tokens, all devices", f"{plan.tokens:,}"),
    ("model TFLOP, a device", f"{plan.model_flops / devices / tera:.2f}"),
    ("with recomputation", f"{plan.asked_flops / devices / tera:.2f}"),
    ("compiled matmul TFLOP", f"{plan.matmul_flops / tera:.2f}"),
    ("in kernels, at most", f"{plan.kernel_flops / devices / tera:.2f}"),
    ("bound on time", f"{plan.step_seconds_bound:.4g} s"),
    ("kernels", f"{plan.kernel_seconds:.4g} s"),
    ("estimate", f"{plan.step_seconds_estimate:.4g} s"),
    ("tokens a second", f"{plan.tokens_per_second:,.0f}"),
    ("... a device", f"{plan.tokens_per_second / devices:,.0f}"),
    ("bound on MFU", f"{plan.mfu_bound:.3f}"),
    ("... with kernels", f"{plan.mfu_with_kernels:.3f}"),
    ("MFU of the estimate", f"{plan.mfu_estimate:.3f}"),
  )
  for row in rows:
    table.add_row(*row)
  console.print(table)


def _collectives(plan: Plan, console: Console) -> None:
  table = Table(
    "kind",
    "calls",
    "GB",
    "overlapped calls",
    "GB",
    "instructions",
    title="Communication of a device",
  )
  for column in table.columns[1:]:
    column.justify = "right"
  for kind, row in plan.collectives.items():
    table.add_row(
      kind,
      f"{row['count']:.0f}",
      f"{row['bytes'] / 1e9:.3f}",
      f"{row['overlapped_count']:.0f}",
      f"{row['overlapped_bytes'] / 1e9:.3f}",
      f"{row['overlapped_instructions']:.0f} of {row['instructions']:.0f} "
      "async",
    )
  console.print(table)
  console.print(
    f"{plan.link_seconds:.4g} s on the links, of which "
    f"{plan.exposed_seconds:.4g} s are not hidden"
  )


def _places(plan: Plan, console: Console) -> None:
  total = plan.step_seconds_bound or 1.0
  for title, found in (
    ("By work", plan.seconds_by_work),
    ("By place", plan.seconds_by_source),
  ):
    _seconds(title, found, total, console)
  if plan.kernels:
    kernels = ", ".join(f"{name} x {n}" for name, n in plan.kernels.items())
    console.print(terminal.text(f"Kernels: {kernels}"))
  table = Table(
    "array", "GiB", "made by", "times", "of", title="Largest arrays of a device"
  )
  for b in plan.largest:
    table.add_row(
      terminal.text(b.array),
      f"{b.bytes / 2**30:.3f}",
      terminal.text(b.source or "-"),
      str(b.times),
      b.op,
    )
  console.print(table)


def _seconds(
  title: str, found: Mapping[str, float], total: float, console: Console
) -> None:
  table = Table(title, "ms", "share")
  for name, seconds in found.items():
    table.add_row(
      terminal.text(name), f"{1e3 * seconds:.2f}", f"{seconds / total:.1%}"
    )
  console.print(table)


def _list(console: Console, title: str, lines: Sequence[str]) -> None:
  console.print(terminal.text(title, "bold"))
  for i, line in enumerate(lines, 1):
    console.print(terminal.text(f"  {i}. {line}"), highlight=False)


def _gib(n: int) -> str:
  return f"{n / 2**30:.2f} GiB"
