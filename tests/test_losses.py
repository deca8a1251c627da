"""Losses are sums and counts, so a whole is the sum of its parts."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import losses
from emma_jax.structs import DRAWING, EDITING, Mean
from tests import programs

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 7)).astype(np.float32)
TARGETS = RNG.integers(0, 7, (3, 5))
WEIGHTS = np.float32([[1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
ERROR = RNG.uniform(size=(4, 3)).astype(np.float32)
TASK = np.array(
  [[DRAWING, EDITING, 0], [DRAWING, 0, 0], [EDITING, EDITING, 0], [0, 0, 0]]
)
TIME = RNG.uniform(size=(4, 3)).astype(np.float32)


def test_a_mean_of_parts_is_the_mean_of_the_whole():
  """Rows hold 5, 1 and 0 answer tokens: a mean of means would differ."""
  whole, _ = losses.next_token(LOGITS, TARGETS, WEIGHTS)
  row = jax.jit(lambda *x: losses.next_token(*x)[0])
  rows = [
    row(LOGITS[i : i + 1], TARGETS[i : i + 1], WEIGHTS[i : i + 1])
    for i in range(3)
  ]
  joined = rows[0] + rows[1] + rows[2]
  np.testing.assert_allclose(joined.value, whole.value, rtol=1e-6)
  assert [float(r.count) for r in rows] == [5, 1, 0]
  of_means = np.mean([float(r.value) for r in rows[:2]])
  assert abs(of_means - float(whole.value)) > 1e-3
  assert float(rows[2].value) == 0  # nothing counted, and no NaN


@pytest.mark.smoke
def test_next_token_is_cross_entropy_in_nats():
  loss, right = losses.next_token(LOGITS, TARGETS, WEIGHTS)
  p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
  picked = np.take_along_axis(p, TARGETS[..., None], -1)[..., 0]
  np.testing.assert_allclose(
    loss.value, (-np.log(picked) * WEIGHTS).sum() / 6, rtol=1e-6
  )
  hits = (LOGITS.argmax(-1) == TARGETS) * WEIGHTS
  np.testing.assert_allclose(right.total, hits.sum())


def test_bfloat16_logits_are_summed_in_float32():
  low = jnp.asarray(LOGITS, jnp.bfloat16)
  loss, _ = losses.next_token(low, TARGETS, WEIGHTS)
  same, _ = losses.next_token(low.astype(jnp.float32), TARGETS, WEIGHTS)
  assert loss.total.dtype == jnp.float32 and loss.total == same.total


@pytest.mark.parametrize("chunk", [1, 4, 7, 15, 100])
def test_chunks_of_tokens_give_the_whole_loss_and_gradients(chunk):
  """Fifteen tokens of unequal weights, also in chunks that do not divide
  them."""
  weights = WEIGHTS * np.linspace(0.25, 2, 15, dtype=np.float32).reshape(3, 5)
  hidden = RNG.normal(size=(3, 5, 8)).astype(np.float32)
  head = RNG.normal(size=(7, 8)).astype(np.float32)

  def whole(hidden, head):
    loss, right = losses.next_token(
      jnp.einsum("BUD,VD->BUV", hidden, head), TARGETS, weights
    )
    return 3 * loss.value, (loss, right)

  def chunked(hidden, head):
    loss, right = losses.next_token_of(
      hidden, head, TARGETS, weights, chunk=chunk
    )
    return 3 * loss.value, (loss, right)

  of = lambda f: jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))
  expected, found = of(whole)(hidden, head), of(chunked)(hidden, head)
  close = lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, expected, found)
  if chunk >= 15:  # one chunk is the plain program
    chex.assert_trees_all_equal(expected, found)
  # Without a gradient, too.
  close(expected[0][0], jax.jit(chunked)(hidden, head)[0])


def test_no_array_holds_all_logits():
  """The largest one of a step has a chunk's tokens or the head's rows."""
  shapes = (
    jax.ShapeDtypeStruct((2, 512, 8), jnp.float32),
    (jax.ShapeDtypeStruct((4096, 8), jnp.float32)),
  )
  targets, weights = np.zeros((2, 512), np.int32), np.ones((2, 512), np.float32)
  loss = lambda h, w: (
    losses.next_token_of(h, w, targets, weights, chunk=64)[0].value
  )
  lowered = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes)
  sizes = [
    np.prod([int(n) for n in s.split("x")])
    for s in re.findall(r"tensor<([\dx]+)xf32>", lowered.as_text())
  ]
  assert max(sizes) == 64 * 4096


def test_unweighted_tokens_have_no_gradient():
  grad = jax.grad(lambda x: losses.next_token(x, TARGETS, WEIGHTS)[0].value)
  moved = np.abs(grad(jnp.asarray(LOGITS))).max(-1) > 0
  np.testing.assert_array_equal(moved, WEIGHTS > 0)


def test_squared_error_is_per_picture():
  a, b = RNG.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
  error = losses.squared_error(a, b, np.ones(a.shape[:3]))
  assert error.shape == (2, 3)
  np.testing.assert_allclose(error, ((a - b) ** 2).mean((2, 3)), rtol=1e-5)


def test_tokens_of_padding_are_in_no_error():
  a, b = RNG.normal(size=(2, 2, 3, 6, 4)).astype(np.float32)
  valid = np.ones((2, 3, 6), np.float32)
  valid[0, 1, 2:] = 0
  valid[1, 2] = 0
  error = losses.squared_error(jnp.asarray(a), b, valid)
  want = ((a - b) ** 2).mean(axis=-1)
  np.testing.assert_allclose(error[0, 1], want[0, 1, :2].mean(), rtol=1e-6)
  np.testing.assert_allclose(error[1, 1], want[1, 1].mean(), rtol=1e-6)
  assert error[1, 2] == 0
  # What is predicted, or wanted, for padding changes nothing.
  other = np.where(valid[..., None] > 0, a, 9)
  np.testing.assert_array_equal(losses.squared_error(other, b, valid), error)


def test_tasks_and_times_partition_the_velocity_error():
  real = TASK > 0
  tasks = losses.per_task(ERROR, TASK)
  times = losses.per_time(ERROR, TIME, TASK, 4)
  assert set(tasks) == {"drawing", "editing"} and len(times) == 4
  for parts in (tasks, times):
    total = sum(parts.values(), Mean(0.0, 0.0))
    np.testing.assert_allclose(total.total, ERROR[real].sum(), rtol=1e-6)
    assert total.count == real.sum() == 5
  assert tasks["drawing"].count == 2
  name = "time_0.25_0.50"
  inside = real & (TIME >= 0.25) & (TIME < 0.5)
  np.testing.assert_allclose(times[name].total, ERROR[inside].sum(), rtol=1e-6)


def test_the_last_time_bin_holds_its_end():
  one = np.ones((1, 1), np.float32)
  bins = losses.per_time(one, one, np.ones((1, 1), int), 5)
  assert [float(b.count) for b in bins.values()] == [0, 0, 0, 0, 1]


def test_the_router_learns_from_labelled_pictures_only():
  logits = RNG.normal(size=(2, 3, 2)).astype(np.float32)
  label = np.array([[0, 1, -1], [1, 0, 0]])
  valid = np.array([[True, True, True], [True, False, False]])
  loss, right = losses.label(logits, label, valid)
  assert loss.count == right.count == 3
  p = jax.nn.log_softmax(logits)
  expected = -(p[0, 0, 0] + p[0, 1, 1] + p[1, 0, 1])
  np.testing.assert_allclose(loss.total, expected, rtol=1e-5)


@pytest.mark.parametrize(
  "call",
  [
    lambda: losses.next_token(LOGITS, TARGETS[:, :1], WEIGHTS),
    lambda: losses.next_token(LOGITS, TARGETS, WEIGHTS[:1]),
    lambda: losses.next_token_of(
      LOGITS, LOGITS[0], TARGETS[:1], WEIGHTS, chunk=4
    ),
    lambda: losses.squared_error(LOGITS, LOGITS, LOGITS),
    lambda: losses.squared_error(
      LOGITS[..., None], LOGITS[:1, ..., None], LOGITS
    ),
    lambda: losses.per_task(ERROR, TASK[:1]),
    lambda: losses.per_time(ERROR, TIME[:1], TASK, 2),
    lambda: losses.label(LOGITS, TARGETS, TARGETS[:1]),
  ],
)
def test_nothing_is_broadcast(call):
  with pytest.raises(AssertionError, match="[sS]hape|rank"):
    call()


class Variants(chex.TestCase):
  """Compiled or not, on the device or on the host: the same numbers."""

  @chex.variants(with_jit=True, without_jit=True, with_device=True)
  def test_chunks_equal_the_whole(self):
    head = RNG.normal(size=(7, 7)).astype(np.float32)
    chunked = self.variant(functools.partial(losses.next_token_of, chunk=4))
    whole = losses.next_token(LOGITS @ head.T, TARGETS, WEIGHTS)
    chex.assert_trees_all_close(
      chunked(LOGITS, head, TARGETS, WEIGHTS), whole, rtol=1e-5
    )


def test_an_accuracy_counts_weighted_tokens_only():
  logits = np.zeros((1, 3, 2), np.float32)
  logits[..., 1] = 1.0
  targets, weights = np.array([[1, 0, 1]]), np.float32([[1, 1, 0]])
  _, right = losses.next_token(logits, targets, weights)
  assert (float(right.total), float(right.count)) == (1, 2)


def test_errors_by_time_leave_out_empty_slots_and_are_named_by_their_bin():
  bins = losses.per_time(ERROR, TIME, TASK, 2)
  assert list(bins) == ["time_0.00_0.50", "time_0.50_1.00"]
  late = (TASK > 0) & (TIME >= 0.5)
  np.testing.assert_allclose(
    bins["time_0.50_1.00"].total, ERROR[late].sum(), rtol=1e-6
  )
  assert bins["time_0.50_1.00"].count == late.sum()


def test_a_velocity_error_is_summed_in_float32():
  a, b = RNG.normal(size=(2, 1, 1, 64, 32)).astype(np.float32)
  low = jnp.asarray(a, jnp.bfloat16)
  error = losses.squared_error(low, b, np.ones(b.shape[:3]))
  assert error.dtype == jnp.float32
  want = ((np.asarray(low, np.float64) - b) ** 2).mean()
  np.testing.assert_allclose(error, [[want]], rtol=1e-5)


# Sums and gradients of one device and of eight, of answers in all places.
MESH = """
import json, jax, numpy as np
from emma_jax import losses, sharding

