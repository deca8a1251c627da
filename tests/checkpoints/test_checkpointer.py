"""Saved is restored exactly, and damage never passes for data."""

import doctest
import os
import pathlib
import signal
import subprocess
import sys
import time
import tracemalloc

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from emma_jax.checkpoints import checkpointer, integrity, weight_files
from emma_jax.checkpoints.checkpointer import Checkpointer
from emma_jax.checkpoints.integrity import CheckpointDamaged, CheckpointError
from tests import neutral, programs

ROOT = pathlib.Path(checkpointer.__file__).parents[2]


@flax.struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt: tuple
  key: jax.Array
  frozen: dict


def make(step: int, size: int = 64) -> State:
  w = jax.random.normal(jax.random.key(step), (size, 8))
  return State(
    step=jnp.int32(step),
    params={"llm": {"w": w, "b": jnp.ones(3, jnp.bfloat16)}},
    opt=(optax.EmptyState(), {"llm": {"w": 2 * w}}, jnp.int32(step)),
    key=jax.random.key(step),
    frozen={},
  )


def abstract(state: State) -> State:
  return jax.eval_shape(lambda: state)


def equal(a, b) -> bool:
  return integrity.checksums(a) == integrity.checksums(b)


def saved(path: pathlib.Path, steps=(1, 2, 3), **options) -> Checkpointer:
  checkpointer = neutral.checkpointer(path, **options)
  for step in steps:
    checkpointer.save(step, make(step), {"next": step, "t": (1, 2)}, wait=True)
  return checkpointer


def damage(path: pathlib.Path):
  """Flips a bit in every 64 bytes of all data files below `path`.

  Where in which file an array lies is chance; so none is left sound.
  """
  files = [f for f in path.glob("state/**/d/*") if f.is_file()]
  assert files
  for file in files:
    data = bytearray(file.read_bytes())
    for i in range(0, len(data), 64):
      data[i] ^= 1
    file.write_bytes(data)


def test_docstrings():
  assert doctest.testmod(integrity).failed == 0


def test_restores_types_values_and_metadata(tmp_path):
  with saved(tmp_path) as checkpointer:
    assert checkpointer.latest_step() == 3
    assert checkpointer.read_meta(2) == {"next": 2, "t": [1, 2]}
    state, meta = checkpointer.restore(abstract(make(0)))
  assert meta["next"] == 3 and isinstance(state, State)
  assert equal(state, make(3))
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
  with neutral.checkpointer(tmp_path / "empty") as checkpointer:
    assert checkpointer.restore(abstract(make(0))) is None
    assert checkpointer.latest_step() is None


def test_a_flipped_bit_is_seen_and_the_previous_step_used(tmp_path, capsys):
  saved(tmp_path).close()
  damage(tmp_path / "3")
  with neutral.checkpointer(tmp_path) as checkpointer:
    state, _ = checkpointer.restore(abstract(make(0)))
    assert equal(state, make(2))
    message = capsys.readouterr().err
    assert str(tmp_path / "3") in message and "damaged" in message
    with pytest.raises(CheckpointDamaged):
      checkpointer.restore(abstract(make(0)), step=3)
    # Training goes on from 2 and comes to 3 again; the damaged one is kept.
    checkpointer.save(3, make(3), {}, wait=True)
    assert checkpointer.steps() == [1, 2, 3]
    assert (tmp_path / "damaged_3").is_dir()
  with neutral.checkpointer(tmp_path) as checkpointer:
    assert equal(checkpointer.restore(abstract(make(0)))[0], make(3))


@pytest.mark.parametrize("part", ["meta/metadata", "state", "meta"])
def test_missing_or_changed_parts_are_damage(tmp_path, part):
  saved(tmp_path).close()
  path = tmp_path / "3" / part
  if path.is_file():
    path.write_text(path.read_text().replace('"next": 3', '"next": 4'))
    assert '"next": 4' in path.read_text()
  else:
    path.rename(tmp_path / "away")
  with neutral.checkpointer(tmp_path) as checkpointer:
    state, meta = checkpointer.restore(abstract(make(0)))
  assert equal(state, make(2)) and meta["next"] == 2


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
  saved(tmp_path, steps=(1, 2)).close()
  damage(tmp_path / "1")
  damage(tmp_path / "2")
  with neutral.checkpointer(tmp_path) as checkpointer:
    with pytest.raises(CheckpointDamaged, match="No sound checkpoint"):
      checkpointer.restore(abstract(make(0)))


