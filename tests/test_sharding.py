"""Many devices give what one gives; nothing is copied to all unasked."""

import json

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
import pytest

from emma_jax import rules, sharding
from emma_jax.sharding import AXES, MeshConfig
from tests import programs, tiny
from tests.goldens import machines, store

# Meshes of 8 devices: (slice, data, fsdp, tensor). Of four axes in two meshes
# every one is split, and copies lie beside parts.
MESHES = {"slice x data x fsdp": (2, 2, 2, 1), "fsdp x tensor": (1, 1, 4, 2)}

# Sharding constraints in the lowered step: one per gradient of a weight, and
# the others on activations, in the forward pass and in the backward one.
CONSTRAINTS = 221

# Three steps of a micro EMMA on each mesh; prints the metrics.
SCRIPT = """
import dataclasses, json, sys
import jax, numpy as np
from emma_jax import flow, optimizer, rules, sharding
from emma_jax.training import state, step
from tests import neutral, tiny

samples = [s(i) for i in range(8)
           for s in (tiny.understanding, tiny.drawing, tiny.editing)]
batch = tiny.packed(samples, rows=8)
adam = optimizer.build(neutral.optimizer_config(
    learning_rate=1e-2, total_steps=3), ((".*", 1.0),))
policy = (("autoencoder/.*", "frozen"), (".*", "train"))
objective = neutral.objective(
    model=tiny.emma(remat="full"), route="versatile", text_weight=0.25,
    velocity_weight=1.0, time_bins=2, loss_chunk=24,
    flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0))
model = tiny.build_model.model(tiny.model())


def train(mesh):
  begin = lambda params: state.begin(params, policy, adam, {})
  where = sharding.weights(model.shapes, model.axes, mesh)
  places = sharding.like_weights(
      jax.eval_shape(begin, model.shapes), where, mesh)
  now = jax.jit(begin, out_shardings=places)(tiny.params())
  run = step.make_step(objective, adam, ema_decay=0.9, seed=0, name="s",
                       accumulation=1, max_skipped_steps=0,
                       mesh=mesh, shardings=places)
  rows = sharding.place_rows(batch, mesh)
  lowered = run.lower(now, rows)
  run = lowered.compile(compiler_options=tiny.QUICK)
  out = []
  for _ in range(3):
    now, metrics = run(now, rows)
    out.append({k: float(m.value) for k, m in metrics.items()})
  split = {p: max(s.data.size for s in x.addressable_shards) * 8 // x.size
           for p, x in rules.flatten(now).items() if x.ndim}
  frozen = rules.flatten(now.frozen)
  before = rules.flatten(tiny.params())
  same = all(np.array_equal(x, before[p]) for p, x in frozen.items())
  return {"metrics": out, "frozen": same, "copies": split, "constraints":
          lowered.as_text().count("sdy.sharding_constraint"),
          "collectives": [c for c in ("all-gather", "all-reduce")
                          if c in run.as_text()]}


out = {}
for name, sizes in json.loads(sys.argv[1]).items():
  config = sharding.MeshConfig(**dict(zip(sharding.AXES, sizes)))
  count = int(np.prod(sizes))
  out[name] = train(sharding.make_mesh(config, jax.devices()[:count]))
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def trained() -> dict[str, dict]:
  """name of a mesh -> what SCRIPT prints of it; "one" is one device."""
  meshes = json.dumps({"one": (1, 1, 1, 1)} | MESHES)
  return programs.printed(SCRIPT, meshes, devices=8)


@pytest.mark.parametrize("name", MESHES)
def test_eight_devices_equal_one(name, trained):
  """Losses, norms of gradients and updates, over three steps, in float32."""
  one, eight = trained["one"]["metrics"], trained[name]["metrics"]
  for a, b in zip(one, eight):
    assert a.keys() == b.keys()
    for key, value in a.items():
      assert b[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
  assert one[2]["loss/total"] < one[0]["loss/total"]
  assert trained[name]["frozen"]


@pytest.mark.parametrize("name", MESHES)
def test_constraints_are_in_the_program(name, trained):
  """Not dropped on the way, and none for nothing on one device."""
  assert trained["one"]["constraints"] == 0
  assert trained[name]["constraints"] == CONSTRAINTS
  assert "all-reduce" in trained[name]["collectives"]


def test_weights_moments_and_averages_are_split(trained):
  """`copies` of each weight are held by all devices together."""
  copies = trained["slice x data x fsdp"]["copies"]
  for part in ("trained", "ema", "opt_state/1/mu", "opt_state/1/nu"):
    assert copies[f"{part}/llm/deep/und/mlp/gate"] == 4
    assert copies[f"{part}/llm/embed"] == 4
    assert copies[f"{part}/llm/norm_und/scale"] == 8  # small: whole
  assert copies["frozen/autoencoder/encoder/stage1/block0/conv1/kernel"] == 4
  both = trained["fsdp x tensor"]["copies"]
  assert both["trained/llm/embed"] == both["ema/llm/deep/gen/mlp/up"] == 1
  assert both["trained/llm/deep/und/qk/k"] == 2  # one key head: not by head


# Saves a state from four devices and reads it on two; prints what differs.
MOVE = """
import sys, chex, jax, jax.numpy as jnp, optax
from emma_jax import rules, sharding
from emma_jax.checkpoints.checkpointer import Checkpointer
from emma_jax.training import state

