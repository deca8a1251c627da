"""The router's stage: balanced, measured, remembered, refused where it cannot
learn."""

import dataclasses
import json
import os
import signal

import jax
import ml_collections
import numpy as np
import pytest

from configs import stages as stage_configs
from emma_jax.build import run as build_run
from emma_jax.build import session as build_session
from emma_jax.build.sections import ConfigError
from emma_jax.checkpoints import locate
from emma_jax.checkpoints.weight_files import save_weights
from emma_jax.data.loading.held_out import LeftOut
from emma_jax.data.loading.labels import NoLabels
from emma_jax.training import loop, router
from emma_jax.training.metrics import read_metrics
from tests import tiny
from tests.data import made, recorded
from tests.training.test_loop import Hooked

STEPS, SAMPLES = 4, 4


def config(**changes) -> ml_collections.ConfigDict:
  """The router's stage alone, under another name, from a weight file."""
  c = tiny.config()
  c.initial = "unset"
  c.data.update(threads=0, min_samples=2 * SAMPLES)
  c.train.update(log_every=2, save_every=2, evaluate=False)
  c.evaluate.router.samples = 6
  c.stages = {
    "routing": stage_configs.stage(
      "4b_router",
      steps=STEPS,
      learning_rate=0.1,
      warmup_steps=0,
      samples_per_batch=SAMPLES,
      rows=2,
      und_tokens=192,
      und_pictures=2,
      policy=stage_configs.policies(experts=True)["4b_router"],
      load=((".*", "weights:{initial}"),),
    )
  }
  c.update_from_flattened_dict(
    {key.replace("__", "."): value for key, value in changes.items()}
  )
  return c


@pytest.fixture(scope="module")
def initial(tmp_path_factory) -> str:
  path = tmp_path_factory.mktemp("initial") / "w.safetensors"
  save_weights(path, tiny.params(), {"step": 0})
  return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, initial):
  """(working folder, what was told after the stage), stopped half-way once."""
  workdir, told = tmp_path_factory.mktemp("run"), []
  run = build_run.run(config(initial=initial))

  def stop(step, batch):
    if step == 1:
      os.kill(os.getpid(), signal.SIGTERM)
    return batch

  stopped = (
    dataclasses.replace(s, source=Hooked(s.source, stop)) for s in run.stages
  )
  with pytest.raises(loop.Stopped):
    loop.train(dataclasses.replace(run, stages=tuple(stopped)), workdir)
  half = locate.read(str(workdir)).meta
  assert half["stage_step"] == 2 and not half["router_trained"]
  loop.train(run, workdir, lambda params, *rest: told.append(rest))
  return workdir, told


def test_the_balance_and_the_held_out_confusion_are_logged(trained):
  *_, last = read_metrics(trained[0])
  assert last["stage_step"] == STEPS and last["labels/labelled"] == 1
  # Of each class half, by the mixture.
  assert last["labels/stem"] == 0.5
  assert last["labels/pictures"] == STEPS * SAMPLES
  cells = {k: n for k, n in last.items() if k.startswith("router/")}
  accuracy = cells.pop("router/accuracy")
  assert sum(cells.values()) == 6  # three of each
  assert sum(n for k, n in cells.items() if "/stem_to" in k) == 3
  right = cells["router/stem_to_stem"] + cells["router/general_to_general"]
  assert accuracy == right / 6


def test_the_checkpoint_says_that_the_router_is_trained(trained):
  workdir, told = trained
  assert told == [("routing", STEPS, True, True)]
  assert locate.read(str(workdir)).meta["router_trained"]
  assert build_session.read(str(workdir)).route == "router"


def test_held_out_pictures_go_where_sampling_sends_them(trained, initial):
  """The confusion is of the averaged weights, at the sampler's threshold."""
  stage = build_run.run(config(initial=initial)).stages[0]
  found = locate.read(str(trained[0])).params
  want = np.zeros((2, 2), int)
  left = LeftOut()
  for batch in stage.held_out.batches(left):
    logits = stage.objective.model.apply(
      {"params": found}, batch, method=type(stage.objective.model).router_logits
    )
    share = np.asarray(jax.nn.softmax(logits))[..., 1]
    for at in zip(*np.nonzero(batch.und_valid_BN)):
      want[batch.stem_BN[at], int(share[at] > 0.5)] += 1
  *_, last = read_metrics(trained[0])
  for i, label in enumerate(router.NAMES):
    for j, choice in enumerate(router.NAMES):
      assert last[f"router/{label}_to_{choice}"] == want[i, j]


def test_the_confusion_reads_as_a_table():
  counts = np.array([[126, 2], [3, 125]])
  found = router.Confusion(counts, LeftOut(broken=2, oversized=1))
  first, *_, general, stem, last = found.lines()
  assert first == "Router on 256 held-out pictures: accuracy 0.980"
  assert general.split() == ["general", "126", "2"]
  assert stem.split() == ["STEM", "3", "125"]
  assert last == "Held-out records left out: 2 broken, 1 oversized."


