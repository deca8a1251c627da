"""Two devices give what one gives, and rows must split over them."""

import json
import os
import subprocess
import sys

import jax
import pytest

from emma_jax import sharding

# Two steps of a micro EMMA on all devices; prints the metrics.
SCRIPT = """
import json, jax
from tests import tiny
from emma_jax import flow, optimizer, sharding
from emma_jax.training import objectives, state, step
mesh = sharding.data_mesh()
objective = objectives.EmmaObjective(
    model=tiny.emma(), route="versatile", text_weight=0.25, velocity_weight=1.0,
    time_bins=2, flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0))
adam = optimizer.build(optimizer.OptimizerConfig(
    learning_rate=1e-3, total_steps=2), ((".*", 1.0),))
policy = (("autoencoder/.*", "frozen"), (".*", "train"))
now = state.begin(tiny.params(), policy, adam)
now = jax.device_put(now, sharding.replicated(mesh))
run = step.make_step(
    objective, adam, ema_decay=0.9, seed=0, name="s", mesh=mesh)
samples = [tiny.understanding(), tiny.drawing(), tiny.editing(),
           tiny.understanding(1), tiny.drawing(1), tiny.editing(1)]
batch = sharding.place_rows(tiny.packed(samples), mesh)
for _ in range(2):
  now, metrics = run(now, batch)
lowered = run.lower(now, batch).as_text()
print(json.dumps({
    "devices": jax.device_count(), "shardings": lowered.count("sharding"),
    "losses": {k: float(m.value) for k, m in metrics.items()}}))
"""


def metrics(devices: int, repo) -> dict:
  env = dict(os.environ, PYTHONPATH=str(repo), XLA_FLAGS=(
      f"--xla_force_host_platform_device_count={devices}"))
  done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, cwd=repo,
                        capture_output=True, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def test_two_devices_equal_one(repo):
  one, two = metrics(1, repo), metrics(2, repo)
  assert (one["devices"], two["devices"]) == (1, 2)
  # Sharding is in the program, not dropped on the way.
  assert two["shardings"] > 0
  assert one["losses"].keys() == two["losses"].keys()
  for name, value in one["losses"].items():
    assert two["losses"][name] == pytest.approx(value, rel=2e-5, abs=1e-6), name


def test_rows_that_do_not_split_are_refused(monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: 4)
  sharding.check_rows(8, "stages.x")
  with pytest.raises(ValueError, match="rows=6 .* multiple of 4"):
    sharding.check_rows(6, "stages.x")
