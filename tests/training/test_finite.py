"""What is not finite moves no weight, is saved nowhere, and is named."""

import dataclasses
import doctest
import math
import os
import shutil
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emma_jax import optimizer
from emma_jax.checkpoints import checkpointer, locate, weight_files
from emma_jax.cli import train
from emma_jax.exits import FINAL, Exit, NotFinite
from emma_jax.structs import Mean
from emma_jax.training import finite, loop, setbacks, spikes, state
from emma_jax.training.step import make_step
from tests import tiny
from tests.training import test_loop, test_resume

FIRST = "1_pretraining"


def test_docstrings():
  assert doctest.testmod(finite).failed == 0


# --------------------------------------------------------------- one step


def times(params, batch, draw):
  """A loss whose gradient is the batch; both are what the batch makes them."""
  loss = sum(jnp.sum(x) for x in params.values()) * batch
  return loss, {"loss/total": Mean(loss, jnp.float32(1))}


def step_of(most: int, adam=None):
  adam = adam or optax.chain(optimizer.clip_by_norm(1.0), optax.adam(0.1))
  policy = (("b", "frozen"), (".*", "train"))
  params = {"a": jnp.ones(3), "b": jnp.ones(2)}
  step = make_step(
    times,
    adam,
    ema_decay=0.9,
    seed=0,
    name="s",
    accumulation=1,
    max_skipped_steps=most,
  )
  return step, state.begin(params, policy, adam, {})


def copied(s: state.TrainState) -> dict:
  """Weights, moments, average and step on the host: a step donates them."""
  return jax.device_get(jax.tree.leaves(s.saved()))


@pytest.mark.smoke
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_refused_step_changes_nothing_and_none_after_it_is_applied(bad):
  """The host notices a step or two later: until then all are refused."""
  step, s = step_of(0)
  s, measured = step(s, jnp.float32(1))
  assert measured[finite.REFUSED].total == 0 and s.step == 1
  before = copied(s)
  for n, batch in enumerate((bad, 1.0, 1.0), 1):
    s, measured = step(s, jnp.float32(batch))
    assert measured[finite.REFUSED].total == n
    chex.assert_trees_all_equal(copied(s), before)


def test_skipped_steps_count_as_done_and_leave_no_trace_but_that():
  step, s = step_of(2)
  plain, p = step_of(0)
  for batch in (1.0, math.nan, math.inf, 3.0, math.nan, 2.0):
    s, measured = step(s, jnp.float32(batch))
    if math.isfinite(batch):
      p, _ = plain(p, jnp.float32(batch))
      assert measured[finite.REFUSED].total == 0
  assert s.step == 6 and p.step == 3
  chex.assert_trees_all_equal(s.trained, p.trained)
  chex.assert_trees_all_equal(s.opt_state, p.opt_state)


def test_too_many_in_a_row_halt_for_good():
  step, s = step_of(2)
  for batch in (1.0, math.nan, math.nan):
    s, _ = step(s, jnp.float32(batch))
  before = copied(s)
  assert s.step == 3
  for batch in (math.nan, 1.0, 1.0):
    s, _ = step(s, jnp.float32(batch))
    chex.assert_trees_all_equal(copied(s), before)