def test_another_structure_is_an_error_that_lists_both_sides(tmp_path):
  with saved(tmp_path, steps=(1,)) as checkpointer:
    with pytest.raises(CheckpointError) as error:
      checkpointer.restore(abstract(make(0, size=32)))
  assert not isinstance(error.value, CheckpointDamaged)
  assert "checkpoint float32[64,8], program float32[32,8]" in str(error.value)


def test_the_target_may_depend_on_the_metadata(tmp_path):
  saved(tmp_path).close()
  damage(tmp_path / "3")

  def target(meta: dict) -> State:
    return abstract(make(meta["next"]))

  def refuse(meta: dict) -> State:
    raise integrity.ContradictionError(["data.seed: checkpoint 1, now 2"])

  with neutral.checkpointer(tmp_path) as checkpointer:
    assert equal(checkpointer.restore(target)[0], make(2))
    with pytest.raises(integrity.ContradictionError, match="data.seed"):
      checkpointer.restore(refuse)


def test_a_refused_save_raises(tmp_path):
  with saved(tmp_path, steps=(1, 5)) as checkpointer:
    for step in (5, 4):
      with pytest.raises(CheckpointError, match=f"Step {step}"):
        checkpointer.save(step, make(step), {})
    with pytest.raises(CheckpointError, match="name: str"):
      checkpointer.save(6, {"name": "x"}, {})
    with pytest.raises(CheckpointError, match="JSON"):
      checkpointer.save(6, make(6), {"x": object()})
  with pytest.raises(ValueError, match="keep=1"):
    neutral.checkpointer(tmp_path, keep=1)


def test_keeps_the_newest_and_the_multiples(tmp_path):
  with saved(tmp_path, steps=range(1, 8), keep=2, keep_every=3) as c:
    assert c.steps() == [3, 6, 7]


def test_background_save_survives_donation(tmp_path):
  with neutral.checkpointer(tmp_path) as checkpointer:
    state = make(1)
    wanted = integrity.checksums(state)
    checkpointer.save(1, state, {})
    jax.jit(lambda x: x + 1, donate_argnums=0)(state.params["llm"]["w"])
    assert (
      integrity.checksums(checkpointer.restore(abstract(make(0)))[0]) == wanted
    )


def test_restores_parts_without_the_rest(tmp_path):
  saved(tmp_path).close()
  trees, meta = checkpointer.restore_params(tmp_path, ["params"])
  assert list(trees) == ["params"] and meta["next"] == 3
  assert isinstance(trees["params"]["llm"]["w"], np.ndarray)
  assert equal(trees["params"], make(3).params)
  trees, _ = checkpointer.restore_params(
    tmp_path, ["params"], abstract={"params": abstract(make(0)).params}
  )
  assert isinstance(trees["params"]["llm"]["w"], jax.Array)
  trees, _ = checkpointer.restore_params(tmp_path, ["frozen", "params"])
  assert trees["frozen"] == {} and equal(trees["params"], make(3).params)
  assert checkpointer.restore_params(tmp_path, ["frozen"])[0] == {"frozen": {}}
  damage(tmp_path / "3")
  before = sorted(tmp_path.iterdir())
  trees, meta = checkpointer.restore_params(tmp_path)
  assert meta["next"] == 2 and equal(trees["params"], make(2).params)
  assert sorted(tmp_path.iterdir()) == before
  with pytest.raises(CheckpointError, match="ema"):
    checkpointer.restore_params(tmp_path, ["ema"])
  with pytest.raises(CheckpointError, match="no checkpoint"):
    checkpointer.restore_params(tmp_path / "nowhere")


