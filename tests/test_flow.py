"""Laws of the flow: what is trained is what is integrated."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import flow

pytestmark = pytest.mark.smoke

RNG = np.random.default_rng(0)
X0 = RNG.normal(size=(2, 3, 4)).astype(np.float32)
EPS = RNG.normal(size=(2, 3, 4)).astype(np.float32)
CONFIG = flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0)


def test_ends_are_clean_and_noise():
  np.testing.assert_array_equal(flow.interpolate(X0, EPS, jnp.zeros(2)), X0)
  np.testing.assert_array_equal(flow.interpolate(X0, EPS, jnp.ones(2)), EPS)


def test_velocity_is_the_derivative_in_time():
  t = jnp.float32([0.2, 0.7])
  _, slope = jax.jvp(
    lambda t: flow.interpolate(X0, EPS, t), (t,), (jnp.ones(2),)
  )
  np.testing.assert_allclose(slope, flow.velocity(X0, EPS), atol=1e-6)


def test_each_picture_has_its_own_time():
  x = flow.interpolate(X0, EPS, jnp.float32([0.0, 1.0]))
  np.testing.assert_array_equal(x[0], X0[0])
  np.testing.assert_array_equal(x[1], EPS[1])


@pytest.mark.parametrize("steps, shift", [(1, 1.0), (7, 3.0), (50, 3.0)])
def test_euler_with_the_true_velocity_ends_at_the_clean_latent(steps, shift):
  """In any number of steps, each of them one evaluation."""
  times = flow.sampling_times(steps, shift)
  calls, x = 0, EPS
  for t, t_next in itertools.pairwise(times):
    # From where it stands, as a model would give it.
    v, calls = (x - X0) / t, calls + 1
    x = flow.euler_step(x, v, t, t_next)
  assert calls == steps
  np.testing.assert_allclose(x, X0, atol=2e-6)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shift_keeps_the_ends_and_the_order(shift):
  t = np.linspace(0, 1, 101)
  s = flow.shift_time(t, shift)
  assert s[0] == 0 and s[-1] == 1 and (np.diff(s) > 0).all()
  middle = np.sign(s[1:-1] - t[1:-1]).round()
  tolerance = np.abs(s - t)[1:-1] < 1e-12
  assert (tolerance if shift == 1 else middle == np.sign(shift - 1)).all()
  back = flow.shift_time(s, 1 / shift)
  np.testing.assert_allclose(back, t, atol=1e-12)


def test_sampling_times_fall_from_one_to_zero():
  times = flow.sampling_times(4, 1.0)
  np.testing.assert_allclose(times, [1, 0.75, 0.5, 0.25, 0])
  assert times.dtype == np.float32
  with pytest.raises(ValueError, match="steps=0 must be at least 1"):
    flow.sampling_times(0, 1.0)


def test_training_times_are_logit_normal_then_shifted():
  draw = jax.jit(flow.sample_time, static_argnums=(1, 2))
  key = jax.random.key(0)
  t = np.asarray(draw(key, (20000,), CONFIG))
  z = np.log(t) - np.log1p(-t)
  assert 0 < t.min() and t.max() < 1
  assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03
  shifted = flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=3.0)
  np.testing.assert_allclose(
    draw(key, (20000,), shifted), flow.shift_time(t, 3.0), atol=1e-6
  )


@pytest.mark.parametrize("change", [dict(shift=0.0), dict(time_std=-1.0)])
def test_impossible_times_are_refused(change):
  sizes = dict(time_mean=0.0, time_std=1.0, shift=1.0)
  with pytest.raises(ValueError, match="must be positive"):
    flow.FlowConfig(**sizes | change)


@pytest.mark.parametrize(
  "call",
  [
    lambda: flow.interpolate(X0, EPS[0], jnp.zeros(2)),
    lambda: flow.interpolate(X0, EPS, jnp.zeros(3)),
    lambda: flow.velocity(X0, EPS[:1]),
    lambda: flow.euler_step(X0, EPS[..., :1], 1.0, 0.5),
  ],
)
def test_nothing_is_broadcast(call):
  with pytest.raises(AssertionError, match="[sS]hape"):
    call()


class Variants(chex.TestCase):
  """Compiled or not, on the device or on the host: the same numbers."""

  @chex.variants(with_jit=True, without_jit=True, with_device=True)
  def test_a_step_along_the_velocity_meets_the_interpolant(self):
    @self.variant
    def both(x0, eps, t, t_next):
      x = flow.interpolate(x0, eps, t)
      step = jax.vmap(flow.euler_step)
      return (
        step(x, flow.velocity(x0, eps), t, t_next),
        flow.interpolate(x0, eps, t_next),
      )

    chex.assert_trees_all_close(
      *both(X0, EPS, np.float32([0.9, 0.4]), np.float32([0.7, 0.0])), atol=1e-6
    )


def test_times_by_hand():
  """The shift's formula, and each number of the training times'."""
  np.testing.assert_allclose(
    flow.sampling_times(4, 3.0), [1, 0.9, 0.75, 0.5, 0], atol=1e-7
  )
  config = flow.FlowConfig(time_mean=1.0, time_std=0.5, shift=2.0)
  key = jax.random.key(3)
  z = np.asarray(jax.random.normal(key, (50,), jnp.float32), np.float64)
  t = 1 / (1 + np.exp(-(1.0 + 0.5 * z)))
  np.testing.assert_allclose(
    flow.sample_time(key, (50,), config), 2 * t / (1 + t), rtol=1e-5
  )


def test_the_interpolant_and_a_step_by_hand():
  x0, eps = np.float32([[2.0, 4.0]]), np.float32([[-1.0, 8.0]])
  np.testing.assert_allclose(
    flow.interpolate(x0, eps, jnp.float32([0.25])), [[1.25, 5.0]]
  )
  np.testing.assert_allclose(flow.velocity(x0, eps), [[-3, 4]])
  np.testing.assert_allclose(
    flow.euler_step(x0, flow.velocity(x0, eps), 0.5, 0.25), [[2.75, 3.0]]
  )