# ------------------------------------------------------------------ refusals


def labelled(folder, name: str, codes) -> str:
  stored = [
    dataclasses.replace(recorded.record("understanding", i), stem=code)
    for i, code in enumerate(codes)
  ]
  rows = [recorded.schema.Stored(record=r) for r in stored]
  measure = recorded.Measure.of(recorded.TinyTokenizer())
  return f"records:{made.dataset(folder / name, rows, 1, measure)}"


@pytest.mark.parametrize("samples", [SAMPLES, 0])
@pytest.mark.parametrize(
  "codes, said",
  [((-1, -1, -1), "0 STEM, 0 general"), ((1, 1, 1), "3 STEM, 0 general")],
)
def test_no_labels_is_an_error_before_the_first_step(
  codes, said, samples, tmp_path
):
  """Of read and of planned batches, with the command that makes them."""
  spec = labelled(tmp_path, "r", codes)
  changes = {"stages__routing__samples_per_batch": samples}
  c = config(data__sources__stem=spec, **changes)
  c.data.sources.understanding_general = spec
  with pytest.raises(ConfigError, match=said) as error:
    build_run.run(c)
  text = str(error.value)
  assert "config.stages.routing" in text and "emma-data label-stem" in text
  assert spec in text


def test_labels_that_do_not_come_end_the_stage(tmp_path, initial):
  """Told by side files that the pictures do not keep to."""
  run = build_run.run(config(initial=initial))

  def spoil(step, host):
    assert host.info.labels  # those that came
    info = dataclasses.replace(host.info, labels={-1: SAMPLES - 1, 0: 1})
    return host.replace(info=info)

  (stage,) = run.stages
  stage = dataclasses.replace(
    stage, source=Hooked(stage.source, spoil), objective=still
  )
  run = dataclasses.replace(run, stages=(stage,))
  with pytest.raises(NoLabels, match="0 STEM, 2 general and 6 unlabelled"):
    loop.train(run, tmp_path / "soon")
  few = dataclasses.replace(stage, steps=1)
  with pytest.raises(NoLabels, match="0 STEM, 1 general and 3 unlabelled"):
    loop.train(dataclasses.replace(run, stages=(few,)), tmp_path / "end")
  assert not list((tmp_path / "end" / "checkpoints").glob("1"))


def still(params, batch, draw):
  """No loss: for tests of what is counted."""
  del batch, draw
  zero = sum(x.sum() for x in jax.tree.leaves(params["vision"]["router"])) * 0
  return zero, {}


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"model__vision__experts": False}, "needs a model with experts"),
    (
      {
        "stages__routing__policy": (
          ("vision/stem/.*", "train"),
          (".*", "frozen"),
        )
      },
      "freezes vision/router",
    ),
    ({"evaluate__router__samples": -1}, "router.samples=-1 is not a"),
    ({"evaluate__router__sources": ("world:stem:train",)}, "does not train on"),
    ({"evaluate__router__sources": ("world:stem:test",)}, "0 general"),
    ({"evaluate__router__sources": ("records:/none",)}, "router.samples=0"),
  ],
)
def test_what_cannot_be_trained_or_measured_is_refused(changes, said):
  with pytest.raises(ConfigError, match=said):
    build_run.run(config(**changes))


def test_files_without_held_out_ones_are_refused_or_done_without(tmp_path):
  spec = labelled(tmp_path, "r", (1, 0, 1))
  c = config()
  for name in ("stem", "understanding_general"):
    c.data.sources[name] = spec
  with pytest.raises(ConfigError, match=r"must name labelled.*samples=0"):
    build_run.run(c)
  c.evaluate.router.samples = 0
  assert build_run.run(c).stages[0].held_out is None


# -------------------------------------------------------- whose router it is

KEEP = ((".*", "keep"),)
LOADED = ((".*", "weights:x"),)
PARTLY = (("vision/router/.*", "random"), (".*", "keep"))
WHOLE = ((".*", "train"),)
LLM = (("llm/.*", "train"), (".*", "frozen"))


@pytest.mark.parametrize(
  "load, policy, previous, of_x, kept",
  [
    (KEEP, LLM, True, False, True),
    (KEEP, LLM, False, True, False),
    (KEEP, WHOLE, True, True, False),  # what it looks at moves
    (LOADED, LLM, False, True, True),
    (LOADED, LLM, True, False, False),
    (LOADED, LLM, True, None, False),  # metadata that do not say
    (PARTLY, LLM, True, True, False),
  ],
)
def test_a_trained_router_stays_one_while_what_it_sees_stays(
  load, policy, previous, of_x, kept
):
  stage = dataclasses.replace(
    build_run.run(config(), data=False).stages[0], load=load, policy=policy
  )
  meta = {} if of_x is None else {"router_trained": of_x}
  found = router.inherited(stage, tiny.shapes(), previous, {"x": meta})
  assert found == kept


def test_metadata_are_json(trained):
  json.dumps(locate.read(str(trained[0])).meta)
