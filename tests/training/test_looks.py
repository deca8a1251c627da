"""Looks at a run: when they come, and that they disturb nothing."""

import dataclasses
import os
import signal

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.structs import Mean
from emma_jax.training import goodput, loop, objectives, run_file
from tests.training import test_loop


class Toy(objectives.SummedObjective):
  """`test_loop.toy`, which can be measured on held-out batches."""

  def __call__(self, params, batch, stream):
    return test_loop.toy(params, batch, stream)

  def scale(self, batch):
    raise NotImplementedError

  def part(self, params, batch, random, scale):
    raise NotImplementedError

  def held_out(self, params, held):
    return {"loss/drawing": Mean(jnp.sum(params["w"]), jnp.float32(2.0))}


def make_run(hook=None, every: int = 2, samples: int = 0, **changes):
  run = test_loop.make_run(
    hook, train__validate_every=every, train__sample_every=samples, **changes
  )
  stages = (dataclasses.replace(s, objective=Toy()) for s in run.stages)
  return dataclasses.replace(run, stages=tuple(stages))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """(parameters, log, ledger, looks) of a run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("undisturbed")
  ledger, seen = goodput.Ledger(), []
  params = loop.train(
    make_run(samples=4), workdir, ledger=ledger, observer=seen.append
  )
  return params, test_loop.logged(workdir), ledger, seen


def test_held_out_losses_come_at_their_steps_and_at_each_stages_end(
  undisturbed,
):
  """Of both kinds of weights, in lines of their own behind those of the log."""
  params, log, ledger, _ = undisturbed
  found = [x for x in log if "validation/loss/drawing" in x]
  assert [(x["stage"], x["stage_step"]) for x in found] == [
    (name, step)
    for name in ("1_pretraining", "3_quality")
    for step in (2, 4, 5)
  ]
  assert [x["step"] for x in log] == [2, 2, 4, 4, 5, 5, 7, 7, 9, 9, 10, 10]
  end = float(np.sum(params["w"])) / 2
  assert found[-1]["validation_averaged/loss/drawing"] == pytest.approx(end)
  assert len({x["validation/loss/drawing"] for x in found}) == 6
  assert ledger.seconds["validation"] > 0


def test_an_observer_is_shown_all_looks_and_told_when_to_draw(undisturbed):
  *_, seen = undisturbed
  assert [(x.stage, x.step, x.last, x.samples) for x in seen] == [
    (name, first + step, step == 5, step in (4, 5))
    for name, first in (("1_pretraining", 0), ("3_quality", 5))
    for step in (2, 4, 5)
  ]
  assert seen[0].params(True).keys() == {"w"}


def test_looking_changes_nothing_that_is_learned(undisturbed, tmp_path):
  plain = loop.train(make_run(every=0), tmp_path)
  chex.assert_trees_all_equal(plain, undisturbed[0])
  rest = [x for x in undisturbed[1] if "validation/loss/drawing" not in x]
  assert test_loop.logged(tmp_path) == rest


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_stop_does_not_wait_for_a_look_and_no_look_is_lost(
  when, undisturbed, tmp_path
):
  """Stopped at a look's step, before and after it: the same log in the end."""

  def stop(step, batch):
    if step == when:
      os.kill(os.getpid(), signal.SIGTERM)
    return batch

  looked = []
  with pytest.raises(loop.Stopped):
    loop.train(make_run(stop), tmp_path, observer=looked.append)
  assert all(x.step != when + 1 for x in looked)
  params = loop.train(make_run(), tmp_path, observer=looked.append)
  chex.assert_trees_all_equal(params, undisturbed[0])
  assert test_loop.logged(tmp_path) == undisturbed[1]
  assert [x.step for x in looked] == [2, 4, 5, 7, 9, 10]


@pytest.mark.parametrize("when", [2, 4, 6])
def test_a_crash_leaves_no_look_out_and_none_twice(when, undisturbed, tmp_path):
  fail = test_loop.failing_after(when)
  with pytest.raises(RuntimeError, match="the disk is gone"):
    loop.train(make_run(fail), tmp_path)
  loop.train(make_run(), tmp_path)
  assert test_loop.logged(tmp_path) == undisturbed[1]


def test_a_run_tells_of_itself_as_it_goes(tmp_path):
  """At each log, to whoever looks from outside."""
  told = []

  class Told(run_file.RunFile):
    def _write(self):
      told.append({k: self._content.get(k) for k in ("step", "doing")})
      super()._write()

  loop.train(
    make_run(every=0), tmp_path, lambda *_: None, record=Told(tmp_path)
  )
  assert [x["step"] for x in told] == [0, 2, 4, 5, 5, 7, 9, 10, 10]
  assert told[4]["doing"] == "evaluating 1_pretraining"
  content = run_file.read(tmp_path)
  assert content["pid"] == os.getpid() and content["state"] == "running"
  assert [(s["name"], s["steps"]) for s in content["stages"]] == [
    ("1_pretraining", 5),
    ("3_quality", 5),
  ]
  assert content["samples"] == [10, 0]
