"""Laws of a plan, on programs small enough for this machine's own compiler."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from configs import tiny as tiny_config
from emma_jax import flops, sharding
from emma_jax.build import memory, sections
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.models import attention, dcae, partition
from emma_jax.planner import (
  chips,
  counts,
  jobs,
  recipe,
  row_shapes,
  sweep,
  table,
)
from emma_jax.planner import plan as plan_lib
from emma_jax.structs import TokenIds
from tests import tiny

STAGE = "3_quality"
SMALL = chips.Chip(
  name="cpu",
  platform="cpu",
  hbm_bytes=2**30,
  peak_flops=1e12,
  hbm_bandwidth=1e11,
  link_bytes=1e10,
)
ONE = chips.Topology(chip=SMALL, sizes=(1,))
has_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is missing"
)


def config(**llm) -> dict:
  c = tiny_config.get_config()
  c.model = tiny.model(**llm)
  c.data.update(height=tiny.HEIGHT, width=tiny.WIDTH)
  stage = c.stages[STAGE]
  stage.update(rows=2, und_tokens=32, und_pictures=1, references=1, targets=1)
  c.stages = {STAGE: stage}
  return sections.plain(c)


@pytest.fixture(scope="module")
def train_job():
  return jobs.train(config(remat="full"), STAGE, jax.devices()[:1])


@pytest.fixture(scope="module")
def plan(train_job):
  return plan_lib.make(train_job, ONE, tiny.QUICK)


def test_the_check_before_a_run_is_a_lower_bound_of_its_plan(plan):
  """What fits is never refused, see build/memory.py."""
  run = build_run.run(config(remat="full"), data=False)
  mesh = sharding.make_mesh(run.mesh, jax.devices()[:1])
  need = memory.of_stage(run, run.stage(STAGE), mesh)
  names = dict(
    parameters="parameters",
    moments="optimizer",
    average="average",
    batch="batch",
  )
  assert {names[kind]: n for kind, n in need.held.items()} == {
    kind: plan.hbm[kind] for kind in names.values()
  }
  assert max(need.passing.values()) > 0 and need.size <= plan.hbm_bytes


def test_a_plan_of_a_train_step_is_whole(plan):
  assert plan.fits and plan.hbm_bytes == sum(plan.hbm.values())
  assert {"parameters", "optimizer", "average", "batch"} <= set(plan.hbm)
  # Two moments of what is trained, and a few counters.
  assert 2 * plan.hbm["average"] <= plan.hbm["optimizer"]
  assert plan.hbm["optimizer"] < 2 * plan.hbm["average"] + 64
  shapes = build_model.model(config()["model"]).shapes
  assert plan.parameters == sum(x.size for x in jax.tree.leaves(shapes))
  assert plan.step_seconds_bound <= plan.step_seconds_estimate
  assert 0 < plan.mfu_estimate <= plan.mfu_with_kernels <= plan.mfu_bound < 1
  seconds = plan.step_seconds_estimate
  assert plan.tokens_per_second == pytest.approx(plan.tokens / seconds)
  assert not plan.whole_weights and not plan.square


def test_a_batch_in_micro_batches_is_planned_as_it_runs():
  """As many FLOPs, the activations of one part, and a sum of gradients."""
  c = config(remat="full")
  c["stages"][STAGE].update(rows=8)
  once = jobs.train(c, STAGE, jax.devices()[:1])
  c["stages"][STAGE].update(accumulation=4)
  parts = jobs.train(c, STAGE, jax.devices()[:1])
  assert parts.model.matmul == pytest.approx(once.model.matmul, rel=0.01)
  assert parts.tokens == once.tokens and parts.recipe.accumulation == 4
  whole, found = (plan_lib.make(j, ONE, tiny.QUICK) for j in (once, parts))
  assert found.hbm["accumulated gradients"] == found.hbm["average"]
  assert "accumulated gradients" not in whole.hbm
  assert 0 < found.hbm["activations"] < 0.5 * whole.hbm["activations"]
  assert 0.85 < found.redundancy <= 1.05
  c["stages"][STAGE].update(accumulation=3)
  with pytest.raises(chips.PlanError, match="a divisor of 8"):
    jobs.train(c, STAGE, jax.devices()[:1])


def test_each_shape_of_a_stages_rows_is_planned(monkeypatch):
  """Once, the largest first; with one shape the stage is planned as it is."""
  traced = []

  def train(config, stage, devices):
    section = config["stages"][stage]
    traced.append((section["und_tokens"], section["references"]))
    return jobs.Job(
      name=f"train {stage}",
      tokens=section["und_tokens"],
      **dict.fromkeys(
        (
          "traced",
          "mesh",
          "arguments",
          "parameters",
          "lengths",
          "model",
          "asked",
          "whole_weights",
          "remat",
        )
      ),
    )

  monkeypatch.setattr(jobs, "train", train)
  c = config()
  assert [j.name for j in row_shapes.train(c, STAGE, [])] == [f"train {STAGE}"]
  weights = dict(drawing=1.0)
  small = dict(row=dict(und_tokens=16, references=0))
  c["stages"][STAGE]["mixture"] = [
    [0.0, weights, small],
    [0.2, weights, dict(even_buckets=True) | small],
    [0.7, weights],
  ]
  found = row_shapes.train(c, STAGE, [])
  assert [(j.name, j.tokens) for j in found] == [
    (f"train {STAGE} from 70%", 32),
    (f"train {STAGE} from 0%", 16),
  ]
  assert traced == [(32, 1), (16, 0), (32, 1)]
  assert row_shapes.largest(c, STAGE, []).tokens == 32
  assert traced[3:] == [(32, 1)]  # and no other


def test_a_recipe_says_what_is_rescaled_and_why():
  from emma_jax.build import config_file

  of = lambda spec, **more: recipe.of_stage(
    config_file.load(f"emma_4b.py:stage4a,{spec}", more), "4a_expert"
  )
  as_it_is, small, large = of("v5e-256"), of("h100"), of("2xv6e-256")
  assert as_it_is.rescaled == small.rescaled == ()
  assert small.samples == pytest.approx(as_it_is.samples, rel=0.1)
  assert small.accumulation > 100 and as_it_is.accumulation == 1
  batch, rate, rest = large.rescaled
  assert "2.03 times the recipe's 1,536 samples" in batch
  assert "each of 512 devices holds one row" in batch
  assert "1.43 times the recipe's 4e-06" in rate and "as many samples" in rest
  for r in (as_it_is, small, large):
    assert r.all_samples == pytest.approx(15e6, rel=0.01)
    assert r.warmup_samples == pytest.approx(450_000, rel=0.04)
    assert r.ema_half_life == pytest.approx(7.1e6)
  own = of("v5e-256", **{"stages.4a_expert.rows": "512"})
  assert "NOT the learning rate" in own.rescaled[1]
  tiny_stage = recipe.of_stage(sections.plain(tiny_config.get_config()), STAGE)
  assert tiny_stage.rescaled == () and tiny_stage.samples == 48


def test_the_compiler_computes_what_it_is_asked_for(plan):
  """Recomputation included; it may drop what it sees twice."""
  assert plan.model_flops < plan.asked_flops
  assert 0.85 < plan.redundancy <= 1.05


def test_the_models_flops_are_the_formulas(monkeypatch):
  """Also where a program multiplies more than that, as on TPUs."""
  monkeypatch.setattr(
    partition, "for_tpu", lambda: not partition.counting_flops()
  )
  c = config(remat="none")
  job = jobs.train(c, STAGE, jax.devices()[:1])
  assert job.model == job.asked
  platform = jax.default_backend()
  assert job.model.matmul < counts.count(job.traced.jaxpr, platform).matmul
  run = build_run.run(c, data=False)
  stage = run.stage(STAGE)
  trained = [
    p
    for p in run.axes
    if not p.startswith(("autoencoder/", "vision/stem/", "vision/router/"))
  ]
  by_formula = flops.total(
    flops.step(
      build_model.emma_config(c["model"]),
      stage.layout,
      trained,
      draws=stage.objective.draws,
      route=stage.objective.route,
    )
  )
  # The formula takes the padding of convolutions for data.
  assert job.model.matmul == pytest.approx(by_formula, rel=0.04)


def test_what_a_tpu_multiplies_in_excess_is_no_model_flop():
  """Its forms of some equations have more products; see `partition.for_tpu`."""
  sizes = build_model.dcae_config(tiny.model())
  encoder = dcae.Autoencoder(sizes)
  x = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
  variables = jax.eval_shape(encoder.init, jax.random.key(0), x)

  def products(platform: str) -> int:
    encode = lambda v, x: encoder.apply(v, x, method="encode")
    with partition.compiled_for(platform):
      return counts.count(jax.make_jaxpr(encode)(variables, x), platform).matmul

  with partition.equations():
    model = products("tpu")
    assert model == products("gpu")
  assert products("tpu") > model
  # The formula takes the padding of convolutions for data.
  assert model == pytest.approx(2 * flops.encoder(sizes, 64, 64), rel=0.1)


def test_json_has_the_promised_keys(plan):
  line = json.loads(json.dumps(plan.as_json()))
  assert {
    "fits",
    "hbm_bytes",
    "hbm_capacity_bytes",
    "parameters",
    "model_flops",
    "matmul_flops",
    "mfu_bound",
    "step_seconds_bound",
    "collectives",
    "compile_seconds",
    "kernel_seconds",
    "mfu_with_kernels",
  } <= set(line)


def test_what_does_not_fit_has_three_causes_and_advice(train_job):
  chip = chips.Chip(
    name="cpu",
    platform="cpu",
    hbm_bytes=2**16,
    peak_flops=1e12,
    hbm_bandwidth=1e11,
    link_bytes=1e10,
  )
  plan = plan_lib.make(
    train_job, chips.Topology(chip=chip, sizes=(1,)), tiny.QUICK
  )
  assert not plan.fits and len(plan.causes) == 3 and plan.advice
  largest = max(plan.hbm.values()) / 2**30
  assert plan.causes[0].startswith(f"{largest:.2f} GiB")


def test_a_complaint_of_the_compiler_is_read():
  message = (pathlib.Path(__file__).parent / "complaint.txt").read_text()
  assert plan_lib.needed(message) == 20 * 2**30
  assert plan_lib.allocations(message) == [
    (4 * 2**30, "f32[8,128] jit(step)/mlp/dot layers.py:12"),
    (2**29, "bf16[7]"),
  ]


def test_tables_show_what_is_wrong(plan, capsys):
  from rich.console import Console

  console = Console(width=120)
  table.show(plan, console)
  shown = capsys.readouterr().out
  assert "fits" in shown and "bound on MFU" in shown and "optimizer" in shown


# ---------------------------------------------------------------- sampling


def test_sampling_plans_a_denoising_step_and_a_token():
  request = jobs.Request(
    rows=2, height=tiny.HEIGHT, width=tiny.WIDTH, text=8, edit=True
  )
  denoise, decode = jobs.sample(config(), request, jax.devices()[:1])
  # Three contexts of two tokens each for every picture; one token each.
  assert denoise.tokens == 3 * 2 * 2 and decode.tokens == 2
  found = plan_lib.make(denoise, ONE, tiny.QUICK)
  assert found.fits and found.unknown_loops and found.hbm["cache"]
  assert found.redundancy == pytest.approx(1, rel=0.05)


def test_an_edit_by_tokens_has_a_longer_context():
  """What channel-wise fusion saves: the reference's two latent tokens."""
  request = jobs.Request(
    rows=1, height=tiny.HEIGHT, width=tiny.WIDTH, text=8, edit=True
  )
  fused, by_tokens = config(), config()
  by_tokens["model"]["fusion"]["mode"] = "token"
  sizes = [
    jobs.sample(c, request, jax.devices()[:1])[0].arguments["cache"]
    for c in (fused, by_tokens)
  ]
  # Text is padded to 32; then come two or four tokens of the reference.
  assert sizes[0] * (32 + 4) == sizes[1] * (32 + 2)


