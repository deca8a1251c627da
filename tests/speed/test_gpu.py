"""`emma-speed gpu`: its arithmetic, its inputs, and all of it at once."""

import itertools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.build import config_file
from emma_jax.cli import speed
from emma_jax.models import masks
from emma_jax.speed import clock, gpu, sizes, synthetic, trace, train
from emma_jax.structs import DRAWING, EDITING
from emma_jax.training import goodput
from tests import neutral, tiny


def micro(spec: str = "stage3,fixed,h100") -> dict:
  return sizes.micro(config_file.load(f"emma_0_6b.py:{spec}"))


def test_a_step_is_timed_from_end_to_end_with_one_in_flight():
  ticks = itertools.accumulate([0.0, 5.0, 9.0, 1.0, 2.0, 3.0])
  log: list[str] = []

  def launch():
    log.append(f"launch {len(log)}")
    return log[-1]

  found = clock.intervals(
    launch,
    lambda step: log.append(f"end of {step}"),
    warmup=2,
    count=3,
    clock=lambda: next(ticks),
  )
  assert found == [1.0, 2.0, 3.0]
  assert log[:3] == ["launch 0", "launch 1", "end of launch 0"]
  # Whatever was launched is waited for.
  assert sum(x.startswith("end") for x in log) == len(log) / 2


@pytest.mark.parametrize(
  "spec", ["stage1,h100", "stage3,fixed,h100", "stage4a,fixed,h100"]
)
def test_random_samples_fill_the_real_layouts(spec: str):
  config = config_file.load(f"emma_0_6b.py:{spec}")
  (section,) = config.stages.values()
  layout = neutral.layout(
    height=64,
    width=64,
    **{
      k: section[k]
      for k in ("und_tokens", "und_pictures", "references", "targets")
    },
    rows=2,
  )
  batch, info = synthetic.batch(layout, 1000)
  assert not info.dropped
  assert batch.und_valid_BN.all() and batch.ref_valid_BR.all()
  assert (batch.gen_task_BM == EDITING).sum() == batch.ref_valid_BR.size
  assert (batch.gen_task_BM == DRAWING).sum() == (
    batch.gen_task_BM.size - batch.ref_valid_BR.size
  )
  assert 0.8 < info.und_tokens / (2 * layout.und_tokens) <= 1
  assert batch.weights_BU.sum() > 0 and batch.tokens_BU.max() < 1000


def test_the_live_share_is_that_of_the_mask():
  batch = tiny.packed([tiny.editing(), tiny.understanding(), tiny.drawing()])
  ids = masks.join(batch.und_ids, batch.gen_ids)
  assert synthetic.live_share(batch) == pytest.approx(
    float(masks.allow(ids, ids).mean())
  )


def test_layouts_without_room_are_refused():
  with pytest.raises(ValueError, match="raise und_tokens"):
    synthetic.batch(tiny.layout(und_tokens=8), 10)
  with pytest.raises(ValueError, match="without a target"):
    synthetic.batch(tiny.layout(targets=1), 10)


def test_random_weights_have_the_models_shapes_and_no_dead_part():
  shapes = rules.flatten(tiny.shapes())
  made = rules.flatten(
    jax.jit(lambda: synthetic.weights(shapes, jnp.bfloat16))()
  )
  assert made.keys() == shapes.keys()
  for path, x in made.items():
    assert x.shape == shapes[path].shape
    matrix = bool(np.std(np.asarray(x, np.float32)))
    assert matrix == (x.dtype == jnp.bfloat16), path
    if path.endswith("scale"):
      assert (x == 1).all()


def test_jobs_are_of_the_parts_and_ways_asked_for():
  config = micro()
  stage = next(iter(config["stages"]))
  every = dict(
    parts=gpu.PARTS,
    attention=["cudnn", "kernel+chunked"],
    modes=["eager"],
    tasks=["draw", "edit"],
    side=64,
    warmup=1,
    steps=2,
    profile="folder",
  )
  jobs = list(gpu.jobs(config, stage, config, **every))
  assert [(j["part"], j["variant"]) for j in jobs] == [
    ("train", "cudnn"),
    ("train", "kernel+chunked"),
    ("torch", "eager"),
    ("denoise", "draw"),
    ("denoise", "edit"),
  ]
  model = jobs[1]["config"]["model"]
  assert model["llm"]["attention"] == "kernel"
  assert model["vision"]["encoder"]["attention"] == "chunked"
  assert [j["profile"] for j in jobs[:2]] == ["folder", ""]
  json.dumps(jobs)
  with pytest.raises(ValueError, match="Unknown attention='fast'"):
    list(gpu.jobs(config, stage, config, **every | dict(attention=["fast"])))


def test_a_step_is_timed_on_one_micro_batch():
  """Of the 130 that one GPU takes a batch of stage 1 in."""
  config = config_file.load("emma_0_6b.py:stage1,h100")
  name, section = next(iter(config.stages.items()))
  every = dict(attention=["auto"], modes=["eager"], tasks=[], side=64)
  parts = ("train", "torch")
  rest = dict(parts=parts, warmup=1, steps=2, profile="")
  for job in gpu.jobs(config, name, None, **every | rest):
    timed = job["config"]["stages"][name]
    assert (timed["rows"], timed["accumulation"]) == (2, 1)
  assert (section.rows, section.accumulation) == (260, 130)