def test_a_finite_loss_with_a_gradient_that_is_not_is_refused():
  def root(params, batch, draw):
    loss = jnp.sum(jnp.sqrt(params["a"] * batch))  # 1 / 0 at 0
    return loss, {}

  step = make_step(
    root,
    optax.sgd(0.1),
    ema_decay=0.9,
    seed=0,
    name="s",
    accumulation=1,
    max_skipped_steps=0,
  )
  s = state.begin({"a": jnp.zeros(2)}, ((".*", "train"),), optax.sgd(0.1), {})
  s, measured = step(s, jnp.float32(1))
  assert np.isfinite(measured["loss/total"].total)
  assert measured[finite.REFUSED].total == 1
  np.testing.assert_array_equal(s.trained["a"], 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_leaves_that_are_not_finite_are_named_in_order(dtype):
  tree = {
    "a": jnp.ones(3, dtype),
    "b": {"c": jnp.array([1, jnp.nan], dtype), "d": jnp.array([3])},
    "e": jnp.array([[jnp.inf]], dtype),
    "f": jnp.array([True]),
  }
  assert finite.bad_leaves(tree, None) == ["b/c", "e"]
  assert finite.bad_leaves({}, None) == []


# ------------------------------------------------------------------- a run


def fragile(params, batch, draw):
  """The toy's loss, to which a batch may add what it likes."""
  loss, _ = test_loop.toy(params, batch, draw)
  more = jnp.max(batch.weights_BU)
  loss += jnp.where(more == 0, 0.0, more * jnp.sum(params["w"] ** 2))
  return loss, {
    "loss/total": Mean(loss, jnp.float32(1)),
    "loss/drawing": Mean(loss, jnp.float32(1)),
  }


def make_run(bad: dict[int, float], **changes) -> loop.Run:
  """The toy run; of batches of the first stage (from 1), what they add."""

  def spoil(step, host):
    value = bad.get(step + 1, 0.0)
    weights = np.full_like(host.batch.weights_BU, value)
    return host.replace(batch=host.batch.replace(weights_BU=weights))

  run = test_loop.make_run(spoil, **changes)
  first, *rest = run.stages
  first = dataclasses.replace(first, objective=fragile)
  return dataclasses.replace(run, stages=(first, *rest))


def steps_of(workdir) -> list[int]:
  folder = workdir / "checkpoints"
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


@pytest.mark.parametrize("at", [4, 5])
def test_a_run_stops_where_a_step_is_not_finite(at, tmp_path):
  """Also at a stage's last step; what was saved before stays."""
  with pytest.raises(NotFinite) as error:
    loop.train(make_run({at: math.nan}), tmp_path)
  said = str(error.value)
  assert (
    f"Step {at} of stage {FIRST}: the loss of drawing is not finite" in said
  )
  assert "(loss/drawing, loss/total)" in said
  assert "gradients of w are not" in said and "train.on_nonfinite=skip" in said
  assert f"is that of step 3 of the run ({tmp_path}/checkpoints/3)" in said
  assert steps_of(tmp_path) == [3]
  # The same again, and nothing is lost.
  with pytest.raises(NotFinite, match=f"Step {at} of stage"):
    loop.train(make_run({at: math.nan}), tmp_path)
  assert steps_of(tmp_path) == [3]
  # Told to skip, it goes on from there.
  skip = {"train.on_nonfinite": "skip"}
  loop.train(make_run({at: math.nan}, **skip), tmp_path)
  assert steps_of(tmp_path)[-1] == 10


def test_the_first_step_of_all_can_fail(tmp_path):
  with pytest.raises(NotFinite, match="There is no checkpoint yet"):
    loop.train(make_run({1: math.inf}), tmp_path)
  assert not steps_of(tmp_path)


def test_skipped_steps_are_counted_shown_and_left_out_of_means(tmp_path, capfd):
  skip = {"train.on_nonfinite": "skip", "train.max_skipped_steps": 2}
  bad = {2: math.nan, 3: math.inf}
  whole = loop.train(make_run(bad, **skip), tmp_path / "whole")
  said = capfd.readouterr().err
  assert "Step 2 of 1_pretraining is left out" in said and "1 in a row" in said
  assert "Step 3 of 1_pretraining is left out" in said and "2 in all" in said
  log = test_loop.logged(tmp_path / "whole")
  assert [x["skipped_steps"] for x in log] == [1, 2, 2, 0, 0, 0]
  assert all(np.isfinite(x["loss/total"]) for x in log)
  # Killed amid the row (step 3 saves), it ends as the whole one does.

  count = []

  def fail(step, batch):
    count.append(step)
    if len(count) > 4:
      raise RuntimeError("power")
    return batch

  run = make_run(bad, **skip)
  first = dataclasses.replace(
    run.stages[0], source=test_loop.Hooked(run.stages[0].source, fail)
  )
  with pytest.raises(RuntimeError, match="power"):
    loop.train(
      dataclasses.replace(run, stages=(first, *run.stages[1:])),
      tmp_path / "killed",
    )
  assert steps_of(tmp_path / "killed") == [3]
  shutil.copytree(tmp_path / "killed", tmp_path / "strict")
  loop.train(make_run({}), tmp_path / "strict")  # that stops at the next one
  assert steps_of(tmp_path / "strict")[-1] == 10
  again = loop.train(make_run(bad, **skip), tmp_path / "killed")
  chex.assert_trees_all_equal(whole, again)
  assert test_loop.logged(tmp_path / "killed") == log


def test_more_in_a_row_than_may_be_skipped_end_the_run(tmp_path):
  skip = {"train.on_nonfinite": "skip", "train.max_skipped_steps": 1}
  with pytest.raises(NotFinite, match="Step 3 .*max_skipped_steps"):
    loop.train(make_run({2: math.nan, 3: math.nan}, **skip), tmp_path)
  loop.train(make_run({2: math.nan, 4: math.nan}, **skip), tmp_path)


def test_weights_that_overflow_are_not_saved(tmp_path, monkeypatch):
  """Where the gradient is finite and the weights are not: at the save."""

  def update(ema, params, decay, step):
    return jax.tree.map(lambda e: e * jnp.where(step == 2, jnp.inf, 1.0), ema)

  monkeypatch.setattr(optimizer, "ema_update", update)
  with pytest.raises(NotFinite, match="not finite .ema/w.*no checkpoint"):
    loop.train(make_run({}), tmp_path)
  assert not steps_of(tmp_path)


def _let_them_be_written(monkeypatch) -> None:
  """Weights that are not finite, as by another program: ours refuses to."""
  monkeypatch.setattr("emma_jax.convert.casting.check_finite", lambda *_: None)


@pytest.mark.parametrize("source", ["random", "weights:start.safetensors"])
def test_a_stage_does_not_begin_with_weights_that_are_not_finite(
  source, tmp_path, monkeypatch
):
  _let_them_be_written(monkeypatch)
  run = make_run({}, **{f"stages.{FIRST}.load": ((".*", source),)})
  wrong = {"w": np.float32([1.0, np.nan])}
  weight_files.save_weights(tmp_path / "start.safetensors", wrong, {})
  run = dataclasses.replace(
    run,
    init=lambda shardings: {"w": jnp.array(wrong["w"])},
    read_weights=lambda name: locate.read(str(tmp_path / name)),
  )
  with pytest.raises(NotFinite) as error:
    loop.train(run, tmp_path / "run")
  assert f"Stage {FIRST} would start from" in str(error.value)
  assert f"w (from {source})" in str(error.value)


def test_a_checkpoint_of_an_earlier_version_with_nan_is_refused(
  tmp_path, monkeypatch
):
  stop = RuntimeError("enough")

  def fail(step, batch):
    if step == 4:
      raise stop
    return batch

  with pytest.raises(RuntimeError, match="enough"):
    loop.train(test_loop.make_run(fail, train__save_every=2), tmp_path)
  assert steps_of(tmp_path) == [2, 4]
  restore = loop.ckpt.Checkpointer.restore

  def spoiled(self, abstract):
    s, meta = restore(self, abstract)
    return s.replace(ema=jax.tree.map(lambda x: x * jnp.nan, s.ema)), meta

  monkeypatch.setattr(loop.ckpt.Checkpointer, "restore", spoiled)
  with pytest.raises(NotFinite) as error:
    loop.train(test_loop.make_run(train__save_every=2), tmp_path)
  said = str(error.value)
  assert f"{tmp_path}/checkpoints/4 holds numbers" in said and "ema/w" in said
  assert "go on from step 2" in said
  assert steps_of(tmp_path) == [2, 4]


def test_the_command_ends_with_a_code_of_its_own(
  tmp_path, own_cache, capfd, monkeypatch
):
  """Which a supervisor does not begin again; before the first step."""
  _let_them_be_written(monkeypatch)
  runs = test_resume.Runs(tmp_path)
  params = tiny.params()
  params["heads"]["velocity"]["bias"][:] = np.nan
  weight_files.save_weights(runs.weights, params, {})
  assert train.main(runs.arguments("run")) == Exit.NOT_FINITE
  said = capfd.readouterr().err
  assert "error: Stage 3_quality would start from weights that are not" in said
  assert "heads/velocity/bias (from weights:" in said
  assert "Traceback" not in said and Exit.NOT_FINITE in FINAL
  rate = "--config.stages.3_quality.learning_rate=1e20"
  assert train.main(runs.arguments("run", rate)) == Exit.MISTAKE
  assert "learning_rate=1e+20 is not a number from 0 to 10" in (
    capfd.readouterr().err
  )


# ------------------------------------------------------------------ spikes


def policies(**changes) -> setbacks.Setbacks:
  return setbacks.Setbacks(
    **dict(
      on_nonfinite="stop",
      max_skipped_steps=3,
      on_spike="count",
      spike_window=8,
      spike_threshold=10.0,
      max_rewinds=3,
    )
    | changes
  )


@pytest.mark.parametrize(
  "changes",
  [
    dict(on_nonfinite="hope"),
    dict(on_spike="hope"),
    dict(max_skipped_steps=0),
    dict(spike_window=1),
    dict(spike_threshold=math.nan),
    dict(spike_threshold=math.inf),
    dict(max_rewinds=-1),
  ],
)
def test_policies_that_cannot_be_are_refused_by_name(changes):
  (name,) = changes
  with pytest.raises(ValueError, match=name):
    policies(**changes)


def test_scores_are_of_median_and_median_deviation():
  """As numpy has them; one outlier in the window moves them hardly."""
  assert doctest.testmod(spikes).failed == 0
  rng = np.random.default_rng(0)
  losses = rng.normal(2.0, 0.1, 40).tolist()
  losses[20] = 50.0
  window = spikes.Window(16, 10.0)
  for n, loss in enumerate(losses):
    score = window.score(loss)
    if n < 16:
      assert score is None
      continue
    past = np.array(losses[n - 16 : n])
    middle = np.median(past)
    spread = 1.4826 * np.median(np.abs(past - middle))
    np.testing.assert_allclose(score, (loss - middle) / spread, rtol=1e-12)
    assert (score > 10) == (n == 20)
  again = spikes.Window(16, 10.0)
  again.restore(window.state())
  assert again.score(9.0) == window.score(9.0)


def test_losses_that_hardly_differ_have_no_spikes():
  window = spikes.Window(8, 10.0)
  for _ in range(8):
    window.score(1.0)
  assert window.score(1.001) < 10 < window.score(1.1)


LONG = {
  "stages.1_pretraining.steps": 24,
  "train.spike_window": 8,
  "train.spike_threshold": 50.0,
  "train.save_every": 4,
}


def spiky(bad: dict[int, float], **changes) -> loop.Run:
  return make_run(bad, **LONG | changes)


def test_spikes_are_counted_and_shown(tmp_path, capfd):
  loop.train(spiky({12: 1e6, 20: 1e6}), tmp_path)
  said = capfd.readouterr().err
  assert "Step 12 of 1_pretraining: the loss jumps to" in said
  assert "deviations above the last 8; counted." in said
  log = test_loop.logged(tmp_path)
  assert [x["loss_spikes"] for x in log if x["step"] in (10, 12, 20, 24)] == [
    *(0, 1, 2, 2)
  ]


REWIND = {"train.on_spike": "rewind"}


def test_a_rewind_leaves_the_batches_out_and_is_repeatable(tmp_path, capfd):
  """As a run that never had those batches; and killed or stopped anywhere,
  also twice between two saves, it ends as one that was not."""
  bad = {14: 1e6, 23: 1e6}
  whole = loop.train(spiky(bad, **REWIND), tmp_path / "whole")
  said = capfd.readouterr().err
  assert "Going back to step 12; the 2 batches up to the jump are" in said
  # Batch 23 is that of step 21.
  assert "Step 21 of" in said and "Going back to step 20; the 1 batches" in said
  log = test_loop.logged(tmp_path / "whole")
  assert [x["step"] for x in log][:12] == list(range(2, 25, 2))
  assert log[11]["loss_spikes"] == 2 and log[5]["loss_spikes"] == 0

  seen = []
  run = spiky({}, **REWIND)
  gaps = lambda step: step + (2 if step >= 12 else 0) + (1 if step >= 20 else 0)

  class Gaps(test_loop.Hooked):
    def __getitem__(self, step):
      seen.append(int(step))
      host = self.source[gaps(int(step))]
      return host.replace(info=dataclasses.replace(host.info, step=int(step)))

  first = run.stages[0]
  first = dataclasses.replace(first, source=Gaps(first.source, None))
  never = loop.train(
    dataclasses.replace(run, stages=(first, *run.stages[1:])),
    tmp_path / "never",
  )
  assert seen[:24] == list(range(24))
  chex.assert_trees_all_equal(whole, never)

  for name, ends in {
    "killed": (("kill", 13), ("kill", 15), ("kill", 22)),
    "stopped": (("stop", 12), ("stop", 13), ("stop", 16)),
  }.items():
    for action, at in ends:
      with pytest.raises((RuntimeError, loop.Stopped)):
        loop.train(disturbed(bad, action, at), tmp_path / name)
    end = loop.train(spiky(bad, **REWIND), tmp_path / name)
    chex.assert_trees_all_equal(whole, end)
    assert test_loop.logged(tmp_path / name) == log


def disturbed(bad: dict[int, float], action: str, at: int) -> loop.Run:
  """The run, ended when its stage reads batch number `at` (from 0)."""

  def end(step, batch):
    if step == at and action == "kill":
      raise RuntimeError("power")
    if step == at:
      os.kill(os.getpid(), signal.SIGTERM)
    return batch

  run = spiky(bad, **REWIND)
  first = run.stages[0]
  first = dataclasses.replace(first, source=test_loop.Hooked(first.source, end))
  return dataclasses.replace(run, stages=(first, *run.stages[1:]))


def test_a_stream_leaves_batches_out_wherever_it_begins():
  """Also where the gap lies ahead: an older checkpoint was restored."""
  source = make_run({}).stages[0].source
  left_out = ((4, 3), (4, 1), (6, 10))
  wanted = [0, 1, 2, 3, 8, 9, 20, 21]
  for start in range(7):
    data = spikes.Remaining(source, start, left_out)
    found = [next(data).info.step for _ in wanted[start:]]
    data.close()
    assert found == wanted[start:]
    assert found[0] + 1 == spikes.position(start + 1, left_out)


def test_regular_saves_outlive_those_of_stops(tmp_path):
  """A save that a run is to go back to is kept beside the newest two."""
  regular = lambda step: step % 4 == 0
  with checkpointer.Checkpointer(tmp_path, 2, 0, regular) as saved:
    for step in (4, 8, 9, 10, 11):
      saved.save(step, {"a": np.ones(2)}, {}, wait=True)
    assert saved.steps() == [8, 10, 11]
    saved.set_aside_after(8)
    assert saved.steps() == [8] and saved.latest_step() == 8
    saved.save(9, {"a": np.ones(2)}, {}, wait=True)
    assert saved.steps() == [8, 9]
  assert {"rewound_10", "rewound_11"} <= {p.name for p in tmp_path.iterdir()}


def test_rewinds_are_bounded_and_need_a_save(tmp_path, capfd):
  bad = {14: 1e6, 16: 1e6}
  few = REWIND | {"train.max_rewinds": 1}
  loop.train(spiky(bad, **few), tmp_path / "few")
  said = capfd.readouterr().err
  assert said.count("Going back") == 1
  assert "train.max_rewinds=1 are done: counted" in said
  late = REWIND | {"train.save_every": 50}
  loop.train(spiky(bad, **late), tmp_path / "late")
  said = capfd.readouterr().err
  assert "Going back" not in said
  assert said.count("no save of this stage to go back to") == 2
