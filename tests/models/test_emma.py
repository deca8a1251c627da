"""Laws of the whole model: who sees whom, packing, order, cache, freezing."""

from collections.abc import Sequence
import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.models import dcae, masks, pictures
from emma_jax.models.emma import (
  Emma,
  EmmaConfig,
  EmmaOutput,
  to_levels,
  to_unit,
  token_grid,
)
from emma_jax.structs import KvCache, TokenIds
from tests import tiny

T = tiny.GRID[0] * tiny.GRID[1]
MIXED = [tiny.understanding(), tiny.editing(), tiny.drawing(1)]


def text(*tokens: int, loss: bool = False) -> Text:
  return Text(tokens, loss)


# ------------------------------------------------------------- gradients


@functools.partial(jax.jit, static_argnames="emma", compiler_options=tiny.QUICK)
def reach(emma: Emma, params: dict, args: tuple):
  """|d outputs of token i / d inputs|: by word, Und picture, ref, target.

  A token's outputs are its values in the last layer, whatever its buffer, and
  what it predicts.
  """
  batch, latents, noisy, time = args

  def outputs(embed, und, ref, noisy):
    p = params | {"llm": params["llm"] | {"embed": embed}}
    z = dataclasses.replace(latents, und_BNTC=und, ref_BRTC=ref)
    out = emma.apply({"params": p}, batch, z, noisy, time, return_kv=True)
    _B, M, T, C = out.velocity_BMTC.shape
    last = out.cache.value_ZBSKE[-1, 0].sum((1, 2))
    predicted = jnp.concatenate(
      [
        out.hidden_BUD[0].sum(-1),
        jnp.zeros(last.size - out.hidden_BUD.shape[1] - M * T),
        out.velocity_BMTC[0].reshape(M * T, C).sum(-1),
      ]
    )
    return last + predicted

  jac = jax.jacrev(outputs, (0, 1, 2, 3))(
    params["llm"]["embed"], latents.und_BNTC, latents.ref_BRTC, noisy
  )
  return jax.tree.map(lambda g: jnp.abs(g).max(-1).reshape(g.shape[0], -1), jac)


@pytest.mark.parametrize("variant", ["paper", "reference_und"])
def test_gradient_goes_where_the_mask_says(variant):
  """Through the whole model: two sources, and two drawn pictures, in a sample.

  The first drawn picture is not the last of its sample: what follows does not
  see it.
  """
  drawn_twice = Sample(
    "editing",
    (
      text(11, 12),
      tiny.picture(1, "ref"),
      text(16),
      tiny.picture(5, "ref"),
      text(13),
      tiny.picture(2, "target"),
      text(14, 15),
      tiny.picture(3, "target"),
    ),
  )
  asked = Sample(
    "understanding",
    (text(21), tiny.picture(4, "und"), text(22), text(23, 24, loss=True)),
  )
  batch = tiny.packed(
    [drawn_twice, asked], variant, rows=1, und_tokens=17, references=2
  )
  word, und, ref, noisy = map(
    np.asarray,
    reach(tiny.emma(variant), tiny.params(variant), tiny.inputs(batch)),
  )
  ids = masks.join(batch.und_ids, batch.gen_ids)
  allow = np.asarray(masks.allow(ids, ids))[0]
  real = np.asarray(ids.segment[0]) > 0
  U = batch.tokens_BU.shape[1]

  def column(j: int) -> np.ndarray:
    """Reach of the input behind buffer place j."""
    if j >= U:  # references of the Gen buffer, then targets
      j -= U
      in_gen = batch.gen_ids.order.shape[1] - noisy.shape[1]
      return ref[:, j] if j < in_gen else noisy[:, j - in_gen]
    visual = batch.visual_BU[0, j]
    if visual < 0:
      return word[:, batch.tokens_BU[0, j]]
    return und[:, visual] if visual < T else ref[:, visual - T]

  got = np.stack([column(j) for j in range(len(real))], axis=1) > 0
  np.testing.assert_array_equal(got[real][:, real], allow[real][:, real])
  # In so many words: what follows the first drawn picture does not see it.
  after = [*np.flatnonzero(np.isin(batch.tokens_BU[0], (14, 15))), -2, -1]
  assert len(after) == 4 and not noisy[after, :T].any()
  assert noisy[-T:, T:].all() and noisy[-2 * T : -T, :T].all()
  assert not word[real, 0].any()  # token 0 fills the padding
  assert real.sum() == 17 + 1 + T
  # Of the sources the second sees the first, and not the other way round.
  second = np.flatnonzero(ref[:, T:].all(1) & real)
  first = np.flatnonzero(ref[:, :T].all(1) & ~ref[:, T:].any(1) & real)
  assert first.size == T + 1 and second.size > T  # with the word between


