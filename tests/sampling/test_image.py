"""Laws of guided sampling: the cache, the count, guidance, sizes, batches."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import flow
from emma_jax.build import session as build_session
from emma_jax.data.batching.packing import pack
from emma_jax.models.emma import Emma
from emma_jax.sampling import context, image
from emma_jax.structs import Drawing, Editing
from tests.sampling import small


def test_docstrings():
  for module in (context, image):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
  "fusion, branch, sources",
  [("channel", "gen", 1), ("token", "und", 1), ("channel", "gen", 2)],
)
def test_cached_equals_uncached(fusion, branch, sources):
  """Prefill and denoise give the velocity of one pass over everything."""
  s = small.session(fusion, branch)
  shown = tuple(small.picture(5 * i) for i in range(sources))
  target = small.picture(1)
  make = lambda **k: s.requests.to_sample(
    Editing(sources=shown, instruction="make it red", **k)
  )
  apply = lambda *a, **k: s.emma.apply({"params": s.params}, *a, **k)
  noisy = np.random.default_rng(2).normal(size=(1, 1, 4, 8)).astype(np.float32)
  time = np.float32([[0.7]])

  layout = context.row_layout([make(target=target)], s.requests.row, (64, 64))
  whole, _ = pack([make(target=target)], layout)

  @jax.jit
  def uncached(params):
    latents = apply(whole, method=Emma.latents)
    return apply(whole, latents, noisy, time).velocity_BMTC[:, 0]

  layout = context.row_layout([make()], s.requests.row, (64, 64))
  batch = context.one_per_row([make()], 1, layout)
  _, cache = context.prefill(s.emma, s.params, batch, "versatile")
  ids = image.target_ids(cache, 4)
  cached = jax.jit(
    lambda: apply(
      noisy[:, 0], time[:, 0], (2, 2), ids, cache, method=Emma.denoise
    )
  )()
  want = uncached(s.params)
  assert np.abs(want).max() > 0.05
  np.testing.assert_allclose(cached, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("steps", [1, 3, 70])
def test_steps_are_evaluations_and_padding_is_not_walked(steps):
  seen = []

  def velocity(x, t):
    jax.debug.callback(lambda t: seen.append(float(t)), t)
    return jnp.ones_like(x)

  times = image.padded_times(steps, 3.0)
  end = jax.jit(lambda n: image.integrate(velocity, jnp.zeros(2), times, n))(
    steps
  )
  jax.effects_barrier()
  assert (
    sorted(seen, reverse=True) == flow.sampling_times(steps, 3.0)[:-1].tolist()
  )
  np.testing.assert_allclose(end, -1, atol=1e-6)  # from time 1 to time 0


def test_weights_are_the_guidance_formulas():
  v = dict(
    zip(
      [(False, False), (False, True), (True, True), (True, False)],
      np.random.default_rng(0).normal(size=4),
    )
  )

  def weighted(contexts):
    return sum(c.weight * v[c.text, c.reference] for c in contexts)

  none, ref, both, text = v.values()
  assert weighted(image.drawing_contexts(3.0)) == pytest.approx(
    none + 3 * (text - none)
  )
  assert weighted(image.editing_contexts(4.0, 1.5)) == pytest.approx(
    none + 1.5 * (ref - none) + 4 * (both - ref)
  )
  # What guidance makes irrelevant is not computed.
  assert [
    len(image.editing_contexts(*g))
    for g in ((4.0, 1.5), (4.0, 1.0), (2.0, 2.0), (1.0, 1.0))
  ] == [3, 2, 2, 1]


def test_a_context_of_weight_zero_changes_nothing():
  """Guidance 1 by two contexts equals the conditional one alone."""
  s = small.session()
  of = lambda drop: s.requests.to_sample(Drawing(prompt="red"), drop_text=drop)
  layout = context.row_layout([of(False)], s.requests.row, (64, 64))
  keys, times = context.keys(0, "drawing", [0]), image.padded_times(3, 3.0)

  def latents(samples, weights):
    batch = context.one_per_row(samples, len(samples), layout)
    _, cache = context.prefill(s.emma, s.params, batch, "versatile")
    return image.sample_latents(
      s.emma, s.params, cache, np.float32(weights), keys, times, 3, (2, 2)
    )

  alone = latents([of(False)], [1.0])
  both = latents([of(False), of(True)], [1.0, 0.0])
  np.testing.assert_allclose(alone, both, atol=1e-5)
  guided = latents([of(False), of(True)], [4.0, -3.0])
  assert np.abs(alone - guided).max() > 1e-2


def test_a_picture_does_not_depend_on_its_batch():
  s = small.session()
  prompts = ["red", "a longer prompt about blue", "three", "4", "five"]
  many = s.draw(prompts)  # a chunk of 4 and one of 1
  assert len(many) == 5
  _close(many[0], s.draw(prompts[:1])[0])
  _close(many[1], s.draw(["other", prompts[1], "more", "and"])[1])
  # The seed and the place in the request decide.
  twice = s.draw(["red", "red", "red", "red"])
  assert np.abs(twice[0] - twice[1].astype(int)).max() > 5
  again = s.draw(["red", "red", "red", "red"], seed=1)
  assert np.abs(twice[0] - again[0].astype(int)).max() > 5


def test_other_numbers_do_not_compile_anew():
  s = small.session()
  s.draw(["red"])
  count = image.sample_latents._jitted._cache_size()
  s.draw(["blue"], steps=5, shift=1.0, guidance=2.0, seed=3)
  assert image.sample_latents._jitted._cache_size() == count


def test_edits_have_the_size_of_their_picture():
  s = small.session()
  shapes = [(70, 100), (33, 31), (64, 64), (100, 60)]
  pictures = [small.picture(i, *n) for i, n in enumerate(shapes)]
  out = s.edit(pictures, ["do"] * 4)
  assert [p.shape[:2] for p in out] == shapes
  # Each with its own source, whatever stands beside it.
  again = s.edit([pictures[0], *pictures[2:]], ["do"] * 3)
  _close(out[0], again[0])


def test_an_edit_has_one_source_or_several():
  """The size of the first, and each of them counts; so does their order."""
  s = small.session()
  shapes = [(70, 50), (70, 50), (40, 64)]
  a, b, c = (small.picture(i, *n) for i, n in enumerate(shapes))
  alone = lambda edit: s.edit([edit], ["do"])[0]
  _close(alone(a), alone([a]))
  want = alone([a, b])
  for other in (a, [b, a], [a, c], (a, b, c)):
    changed = alone(other)
    assert changed.shape == want.shape == (70, 50, 3)
    assert np.abs(changed.astype(int) - want).max() > 1
  assert alone([c, a]).shape == (40, 64, 3)
  # Whatever is asked beside it, of however many sources.
  for edit in (a, [a, b], [a, b, c]):
    out = s.edit([edit, [b], (b, a, c), c], ["do"] * 4)
    _close(out[0], alone(edit))
    assert [p.shape[:2] for p in out[1:]] == [(70, 50), (70, 50), (40, 64)]


def test_guidance_by_pictures_is_by_all_of_them(monkeypatch):
  """A context either has all of an edit's sources or none."""
  s, seen = small.session(), []
  real = context.one_per_row

  def one_per_row(samples, rows, layout):
    seen.append(
      [sum(getattr(p, "role", "") == "ref" for p in x.parts) for x in samples]
    )
    return real(samples, rows, layout)

  monkeypatch.setattr(context, "one_per_row", one_per_row)
  pictures = [small.picture(i) for i in range(3)]
  s.edit([pictures], ["do"], text_guidance=4.0, image_guidance=1.5)
  assert seen == [[3, 3, 0]]


