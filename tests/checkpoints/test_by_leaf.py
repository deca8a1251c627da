"""Weights come one by one, in their place and dtype, and are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.checkpoints import by_leaf, locate
from emma_jax.checkpoints.by_leaf import Keep
from emma_jax.checkpoints.integrity import CheckpointDamaged, CheckpointError
from emma_jax.checkpoints.weight_files import save_weights
from tests import neutral, programs

TREE = {
  "llm": {"q": np.arange(32, dtype=np.float32).reshape(4, 8) / 7},
  "heads": {"scale": np.float32([1, 2]), "deep": np.ones((2, 2), np.float32)},
}
KEEP = Keep(on_devices=True, dtypes={"llm/q": "bfloat16"})


def save_run(folder) -> None:
  state = {"trained": {"llm": TREE["llm"]}, "frozen": {"heads": TREE["heads"]}}
  with neutral.checkpointer(folder / "checkpoints") as checkpoints:
    checkpoints.save(3, state | {"ema": state["trained"]}, {"a": 1}, wait=True)


@pytest.fixture(params=["run", "file"])
def stored(request, tmp_path) -> str:
  if request.param == "file":
    save_weights(tmp_path / "w.safetensors", TREE, {"a": 1})
    return str(tmp_path / "w.safetensors")
  save_run(tmp_path)
  return str(tmp_path)


@pytest.mark.smoke
def test_weights_are_kept_as_they_are_asked_for(stored, monkeypatch):
  monkeypatch.setattr(by_leaf, "TOGETHER", 40)  # a call for nearly each
  params = locate.read(stored, kept=lambda meta: KEEP).params
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(params))
  q = params["llm"]["q"]
  assert q.dtype == jnp.bfloat16
  want = TREE["llm"]["q"].astype(jnp.bfloat16)
  np.testing.assert_array_equal(np.asarray(q), want)
  for name, x in TREE["heads"].items():
    assert params["heads"][name].dtype == np.float32
    np.testing.assert_array_equal(params["heads"][name], x)
  plain = locate.read(stored).params
  assert isinstance(plain["llm"]["q"], np.ndarray)
  np.testing.assert_array_equal(plain["llm"]["q"], TREE["llm"]["q"])


def test_other_weights_are_named_before_any_is_read(stored):
  shapes = {"llm/q": (4, 9), "heads/scale": (2,), "llm/k": (1,)}
  keep = Keep(on_devices=True, shapes=shapes)
  with pytest.raises(CheckpointError) as error:
    locate.read(stored, kept=lambda meta: keep)
  for words in (
    "heads/deep: [2, 2], the model has nothing",
    "llm/k: nothing, the model has [1]",
    "llm/q: [4, 8], the model has [4, 9]",
  ):
    assert words in str(error.value)


def test_a_flipped_bit_is_found_whatever_the_dtype_it_is_kept_in(
  tmp_path, monkeypatch
):
  """The checksum is of what was stored, not of what is kept."""
  save_run(tmp_path)
  real = by_leaf._restored

  def flipped(*args):
    for part in real(*args):
      for path, x in part.items():
        if path.endswith("llm/q"):
          bits = np.array(x).view(np.uint32)
          bits[2, 3] ^= 1  # lost when it is rounded
          part[path] = bits.view(np.float32)
      yield part

  monkeypatch.setattr(by_leaf, "_restored", flipped)
  with pytest.raises(CheckpointDamaged, match="No sound checkpoint"):
    locate.read(str(tmp_path), kept=lambda meta: KEEP)


def test_on_a_mesh_each_device_gets_its_part(tmp_path):
  """From a run and from a file, as bfloat16; prints shards and values."""
  save_run(tmp_path)
  save_weights(tmp_path / "w.safetensors", TREE, {"a": 1})
  script = """
import json, sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from emma_jax.checkpoints import locate
from emma_jax.checkpoints.by_leaf import Keep
mesh = Mesh(np.array(jax.devices()), ("x",))
split = lambda *axes: NamedSharding(mesh, P(*axes))
keep = Keep(on_devices=True, dtypes={"llm/q": "bfloat16"}, shardings={
    "llm/q": split(None, "x"), "heads/scale": split(), "heads/deep": split()})
out = []
for name in sys.argv[1:]:
  q = locate.read(name, kept=lambda meta: keep).params["llm"]["q"]
  out.append([str(q.dtype), [s.data.shape for s in q.addressable_shards],
              np.asarray(q).astype(float).tolist()])
print(json.dumps(out))
"""
  names = [str(tmp_path), str(tmp_path / "w.safetensors")]
  want = TREE["llm"]["q"].astype(jnp.bfloat16).astype(float).tolist()
  for dtype, shapes, values in programs.printed(script, *names, devices=4):
    assert (dtype, shapes) == ("bfloat16", [[4, 2]] * 4)
    assert values == want
