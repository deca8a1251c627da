"""The plain decoder: causal, packable, a loop over its layers."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from emma_jax.models import masks, partition
from emma_jax.models.qwen3 import Qwen3, Qwen3Block
from tests import neutral
from tests.tiny import QUICK

CONFIG = neutral.qwen3_config(
  vocab_size=20,
  width=16,
  mlp_width=24,
  num_layers=3,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  rope_theta=1e4,
  norm_eps=1e-6,
  tie_embeddings=True,
)
TOKENS = np.random.default_rng(0).permutation(20)[None, :8]


@functools.cache
def variables() -> dict:
  """Numbers around 1 for vectors (they scale), around 0 for matrices."""
  made = jax.eval_shape(Qwen3(CONFIG).init, jax.random.key(0), TOKENS)
  rng = np.random.default_rng(1)
  draw = lambda x: np.float32(
    rng.normal(1.0 if 8 in x.shape[-1:] or x.ndim == 1 else 0.0, 0.2, x.shape)
  )
  return jax.tree.map(draw, nn.unbox(made))


run = jax.jit(Qwen3(CONFIG).apply)


def test_the_future_has_no_gradient():
  """d output i / d embedding of word j is zero exactly for j > i."""

  def outputs(embed):
    v = variables()["params"] | {"embed": embed}
    _, hidden = Qwen3(CONFIG).apply({"params": v}, TOKENS)
    return hidden[-1][0].sum(-1)

  jacobian = jax.jit(jax.jacrev(outputs), compiler_options=QUICK)
  jac = np.asarray(jacobian(variables()["params"]["embed"]))
  reach = np.abs(jac[:, TOKENS[0]]).max(-1) > 0
  np.testing.assert_array_equal(reach, np.tril(np.ones((8, 8), bool)))


def test_packed_equals_alone():
  position = np.array([[0, 1, 2, 3, 4, 0, 1, 2]])
  segment = np.array([[1] * 5 + [2] * 3])
  both, _ = run(variables(), TOKENS, position, segment)
  for part in (slice(0, 5), slice(5, 8)):
    alone, _ = jax.jit(Qwen3(CONFIG).apply)(variables(), TOKENS[:, part])
    np.testing.assert_allclose(both[:, part], alone, atol=1e-5)
  whole, _ = run(variables(), TOKENS, np.arange(8)[None], np.ones((1, 8), int))
  assert np.abs(whole[:, 5:] - both[:, 5:]).max() > 1e-2


def test_scan_equals_a_loop_over_sliced_weights():
  _, hidden = run(variables(), TOKENS, np.arange(8)[None], np.ones((1, 8), int))
  layers = variables()["params"]["layers"]
  ids = masks.causal(np.ones((1, 8), int), np.arange(8)[None])
  step = jax.jit(Qwen3Block(CONFIG).apply)
  x = variables()["params"]["embed"][TOKENS]
  for i in range(3):
    own = jax.tree.map(lambda w, i=i: w[i], layers)
    x, _ = step({"params": own}, x, ids)
    if i < 2:  # the last one is given after the final norm
      np.testing.assert_allclose(hidden[i + 1], x, atol=1e-5)
  assert len(hidden) == 4


def test_errors_say_what_is_wrong():
  for change, words in (
    (dict(num_kv_heads=3), "not a multiple"),
    (dict(head_dim=7), "must be even"),
    (dict(remat="some"), "choose none, full or dots"),
  ):
    with pytest.raises(ValueError, match=words):
      dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize("platform, said", [("tpu", 1), ("cpu", 0)])
def test_on_tpus_the_residual_stream_lies_by_rows(platform, said):
  """Of both parts of a block what is added to it, and the gradient of what
  attention gives; the compiler's count is all that else would show it."""

  def program(gradient):
    loss = lambda v: Qwen3(CONFIG).apply(v, TOKENS)[0].sum()
    with partition.compiled_for(platform):
      return str(
        jax.make_jaxpr(jax.grad(loss) if gradient else loss)(variables())
      )

  forward, both = program(False), program(True)
  assert forward.count(" layout_constraint[") == 2 * said
  assert both.count(" layout_constraint[") == 4 * said
  settled = "f32[1,8,32] = optimization_barrier"
  assert (forward.count(settled), both.count(settled)) == (0, said)