# ------------------------------------------------------ packing and order


def by_content(emma: Emma, params: dict, batch) -> dict:
  """Logits by word and velocity by picture: where they lay is forgotten."""
  out, logits = tiny.run(emma, params, tiny.inputs(batch))
  found = {}
  is_word = (batch.visual_BU < 0) & (batch.und_ids.segment > 0)
  for place in np.argwhere(is_word):
    found[int(batch.tokens_BU[*place])] = np.asarray(logits[*place])
  for place in np.argwhere(batch.gen_task_BM):
    key = batch.gen_pixels_BMYXC[*place].tobytes()
    found[key] = np.asarray(out.velocity_BMTC[*place])
  return found


@pytest.mark.parametrize("variant", ["paper", "token_fusion"])
def test_packed_equals_alone(variant):
  """A sample's velocity and logits do not depend on what shares its row."""
  model = tiny.emma(variant), tiny.params(variant)
  samples = [*MIXED, tiny.editing(2)]
  packed = tiny.packed(samples, variant)
  assert packed.und_ids.segment.max(1).tolist() == [3, 1]
  together = by_content(*model, packed)
  assert len(together) == 8 + 4 + 4 + 4 + 3
  for sample in samples:
    alone = by_content(*model, tiny.packed([sample], variant))
    for key, value in alone.items():
      np.testing.assert_allclose(together[key], value, atol=2e-5)
      assert np.abs(value).max() > 0.1


@pytest.mark.parametrize("variant", ["paper", "reference_und"])
def test_edits_of_several_sources_packed_equal_alone(variant):
  """Each source counts, and so does which of them comes first."""
  model = tiny.emma(variant), tiny.params(variant)
  packed = functools.partial(tiny.packed, variant=variant, references=3)
  two, three = tiny.editing(0, sources=2), tiny.editing(2, sources=3)
  samples = [two, tiny.drawing(1), three]
  batch = packed(samples)
  assert batch.ref_valid_BR.sum(1).tolist() == [2, 3]
  together = by_content(*model, batch)
  for sample in samples:
    alone = by_content(*model, packed([sample]))
    for key, value in alone.items():
      np.testing.assert_allclose(together[key], value, atol=2e-5)
      assert np.abs(value).max() > 0.1
  target = two.parts[-1].pixels_YXC.tobytes()
  velocity = lambda *refs: by_content(
    *model, packed([_with_sources(two, refs)])
  )[target]
  a, b = (p for p in two.parts if getattr(p, "role", "") == "ref")
  want, c = velocity(a, b), tiny.picture(77, "ref")
  np.testing.assert_allclose(want, together[target], atol=2e-5)
  for other in (velocity(b, a), velocity(c, b), velocity(a, c)):
    assert np.abs(other - want).max() > 1e-3


def _with_sources(sample: Sample, refs: Sequence[Picture]) -> Sample:
  left = iter(refs)
  parts = [
    next(left) if getattr(part, "role", "") == "ref" else part
    for part in sample.parts
  ]
  return dataclasses.replace(sample, parts=tuple(parts))


def test_the_order_in_the_und_buffer_does_not_matter():
  batch = tiny.packed(MIXED)
  model = tiny.emma(), tiny.params()
  p = np.random.default_rng(0).permutation(batch.tokens_BU.shape[1])
  moved = batch.replace(
    **{
      n: getattr(batch, n)[:, p]
      for n in ("tokens_BU", "visual_BU", "targets_BU", "weights_BU")
    },
    und_ids=jax.tree.map(lambda x: x[:, p], batch.und_ids),
  )
  want, got = by_content(*model, batch), by_content(*model, moved)
  assert want.keys() == got.keys()
  for key in want:
    np.testing.assert_allclose(got[key], want[key], atol=2e-5)


def test_the_order_of_references_and_targets_does_not_matter():
  """Pictures may lie in any slot of the Gen buffer; ids follow them."""
  batch = tiny.packed([tiny.editing(0), tiny.editing(1)])
  model = tiny.emma(), tiny.params()
  p = np.r_[2:4, 0:2, 6:8, 4:6]
  moved = batch.replace(
    ref_pixels_BRYXC=batch.ref_pixels_BRYXC[:, ::-1],
    gen_pixels_BMYXC=batch.gen_pixels_BMYXC[:, ::-1],
    gen_task_BM=batch.gen_task_BM[:, ::-1],
    gen_ids=jax.tree.map(lambda x: x[:, p], batch.gen_ids),
  )
  want, got = by_content(*model, batch), by_content(*model, moved)
  for key in want:
    np.testing.assert_allclose(got[key], want[key], atol=2e-5)