def test_an_edit_without_a_picture_is_refused():
  with pytest.raises(context.SampleError, match="Edit 1 has no picture"):
    small.session().edit([small.picture(0), []], ["do"] * 2)


def test_native_sizes_are_kept():
  s = small.session()
  config = s.config | {"data": s.config["data"] | {"native": True}}
  native = build_session.session(config, s.params, "native", 0)
  out, two = native.edit(
    [small.picture(0, 40, 30), [small.picture(0, 40, 30), small.picture(1)]],
    ["do"] * 2,
    text_guidance=1.0,
    image_guidance=1.0,
    steps=1,
  )
  assert out.shape == two.shape == (40, 30, 3)


def test_any_size_can_be_drawn():
  (out,) = small.session().draw(["red"], size=(40, 64))
  assert out.shape == (40, 64, 3) and out.dtype == np.uint8


def test_the_picture_and_the_words_both_count():
  s = small.session()
  a, b = small.picture(0), small.picture(1)
  first, *_ = s.edit([a, b, b], ["red"] * 3)
  source, *_ = s.edit([b, b, b], ["red"] * 3)
  words, *_ = s.edit([a, b, b], ["blue"] * 3)
  for other in (source, words):
    assert np.abs(first - other.astype(int)).max() > 1


def test_reconstruct():
  shapes = [(70, 100), (64, 64), (10, 10)]
  out = small.session().reconstruct(
    [small.picture(i, *n) for i, n in enumerate(shapes)]
  )
  assert [p.shape[:2] for p in out] == shapes


def _close(a: np.ndarray, b: np.ndarray):
  """Equal up to the rounding of another batch's sums."""
  assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
