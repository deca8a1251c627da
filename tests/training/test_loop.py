"""The loop on a toy: stages, hand-over, stopping, continuing, refusing."""

import dataclasses
import os
import pathlib
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stages as stage_configs
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build import sections
from emma_jax.checkpoints import integrity, locate
from emma_jax.checkpoints.integrity import ContradictionError
from emma_jax.data.loading.dataset import Bad, TooManyBadRecords
from emma_jax.structs import Mean
from emma_jax.training import loop, metrics, stage_loop, starting
from tests import tiny

STEPS = 5  # of each of the two stages
SHAPES = {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}


def toy(params, batch, draw):
  """A loss of weights, data and noise, so that all three must be resumed."""
  target = jnp.mean(batch.tokens_BU) + jax.random.normal(draw("noise"), (2,))
  loss = jnp.sum((params["w"] - target) ** 2)
  return loss, {"loss/total": Mean(loss, jnp.float32(1))}


class Hooked:
  """A batch source that calls a function with the step before it reads."""

  def __init__(self, source, hook):
    self.config, self.source, self.hook = source.config, source, hook
    self.latents = source.latents

  def __len__(self):
    return len(self.source)

  def __getitem__(self, step):
    return self.hook(int(step), self.source[step])


def make_run(hook=None, second_rate: float = 0.1, **changes) -> loop.Run:
  """Two stages of real batches of text, whose model is two numbers."""
  c = tiny.config()
  c.data.text_dropout = 0.5
  c.train.update(log_every=2, save_every=3, evaluate=False)
  c.stages = {}
  for name, rate in (("1_pretraining", 0.1), ("3_quality", second_rate)):
    c.stages[name] = stage_configs.stage(
      name,
      steps=STEPS,
      learning_rate=rate,
      schedule="constant",
      warmup_steps=0,
      samples_per_batch=2,
      rows=2,
      und_tokens=96,
      targets=1,
      mixture=((0.0, dict(drawing=1.0)),),
      ema_decay=0.9,
      policy=((".*", "train"),),
    )
  c.stages["1_pretraining"].load = ((".*", "random"),)
  for key, value in changes.items():
    c.update_from_flattened_dict({key.replace("__", "."): value})
  return small(assembled(c), hook)


def small(run: loop.Run, hook=None) -> loop.Run:
  """The run of a model of two numbers, `hook` called before every batch."""
  hook = hook or (lambda step, batch: batch)
  return dataclasses.replace(
    run,
    init=lambda shardings: {"w": jnp.ones(2)},
    stages=tuple(
      dataclasses.replace(s, objective=toy, source=Hooked(s.source, hook))
      for s in run.stages
    ),
  )


def assembled(c, plans: str | None = None) -> loop.Run:
  """As `build_run.run` does, but for the model."""
  real = build_model.model
  build_model.model = lambda section: build_model.Model(
    module=tiny.emma(),
    shapes=SHAPES,
    axes={"w": (None,)},
    rounded_to={},
    kind="emma",
    dtype="float32",
  )
  try:
    return build_run.run(c, plans=plans)
  finally:
    build_model.model = real