shapes = {"w": jax.ShapeDtypeStruct((8, 6), jnp.float32),
          "scale": jax.ShapeDtypeStruct((6,), jnp.float32)}
axes = {"w": ("embed", "mlp"), "scale": (None,)}
begin = lambda p: state.begin(
    p, ((".*", "train"),), optax.adam(1e-3), {})
abstract = jax.eval_shape(begin, shapes)


def places(devices, **sizes):
  sizes = dict(slice=1, data=1, fsdp=1, tensor=1) | sizes
  config = sharding.MeshConfig(**sizes)
  mesh = sharding.make_mesh(config, jax.devices()[:devices])
  return sharding.like_weights(
      abstract, sharding.weights(shapes, axes, mesh), mesh)


key = jax.random.key(0)
params = {k: jax.random.normal(key, x.shape) for k, x in shapes.items()}
four = jax.device_put(begin(params), places(4, fsdp=2, tensor=2))
two = places(2, fsdp=2)
target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=s), abstract, two)
with Checkpointer(sys.argv[1], 2, 0) as saved:
  saved.save(3, four, {"mesh": 4}, wait=True)
with Checkpointer(sys.argv[1], 2, 0) as saved:
  read, meta = saved.restore(target)
chex.assert_trees_all_equal(read, four)
assert meta == {"mesh": 4}
for path, x in rules.flatten(read).items():
  assert x.sharding == rules.flatten(two)[path], path