rng = np.random.default_rng(0)
hidden_BUD = rng.normal(size=(4, 6, 8)).astype("f")
head_VD = rng.normal(size=(16, 8)).astype("f")
targets_BU = rng.integers(0, 16, (4, 6))
weights_BU = rng.integers(0, 2, (4, 6)).astype("f")


def loss(hidden_BUD, head_VD, targets_BU, weights_BU):
  loss, right = losses.next_token_of(
      hidden_BUD, head_VD, targets_BU, weights_BU, chunk=5)
  return loss.value, (loss, right)


def made(rows=None, whole=None):
  x = [hidden_BUD, head_VD, targets_BU, weights_BU]
  if rows is not None:
    x = jax.device_put(x, [rows, whole, rows, rows])
  grad = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
  (_, sums), grads = grad(*x)
  return [np.asarray(x).tolist() for x in jax.tree.leaves((sums, grads))]


mesh = sharding.make_mesh(
    sharding.MeshConfig(slice=1, data=2, fsdp=2, tensor=2))
one = made()
with sharding.program(mesh):
  eight = made(sharding.rows(mesh), sharding.whole(mesh))
print(json.dumps([one, eight]))
"""


def test_eight_devices_sum_what_one_does():
  """Rows are split over four of them, a row's tokens over two."""
  one, eight = programs.printed(MESH, devices=8)
  for a, b in zip(one, eight, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
