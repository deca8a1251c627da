"""Every second has one cause; profiles are written; peaks are told."""

import types

import jax
import jax.numpy as jnp
import pytest

from emma_jax.training import goodput, loop, metrics, stage_loop
from tests.training.test_loop import make_run


def test_shares_add_up_whatever_is_nested():
  now = [0.0]
  ledger = goodput.Ledger(lambda: now[0])

  def spend(cause: str, seconds: float):
    with ledger.of(cause):
      now[0] += seconds

  now[0] += 4
  with ledger.of(goodput.STEPS):
    now[0] += 10
    spend("data", 1)
    with pytest.raises(KeyError):
      with ledger.of("checkpoint"):
        now[0] += 3
        raise KeyError
    now[0] += 2
  assert ledger.shares() == pytest.approx(
    {"start-up": 0.2, "steps": 0.6, "data": 0.05, "checkpoint": 0.15}
  )
  assert ledger.summary() == (
    "Goodput 60.0% of 20 s (start-up 20.0%, checkpoint 15.0%, data 5.0%)"
  )


def test_a_run_books_all_its_time_and_writes_a_profile(tmp_path):
  ledger = goodput.Ledger()
  profile = goodput.Profile.parse("2:7", tmp_path / "profile")
  loop.train(make_run(), tmp_path, lambda *_: None, ledger, profile)
  causes = {"start-up", "steps", "compile", "data", "checkpoint", "evaluation"}
  assert set(ledger.seconds) == causes
  assert all(s > 0 for s in ledger.seconds.values())
  for entry in metrics.read_metrics(tmp_path):
    shares = {k: v for k, v in entry["timing"].items() if "share/" in k}
    assert sum(shares.values()) == pytest.approx(1)
    assert "share/steps" in shares
  traces = list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert traces and all(t.stat().st_size for t in traces)


def test_a_profile_ends_with_its_last_step(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda _: calls.append("on"))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("off"))
  profile = goodput.Profile.parse("2:3", tmp_path)
  for step in range(1, 6):
    profile.before(step)
    calls.append(step)
    profile.after(step, jnp.ones(1))
  profile.close()
  assert calls == [1, "on", 2, 3, "off", 4, 5]
  calls.clear()
  profile.before(3)  # resumed there; and the stage ends with it
  profile.close()
  assert calls == ["on", "off"]


@pytest.mark.parametrize("text", ["10", "0:3", "5:4", "a:b", "1:", "-1:3"])
def test_other_pairs_are_refused(text, tmp_path):
  with pytest.raises(ValueError, match=f"--profile {text}"):
    goodput.Profile.parse(text, tmp_path)


def test_the_fullest_device_counts(monkeypatch):
  assert goodput.peak_memory() is None  # a CPU does not report it

  class Device:
    def __init__(self, peak):
      self.memory_stats = lambda: {"peak_bytes_in_use": peak}

  monkeypatch.setattr(jax, "local_devices", lambda: [Device(3), Device(7)])
  assert goodput.peak_memory() == 7


def test_compiling_is_in_no_steps_time():
  """The first step of a shape takes 100 s, most of them its program's."""
  now = [0.0]
  loop_ = stage_loop.StageLoop.__new__(stage_loop.StageLoop)
  loop_.timer = metrics.Timer(clock=lambda: now[0])
  loop_.ledger = goodput.Ledger(lambda: now[0])
  loop_.profile, loop_.first, loop_.shapes = None, 0, set()
  loop_.stage = types.SimpleNamespace(name="s")
  loop_.display = types.SimpleNamespace(doing=lambda what: None)
  plain = types.SimpleNamespace(buckets=())
  loop_.source = types.SimpleNamespace(
    config=types.SimpleNamespace(framing=plain)
  )
  costs = iter((100.0, 2.0, 2.0))

  def step(state, batch):
    now[0] += next(costs)
    return state, {}

  for n in range(1, 4):
    loop_._step(n, step, None, {"x": jnp.zeros(2)})
    loop_.timer.step()
  # Steps after the first: two of two seconds; its own run is not waited for.
  assert loop_.timer.flush()["step_seconds"] == pytest.approx(4 / 3)
  assert loop_.ledger.seconds["compile"] == 100.0