assert len(read.ema["w"].sharding.device_set) == 2
assert read.ema["w"].addressable_shards[0].data.shape == (4, 6)
assert four.ema["w"].addressable_shards[0].data.shape == (4, 3)
"""


def test_a_state_saved_on_four_devices_is_read_on_two(tmp_path):
  programs.run(MOVE, str(tmp_path / "run"), devices=4)


# ------------------------------------------------------------- meshes, tables


def mesh(**sizes) -> AbstractMesh:
  return AbstractMesh(tuple(sizes.get(a, 1) for a in AXES), AXES)


@pytest.mark.smoke
def test_minus_one_takes_what_is_left():
  config = MeshConfig(slice=1, data=2, fsdp=-1, tensor=1)
  assert config.shape(8) == (1, 2, 4, 1)
  assert config.shape(2) == (1, 2, 1, 1)
  with pytest.raises(ValueError, match="data=2, fsdp=-1.*not use 7 devices"):
    config.shape(7)


@pytest.mark.parametrize(
  "changes, message",
  [(dict(data=0), "mesh.data=0"), (dict(data=-1, fsdp=-1), "only one axis")],
)
def test_impossible_meshes_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    MeshConfig(**dict(slice=1, data=1, fsdp=1, tensor=1) | changes)


def test_the_mesh_has_auto_axes():
  """Explicit ones, the default of `jax.make_mesh`, would fail in Linen."""
  made = sharding.make_mesh(MeshConfig(slice=1, data=-1, fsdp=1, tensor=1))
  assert made.axis_names == AXES
  assert set(made.axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(
  "case, make", [("axes", machines.axes), ("micro", machines.small)]
)
def test_where_things_lie_is_as_it_was(case, make):
  """The table of axes, and every weight of the micro EMMA by it."""
  store.check("machines", case, make(), store.EXACT)


def test_rows_are_split_over_all_axes_but_tensor():
  grid = mesh(slice=2, data=3, fsdp=5, tensor=7)
  assert sharding.row_shards(grid) == 30
  assert sharding.rows(grid).spec == PartitionSpec(("slice", "data", "fsdp"))
  assert sharding.whole(grid).spec == PartitionSpec()
  assert sharding.rows(grid).shard_shape((60, 4)) == (2, 4)


@pytest.mark.parametrize("size, refused", [(2**18, False), (2**18 + 8, True)])
def test_a_weight_of_a_mebibyte_may_be_whole(size, refused):
  """The bound itself is allowed; bytes count, not elements."""
  of = lambda n, dtype: sharding.weights(
    {"w": jax.ShapeDtypeStruct((n,), dtype)}, {"w": (None,)}, mesh(fsdp=4)
  )
  of(2 * size - 16, jnp.bfloat16)
  if refused:
    with pytest.raises(ValueError, match="would be copied to every device"):
      of(size, jnp.float32)
  else:
    of(size, jnp.float32)


@pytest.mark.smoke
def test_a_weight_goes_to_the_axes_of_the_table():
  P = PartitionSpec
  grid = mesh(data=2, fsdp=4, tensor=2)
  of = lambda shape, *names: sharding.spec(shape, names, grid)
  assert of((3, 8, 6), "layers", "embed", "mlp") == P(
    None, ("fsdp",), ("tensor",)
  )
  # 6 channels do not split in 4: the other axis that may, does.
  assert of((3, 3, 8, 6), None, None, "conv_in", "conv_out") == P(
    None, None, ("fsdp",), None
  )
  assert of((6,), "embed") == P(None)
  with pytest.raises(ValueError, match=r"\['embd'\].*sharding.TABLE"):
    of((8,), "embd")


def test_a_large_weight_that_stays_whole_is_refused():
  shapes = {"w": jax.ShapeDtypeStruct((1001, 1001), jnp.float32)}
  axes = {"w": ("embed", None)}
  with pytest.raises(ValueError, match=r"w \(1001, 1001\).*embed"):
    sharding.weights(shapes, axes, mesh(fsdp=4))
  assert sharding.weights(shapes, axes, mesh(data=4))["w"].spec == (
    PartitionSpec(None, None)
  )
  # One device fewer fits: 1001 = 7 * 143.
  assert sharding.weights(shapes, axes, mesh(fsdp=7))["w"].spec == (
    PartitionSpec(("fsdp",), None)
  )


def test_a_state_that_mirrors_no_weight_is_refused():
  where = sharding.weights(*toy(), mesh(fsdp=4))
  state = {"mu": {"w": jnp.zeros((8, 2))}, "count": jnp.zeros(())}
  placed = sharding.like_weights(state, where, mesh(fsdp=4))
  assert placed["mu"]["w"] == where["w"]
  assert placed["count"].spec == PartitionSpec()
  with pytest.raises(ValueError, match="sketch .* mirrors no weight"):
    sharding.like_weights({"sketch": jnp.zeros(3)}, where, mesh(fsdp=4))


def toy():
  return (
    {"w": jax.ShapeDtypeStruct((8, 2), jnp.float32)},
    {"w": ("embed", "mlp")},
  )


def test_every_weight_of_every_variant_names_its_axes():
  for variant in tiny.VARIANTS:
    model = tiny.built(variant)
    shapes = rules.flatten(model.shapes)
    assert shapes.keys() == model.axes.keys()
    assert all(len(model.axes[p]) == x.ndim for p, x in shapes.items())
    sharding.weights(model.shapes, model.axes, mesh(fsdp=8))


def test_rows_that_do_not_split_are_refused():
  grid = mesh(slice=2, data=1, fsdp=2, tensor=3)
  sharding.check_rows(8, "stages.x", grid)
  with pytest.raises(ValueError, match="rows=6 .* multiple of 4"):
    sharding.check_rows(6, "stages.x", grid)