# ------------------------------------------------------------------ cache


def prefill(samples: list[Sample]) -> EmmaOutput:
  """One context per row."""
  rows = [tiny.packed([s], targets=0, rows=1) for s in samples]
  batch = jax.tree.map(lambda *x: np.concatenate(x), *rows)
  args = (batch, tiny.latents(batch), None, None)
  out, _ = tiny.run(tiny.emma(), tiny.params(), args)
  assert out.velocity_BMTC is None
  return out


def put(cache: KvCache, new: KvCache, place: int) -> KvCache:
  """The cache with one new token written at `place`."""

  def at(axis):
    def write(old, x):
      old = np.array(old)
      old[(slice(None),) * axis + (place,)] = np.asarray(x).take(0, axis)
      return old

    return write

  return KvCache(
    at(2)(cache.key_ZBSKE, new.key_ZBSKE),
    at(2)(cache.value_ZBSKE, new.value_ZBSKE),
    jax.tree.map(at(1), cache.ids, new.ids),
  )


def test_an_extended_cache_equals_one_pass():
  """Answers behind prefilled questions, word by word."""
  emma, params = tiny.emma(), tiny.params()
  samples = [tiny.understanding(0), tiny.understanding(1)]
  rows = [tiny.packed([s], rows=1) for s in samples]
  batch = jax.tree.map(lambda *x: np.concatenate(x), *rows)
  whole = tiny.run(emma, params, tiny.inputs(batch))[0].hidden_BUD
  context = [dataclasses.replace(s, parts=s.parts[:3]) for s in samples]
  out = prefill(context)
  np.testing.assert_allclose(out.hidden_BUD[:, :7], whole[:, :7], atol=2e-5)
  extend = jax.jit(
    lambda p, *args: emma.apply({"params": p}, *args, method=Emma.extend),
    compiler_options=tiny.QUICK,
  )
  cache, one = out.cache, np.ones((2, 1), np.int32)
  for i in range(7, 10):
    ids = TokenIds(
      segment=one,
      order=i * one,
      last_visible=i * one,
      noise_group=0 * one,
      position=i * one,
    )
    hidden, new = extend(params, batch.tokens_BU[:, i : i + 1], ids, cache)
    np.testing.assert_allclose(hidden[:, 0], whole[:, i], atol=2e-5)
    cache = put(cache, new, i)  # an empty place of the Und buffer


def test_denoising_behind_a_cache_equals_one_pass():
  """An edit and a drawing, whose contexts are computed without a target."""
  emma, params = tiny.emma(), tiny.params()
  samples = [tiny.editing(), tiny.drawing()]
  rows = [tiny.packed([s], rows=1) for s in samples]
  batch = jax.tree.map(lambda *x: np.concatenate(x), *rows)
  _, _, noisy, time = tiny.inputs(batch)
  whole = tiny.run(emma, params, tiny.inputs(batch))[0].velocity_BMTC
  cache = prefill(
    [dataclasses.replace(s, parts=s.parts[:-1]) for s in samples]
  ).cache
  ids = jax.tree.map(
    lambda x: x[:, -2 * T : -T], batch.gen_ids
  )  # the first of two targets
  denoise = jax.jit(
    lambda p, *a: emma.apply(
      {"params": p}, *a[:2], tiny.GRID, *a[2:], method=Emma.denoise
    ),
    compiler_options=tiny.QUICK,
  )
  got = denoise(params, noisy[:, 0], time[:, 0], ids, cache)
  np.testing.assert_allclose(got, whole[:, 0], atol=2e-5)
  assert np.abs(got).max() > 0.1


# ---------------------------------------------------------------- routing


def test_routing_concerns_understanding_only():
  """Other STEM and router weights leave drawings and edits as they were, bit
  for bit; a copied expert leaves everything."""
  emma, params = tiny.emma(), tiny.params()
  vision, args = params["vision"], tiny.inputs(tiny.packed(MIXED))
  to_stem = {
    **vision["router"],
    "fc2": dict(
      kernel=0 * vision["router"]["fc2"]["kernel"], bias=np.float32([0.0, 9.0])
    ),
  }
  run = lambda **changes: tiny.run(
    emma, params | {"vision": vision | changes}, args, "router"
  )
  copied, logits = run(router=to_stem, stem=vision["versatile"])
  routed, other = run(router=to_stem)
  plain, plain_logits = tiny.run(emma, params, args)
  np.testing.assert_allclose(logits, plain_logits, atol=2e-5)
  np.testing.assert_array_equal(routed.velocity_BMTC, copied.velocity_BMTC)
  segment = args[0].und_ids.segment
  np.testing.assert_array_equal(other[segment > 1], logits[segment > 1])
  gap = np.abs(np.asarray(other) - logits)
  assert gap[segment == 1].max() > 1e-2
  assert routed.router_logits_BNe.shape == (2, 1, 2)
  assert plain.router_logits_BNe is None


