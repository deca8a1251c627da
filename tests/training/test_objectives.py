"""What is learned from what: the reach of each loss's gradient."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import flow, rules
from emma_jax.models.dcae import Autoencoder
from emma_jax.models.emma import Emma
from emma_jax.structs import Mean
from emma_jax.training import objectives
from emma_jax.training.step import stream
from tests import neutral, tiny

FLOW = flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0)
OBJECTIVE = neutral.objective(
  model=tiny.emma(),
  flow=FLOW,
  route="versatile",
  text_weight=0.25,
  velocity_weight=1.0,
  time_bins=3,
)
QUESTIONS = [tiny.understanding(0), tiny.understanding(1)]
# Two drawings and an edit: a mean of tasks is not the mean of pictures.
PICTURES = [tiny.drawing(0), tiny.editing(1), tiny.drawing(2)]


def gradient(objective, params, batch, step: int = 0):
  return _gradient(objective, params, batch, jnp.int32(step))


@functools.partial(jax.jit, static_argnums=0, compiler_options=tiny.QUICK)
def _gradient(objective, params, batch, step):
  draw = lambda name: stream(0, name, step)
  grad = jax.value_and_grad(objective, has_aux=True)
  return grad(params, batch, draw)


@functools.cache
def gradients(which: str) -> tuple[float, dict[str, Mean], dict]:
  """(loss, metrics, path -> gradient) of one kind of batch."""
  batch = tiny.packed(
    dict(
      questions=QUESTIONS, pictures=PICTURES, both=[QUESTIONS[0], *PICTURES]
    )[which]
  )
  (loss, metrics), grads = gradient(OBJECTIVE, tiny.params(), batch)
  return float(loss), metrics, rules.flatten(grads)


def unreached(which: str) -> set[str]:
  """Paths with zero gradient; of stacked layers, each by its number."""
  out = set()
  for path, g in gradients(which)[2].items():
    if path.startswith("llm/deep"):
      out |= {f"{path}[{i}]" for i, x in enumerate(g) if not np.any(x)}
    elif not np.any(g):
      out.add(path)
  return out


def paths(*prefixes: str) -> set[str]:
  """All paths below the prefixes, the deep layers by number."""
  found = set()
  for path, x in rules.flatten(tiny.shapes()).items():
    if path.startswith(prefixes):
      deep = path.startswith("llm/deep")
      found |= {f"{path}[{i}]" for i in range(x.shape[0])} if deep else {path}
  return found


# Never: the autoencoder is frozen, the route is the versatile expert.
NEVER = ("autoencoder", "vision/stem", "vision/router")


def test_an_understanding_batch_trains_no_gen_weight():
  """And does train the shared queries and keys (paper section 9.3)."""
  assert unreached("questions") == paths(
    *NEVER,
    "adapters/gen",
    "adapters/time",
    "heads",
    "llm/shallow/gen",
    "llm/deep/gen",
    "llm/norm_gen",
  )


def test_a_generation_batch_trains_und_weights_through_the_prompt():
  """All but the last layer's queries, output and MLP, the final norm, the
  Und adapter, and the head of the other loss."""
  last = {
    f"llm/deep/und/{name}[1]"
    for name in (
      "qk/q",
      "qk/q_norm",
      "o/kernel",
      "mlp_norm/scale",
      "mlp/gate",
      "mlp/up",
      "mlp/down",
    )
  }
  assert unreached("pictures") == last | paths(
    *NEVER, "adapters/und", "llm/norm_und", "llm/lm_head"
  )


def test_a_mixed_batch_trains_everything():
  assert unreached("both") == paths(*NEVER)


def test_the_loss_is_the_weighted_sum_of_its_metrics():
  loss, metrics, _ = gradients("both")
  drawn = metrics["loss/drawing"] + metrics["loss/editing"]
  assert (metrics["loss/drawing"].count, metrics["loss/editing"].count) == (
    2,
    1,
  )
  expected = 0.25 * metrics["loss/understanding"].value + drawn.total / 3
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(metrics["loss/total"].value, loss, rtol=1e-6)
  times = [m for name, m in metrics.items() if name.startswith("loss_by_time")]
  assert len(times) == 3
  total = sum(times, Mean(0.0, 0.0))
  np.testing.assert_allclose(total.total, drawn.total, rtol=1e-6)
  assert total.count == drawn.count == 3
  assert metrics["loss/understanding"].count == 3  # answers only


@pytest.mark.parametrize(
  "which, absent",
  [
    ("questions", ("loss/drawing", "loss/editing")),
    ("pictures", ("loss/understanding", "accuracy/tokens")),
  ],
)
def test_an_absent_task_counts_nothing(which, absent):
  loss, metrics, grads = gradients(which)
  assert np.isfinite(loss)
  assert all(np.isfinite(g).all() for g in grads.values())
  for name in absent:
    assert metrics[name].count == 0 and metrics[name].total == 0


def test_steps_draw_other_times_and_noise():
  batch = tiny.packed([QUESTIONS[0], *PICTURES])
  losses = [gradient(OBJECTIVE, tiny.params(), batch, i)[0][1] for i in (0, 1)]
  one, two = (m["loss/drawing"].total for m in losses)
  assert one == gradients("both")[1]["loss/drawing"].total
  assert abs(one - two) > 1e-3
  assert (
    losses[0]["loss/understanding"].total
    == losses[1]["loss/understanding"].total
  )


def test_several_noises_in_one_pass_equal_a_pass_each():
  many = dataclasses.replace(OBJECTIVE, draws=3)
  batch = tiny.packed([QUESTIONS[0], *PICTURES, tiny.drawing(3)])
  model = tiny.emma()

  @functools.partial(jax.jit, compiler_options=tiny.QUICK)
  def run(params, batch, noisy_BMTC, time_BM):
    variables = {"params": params}
    latents = model.apply(variables, batch, method=Emma.latents)
    out = model.apply(variables, batch, latents, noisy_BMTC, time_BM)
    return out.velocity_BMTC, out.hidden_BUD

  B, M = batch.gen_task_BM.shape
  rng = np.random.default_rng(0)
  time = rng.uniform(size=(B, 3 * M)).astype(np.float32)
  noisy = rng.normal(size=(B, 3 * M, 2, tiny.CHANNELS)).astype(np.float32)
  got, hidden = run(tiny.params(), many.repeat_targets(batch, 2), noisy, time)
  used = np.asarray(batch.gen_task_BM) > 0
  assert used.sum() == 4
  for i in range(3):
    part = slice(i * M, (i + 1) * M)
    want, plain = run(tiny.params(), batch, noisy[:, part], time[:, part])
    np.testing.assert_allclose(got[:, part][used], want[used], atol=1e-5)
    text = np.asarray(batch.und_ids.segment) > 0
    np.testing.assert_allclose(hidden[text], plain[text], atol=1e-5)


def test_weights_of_tasks_are_factors_and_are_measured():
  """Pooled over pictures: an edit of three pictures weighs a third, times its
  own weight; at 1 each nothing changes."""
  batch = tiny.packed([QUESTIONS[0], *PICTURES])
  weights = neutral.task_weights(understanding=2.0, drawing=0.5, editing=3.0)
  other = dataclasses.replace(OBJECTIVE, task_weights=weights)
  loss, metrics = gradient(other, tiny.params(), batch)[0]
  plain = gradients("both")[1]
  for name in ("understanding", "drawing", "editing"):
    np.testing.assert_allclose(
      metrics[f"loss/{name}"].value, plain[f"loss/{name}"].value, rtol=1e-6
    )
  of = lambda m: {
    k.removeprefix("weight/"): float(m[k].value)
    for k in m
    if k.startswith("weight/")
  }
  assert of(plain) == pytest.approx(
    dict(understanding=0.25, drawing=2 / 3, editing=1 / 3)
  )
  assert of(metrics) == pytest.approx(
    dict(understanding=0.5, drawing=1 / 3, editing=1.0)
  )
  total = sum(w * metrics[f"loss/{k}"].value for k, w in of(metrics).items())
  np.testing.assert_allclose(loss, total, rtol=1e-6)


def test_draws_average_their_losses():
  batch = tiny.packed([QUESTIONS[0], *PICTURES])
  many = dataclasses.replace(OBJECTIVE, draws=4)
  loss, metrics = gradient(many, tiny.params(), batch)[0]
  assert metrics["loss/drawing"].count == 8
  assert metrics["loss/editing"].count == 4
  drawn = (metrics["loss/drawing"] + metrics["loss/editing"]).value
  text = gradients("both")[1]["loss/understanding"].value
  np.testing.assert_allclose(loss, 0.25 * text + drawn, rtol=1e-5)
  with pytest.raises(ValueError, match="draws=0"):
    dataclasses.replace(OBJECTIVE, draws=0)


def test_the_router_learns_alone_with_what_is_below_it():
  objective = objectives.RouterObjective(model=tiny.emma())
  samples = [tiny.understanding(0, stem=1), tiny.understanding(1, stem=-1)]
  (loss, metrics), grads = gradient(
    objective, tiny.params(), tiny.packed(samples)
  )
  assert metrics["loss/router"].count == 1  # the other has no label
  reached = {p for p, g in rules.flatten(grads).items() if np.any(g)}
  assert {p.split("/")[1] for p in reached} == {"embed", "lower", "router"}
  assert loss > 0


def test_the_autoencoder_learns_from_filled_slots_only():
  module = Autoencoder(tiny.emma().config.autoencoder)
  objective = objectives.AutoencoderObjective(
    model=module, dtype="float32", l1_weight=1.0, l2_weight=2.0
  )
  batch = tiny.packed([tiny.drawing()], und_pictures=0, references=0)
  run = jax.jit(lambda p, b: objective(p, b, None))
  loss, metrics = run(tiny.params(), batch)
  np.testing.assert_allclose(
    loss, metrics["loss/l1"].value + 2 * metrics["loss/l2"].value, rtol=1e-6
  )
  assert metrics["loss/l1"].count == 1
  other = np.array(batch.gen_pixels_BMYXC)
  other[:, 1:] = 255
  other[1:] = 255
  same, _ = run(tiny.params(), batch.replace(gen_pixels_BMYXC=other))
  np.testing.assert_allclose(same, loss, rtol=1e-6)
  assert jnp.isfinite(loss)