# ------------------------------------------------------------------ counts


def test_kernels_are_counted_apart_and_conditions_in_them_once():
  from jax.experimental import pallas as pl

  def kernel(x, o):
    for condition in (pl.program_id(0) == 0, pl.program_id(0) > 0):

      @pl.when(condition)
      def product():
        o[...] = jnp.dot(x[...], x[...])

  def f(x):
    return (
      pl.pallas_call(
        kernel,
        grid=(4,),
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        interpret=True,
        name="squares",
      )(x)
      @ x
    )

  x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
  found = counts.count(jax.jit(f).trace(x).jaxpr, "cpu")
  assert found == counts.Counts(
    matmul=2 * 8**3, kernels={"squares": 4 * 2 * 8**3}
  )
  twice = found * 2 + counts.Counts(kernels={"other": 1})
  assert twice.kernel == 2 * found.kernel + 1


def test_a_platforms_own_branch_is_counted():
  def f(x):
    return jax.lax.platform_dependent(
      x, tpu=lambda x: x @ x @ x, default=lambda x: x @ x
    )

  x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
  jaxpr = jax.jit(f).trace(x).jaxpr
  assert counts.count(jaxpr, "tpu").matmul == 2 * 2 * 8**3
  assert counts.count(jaxpr, "cuda").matmul == 2 * 8**3


