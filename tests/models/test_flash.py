"""Every path of attention equals the plain one, and none but it is S x S.

Tolerances are relative to the greatest value: 1e-5 in float32, 2e-2 in
bfloat16 (8 bits of it, rounded at other places).
"""

import dataclasses
import functools

import jax
from jax.extend.core import jaxprs_in_params
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import (
  attention,
  flash,
  flash_tpu,
  flash_tpu_grid,
  flash_xla,
  masks,
  partition,
)
from emma_jax.structs import TokenIds
from tests import tiny

B, UND, GEN = 2, 150, 200
FIELDS = [x.name for x in dataclasses.fields(TokenIds)]


def interpreted(kernel) -> flash.Path:
  return flash.Path(
    *(
      functools.partial(f, interpret=True)
      for f in (kernel.forward, kernel.backward)
    )
  )


PATHS = {"chunked": flash.CHUNKED, "tpu": interpreted(flash_tpu)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """Several chunks, and more than one tile of either side."""
  monkeypatch.setattr(flash_tpu_grid, "TILE", 128)
  monkeypatch.setattr(flash_xla, "SCORES", 2**15)


def packed_row(rng: np.random.Generator) -> np.ndarray:
  """Ids (5, UND + GEN) of one row: samples of text, clean and noisy pictures.

  Noisy pictures come anywhere in a sample, up to three versions of each at the
  same place; clean ones are in either buffer. Reading order and buffer order
  differ, and both buffers may end in padding.
  """
  buffers, room, slot, noisy = ([], []), [UND, GEN], 0, 0
  for segment in range(1, 4):
    for _ in range(rng.integers(1, 6)):
      kind, n = rng.integers(4), int(rng.integers(1, 40))
      side = int(kind == 3 or (kind == 2 and rng.integers(2)))
      draws = int(rng.integers(1, 4)) if kind == 3 else 1
      if draws * n > room[side]:
        continue
      room[side] -= draws * n
      place = slot + np.arange(n)
      end = place if kind < 2 else np.full(n, place[-1])
      for _ in range(draws):
        noisy += kind == 3
        own = noisy if kind == 3 else 0
        buffers[side].append(
          np.stack([np.full(n, segment), place, end, np.full(n, own), place])
        )
      slot += n
  for side in (0, 1):
    rest = rng.integers(0, 50, (5, room[side]))  # padding may hold anything
    rest[0] = 0
    buffers[side].append(rest)
  return np.concatenate([*buffers[0], *buffers[1]], axis=1).astype(np.int32)


def packed(seed: int) -> TokenIds:
  rng = np.random.default_rng(seed)
  return TokenIds(*np.stack([packed_row(rng) for _ in range(B)], axis=1))


def anything(seed: int, length: int) -> TokenIds:
  """TokenIds without any order."""
  rng = np.random.default_rng(seed)
  return TokenIds(
    *(
      rng.integers(0, high, (B, length)).astype(np.int32)
      for high in (3, 9, 9, 3, 9)
    )
  )


def arrays(L: int, S: int, H: int, K: int, E: int, dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = (B, L, H, E), (B, S, K, E), (B, S, K, E), (B, L, H, E)
  return [jnp.asarray(rng.normal(size=x), dtype) for x in shapes]


def both_ways(function):
  """jit of q, k, v, dout, query, key -> (out, dq, dk, dv)."""

  def run(q, k, v, dout, query, key):
    out, back = jax.vjp(lambda *x: function(*x, query, key), q, k, v)
    return out, *back(dout)

  return jax.jit(run, compiler_options=tiny.QUICK)


def through(path: flash.Path):
  def alone(q, k, v, query, key):
    return flash.attention((q,), k, v, (query,), key, path)[0]

  return both_ways(alone)


plain = both_ways(functools.partial(attention.attend, path="plain"))


def close(ours, theirs, tolerance: float) -> None:
  for name, a, b in zip(("out", "dq", "dk", "dv"), ours, theirs):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    error = np.abs(a - b).max() / np.abs(b).max()
    print(f"{name}: {error:.1e} of the maximum")
    assert error < tolerance


@pytest.mark.parametrize("path", PATHS)
def test_every_path_equals_plain_whatever_the_ids(path):
  length = UND + GEN
  inputs = arrays(length, length, 4, 2, 32)
  run = through(PATHS[path])
  for seed in range(6):
    ids = packed(seed) if seed < 4 else anything(seed, length)
    ours = run(*inputs, ids, ids)
    close(ours, plain(*inputs, ids, ids), 1e-5)
    # Of padding nothing comes, and nothing goes to it.
    padding = ids.segment == 0
    assert padding.any()
    for x in ours:
      assert not np.asarray(x)[padding].any()
      assert np.isfinite(x).all()


def test_heads_of_whole_lanes_are_not_transposed():
  """128 channels: the TPU's kernels take tiles of (B, L, H * E)."""
  run, inputs = through(PATHS["tpu"]), arrays(200, 150, 4, 2, 128)
  ids = anything(0, 200), anything(1, 150)
  close(run(*inputs, *ids), plain(*inputs, *ids), 1e-5)
  for width, moved in ((128, 0), (64, 12)):
    text = str(
      through(flash.TPU).trace(*(x[..., :width] for x in inputs), *ids).jaxpr
    )
    assert text.count("permutation=(0, 2, 1, 3)") == moved


@pytest.mark.parametrize("path", ["plain", *PATHS])
def test_queries_of_several_buffers_see_the_same_keys(path, monkeypatch):
  """And the gradients of the keys are the sums over all of them."""
  if path in PATHS:
    monkeypatch.setattr(flash, "kernel", lambda _: PATHS[path])
  inputs, ids = arrays(UND + GEN, UND + GEN, 2, 1, 32), packed(1)
  cut = lambda x: (x[:, :UND], x[:, UND:])
  treedef = jax.tree.structure(ids)
  queries = [
    jax.tree.unflatten(treedef, x) for x in zip(*map(cut, jax.tree.leaves(ids)))
  ]

  def each(q, k, v, query, key):
    del query
    how = "kernel" if path in PATHS else path
    return jnp.concatenate(
      attention.attend_each(cut(q), k, v, queries, key, how), axis=1
    )

  close(both_ways(each)(*inputs, ids, ids), plain(*inputs, ids, ids), 1e-5)
  low = [x.astype(jnp.bfloat16) for x in inputs]
  exact = plain(*(x.astype(np.float32) for x in low), ids, ids)
  close(both_ways(each)(*low, ids, ids), exact, 2e-2)


@pytest.mark.parametrize("path", PATHS)
def test_other_lengths_heads_and_bfloat16(path):
  """Neither whole tiles nor whole chunks; one key head; SigLIP2's width."""
  inputs = arrays(70, 200, 3, 1, 72, jnp.bfloat16)
  ids = anything(0, 70), anything(1, 200)
  ours = through(PATHS[path])(*inputs, *ids)
  assert {x.dtype for x in ours} == {jnp.dtype(jnp.bfloat16)}
  exact = plain(*(x.astype(np.float32) for x in inputs), *ids)
  close(ours, exact, 2e-2)


def test_a_buffer_of_queries_may_be_empty():
  q, k, v, _ = arrays(9, 9, 2, 1, 16)
  ids = anything(0, 9)
  none = jax.tree.map(lambda x: x[:, :0], ids)
  empty, out = attention.attend_each(
    [q[:, :0], q], k, v, [none, ids], ids, "kernel"
  )
  assert empty.shape == (B, 0, 2, 16)
  np.testing.assert_allclose(
    out, attention.attend(q, k, v, ids, ids, "plain"), atol=1e-5
  )


def test_tiles_are_never_wrong_and_often_empty():
  seen, counts = 0, np.zeros(3)
  for seed in range(40):
    ids = packed(seed) if seed % 2 else anything(seed, UND + GEN)
    allow = np.asarray(masks.allow(ids, ids))
    kinds = np.asarray(masks.tiles(ids, ids, 10, 25))
    shape = (B, (UND + GEN) // 10, 10, (UND + GEN) // 25, 25)
    tiled = allow.reshape(shape).transpose(0, 1, 3, 2, 4)
    assert not tiled[kinds == masks.NOTHING].any()
    assert tiled[kinds == masks.ALL].all()
    if seed % 2:
      counts += np.bincount(kinds.ravel(), minlength=3)
      seen += (~tiled.any(axis=(3, 4))).sum()
  # The bounds find at least nine of ten empty tiles of packed rows.
  assert counts[masks.NOTHING] > 0.9 * seen
  assert counts[masks.ALL] > 0


# ---------------------------------------------------------------- memory


def largest(jaxpr) -> int:
  """Elements of the largest array of a program, kernels' insides left out."""
  most = 0
  for eqn in jaxpr.eqns:
    most = max(most, *(x.aval.size for x in eqn.outvars), 0)
    if eqn.primitive.name not in ("pallas_call", "mpmd_map"):
      for inner in jaxprs_in_params(eqn.params):
        most = max(most, largest(inner))
  return most


def training(path: str):
  """Gradient of two layers by scan and remat, as the decoder runs them."""

  def loss(q, k, v, ids):
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def layer(x, _):
      return x + attention.attend(x, k, v, ids, ids, path), None

    return jax.lax.scan(layer, q, None, length=2)[0].astype(np.float32).sum()

  return jax.grad(loss, (0, 1, 2))


@pytest.mark.parametrize("path", ["plain", "chunked", "kernel", "auto"])
def test_only_the_plain_path_holds_S_x_S(path, monkeypatch):
  monkeypatch.undo()
  S, H, K, E = 8192, 4, 1, 128
  shape = lambda *x: jax.ShapeDtypeStruct(x, jnp.bfloat16)
  ids = TokenIds(*[jax.ShapeDtypeStruct((1, S), np.int32)] * 5)
  program = jax.make_jaxpr(training(path))(
    shape(1, S, H, E), shape(1, S, K, E), shape(1, S, K, E), ids
  )
  most = largest(program.jaxpr)
  assert most == H * S * S if path == "plain" else most < S * S / 4


def test_the_compiled_program_has_no_room_for_S_x_S(monkeypatch):
  monkeypatch.undo()
  S, H, K, E = 8192, 2, 1, 16
  shape = lambda *x: jax.ShapeDtypeStruct(x, np.float32)
  ids = TokenIds(*[jax.ShapeDtypeStruct((1, S), np.int32)] * 5)
  compiled = (
    jax.jit(training("auto"))
    .lower(shape(1, S, H, E), shape(1, S, K, E), shape(1, S, K, E), ids)
    .compile()
  )
  used = compiled.memory_analysis().temp_size_in_bytes
  print(f"{used / 1e6:.1f} MB; float32 scores would be {4 * H * S * S / 1e6}")
  assert used < 4 * H * S * S / 8


# ---------------------------------------------------------------- the choice


def test_unknown_paths_raise_with_the_list():
  q, k, v, _ = arrays(4, 4, 2, 1, 16)
  ids = anything(0, 4)
  with pytest.raises(ValueError, match="'splash'; choose one of .'auto'"):
    attention.attend(q, k, v, ids, ids, "splash")


@pytest.mark.parametrize("length, long", [(1024, False), (1025, True)])
def test_auto_goes_by_the_number_of_scores(length, long):
  q, k, v, _ = arrays(1024, length, 1, 1, 16)
  text = str(
    jax.make_jaxpr(attention.attend)(
      q, k, v, anything(0, 1024), anything(0, length)
    )
  )
  assert ("flash" in text or "platform_index" in text) == long


def test_chips_take_the_kernel_earlier():
  q, k, v, _ = arrays(1024, 1024, 1, 1, 16)
  with partition.compiled_for("tpu"):
    text = str(
      jax.make_jaxpr(lambda *x: attention.attend(*x, None, None))(q, k, v)
    )
  assert "platform_index" in text


@pytest.mark.parametrize("path", ["plain", "chunked", "kernel"])
def test_without_ids_all_see_all(path):
  q, k, v, _ = arrays(6, 7, 2, 1, 16)
  one = lambda n: masks.together(np.ones((B, n), np.int32))
  run = jax.jit(attention.attend, static_argnums=5)
  np.testing.assert_allclose(
    run(q, k, v, None, None, path),
    run(q, k, v, one(6), one(7), "plain"),
    atol=1e-6,
  )
