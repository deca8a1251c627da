"""The name table: both ways the same, nothing left over in silence."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.convert import files, table
from emma_jax.convert.casting import BadValues
from emma_jax.convert.table import ConversionError, Entry

pytestmark = pytest.mark.smoke

ENTRIES = (
  Entry("embed", ("emb.weight",)),
  Entry("layers/w", ("l.0.w", "l.1.w"), table.transpose, table.transpose),
  Entry("one/w", ("o.0.w",), table.transpose, table.transpose, stacked=True),
)
RNG = np.random.default_rng(0)
THEIRS = {
  "emb.weight": RNG.normal(size=(5, 2)).astype(np.float32),
  "l.0.w": RNG.normal(size=(3, 2)).astype(np.float32),
  "l.1.w": RNG.normal(size=(3, 2)).astype(np.float32),
  "o.0.w": RNG.normal(size=(3, 2)).astype(np.float32),
}
SHAPES = {
  "embed": jax.ShapeDtypeStruct((5, 2), jnp.float32),
  "layers/w": jax.ShapeDtypeStruct((2, 2, 3), jnp.float32),
  "one/w": jax.ShapeDtypeStruct((1, 2, 3), jnp.float32),
}


def folder(path: Path, tensors: dict, prefix: str = "") -> files.Folder:
  named = ((prefix + name, x) for name, x in tensors.items())
  files.write_folder(path, {}, named)
  return files.Folder.open(path)


def test_a_leaf_is_its_tensors_layer_by_layer(tmp_path: Path):
  got = dict(table.read(folder(tmp_path, THEIRS), ENTRIES, SHAPES))
  assert {k: x.shape for k, x in got.items()} == {
    k: s.shape for k, s in SHAPES.items()
  }
  np.testing.assert_array_equal(got["embed"], THEIRS["emb.weight"])
  np.testing.assert_array_equal(got["layers/w"][1], THEIRS["l.1.w"].T)
  np.testing.assert_array_equal(got["one/w"][0], THEIRS["o.0.w"].T)
  for x in got.values():
    assert x.flags.c_contiguous and x.flags.writeable and x.flags.owndata


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_writing_undoes_reading_bit_for_bit(tmp_path: Path, kind: str):
  theirs = {k: x.astype(jnp.dtype(kind)) for k, x in THEIRS.items()}
  source = folder(tmp_path, theirs, prefix="v.")
  flat = dict(table.read(source, ENTRIES, SHAPES, prefix="v."))
  back = dict(table.write(rules.unflatten(flat), ENTRIES, prefix="v."))
  assert set(back) == set(source.names())
  for name, x in back.items():
    assert x.dtype == jnp.dtype(kind)
    np.testing.assert_array_equal(x, source.read(name))


def test_a_dtype_can_be_asked_for(tmp_path: Path):
  source = folder(tmp_path, THEIRS)
  for _, x in table.read(source, ENTRIES, SHAPES, dtype="bfloat16"):
    assert x.dtype == jnp.dtype("bfloat16")
  whole = {"n": np.array([1, 2], np.int64)}
  shape = {"n": jax.ShapeDtypeStruct((2,), jnp.int32)}
  ((_, n),) = table.read(
    folder(tmp_path / "n", whole), [Entry("n", ("n",))], shape, dtype="bfloat16"
  )
  assert n.dtype == np.int64


@pytest.mark.parametrize(
  "kinds, kind",
  [
    (("bfloat16", "float32"), "float32"),
    (("float16", "bfloat16"), "float32"),
    (("float32", "float64"), "float64"),
    (("float16", "float16"), "float16"),
  ],
)
def test_layers_of_several_dtypes_become_what_holds_all(tmp_path, kinds, kind):
  """Never layer 0's, which may round the others."""
  theirs = dict(THEIRS)
  for name, dtype in zip(("l.0.w", "l.1.w"), kinds, strict=True):
    theirs[name] = theirs[name].astype(jnp.dtype(dtype))
  got = dict(table.read(folder(tmp_path, theirs), ENTRIES, SHAPES))["layers/w"]
  assert got.dtype == jnp.dtype(kind)
  for layer, name in zip(got, ("l.0.w", "l.1.w"), strict=True):
    np.testing.assert_array_equal(layer, theirs[name].T.astype(got.dtype))