def test_flags_are_the_chips_and_pytorchs_process_leaves_the_gpu_alone(
  monkeypatch,
):
  monkeypatch.setenv("XLA_FLAGS", "--xla_mine=1")
  env = gpu._environment("train", "NVIDIA H100 80GB HBM3")
  assert env["XLA_FLAGS"].endswith("--xla_mine=1")
  assert "latency_hiding" in env["XLA_FLAGS"]
  assert env["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.9"
  assert gpu._environment("train", "cpu")["XLA_FLAGS"] == "--xla_mine=1"
  assert gpu._environment("torch", "NVIDIA H100")["JAX_PLATFORMS"] == "cpu"


def test_the_peak_is_found_by_the_devices_name():
  assert train.peak_flops("NVIDIA H200") == 989.4e12
  assert train.peak_flops("cpu") is None


def test_what_fails_or_comes_too_late_is_said_and_leaves_the_rest():
  job = {"part": "train", "variant": "auto"}
  assert gpu.run(job, "cpu", 1.0)["error"].startswith("not begun: 1 s")
  broken = gpu.run({"part": "nothing"}, "cpu", 100.0)
  assert broken == {"part": "nothing", "error": "KeyError: 'nothing'"}


def test_a_trace_names_what_took_the_time(tmp_path):
  profile = goodput.Profile(1, 1, tmp_path)
  x = jnp.ones((300, 300))
  run = jax.jit(lambda x: jnp.sin(x @ x))
  jax.block_until_ready(run(x))
  profile.before(1)
  profile.after(1, run(x))
  found = trace.costliest(tmp_path, steps=1)
  assert found and (tmp_path / "trace.xplane.pb").is_file()
  seconds = [kernel["seconds"] for kernel in found]
  assert seconds == sorted(seconds, reverse=True) and seconds[0] > 0
  assert trace.costliest(tmp_path / "empty", steps=1) == []


@pytest.mark.parametrize(
  "device, expected",
  [
    ([], ["tf_XLAEigen/1"]),
    (["Steps", "Stream #7", "Stream #8"], ["Stream #7", "Stream #8"]),
    (["XLA Modules", "XLA Ops"], ["XLA Ops"]),
  ],
)
def test_kernels_are_the_devices_or_where_it_has_none_the_hosts(
  device, expected
):
  """libtpu, once loaded, adds a device to profiles of the CPU: an empty one."""
  name = lambda x, lines=(): types.SimpleNamespace(
    name=x, lines=[name(line) for line in lines]
  )
  planes = [
    name("/host:CPU", ["python", "tf_XLAEigen/1"]),
    name("/device:CUSTOM:Megascale Trace"),
    name("/device:X:0", device),
    name("/host:metadata", ["tf_XLA"]),
  ]
  assert [x.name for x in trace._of_kernels(planes)] == expected


def test_the_command_measures_both_steps(monkeypatch, tmp_path, capsys):
  """At micro sizes, in the processes and by the code of the full ones.

  Of the stage and task whose programs are the smallest; they run a few times.
  """
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
  file, plan = tmp_path / "out.json", tmp_path / "plan.json"
  plan.write_text(json.dumps({"hbm_bytes": 3 * 2**30}))
  code = speed.main(
    [
      "gpu",
      "--sizes",
      "micro",
      "--parts",
      "train",
      "denoise",
      "--steps",
      "2",
      "--config",
      "emma_0_6b.py:stage0,h100",
      "--tasks",
      "draw",
      "--warmup",
      "1",
      "--json",
      str(file),
      "--plan",
      str(plan),
    ]
  )
  out = capsys.readouterr().out
  assert code == 0, out
  check, step, denoised = json.loads(file.read_text())
  assert check["device"] == "cpu" and "3.00 GiB planned" in out
  for row in (step, denoised):
    assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"]
    assert row["compiled_bytes"] > 0 and row["parameters"] > 0
    assert row["mfu"] is None  # no peak of this device is known
    assert row["flops_per_second"] == pytest.approx(
      row["model_flops"] / row["seconds"]
    )
  assert np.isfinite(step["loss"]) and denoised["finite"]
  # With the text and without, 4 tokens each.
  assert (denoised["contexts"], denoised["tokens"]) == (2, 8)


def test_mistakes_are_one_line(capsys):
  for arguments, said in (
    (["--steps", "0"], "at least one step"),
    (["--side", "33"], "multiple of 32"),
    (["--stage", "9"], "choose one of 1_pretraining"),
    (["--config", "nothing.py"], "No config file"),
  ):
    assert speed.main(["gpu", *arguments]) == 2
    assert said in capsys.readouterr().err
  assert speed.main(["memory", "--config.data.seed=1"]) == 2
  assert "takes no --config.data.seed" in capsys.readouterr().err