KILLED = """
import sys, jax, jax.numpy as jnp
from emma_jax.checkpoints.checkpointer import Checkpointer
c = Checkpointer(sys.argv[1], 2, 0)
state = lambda n: {"w": jnp.full((8 << 20,), n, jnp.float32)}
c.save(1, state(1), {"n": 1}, wait=True)
c.save(2, state(2), {"n": 2})
print("saving", flush=True)
c.wait()
print("done", flush=True)
import time; time.sleep(60)
"""


@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_kill_in_mid_save_leaves_a_sound_checkpoint(tmp_path, delay):
  process = subprocess.Popen(
    [sys.executable, "-c", KILLED, str(tmp_path)],
    stdout=subprocess.PIPE,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    cwd=ROOT,
  )
  assert process.stdout.readline() == b"saving\n"
  time.sleep(delay)
  process.send_signal(signal.SIGKILL)
  process.wait()
  process.stdout.close()
  target = {"w": jax.ShapeDtypeStruct((8 << 20,), jnp.float32)}
  with neutral.checkpointer(tmp_path) as checkpointer:
    state, meta = checkpointer.restore(target)
    assert meta["n"] in (1, 2) and bool((state["w"] == meta["n"]).all())
    checkpointer.save(3, state, meta, wait=True)  # leftovers are no obstacle
    assert checkpointer.latest_step() == 3


# ------------------------------------------------------------- checksums


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool"])
def test_checksums_see_every_flip_and_exchange(dtype):
  x = (np.arange(24).reshape(2, 3, 4) % 5).astype(jnp.dtype(dtype))
  base = integrity.checksums({"x": x})
  assert integrity.checksums({"x": jnp.asarray(x)}) == base
  bits = x.view(f"uint{8 * x.dtype.itemsize}")
  for place in np.ndindex(x.shape):
    changed = bits.copy()
    changed[place] ^= 1
    assert integrity.checksums({"x": changed.view(x.dtype)}) != base
  swapped = np.ascontiguousarray(x[:, ::-1])
  assert integrity.checksums({"x": swapped}) != base
  assert integrity.checksums({"x": x.reshape(6, 4)}) != base


def test_checksums_are_sums_over_shards():
  x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  parts = [
    integrity._sum(x[i : i + 2, j : j + 3], (i, j))
    for i in (0, 2)
    for j in (0, 3)
  ]
  assert sum(parts) % 2**64 == integrity._sum(x, (0, 0))


SHARDED = """
import sys, jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from emma_jax.checkpoints.checkpointer import Checkpointer
from emma_jax.checkpoints.integrity import checksums
x = jax.random.normal(jax.random.key(0), (8, 12))
def put(shape, spec):
  mesh = jax.make_mesh(shape, ("a", "b"), axis_types=(AxisType.Auto,) * 2)
  return {"x": jax.device_put(x, NamedSharding(mesh, spec))}
one, two = put((4, 2), P("a", "b")), put((2, 4), P(None, "b"))
assert checksums(one) == checksums(two) == checksums({"x": x})
with Checkpointer(sys.argv[1], 2, 0) as c:
  c.save(1, one, {}, wait=True)
  state, _ = c.restore(two)
assert state["x"].sharding == two["x"].sharding and (state["x"] == x).all()
"""


def test_saved_on_one_mesh_restores_on_another(tmp_path):
  programs.run(SHARDED, str(tmp_path), devices=8, JAX_PLATFORMS="cpu")


# --------------------------------------------------------------- configs


def test_config_differences():
  old = {"data": {"seed": 1, "mix": [1, 2]}, "lr": 0.1, "gone": None}
  new = {"data": {"seed": 2, "mix": (1, 2)}, "lr": 0.2, "added": {}}
  lines = integrity.config_differences(old, new, ignore=["l.", "data"])
  assert lines == [
    "added: checkpoint absent, now {}",
    "data.seed: checkpoint 1, now 2",
    "gone: checkpoint null, now absent",
  ]
  assert "data.seed" in str(integrity.ContradictionError(lines))
  told = str(integrity.ContradictionError([f"key.{i}: x" for i in range(50)]))
  assert "key.19: x" in told and "key.20" not in told and "30 more" in told


# --------------------------------------------------------------- weights


