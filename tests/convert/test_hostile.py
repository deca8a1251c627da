"""Every key and every tensor of every family, spoilt in turn: a stated outcome.

No change ends in a stack trace, and none is read for what it is not.
"""

from collections.abc import Callable
import dataclasses
from pathlib import Path
import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.cli import convert as cli
from emma_jax.convert import qwen3
from emma_jax.convert.casting import BadValues
from emma_jax.convert.fields import ConfigError
from emma_jax.convert.table import ConversionError
from tests.convert import hostile
from tests.convert.hostile import FAMILIES, REFUSED, SAME, WRONG, Default, Sizes

EACH = pytest.mark.parametrize("name", FAMILIES)
FILE = "x/config.json"


@pytest.fixture(autouse=True, scope="module")
def shapes_once():
  with hostile.shapes_once():
    yield


# ------------------------------------------------------------------- configs


def reason(family: hostile.Family, key: str, value: Any, wanted: Any) -> str:
  """Why a change of one key has another outcome than `wanted`; or ""."""
  config = family.changed(key, value)
  try:
    sizes, told = family.reader(config, FILE)
  except ConfigError as error:
    if wanted != SAME and type(wanted) is str:
      fits = re.search(wanted, str(error)) and FILE in str(error)
      return "" if fits else f"{error}, not {wanted!r}"
    return f"refused: {error}"
  except Exception as error:
    return f"{type(error).__name__}: {error}"
  if isinstance(wanted, Default):
    # As if the reference's value stood in the file; and it is said.
    same = family.reader(family.changed(key, wanted.value), FILE)[0] == sizes
    tells = re.search(rf"{key}=.+? \(\w+ [\d.]+, \w+\)", told)
    return "" if same and tells and FILE in told else f"{sizes}, {told!r}"
  own = family.reader(family.config, FILE)[0]
  if isinstance(wanted, Sizes):
    own = dataclasses.replace(own, **wanted.fields)
  elif wanted != SAME:
    return f"accepted, not {wanted!r}"
  return "" if sizes == own and not told else f"{sizes}, {told!r}"


@EACH
def test_every_key_has_its_outcome(name: str):
  family, wrong = FAMILIES[name], {}
  own = family.config[family.section] if family.section else family.config
  assert set(own) == set(family.keys)  # the table is of all keys
  for key, what in family.keys.items():
    changes = [("dropped", WRONG, what.dropped), ("null", None, what.null)]
    changes += [
      (repr(value)[:40], value, what.words or SAME)
      for value in (*what.types, *what.beyond)
    ]
    for label, value, wanted in changes:
      wrong[f"{key}, {label}"] = reason(family, key, value, wanted)
  found = [f"{change}: {why}" for change, why in wrong.items() if why]
  assert not found, "\n".join(found)


@pytest.mark.parametrize(
  "name, change, words",
  REFUSED,
  ids=[f"{name}-{next(iter(change))}-{i}" for i, (name, change, _) in
       enumerate(REFUSED)],
)  # fmt: skip
def test_what_no_single_key_says_is_refused(name: str, change, words: str):
  family = FAMILIES[name]
  with pytest.raises(ConfigError, match=words):
    family.reader(family.config | change, FILE)


def test_all_that_is_wrong_is_told_at_once():
  family = FAMILIES["qwen3"]
  config = family.config | {"hidden_size": [24], "tie_word_embeddings": "false"}
  del config["rms_norm_eps"]
  with pytest.raises(ConfigError) as error:
    family.reader(config, FILE)
  for words in (
    "hidden_size=[24] must be a whole number from 1 to 131072",
    "tie_word_embeddings='false' must be true or false, without quotes",
    "rms_norm_eps is missing",
  ):
    assert words in str(error.value)


# ------------------------------------------------------------------- tensors

Tensors = dict[str, np.ndarray]


def dropped(tensors: Tensors, name: str) -> None:
  del tensors[name]


def renamed(tensors: Tensors, name: str) -> None:
  tensors[f"{name}_"] = tensors.pop(name)


def transposed(tensors: Tensors, name: str) -> None:
  tensors[name] = np.ascontiguousarray(tensors[name].T)


def longer(tensors: Tensors, name: str) -> None:
  x = tensors[name]
  tensors[name] = np.concatenate([x, x[:1]])


def cast(dtype: Any) -> Callable[[Tensors, str], None]:
  def change(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].astype(dtype)

  return change


def filled(value: float) -> Callable[[Tensors, str], None]:
  def change(tensors: Tensors, name: str) -> None:
    tensors[name] = x = tensors[name].copy()
    x.reshape(-1)[-1] = value

  return change


