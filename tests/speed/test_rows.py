"""The timings run the models they say, and its arithmetic is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.cli import speed
from emma_jax.models.convolution import conv3x3
from emma_jax.speed import comparison, memory, rows, sizes
from emma_jax.speed.child import Repetition


@pytest.mark.smoke
def test_weights_have_the_published_counts(monkeypatch):
  """Of the very modules that the rows run."""
  monkeypatch.setattr(rows, "random_like", lambda shapes, dtype: shapes)

  def count(params):
    return sum(x.size for x in jax.tree.leaves(params))

  # A prompt is read when the work is done, not when it is built.
  _, params, _ = rows._qwen3(sizes.FULL, "bfloat16")
  assert count(params) == 596_049_920
  _, params = rows.autoencoder(sizes.FULL, "float32")
  assert count(params) == 312_250_275 + 64  # and the latents' normalisation


@pytest.mark.parametrize("row", comparison.ROWS)
def test_rows_run(row: str):
  rows.ROWS[row](sizes.MICRO, "bfloat16")()


def test_command_prints_a_line_per_row(capsys, tmp_path):
  file = tmp_path / "out.json"
  code = speed.main(
    [
      "torch",
      "--sizes",
      "micro",
      "--sides",
      "jax",
      "--rows",
      "dcae_encode",
      "--dtypes",
      "float32",
      "--repetitions",
      "2",
      "--patience",
      "0",
      "--threads",
      "1",
      "--json",
      str(file),
    ]
  )
  out = capsys.readouterr().out
  assert code == 0 and "dcae_encode" in out and "threads: 1" in out
  assert '"seconds"' in file.read_text()


def test_the_cleanest_repetitions_count():
  times = [(9.0, 0.5), (2.0, 0.0), (3.0, 0.01), (1.0, 0.02), (8.0, 0.3)]
  many = [Repetition(seconds=s, cpu=s, others=o) for s, o in times]
  assert comparison.summary(many, 3, "wall")["seconds"] == 2.0
  assert comparison.summary(many, 5, "wall")["seconds"] == 3.0


def test_ratio_is_against_the_better_and_needs_both():
  jax_, eager, compiled = ({"seconds": s} for s in (2.0, 3.0, 1.0))
  assert (
    comparison.ratio({"jax": jax_, "eager": eager, "compile": compiled}) == 0.5
  )
  assert comparison.ratio({"jax": jax_, "eager": {"error": "none"}}) is None


def test_tiles_bound_the_memory():
  whole, tiled = (
    memory.measure(
      memory.Case(
        direction="decode", height=2048, width=1024, dtype="float32", tiled=t
      ),
      "micro",
    )
    for t in (False, True)
  )
  assert tiled["compiled"] < 0.8 * whole["compiled"]


@pytest.mark.parametrize("picture", ["1024", "axb"])
def test_a_wrong_picture_is_refused(picture: str):
  with pytest.raises(ValueError, match="1024x1024"):
    list(memory.cases([picture], ["float32"]))


@pytest.mark.parametrize("shape", [(1, 6, 5), (2, 32, 32), (3, 7, 200)])
def test_bfloat16_convolution_and_its_gradient(shape):
  """On a CPU it is made of products, in strips; the gradient is not."""
  key = jax.random.key(0)
  x = jax.random.normal(key, (*shape, 8)).astype(jnp.bfloat16)
  w = jax.random.normal(key, (3, 3, 8, 4)).astype(jnp.bfloat16)

  def loss(x, w):
    y = conv3x3(x, w)
    return (y.astype(jnp.float32) ** 2).mean(), y

  got, got_y = jax.grad(loss, (0, 1), has_aux=True)(x, w)
  wide = (x.astype(jnp.float32), w.astype(jnp.float32))
  want, want_y = jax.grad(loss, (0, 1), has_aux=True)(*wide)
  for a, b in zip((got_y, *got), (want_y, *want)):
    assert a.dtype == jnp.bfloat16
    error = np.abs(np.float32(a) - np.float32(b)).max() / np.abs(b).max()
    assert error < 0.02  # bfloat16 has a step of 0.004
