"""Killed at any time and started again, a run ends as if nothing happened."""

import json
import os
import pathlib
import subprocess
import sys
import time

import chex
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.checkpoints import checkpointer, weight_files
from emma_jax.cli import train
from tests import tiny

CONFIG = """
from configs import stages
from tests import tiny

def get_config():
  c = tiny.config()
  c.name = "micro"
  c.weights = ""
  c.data.threads = 1
  c.data.text_dropout = 0.5
  c.train.update(log_every=2, save_every=3, evaluate=False)
  policy = stages.policies(experts=True)
  rows = dict(samples_per_batch=3, rows=1, und_tokens=320, und_pictures=3)
  c.stages = {
      "3_quality": stages.stage(
          "3_quality", steps=7, learning_rate=1e-3, warmup_steps=2,
          ema_decay=0.9, policy=policy["3_quality"],
          load=((".*", "weights:{weights}"),), **rows,
          references=2, targets=2),
      "4b_router": stages.stage(
          "4b_router", steps=5, learning_rate=1e-2, warmup_steps=0,
          ema_decay=0.9, policy=policy["4b_router"],
          load=stages.KEEP_AND_COPY, **rows),
  }
  return c
"""
TIMEOUT = 300  # seconds for what takes a few


class Runs:
  """Runs of one config, each in a folder of its own."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    (root / "micro.py").write_text(CONFIG)
    self.weights = root / "start.safetensors"
    weight_files.save_weights(self.weights, tiny.params(), {})

  def arguments(self, name: str, *more: str) -> list[str]:
    return [
      "--config",
      str(self.root / "micro.py"),
      "--workdir",
      str(self.root / name),
      f"--config.weights={self.weights}",
      *more,
    ]

  def start(self, name: str) -> subprocess.Popen:
    """The command in a process of its own; its stderr goes to a file."""
    env = os.environ | {
      "EMMA_CACHE": str(self.root / "cache"),
      "PYTHONPATH": str(pathlib.Path(__file__).parents[2]),
      "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles faster
    }
    self.errors = self.root / f"{name}.stderr"
    with self.errors.open("w") as errors:
      return subprocess.Popen(
        [sys.executable, "-m", "emma_jax.cli.train", *self.arguments(name)],
        env=env,
        cwd=self.root,
        stderr=errors,
        stdout=subprocess.PIPE,
        text=True,
      )

  def finish(self, process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, self.errors.read_text()
    return out + self.errors.read_text()

  def logged(self, name: str) -> list[dict]:
    path = self.root / name / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [
      {k: v for k, v in json.loads(x).items() if k != "timing"} for x in lines
    ]

  def steps(self, name: str) -> list[int]:
    folder = self.root / name / "checkpoints"
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())

  def checksums(self, name: str) -> dict[str, str]:
    """Of every array of the last checkpoint: weights, moments, average."""
    step = self.root / name / "checkpoints" / str(self.steps(name)[-1])
    return json.loads((step / "meta" / "metadata").read_text())["leaves"]

  def arrays(self, name: str) -> dict[str, np.ndarray]:
    parts, _ = checkpointer.restore_params(
      self.root / name / "checkpoints", ("trained", "frozen", "ema")
    )
    return rules.flatten(parts)


def wait_for(condition, process: subprocess.Popen):
  end = time.monotonic() + TIMEOUT
  while not condition():
    assert process.poll() is None, "the run ended before it was disturbed"
    assert time.monotonic() < end, "nothing happened"
    time.sleep(0.002)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
  """One run without and one with three disturbances."""
  runs = Runs(tmp_path_factory.mktemp("resume"))
  runs.finish(runs.start("calm"))

  process = runs.start("disturbed")
  wait_for(lambda: "Stage 3_quality" in runs.errors.read_text(), process)
  process.terminate()
  said = runs.finish(process)  # SIGTERM is no failure
  assert "Stopped by SIGTERM" in said and "same command continues" in said
  stopped = runs.steps("disturbed")[-1]
  assert 1 <= stopped < 7

  process = runs.start("disturbed")
  wait_for(
    lambda: (
      runs.steps("disturbed")[-1] > stopped
      and runs.logged("disturbed")[-1]["step"] >= 4
    ),
    process,
  )
  process.kill()
  process.communicate()
  assert process.returncode == -9
  steps = runs.steps("disturbed")

  newest = runs.root / "disturbed" / "checkpoints" / str(steps[-1])
  file = max(
    (f for f in newest.glob("state/**/d/*") if f.is_file()),
    key=lambda f: f.stat().st_size,
  )
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)
  said = runs.finish(runs.start("disturbed"))
  assert f"{newest} is damaged" in said
  assert f"went back to the checkpoint of step {steps[-2]}" in said
  return runs


def test_the_disturbed_run_ends_as_the_calm_one(runs):
  assert runs.steps("disturbed")[-1] == runs.steps("calm")[-1] == 12
  assert runs.checksums("disturbed") == runs.checksums("calm")
  chex.assert_trees_all_equal(runs.arrays("disturbed"), runs.arrays("calm"))
  moments = [p for p in runs.checksums("calm") if p.startswith("opt_state")]
  assert len(moments) > 4


def test_the_loss_curve_is_the_same(runs):
  log = runs.logged("calm")
  assert [x["step"] for x in log] == [2, 4, 6, 7, 9, 11, 12]
  assert len({x["loss/total"] for x in log}) == 7
  assert runs.logged("disturbed") == log


def test_both_stages_trained(runs):
  start = rules.flatten(tiny.params())
  end = {
    p.partition("/")[2]: x
    for p, x in runs.arrays("calm").items()
    if not p.startswith("ema")
  }
  moved = {
    p.split("/")[0] for p in start if not np.array_equal(start[p], end[p])
  }
  assert moved == {"adapters", "heads", "llm", "vision"}
  assert not np.array_equal(
    start["vision/router/fc2/bias"], end["vision/router/fc2/bias"]
  )


def test_a_contradiction_is_refused_and_listed(runs, own_cache, capfd):
  before = runs.checksums("calm")
  assert train.main(runs.arguments("calm", "--config.data.seed=7")) == 2
  said = capfd.readouterr().err
  assert "data.seed" in said and "7" in said and "Traceback" not in said
  assert runs.steps("calm")[-1] == 12 and runs.checksums("calm") == before


def test_a_finished_run_stays_as_it_is(runs, own_cache, capfd):
  before = runs.logged("calm"), runs.checksums("calm")
  assert train.main(runs.arguments("calm")) == 0
  assert "nothing is left to do" in capfd.readouterr().out
  assert (runs.logged("calm"), runs.checksums("calm")) == before