_FINITE = r"values are not finite, the first is (nan|inf|-inf) at \[.*get the"
# What becomes of a tensor -> the error and its words. Other floating
# dtypes are imported: see the tests below.
TENSORS: dict[str, tuple[Callable, type[Exception], str]] = {
  "dropped": (dropped, ConversionError, "1 missing.*: {name}$"),
  "renamed": (renamed, ConversionError, "1 unknown.*: {name}_$"),
  "transposed": (transposed, ConversionError, "{name} .* must be"),
  "longer": (longer, ConversionError, "{name} .* must be"),
  "int8": (cast(np.int8), ConversionError, "{name} of int8 must be of a flo"),
  "int32": (cast(np.int32), ConversionError, "{name} of int32 .*\n.*quantised"),
  "bool": (cast(np.bool_), ConversionError, "{name} of bool must be of a flo"),
  "NaN": (filled(np.nan), BadValues, "{name}: 1 of [\\d,]+ " + _FINITE),
  "infinite": (filled(-np.inf), BadValues, "{name}: 1 of .*" + _FINITE),
}
# Of no weight: counters of batch norm.
COUNTER = re.compile(r".*num_batches_tracked")


@pytest.mark.parametrize("change", TENSORS)
@EACH
def test_every_tensor_has_its_outcome(tmp_path: Path, name: str, change: str):
  family = FAMILIES[name]
  harm, kind, words = TENSORS[change]
  wrong = []
  for tensor, x in family.tensors.items():
    if COUNTER.fullmatch(tensor):
      continue
    if name == "imagenet" and tensor in FAMILIES["sana"].tensors:
      continue  # of the same table
    if change == "transposed" and x.T.shape == x.shape:
      continue  # no shape tells: see the test of `check` below
    tensors = dict(family.tensors)
    harm(tensors, tensor)
    folder = family.write(tmp_path, tensors=tensors)
    text, fits = "imported", False
    try:
      for _ in family.module.open_folder(folder).leaves:
        pass
    except ValueError as error:
      text = str(error)
      match = re.search(words.format(name=re.escape(tensor)), text, re.M)
      fits = type(error) is kind and match is not None
    if not fits or str(tmp_path) not in text:
      wrong.append(f"{tensor}: {text}")
  assert not wrong, "\n".join(wrong)


@EACH
def test_the_command_ends_with_one_sentence(tmp_path: Path, capsys, name: str):
  """For a change of each kind: code 2, the file and the words, no stack."""
  family = FAMILIES[name]
  reference = tmp_path / "reference.npz"
  np.savez(
    reference,
    input_ids=np.ones((1, 3), np.int32),
    logits=np.ones((1, 3, 40), np.float32),
    pixel_values=np.zeros((1, 3, 56, 56), np.float32),
    pooler_output=np.zeros((1, 24), np.float32),
  )
  argv = ["check", "--family", hostile.OF_CHECK.get(name, "dcae")]
  argv += ["--reference", str(reference), "--folder", str(tmp_path / "f")]
  tensor = next(iter(family.tensors))
  for change, (harm, _, words) in TENSORS.items():
    if change == "transposed":
      continue
    tensors = dict(family.tensors)
    harm(tensors, tensor)
    family.write(tmp_path / "f", tensors=tensors)
    assert cli.main(argv) == 2, change
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: "), change
    assert str(tmp_path / "f") in said.err and "Traceback" not in said.err
    assert re.search(words.format(name=re.escape(tensor)), said.err, re.M)
  for key, what in family.keys.items():
    for value in (*what.types, *what.beyond) if what.words else ():
      family.write(tmp_path / "f", config=family.changed(key, value))
      assert cli.main(argv) == 2, (key, value)
      said = capsys.readouterr()
      assert not said.out and said.err.startswith("error: "), (key, value)
      assert "config.json" in said.err and "Traceback" not in said.err


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
@EACH
def test_other_floating_dtypes_are_imported(tmp_path: Path, name: str, kind):
  family, kind = FAMILIES[name], jnp.dtype(kind)
  tensors = {
    n: x if COUNTER.fullmatch(n) else x.astype(kind)
    for n, x in family.tensors.items()
  }
  folder = family.write(tmp_path / "a", tensors=tensors)
  rounded = {n: x.astype(np.float32) for n, x in tensors.items()}
  want = family.write(
    tmp_path / "b",
    tensors=rounded
    | {n: x for n, x in tensors.items() if COUNTER.fullmatch(n)},
  )
  both = zip(*(family.module.open_folder(f).leaves for f in (folder, want)))
  for (path, a), (_, b) in both:
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a, b, err_msg=path)


def test_layers_of_several_dtypes_lose_nothing(tmp_path: Path):
  """As stored: the smallest dtype that holds all layers exactly."""
  family = FAMILIES["qwen3"]
  names = [n for n in family.tensors if n.endswith("mlp.up_proj.weight")]
  tensors = dict(family.tensors)
  kinds = (jnp.bfloat16, np.float16, jnp.bfloat16)
  for name, kind in zip(names, kinds, strict=True):
    tensors[name] = tensors[name].astype(kind)
  _, params = qwen3.load(family.write(tmp_path, tensors=tensors), dtype=None)
  leaf = params["layers"]["block"]["mlp"]["up"]
  assert leaf.dtype == np.float32
  for name, layer in zip(names, leaf, strict=True):
    want = tensors[name].astype(np.float32).T
    np.testing.assert_array_equal(np.asarray(layer), want)