# ------------------------------------------------------------- small laws


@pytest.mark.parametrize("side, tokens", [(512, 256), (1024, 1024)])
def test_token_counts(side, tokens):
  assert np.prod(token_grid(side, side)) == tokens
  with pytest.raises(ValueError, match="multiples of 32"):
    token_grid(side, side + 16)


def test_latents_stay_apart_and_have_no_gradient():
  """All pictures are encoded in one call and come back to their places."""
  emma, params = tiny.emma(), tiny.params()
  batch = tiny.packed([*MIXED, tiny.understanding(3), tiny.editing(4)])

  def encode(params, batch):
    return emma.apply({"params": params}, batch, method=Emma.latents)

  def size(params):
    z = encode(params, batch)
    return sum((x**2).sum() for x in jax.tree.leaves(z)), z

  grads, z = jax.jit(jax.grad(size, has_aux=True), compiler_options=tiny.QUICK)(
    params
  )
  assert not any(g.any() for g in jax.tree.leaves(grads))
  # Pictures that change their row and slot take their latents along.
  flip = lambda x: x[::-1, ::-1]
  moved = jax.jit(encode, compiler_options=tiny.QUICK)(
    params,
    batch.replace(
      und_pixels_BNYXC=flip(batch.und_pixels_BNYXC),
      ref_pixels_BRYXC=flip(batch.ref_pixels_BRYXC),
      gen_pixels_BMYXC=flip(batch.gen_pixels_BMYXC),
    ),
  )
  for name in ("und_BNTC", "ref_BRTC", "gen_BMTC"):
    got, want = getattr(moved, name), getattr(z, name)
    assert want.std() > 1e-3
    np.testing.assert_allclose(flip(got), want, atol=1e-5)


def test_encoders_that_disagree_are_refused():
  c = tiny.emma().config
  encoder = dataclasses.replace(c.vision.encoder, patch_size=8)
  fields = {f.name: getattr(c, f.name) for f in dataclasses.fields(EmmaConfig)}
  with pytest.raises(ValueError, match="tokens of 16 pixels"):
    EmmaConfig(
      **fields | dict(vision=dataclasses.replace(c.vision, encoder=encoder))
    )


def test_latents_do_not_depend_on_how_many_are_encoded_at_once(monkeypatch):
  """On a device some pictures at a time; none is left out or moved."""
  assert [
    pictures.num_chunks(n, side**2)
    for n, side in ((9, 1024), (32, 512), (8, 96), (1, 4096))
  ] == [9, 4, 1, 1]
  pixels_PYXC = np.random.default_rng(0).integers(
    0, 256, (6, tiny.HEIGHT, tiny.WIDTH, 3), dtype=np.uint8
  )
  encode = lambda: np.asarray(
    tiny.emma("paper").apply(
      {"params": tiny.params("paper")}, pixels_PYXC, method=Emma.encode_latents
    )
  )
  want = encode()
  monkeypatch.setattr(pictures, "MAX_PIXELS", 2 * tiny.HEIGHT * tiny.WIDTH)
  np.testing.assert_allclose(encode(), want, atol=1e-5)


def test_decoded_pictures_are_rounded_to_the_nearest_level():
  """Truncated, all pixels would be darker by half a level."""
  levels = np.float32([-9, -0.6, 0.4, 0.6, 126.4, 127.6, 254.4, 254.6, 999])
  decoded = jnp.asarray(levels / 127.5 - 1).reshape(1, 3, 1, 3)
  emma, z = tiny.emma(), jnp.zeros((1, 2, tiny.CHANNELS))
  with mock.patch.object(
    dcae.Autoencoder, "decode_normalised", lambda self, z: decoded + 0 * z.sum()
  ):
    x = emma.apply(
      {"params": tiny.params()}, z, tiny.GRID, method=Emma.decode_latents
    )
  x = to_levels(x)
  assert x.dtype == jnp.uint8
  assert x.ravel().tolist() == [0, 0, 0, 1, 126, 128, 254, 255, 255]


def test_uint8_becomes_the_range_from_minus_one_to_one():
  x = to_unit(np.uint8([0, 1, 255]), "float32")
  np.testing.assert_allclose(x, [-1, -1 + 1 / 127.5, 1], atol=1e-7)