def test_weights_round_trip_and_are_reproducible(tmp_path):
  llm = {"q": jnp.ones((2, 3)) / 3, "n": np.arange(3)}
  tree = {"llm": llm, "s": jnp.ones(())}
  path = tmp_path / "w.safetensors"
  weight_files.save_weights(path, tree, {"step": 3, "a": [1]}, dtype="float16")
  first = path.read_bytes()
  weight_files.save_weights(path, tree, {"a": [1], "step": 3}, dtype="float16")
  assert path.read_bytes() == first
  loaded, metadata = weight_files.load_weights(path, dtype=np.float32)
  assert metadata == {"step": 3, "a": [1]}
  assert loaded["llm"]["q"].dtype == np.float32 and loaded["s"].shape == ()
  np.testing.assert_allclose(loaded["llm"]["q"], tree["llm"]["q"], rtol=1e-3)
  assert loaded["llm"]["n"].dtype == tree["llm"]["n"].dtype
  with pytest.raises(CheckpointError, match="q: float16 cannot hold 1e"):
    weight_files.save_weights(path, {"q": np.full(2, 1e6)}, {}, dtype="float16")
  with pytest.raises(CheckpointError, match="bfloat16"):
    weight_files.save_weights(path, {"q": jnp.ones(2, jnp.bfloat16)}, {})
  for value in (np.nan, np.inf):
    with pytest.raises(CheckpointError, match="q: 1 of 2 .* are not finite"):
      weight_files.save_weights(path, {"q": np.array([1.0, value])}, {})
  assert path.read_bytes() == first


def test_corrupt_weights_are_refused(tmp_path):
  path = tmp_path / "w.safetensors"
  weight_files.save_weights(
    path, {"q": np.ones((4, 4), np.float32)}, {"step": 3}
  )
  good = path.read_bytes()
  changed = good.replace(b'\\"step\\": 3', b'\\"step\\": 4')
  assert changed != good
  flipped = good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]
  for bad in (changed, flipped, good[:-1], good[:20], b"", b"x" * 200):
    path.write_bytes(bad)
    with pytest.raises(
      weight_files.WeightsCorrupt, match="(get|download) it again"
    ):
      weight_files.load_weights(path)
  with pytest.raises(FileNotFoundError):
    weight_files.load_weights(tmp_path / "none")


def test_host_arrays_are_saved_from_where_they_lie(tmp_path):
  """A few megabytes beside them, not twice themselves; once per directory."""
  state = {
    "ema": {"w": np.random.default_rng(0).random((64, 1 << 17))},
    "frozen": {},
  }
  size = state["ema"]["w"].nbytes  # 64 MiB
  tracemalloc.start()
  checkpointer.save_params(tmp_path, state, {"step": 0})
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < size / 2
  tree, meta = checkpointer.restore_params(tmp_path, ("ema", "frozen"))
  assert meta == {"step": 0} and tree["frozen"] == {}
  np.testing.assert_array_equal(tree["ema"]["w"], state["ema"]["w"])
  with pytest.raises(CheckpointError, match=r"holds steps \[0\] already"):
    checkpointer.save_params(tmp_path, state, {})


@pytest.mark.parametrize("form", ["a training's", "host arrays"])
def test_a_leaf_is_stored_in_pieces(form, tmp_path, monkeypatch):
  """What a device needs of it is read without the rest: see `PIECE`."""
  monkeypatch.setattr(checkpointer, "PIECE", 2**12)
  shape = (64, 96, 7)
  w = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  state = {"params": {"w": w, "b": np.ones(3, np.float32)}}
  if form == "host arrays":
    checkpointer.save_params(tmp_path, state, {})
    step = 0
  else:
    with neutral.checkpointer(tmp_path) as own:
      own.save(1, jax.tree.map(jnp.asarray, state), {}, wait=True)
    step = 1
  with ocp.PyTreeCheckpointer() as reader:
    found = reader.metadata(tmp_path / str(step) / "state").item_metadata
  piece = found["params"]["w"].storage.chunk_shape
  assert np.prod(piece) * 4 <= 2**12 < 2 * np.prod(piece) * 4 * 8
  again, _ = checkpointer.restore_params(tmp_path)
  assert equal(again["params"], state["params"])
