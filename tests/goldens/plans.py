"""Plans as people read them: fixed numbers in every field, at 110 columns."""

import io
import re
import types

import rich.console

from emma_jax.planner import chips, plan, sweep, table
from emma_jax.planner.buffers import Buffer
from emma_jax.planner.recipe import Recipe

GIB = 2**30


def made(**changes) -> plan.Plan:
  """A plan whose fields differ from each other."""
  return plan.Plan(
    **dict(
      name="train 3_quality",
      topology="2 x v5e:4x4",
      devices=32,
      mesh=dict(slice=2, data=1, fsdp=16, tensor=1),
      remat="names:attn_out",
      fits=True,
      hbm=dict(parameters=3 * GIB, optimizer=6 * GIB, code=GIB // 8),
      hbm_bytes=9 * GIB + GIB // 8,
      hbm_capacity_bytes=16 * GIB,
      parameters=4_021_000_000,
      tokens=123_456,
      model_flops=int(6.4e15),
      asked_flops=int(8e15),
      kernel_flops=int(3.2e14),
      compile_seconds=61.4,
      causes=(),
      advice=(),
      whole_weights=("llm/embed float32[9,9]",),
      recipe=recipe(),
      matmul_flops=int(2.75e14),
      step_seconds_bound=1.2345,
      step_seconds_estimate=1.6789,
      kernel_seconds=0.0123,
      mfu_bound=0.7654,
      mfu_with_kernels=0.7321,
      mfu_estimate=0.5432,
      tokens_per_second=73_528.4,
      method="roofline",
      seconds_by_work={"matmul": 1.0, "copy": 0.2345},
      seconds_by_source={"matmul emma_jax/models/llm.py:7": 0.9},
      collectives={
        "all-gather": dict(
          count=72,
          bytes=2.5e9,
          overlapped_count=70,
          overlapped_bytes=2.4e9,
          instructions=4,
          overlapped_instructions=3,
        )
      },
      link_seconds=0.4321,
      exposed_seconds=0.1234,
      kernels={"flash": 36},
      largest=(
        Buffer("bf16[8,4096]", GIB // 2, 3, "mlp/dot", "a.py:3"),
        Buffer("f32[9]", GIB // 4, 1, "add", ""),
      ),
      square=(Buffer("f32[2,4096,4096]", GIB // 16, 1, "dot", "b.py:5"),),
      unknown_loops=("while.3",),
    )
    | changes
  )


def recipe(**changes) -> Recipe:
  """Twice the batch that it should be, on 32 devices, or as `changes`."""
  return Recipe(
    **dict(
      stage="3_quality",
      rows=64,
      accumulation=2,
      samples=3072,
      batch=1536,
      steps=488,
      warmup_steps=15,
      learning_rate=1.4142e-5,
      rate_factor=2**0.5,
      ema_decay=0.99,
      rescaled=("the batch: 2 times the recipe's",),
    )
    | changes
  )


def recipes() -> str:
  """Of one as it should be, and one whose rows hold what a plan finds."""
  other = dict(stage="2_finetuning", rescaled=(), rate_factor=1.0, steps=10**6)
  return printed(
    table.show_recipes,
    [recipe(**other), recipe(samples=0, batch=0, rescaled=())],
  )


def printed(show, *args) -> str:
  """Words and numbers line by line, without the frames of tables."""
  out = io.StringIO()
  show(*args, rich.console.Console(file=out, width=110))
  lines = re.sub(r"[\u2500-\u257f]", " ", out.getvalue()).splitlines()
  return "\n".join(filter(None, (" ".join(x.split()) for x in lines)))


def advice() -> dict[str, str]:
  """For state and for activations, of a mesh with copies and without."""
  out = {}
  for name, shape in (
    ("copies", dict(slice=1, data=4, fsdp=8, tensor=1)),
    ("tensor", dict(slice=1, data=1, fsdp=8, tensor=2)),
  ):
    size = shape["data"] * shape["fsdp"] * shape["tensor"]
    for remat in ("full", "none"):
      job = types.SimpleNamespace(
        mesh=types.SimpleNamespace(shape=shape, size=size),
        remat=remat,
        name="train x",
        recipe=recipe(),
      )
      for kind in ("optimizer", "activations"):
        hbm = {"parameters": 5, kind: 9, "temporary": 2}
        out[f"{name} {remat} {kind}"] = " / ".join(plan.advice(job, hbm))
  return out


def ranking() -> str:
  """Of plans that fit, do not fit, and are none."""
  candidate = lambda n: sweep.Candidate(
    dict(slice=1, data=n, fsdp=8 // n, tensor=1), "full"
  )
  outcomes = [
    sweep.Outcome(candidate(8), None, "no divisor"),
    sweep.Outcome(candidate(2), made(fits=False, hbm_bytes=20 * GIB)),
    sweep.Outcome(candidate(4), made(tokens_per_second=5.0)),
    sweep.Outcome(candidate(1), made(fits=False, hbm_bytes=18 * GIB)),
    sweep.Outcome(candidate(8), made(tokens_per_second=7.0)),
  ]
  return printed(table.show_sweep, list(sweep.ranked(outcomes)))


def cases() -> dict[str, dict]:
  few = dict(matmul_flops=0, causes=("9 GiB optimizer",), advice=("less",))
  topology = chips.topology("v6e:4x4", 2)
  config = {"model": {"llm": {"remat": "dots"}}}
  return {
    "one": {
      "fits": printed(table.show, made()),
      "not": printed(table.show, made(fits=False, **few)),
      "quick": printed(table.show, made(quick=True)).splitlines()[-1],
      "recipes": recipes(),
    },
    "sweep": {
      "table": ranking(),
      "default": ", ".join(map(str, sweep.candidates(topology, config))),
      "asked": ", ".join(
        map(
          str,
          sweep.candidates(
            topology, config, fsdp=[4, 3], tensor=[1, 2], remat=["full"]
          ),
        )
      ),
    },
    "advice": advice(),
    "keys": {
      "json": " ".join(sorted(made().as_json())),
      "redundancy": made().redundancy,
    },
  }
