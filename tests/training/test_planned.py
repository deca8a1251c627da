"""Training on planned batches of two picture sizes; resumed, and refused."""

import dataclasses
import os
import pathlib
import signal

import chex
import pytest

from emma_jax.checkpoints.integrity import ContradictionError
from emma_jax.training import loop
from tests.data import recorded
from tests.training import test_loop, test_resume

STEPS = 8


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
  return recorded.folders(tmp_path_factory.mktemp("records"))


def _run(sources, plans, hook=None, **changes) -> loop.Run:
  """Of the model that is two numbers: the loop, the data are the real ones.

  Rows of the first phase have a shape of their own.
  """
  c = recorded.config(sources, **changes)
  if "mixture" not in changes:
    section = c.stages["3_quality"]
    (start, weights), second = section.mixture
    row = dict(und_tokens=128, references=0)
    section.mixture = ((start, weights, dict(row=row)), second)
  run = test_loop.small(test_loop.assembled(c, str(plans)), hook)
  return dataclasses.replace(run, log_every=1)


def _stop_at(when: int):
  def hook(step, batch):
    if step == when:
      os.kill(os.getpid(), signal.SIGTERM)
    return batch

  return hook


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, sources):
  workdir = tmp_path_factory.mktemp("undisturbed")
  seen = []
  hook = lambda step, host: (seen.append(host), host)[1]
  params = loop.train(_run(sources, workdir / "plan", hook), workdir)
  return params, test_loop.logged(workdir), seen


def test_steps_have_both_sizes_and_realised_shares_are_logged(undisturbed):
  _, log, seen = undisturbed
  sizes = {host.batch.gen_pixels_BMYXC.shape[2:4] for host in seen}
  assert sizes == set(recorded.BUCKETS)
  shapes = [host.batch.tokens_BU.shape[1] for host in seen[:STEPS]]
  assert shapes == [128] * 4 + [96] * 4
  placed = sum(len(row) for host in seen[:STEPS] for row in host.info.ids)
  drawings = sum(
    x.startswith("drawing/")
    for host in seen[:STEPS]
    for row in host.info.ids
    for x in row
  )
  assert log[-1]["realised/drawing"] == pytest.approx(drawings / placed)
  assert {k for k in log[0] if k.startswith("realised/tokens/")} == {
    f"realised/tokens/{name}" for name in recorded.COUNTS
  }
  assert all(x["data/oversized"] == x["data/truncated"] == 0 for x in log)


@pytest.mark.parametrize("when", [1, 5])
def test_a_resumed_run_is_the_undisturbed_one(
  when, tmp_path, sources, undisturbed
):
  with pytest.raises(loop.Stopped):
    loop.train(_run(sources, tmp_path / "plan", _stop_at(when)), tmp_path)
  # With plans somewhere else: they are made again.
  params = loop.train(_run(sources, tmp_path / "other"), tmp_path)
  chex.assert_trees_all_equal(params, undisturbed[0])
  assert test_loop.logged(tmp_path) == undisturbed[1]


def test_changed_records_and_plans_are_refused(tmp_path, sources):
  with pytest.raises(loop.Stopped):
    loop.train(_run(sources, tmp_path / "plan", _stop_at(2)), tmp_path)
  other = recorded.folder(tmp_path / "more", "drawing", 12)
  changed = sources | {"drawing": f"records:{other}"}
  with pytest.raises(ContradictionError) as error:
    loop.train(_run(changed, tmp_path / "plan"), tmp_path)
  assert error.match("content of data.sources.drawing: checkpoint .*, now")
  assert error.match("plan of stages.3_quality: checkpoint .*, now")
  with pytest.raises(ContradictionError, match="mixture"):
    loop.train(
      _run(sources, tmp_path / "plan", mixture=((0.0, dict(drawing=1.0)),)),
      tmp_path,
    )


CONFIG = """
from tests.data import recorded

def get_config():
  # Resuming of all the rest is tested in test_resume; this compiles fast.
  policy = (("heads/.*", "train"), (".*", "frozen"))
  c = recorded.config({sources!r}, policy=policy)
  c.train.log_every = 1
  return c
"""


class Planned(test_resume.Runs):
  """Commands with the real model on planned batches."""

  def __init__(self, root: pathlib.Path, sources: dict[str, str]):
    self.root = root
    (root / "planned.py").write_text(CONFIG.format(sources=sources))

  def arguments(self, name: str, *more: str) -> list[str]:
    return [
      "--config",
      str(self.root / "planned.py"),
      "--workdir",
      str(self.root / name),
      *more,
    ]


@pytest.mark.slow
def test_the_real_model_trains_on_both_sizes_and_resumes(tmp_path, sources):
  """One program a size; a run that was stopped ends with the same bits."""
  runs = Planned(tmp_path, sources)
  said = runs.finish(runs.start("calm"))
  for y, x in recorded.BUCKETS:
    assert f"compiling for {y}x{x}" in said
  process = runs.start("stopped")
  test_resume.wait_for(lambda: runs.logged("stopped"), process)
  process.terminate()
  assert "Stopped by SIGTERM" in runs.finish(process)
  runs.finish(runs.start("stopped"))
  assert runs.checksums("stopped") == runs.checksums("calm")
  assert runs.logged("stopped") == runs.logged("calm")
  assert {"loss/drawing", "loss/understanding"} <= set(runs.logged("calm")[0])
  assert list((tmp_path / "stopped" / "plan").glob("*/segment-000000.npz"))