def test_gpu_kernels_count_as_if_no_tile_were_skipped():
  """Also heads that are padded, and what autodiff asks for."""
  S, H, E = 1024, 2, 72
  shape = lambda *x: jax.ShapeDtypeStruct(x, jnp.bfloat16)
  ids = TokenIds(*[jax.ShapeDtypeStruct((1, S), jnp.int32)] * 5)

  def run(q, k, v, ids):
    with partition.compiled_for("gpu", (9, 0)):
      out = attention.attend(q, k, v, ids, ids, "auto")
    return out.astype(jnp.float32).sum()

  jaxpr = jax.make_jaxpr(jax.grad(run, (0, 1, 2)))(
    shape(1, S, H, E), shape(1, S, 1, E), shape(1, S, 1, E), ids
  )
  product = 2 * H * S * S * E
  assert counts.count(jaxpr, "cuda").kernels == {
    "forward_kernel": 2 * product,
    "query_gradient_kernel": 3 * product,
    "key_gradient_kernel": 4 * product,
  }


# ------------------------------------------------------------------- sweep


def test_candidates_use_every_device():
  pod = chips.topology("v5e:16x16", 2)
  found = sweep.candidates(
    pod, config(remat="dots"), fsdp=(64, 256), tensor=(1, 4), remat=()
  )
  assert len(found) == 3 * 3
  for c in found:
    assert c.mesh["slice"] == 2
    assert c.mesh["data"] * c.mesh["fsdp"] * c.mesh["tensor"] == 256
  with pytest.raises(chips.PlanError, match="give divisors"):
    sweep.candidates(pod, config(), fsdp=(7,))