@pytest.mark.parametrize("kind", ["int8", "int64", "bool"])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_integers_are_no_weights(tmp_path: Path, kind: str, dtype):
  theirs = THEIRS | {"l.0.w": np.ones((3, 2), kind)}
  with pytest.raises(ConversionError, match="l.0.w of .* floating") as error:
    table.read(folder(tmp_path, theirs), ENTRIES, SHAPES, dtype=dtype)
  assert error.value.mistyped == (
    f"l.0.w of {kind} must be of a floating dtype",
  )
  assert "quantised" in str(error.value)
  whole = {"n": jax.ShapeDtypeStruct((2,), jnp.int32)}
  with pytest.raises(ConversionError, match="must be of integers"):
    table.read(
      folder(tmp_path / "n", {"n": np.ones(2, np.float32)}),
      [Entry("n", ("n",))],
      whole,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_neither_read_nor_written(tmp_path, value):
  theirs = {name: x.copy() for name, x in THEIRS.items()}
  theirs["l.1.w"][2, 1] = value
  leaves = table.read(folder(tmp_path, theirs), ENTRIES, SHAPES)
  with pytest.raises(BadValues, match=r"l.1.w: 1 of 6 .* at \[2, 1\]"):
    list(leaves)
  params = {
    "embed": theirs["emb.weight"],
    "one": {"w": theirs["o.0.w"].T[None]},
  }
  layers = np.stack([theirs["l.0.w"].T, theirs["l.1.w"].T])
  tensors = table.write(params | {"layers": {"w": layers}}, ENTRIES)
  with pytest.raises(BadValues, match="layers/w: 1 of 12 .* sound checkpoint"):
    list(tensors)


def test_a_cast_that_would_overflow_is_refused(tmp_path: Path):
  theirs = THEIRS | {"emb.weight": np.full((5, 2), 1e300)}
  leaves = table.read(
    folder(tmp_path, theirs), ENTRIES, SHAPES, dtype="float32"
  )
  with pytest.raises(BadValues, match="emb.weight: float32 cannot hold 1e.300"):
    list(leaves)


def test_all_that_does_not_fit_is_listed_before_anything_is_read(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
  wrong = {k: x for k, x in THEIRS.items() if k != "l.1.w"}
  wrong |= {"l.2.w": THEIRS["l.1.w"], "o.0.w": THEIRS["o.0.w"].T}
  source = folder(tmp_path, wrong)
  monkeypatch.setattr(
    files.Folder, "read", lambda *_: pytest.fail("a tensor was read")
  )
  with pytest.raises(ConversionError) as caught:
    table.read(source, ENTRIES, SHAPES)
  error = caught.value
  assert error.unknown == ("l.2.w",)
  assert error.missing == ("l.1.w",)
  assert error.misshaped == ("o.0.w (2, 3) must be (3, 2)",)
  for words in ("1 unknown", "l.2.w", "1 missing", "l.1.w", "(2, 3) must be"):
    assert words in str(error)


def test_both_lists_are_given_even_if_one_is_empty(tmp_path: Path):
  source = folder(tmp_path, THEIRS | {"extra": np.zeros(1, np.float32)})
  with pytest.raises(ConversionError, match="1 unknown.*extra") as error:
    table.read(source, ENTRIES, SHAPES)
  assert "0 missing" in str(error.value)
  table.read(source, ENTRIES, SHAPES, ignore=("ext.*",))
  with pytest.raises(ConversionError):  # whole names, not beginnings
    table.read(source, ENTRIES, SHAPES, ignore=("ext",))


def test_no_leaf_is_left_at_random(tmp_path: Path):
  source = folder(tmp_path, THEIRS)
  more = SHAPES | {"bias": jax.ShapeDtypeStruct((2,), jnp.float32)}
  with pytest.raises(ConversionError, match="without a counterpart.*bias"):
    table.read(source, ENTRIES, more)
  with pytest.raises(ConversionError) as error:
    table.write({"embed": THEIRS["emb.weight"]}, ENTRIES)
  assert error.value.unfilled == ("layers/w", "one/w")


def test_the_number_of_layers_must_fit(tmp_path: Path):
  source = folder(tmp_path, THEIRS)
  three = SHAPES | {"layers/w": jax.ShapeDtypeStruct((3, 2, 3), jnp.float32)}
  with pytest.raises(ConversionError, match=r"\(3, 2, 3\) of 2 layers"):
    table.read(source, ENTRIES, three)


def test_long_lists_are_whole_in_the_error_and_short_in_its_text():
  error = ConversionError("x", unknown=[f"n{i}" for i in range(100)])
  assert len(error.unknown) == 100
  assert "n39 and 60 more" in str(error)


def test_an_entry_checks_itself():
  with pytest.raises(ValueError, match="must be a tuple of names"):
    Entry("a", "b")
  with pytest.raises(ValueError, match="make a stacked leaf"):
    Entry("a", ("b", "c"), stacked=False)


def test_leaf_shapes_are_those_of_the_parameters():
  shapes = table.leaf_shapes(nn.Dense(3), jax.ShapeDtypeStruct((1, 2), "f4"))
  assert {k: s.shape for k, s in shapes.items()} == {
    "kernel": (2, 3),
    "bias": (3,),
  }