def logged(workdir: pathlib.Path) -> list[dict]:
  """What was logged, without wall-clock time."""
  return [
    {k: v for k, v in x.items() if k != "timing"}
    for x in metrics.read_metrics(workdir)
  ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """(parameters, log) of a run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("undisturbed")
  return loop.train(make_run(), workdir), logged(workdir)


def test_steps_are_logged_with_their_stage_and_rate(undisturbed):
  _, log = undisturbed
  assert [x["step"] for x in log] == [2, 4, 5, 7, 9, 10]
  assert [x["stage_step"] for x in log] == [2, 4, 5] * 2
  assert [x["stage"] for x in log] == ["1_pretraining"] * 3 + ["3_quality"] * 3
  np.testing.assert_allclose([x["learning_rate"] for x in log], 0.1, rtol=1e-6)
  assert all(x["data/drawing"] == 1 for x in log)


def test_weights_of_a_later_stage_are_looked_for_before_the_first(tmp_path):
  """Not when that stage begins, which may be days later."""
  load = ((".*", f"weights:{tmp_path / 'gone.safetensors'}"),)
  run = make_run(**{"stages.3_quality.load": load})
  with pytest.raises(locate.NoWeights, match="stages.3_quality.load.*gone"):
    loop.train(run, tmp_path / "run")
  assert not (tmp_path / "run" / "checkpoints" / str(STEPS)).exists()
  # What is in the run's own folder it may make by then.
  own = tmp_path / "run" / "made.safetensors"
  run = make_run(**{"stages.3_quality.load": ((".*", f"weights:{own}"),)})
  starting.check_weights(run.stages, tmp_path / "run")


def test_an_accumulation_that_does_not_divide_is_refused_with_the_remedy():
  with pytest.raises(sections.ConfigError) as error:
    make_run(**{"stages.3_quality.accumulation": 3})
  said = str(error.value)
  assert "config.stages.3_quality" in said and "accumulation=3" in said
  assert "a divisor of 2" in said and "a multiple of 3" in said
  with pytest.raises(sections.ConfigError, match="accumulation=0 is not a num"):
    make_run(**{"stages.3_quality.accumulation": 0})


def test_shares_of_tasks_in_the_gradient_are_measured_at_their_steps(
  tmp_path, monkeypatch
):
  """Before the step that they are logged with; the norms are the step's own."""
  seen = []

  def norms(run, stage, mesh):
    def measure(state, batch):
      seen.append((stage.name, int(state.step)))
      return {
        "understanding": jnp.float32(1.0),
        "drawing": jnp.float32(3.0),
        "editing": jnp.float32(0.0),
      }

    return measure

  monkeypatch.setattr(stage_loop, "task_norms", norms)
  loop.train(make_run(train__gradient_shares_every=2), tmp_path)
  assert seen == [
    (n, i) for n in ("1_pretraining", "3_quality") for i in (1, 3)
  ]
  measured = [x for x in logged(tmp_path) if "gradient_share/drawing" in x]
  assert [x["step"] for x in measured] == [2, 4, 7, 9]
  for x in measured:
    assert x["gradient_share/drawing"] == 0.75
    assert x["gradient_share/editing"] == 0.0
    assert x["norm/gradient_understanding"] == 1.0


def test_weights_are_handed_out_within_stages_and_learned_on_unchanged(
  tmp_path,
):
  """At multiples of the interval over all stages, but not at a stage's end."""
  plain = loop.train(make_run(), tmp_path / "plain")
  seen, after = [], []
  last = loop.train(
    make_run(evaluate__benchmarks__every=2),
    tmp_path / "looked",
    lambda params, *more: after.append(more),
    midway=lambda params, *more: seen.append((jax.device_get(params), more)),
  )
  assert [more for _, more in seen] == [
    ("1_pretraining", 2, False, False),
    ("1_pretraining", 4, False, False),
    ("3_quality", 6, False, False),
    ("3_quality", 8, False, False),
  ]
  assert [more[:3] for more in after] == [
    ("1_pretraining", 5, False),
    ("3_quality", 10, True),
  ]
  chex.assert_trees_all_equal(plain, last)
  weights = [tuple(params["w"]) for params, _ in seen]
  assert len(set(weights)) == 4


def test_saves_come_at_their_interval_and_at_each_stages_end(tmp_path):
  """Of two stages of five steps every third; `keep` newest, and multiples."""
  saved = []

  class Saves(loop.ckpt.Checkpointer):
    def save(self, step, state, meta, wait=False):
      saved.append(
        (step, meta["stage_step"], meta["data_position"], int(state.step))
      )
      super().save(step, state, meta, wait)

  original, loop.ckpt.Checkpointer = loop.ckpt.Checkpointer, Saves
  try:
    loop.train(make_run(train__keep=2, train__keep_every=4), tmp_path)
  finally:
    loop.ckpt.Checkpointer = original
  assert saved == [(3, 3, 3, 3), (5, 5, 5, 5), (8, 3, 3, 3), (10, 5, 5, 5)]
  kept = sorted(
    int(p.name)
    for p in (tmp_path / "checkpoints").iterdir()
    if p.name.isdigit()
  )
  assert kept == [8, 10]


# Keys that may change between a run and its continuation; no other may.
FREE = {
  "name",
  "train.log_every",
  "train.save_every",
  "train.keep",
  "train.keep_every",
  "train.max_failed_saves",
  "train.evaluate",
  "train.loss_chunk",
  "train.gradient_shares_every",
  "train.max_rewinds",
  "train.max_skipped_steps",
  "train.on_nonfinite",
  "train.on_spike",
  "train.spike_threshold",
  "train.spike_window",
  "train.validate_every",
  "train.validate_samples",
  "train.validate_sources",
  "train.sample_every",
  "train.sample_count",
  "train.sample_tokens",
  "train.sample_prompts",
  "train.writers",
  "stages.3_quality.accumulation",
  "data.workers",
  "data.threads",
  "data.prefetch_batches",
  "mesh.slice",
  "mesh.data",
  "mesh.fsdp",
  "mesh.tensor",
  "model.llm.remat",
  "model.llm.scan_unroll",
  "model.llm.attention",
  "model.vision.encoder.remat",
  "model.vision.encoder.scan_unroll",
  "model.vision.encoder.attention",
}


def test_every_key_but_the_free_ones_is_part_of_a_run():
  """By enumeration: another value is refused, or it is one of FREE."""
  c = tiny.config()
  c.stages = {"3_quality": stage_configs.stage("3_quality")}
  saved = sections.plain(c)
  keys = integrity._dotted(saved)
  assert len(keys) > 150 and keys.keys() > FREE
  free = set()
  for key in keys:
    now = sections.plain(c)
    *outer, last = key.split(".")
    node = now
    for name in outer:
      node = node[name]
    node[last] = "another"
    found = integrity.config_differences(saved, now, loop.FREE_KEYS)
    assert len(found) <= 1
    free |= set() if found else {key}
  of_sections = {k for k in free if k.split(".")[0] in ("sample", "evaluate")}
  assert free - of_sections == FREE
  assert of_sections == {
    k for k in keys if k.split(".")[0] in ("sample", "evaluate")
  }


def test_stages_follow_each_other(tmp_path):
  """The next one starts from the averaged or the raw weights, as it says."""
  seen = []
  after = lambda params, *rest: seen.append((np.array(params["w"]), *rest))
  end = loop.train(make_run(second_rate=0.0), tmp_path / "ema", after)
  assert [s[1:] for s in seen] == [
    ("1_pretraining", STEPS, False, False),
    ("3_quality", 2 * STEPS, True, False),
  ]
  np.testing.assert_array_equal(seen[0][0], end["w"])  # a rate of 0 keeps
  raw = make_run(second_rate=0.0)
  raw = dataclasses.replace(
    raw,
    stages=tuple(
      dataclasses.replace(s, next_stage_weights="raw") for s in raw.stages
    ),
  )
  other = loop.train(raw, tmp_path / "raw")
  assert np.abs(other["w"] - end["w"]).max() > 1e-3
  assert np.abs(end["w"] - 1).max() > 1e-3


@pytest.mark.parametrize("when", [1, 3])
def test_a_stop_saves_and_the_same_call_continues(when, tmp_path, undisturbed):
  def stop(step, batch):
    if step == when:
      os.kill(os.getpid(), signal.SIGTERM)
    return batch

  with pytest.raises(loop.Stopped, match=f"SIGTERM at step {when + 1} of"):
    loop.train(make_run(stop), tmp_path)
  params = loop.train(make_run(), tmp_path)
  chex.assert_trees_all_equal(params, undisturbed[0])
  assert logged(tmp_path) == undisturbed[1]


def failing_after(when: int):
  """What `make_run` calls with each batch; raises behind so many of them."""
  count = []

  def fail(step, batch):
    count.append(step)
    if len(count) > when:
      raise RuntimeError("the disk is gone")
    return batch

  return fail


@pytest.mark.parametrize("when", [4, STEPS + 1])
def test_a_crash_goes_back_to_the_last_save(when, tmp_path, undisturbed):
  """Between two logs too: their sums are in the checkpoint."""
  fail = failing_after(when)
  with pytest.raises(RuntimeError, match="the disk is gone"):
    loop.train(make_run(fail), tmp_path)
  params = loop.train(make_run(), tmp_path)
  chex.assert_trees_all_equal(params, undisturbed[0])
  assert logged(tmp_path) == undisturbed[1]


def test_a_finished_run_has_nothing_left_to_do(tmp_path, undisturbed):
  loop.train(make_run(), tmp_path)
  forbidden = lambda step, batch: pytest.fail("a step was taken")
  seen = []
  params = loop.train(
    make_run(forbidden), tmp_path, lambda *a: seen.append(a[1:])
  )
  chex.assert_trees_all_equal(params, undisturbed[0])
  assert logged(tmp_path) == undisturbed[1]
  # A run that was killed while it was scored is scored again.
  assert seen == [("3_quality", 2 * STEPS, True, False)]


def test_another_config_is_refused_with_the_differences(tmp_path):
  stop = lambda step, batch: (os.kill(os.getpid(), signal.SIGTERM), batch)[1]
  with pytest.raises(loop.Stopped):
    loop.train(make_run(stop), tmp_path)
  with pytest.raises(ContradictionError) as error:
    loop.train(make_run(data__seed=3), tmp_path)
  assert error.match("data.seed.*0.*3")
  # What changes nothing that is learned may change.
  loop.train(
    make_run(
      train__log_every=4, data__threads=1, name="other", sample__steps=9
    ),
    tmp_path,
  )
  assert [x["step"] for x in logged(tmp_path)] == [4, 5, 9, 10]


def test_too_many_bad_records_end_the_run(tmp_path):
  def spoil(step, host):
    info = dataclasses.replace(
      host.info, bad=(Bad(f"a.jsonl:{step}", "no JSON"),)
    )
    return host.replace(info=info)

  run = make_run(spoil, data__min_samples=4, data__max_bad_share=0.25)
  with pytest.raises(TooManyBadRecords, match="a.jsonl:0: no JSON"):
    loop.train(run, tmp_path)


def test_a_stage_hands_over_ema_or_raw():
  stage = make_run().stages[0]
  with pytest.raises(ValueError, match="choose ema or raw"):
    dataclasses.replace(stage, next_stage_weights="mean")