def test_a_sweep_ranks_and_names_what_cannot_be(plan):
  worse = [sweep.Outcome(sweep.Candidate({}, "full"), p) for p in (None, plan)]
  assert [o.plan for o in sweep.ranked(worse)] == [plan, None]


def test_a_sweeps_table_has_what_is_to_be_typed_and_what_went_wrong(
  plan, capsys
):
  from rich.console import Console

  mesh, remat = {"data": 4, "fsdp": 64}, "names:query,key,value,attn_out"
  plan = dataclasses.replace(plan, remat=remat)
  table.show_sweep(
    [
      sweep.Outcome(sweep.Candidate(mesh, remat), plan),
      sweep.Outcome(sweep.Candidate(mesh, "full"), None, "a long reason"),
    ],
    Console(width=100),
  )
  shown = capsys.readouterr().out
  assert "full: a long reason" in shown and plan.method in shown
  column = [
    line.split("│")[2].strip()
    for line in shown.splitlines()
    if line.startswith("│")
  ]
  assert "".join(column) == remat + "full"


# ------------------------------------------------------------------ errors


def test_a_stage_or_batch_that_does_not_fit_is_refused():
  with pytest.raises(chips.PlanError, match="No stage '9_none'"):
    jobs.train(config(), "9_none", jax.devices()[:1])
  with pytest.raises(chips.PlanError, match="do not split over 4"):
    c = config()
    c["mesh"]["data"] = 4
    c["stages"][STAGE]["rows"] = 6
    jobs.train(c, STAGE, jax.devices()[:1] * 4)


