"""PyTorch's train step is the one it is compared with: loss and gradients."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from emma_jax import flow, optimizer, rules
from emma_jax.build import config_file
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.convert import emma_names as names
from emma_jax.convert import table
from emma_jax.speed import sizes, synthetic
from emma_jax.training import step as step_lib
from tests import tiny

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from emma_jax.speed import torch_model, torch_step

TOLERANCE = 1e-4  # of the largest number in a tensor


def config_of(stage: str) -> dict:
  return sizes.micro(config_file.load(f"emma_0_6b.py:{stage},h100"))


def random_params(shapes: dict) -> dict:
  """Around 0, and around 1 where a norm scales: no symmetry left."""
  rng = np.random.default_rng(0)
  out = {}
  for path, leaf in rules.flatten(shapes).items():
    center = float(path.endswith(("scale", "q_norm", "k_norm")))
    std = 0.02 if path.startswith("autoencoder") else 0.15
    out[path] = rng.normal(center, std, leaf.shape).astype(np.float32)
  return rules.unflatten(out)


@pytest.fixture(scope="module", params=["stage1", "stage3,fixed"])
def case(request):
  """(config, stage, batch, parameters); stage 3 has references."""
  config = config_of(request.param)
  run = build_run.run(config, data=False)
  batch, _ = synthetic.batch(run.stages[0].layout, 256)
  return config, run.stages[0], batch, random_params(run.shapes)


def tensors(config: dict, params: dict) -> dict:
  entries = names.entries(build_model.emma_config(config["model"]))
  return {
    n: torch.from_numpy(np.array(x)) for n, x in table.write(params, entries)
  }


def close(theirs, ours, what: str):
  ours = np.asarray(ours)
  error = np.abs(theirs.detach().numpy() - ours).max()
  assert error <= TOLERANCE * np.abs(ours).max(), (what, error)


def test_loss_and_gradients_are_ours(case):
  config, stage, batch, params = case
  objective = stage.objective
  draw = lambda name: step_lib.stream(3, name, 0)
  moves = rules.resolve(stage.policy, rules.flatten(params), "policy")
  trained, frozen = rules.split(
    params, {k: v == "train" for k, v in moves.items()}
  )

  @functools.partial(jax.jit, compiler_options=tiny.QUICK)
  def ours(trained):
    loss_of = lambda t: objective(rules.merge(t, frozen), batch, draw)[0]
    return jax.value_and_grad(loss_of)(trained)

  loss, grads = ours(trained)
  trainer = torch_step.Trainer(config, stage, tensors(config, params), "eager")
  shape = batch.gen_task_BM.shape
  size = (*shape, stage.layout.tokens_per_picture, 8)
  time = flow.sample_time(draw("flow_time"), shape, objective.flow)
  eps = jax.random.normal(draw("flow_noise"), size)
  theirs = trainer.loss(
    torch_step.on(batch, "cpu"),
    *(torch.from_numpy(np.array(x)) for x in (time, eps)),
  )
  close(theirs, loss, "loss")
  theirs.backward()
  zeros = jax.tree.map(np.zeros_like, frozen)
  wanted = tensors(config, jax.tree.map(np.asarray, rules.merge(grads, zeros)))
  assert set(trainer.low) == torch_step.trained_names(config, stage.policy)
  for name, x in trainer.low.items():
    grad = torch.zeros_like(x) if x.grad is None else x.grad
    if name.endswith("attention.key.bias"):
      # It shifts all scores of a query alike: no gradient but of rounding.
      like = wanted[name.replace("key", "query")].abs().max()
      assert grad.abs().max() <= TOLERANCE * like, name
      continue
    close(grad, wanted[name].numpy(), name)


def test_two_updates_are_ours(case):
  """From the same gradients: clipping, AdamW and, of one, the average."""
  config, stage, _, params = case
  trainer = torch_step.Trainer(config, stage, tensors(config, params), "eager")
  moves = rules.resolve(stage.policy, rules.flatten(params), "policy")
  trained, frozen = rules.split(
    params, {k: v == "train" for k, v in moves.items()}
  )
  rng = np.random.default_rng(1)
  grads = jax.tree.map(
    lambda x: rng.normal(0, 1, x.shape).astype(np.float32), trained
  )
  steady = dataclasses.replace(
    stage.optimizer, schedule="constant", warmup_steps=0
  )
  adam = optimizer.build(steady, stage.lr_multipliers)

  @functools.partial(jax.jit, compiler_options=tiny.QUICK)
  def update(trained, state):
    updates, state = adam.update(grads, state, trained)
    return optax.apply_updates(trained, updates), state

  named = lambda tree: tensors(
    config,
    jax.tree.map(
      np.asarray, rules.merge(tree, jax.tree.map(np.zeros_like, frozen))
    ),
  )
  gradients, state, mean = (
    named(grads),
    adam.init(trained),
    dict(trainer.master),
  )
  for x in mean:
    mean[x] = mean[x].clone()
  for _ in range(2):
    for name, x in trainer.low.items():
      x.grad = gradients[name].clone()
    trainer.update()
    trained, state = update(trained, state)
    for name, x in trainer.master.items():
      mean[name].lerp_(x, 1 - stage.ema_decay)
  wanted = named(trained)
  for (name, x), average in zip(trainer.master.items(), trainer.average):
    close(x, wanted[name].numpy(), name)
    close(average, mean[name].numpy(), name)


def test_the_copies_follow_the_weights(case):
  """In bfloat16: gradients reach float32 weights, and copies are rounded."""
  config, stage, batch, params = case
  low = config | {"model": config["model"] | {"dtype": "bfloat16"}}
  trainer = torch_step.Trainer(low, stage, tensors(low, params), "eager")
  start = {n: x.clone() for n, x in trainer.master.items()}
  loss = trainer.step(torch_step.on(batch, "cpu"))
  assert torch.isfinite(loss)
  for name, x in trainer.master.items():
    assert x.dtype == torch.float32
    assert torch.equal(trainer.low[name], x.to(trainer.low[name].dtype)), name
  assert any(not torch.equal(x, start[n]) for n, x in trainer.master.items())


@pytest.mark.parametrize("how", ["compile", "whole"])
def test_compiled_steps_are_the_eager_one(monkeypatch, how):
  """Traced and differentiated as for a GPU, without its code generator, and
  without a break in any program."""
  monkeypatch.setattr(
    torch,
    "compile",
    functools.partial(torch.compile, backend="aot_eager", fullgraph=True),
  )
  config = config_of("stage1")
  stage = build_run.run(config, data=False).stages[0]
  host, _ = synthetic.batch(stage.layout, 256)
  batch, found = torch_step.on(host, "cpu"), []
  for mode in ("eager", how):
    trainer = torch_step.Trainer(
      config, stage, torch_step.random_tensors(config, "cpu"), mode
    )
    torch.manual_seed(0)
    loss = trainer.loss(batch, *trainer.draw(batch))
    loss.backward()
    found.append((loss.detach(), trainer.low))
  (loss, low), (other, compiled) = found
  close(other, loss.numpy(), "loss")
  for name, x in low.items():
    if x.grad is not None and not name.endswith("attention.key.bias"):
      close(compiled[name].grad, x.grad.numpy(), name)


def test_other_stages_are_refused():
  config = config_of("stage4b,fixed")
  run = build_run.run(config, data=False)
  with pytest.raises(ValueError, match="objective emma"):
    torch_step.Trainer(config, run.stages[0], {}, "eager")


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_tiles_follow_the_masks_rule():
  """FlexAttention, as GPUs use it, against the mask of L x L."""
  batch = tiny.packed([tiny.editing(), tiny.understanding(), tiny.drawing()])
  ids = [
    torch.from_numpy(
      np.concatenate([getattr(i, n) for i in (batch.und_ids, batch.gen_ids)], 1)
    )
    for n in ("segment", "order", "last_visible", "noise_group", "position")
  ]
  stacked = torch.stack(ids)
  w = torch_step.tree({"norm_und.weight": torch.ones(2)})
  make = lambda flex: torch_model.Decoder(w, {"remat": "none"}, "eager", flex)
  q, k, v = torch.randn(3, 2, 2, stacked.shape[2], 16)
  k, v = k[:, :1], v[:, :1]
  outs = [
    decoder.attend(q, k, v, decoder.mask(stacked))
    for decoder in (make(False), make(True))
  ]
  close(outs[1], outs[0].numpy(), "attention")