@pytest.mark.parametrize(
  "name, said",
  [
    ("v9:2x2", "chips are v4, v5e"),
    ("v5e", "lacks its size"),
    ("v5e:2x2x2", "a v5e has 2 axes"),
    ("v5p:4x4", "a v5p has 3 axes"),
    ("h100:9", "a multiple of 8"),
    ("v5e:0x2", "has 2 axes"),
  ],
)
def test_unknown_topologies_are_refused(name, said):
  with pytest.raises(chips.PlanError, match=said):
    chips.topology(name)


def test_a_pair_that_is_none_is_refused(monkeypatch):
  versions = {"libtpu": "0.0.1"}
  monkeypatch.setattr(
    chips.importlib.metadata, "version", lambda name: versions[name]
  )
  with pytest.raises(chips.PlanError, match=r"no pair.*jax\[tpu\]=="):
    chips.check_libtpu()
  versions["jax-cuda13-plugin"] = "0.0.1"
  with pytest.raises(chips.PlanError, match="no pair"):
    chips.check_cuda()
  versions["libtpu"] = chips.required_libtpu().replace("*", "7")
  chips.check_libtpu()


# --------------------------------------------------------------------- TPU


@has_libtpu
def test_a_quick_plan_of_a_tpu_program_is_the_whole_ones_but_for_time():
  """In a process of its own, which ends before the compiler does."""
  code = """
import os
from emma_jax.planner import chips, jobs, plan
from tests.planner.test_plan import STAGE, config
wanted = chips.topology("v5e:2x2")
job = jobs.train(config(remat="full"), STAGE, chips.describe(wanted)[:1])
whole, quick = (plan.make(job, wanted, {}, quick=q) for q in (False, True))
for key, size in whole.hbm.items():
  assert key == "code" or quick.hbm[key] == size, key
assert quick.matmul_flops == whole.matmul_flops
assert quick.collectives == whole.collectives and quick.method == "roofline"
os._exit(0)
"""
  subprocess.run(
    [sys.executable, "-c", code],
    check=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )


@has_libtpu
# Programs of other machines can be written to the cache, but not read.
@pytest.mark.filterwarnings("ignore:Error reading persistent compilation")
@pytest.mark.parametrize("name", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_tpu_programs_are_read_as_exactly(name):
  """FLOPs through nested scans, and cycles that the chip's peak allows."""
  from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
  import numpy as np

  from emma_jax.planner import costs, hlo, program

  wanted = chips.topology(name)
  devices = chips.describe(wanted)
  mesh = Mesh(np.array(devices), ("fsdp",), axis_types=(AxisType.Auto,))

  def f(ws, x):
    again = lambda x, w: (jax.lax.fori_loop(0, 3, lambda i, x: x @ w, x), None)
    return jax.lax.scan(again, x, ws)[0]

  array = lambda *shape: jax.ShapeDtypeStruct(
    shape,
    jnp.bfloat16,
    sharding=NamedSharding(
      mesh, PartitionSpec(*[None] * (len(shape) - 2), "fsdp")
    ),
  )
  compiled = jax.jit(f).lower(array(2, 1024, 1024), array(8192, 1024)).compile()
  found = program.trace(hlo.parse(compiled.as_text()))
  flop = program.matmul_flops(found)
  assert flop * len(devices) == 2 * 8192 * 1024 * 1024 * 3 * 2
  spent = costs.by_cycles(found, wanted.chip.clock_hz)
  matmuls = sum(c.seconds for c in spent if c.work == "matmul")
  assert 0.3 < flop / wanted.chip.peak_flops / matmuls <= 1.05
