"""A session on many devices, or in many processes, gives what one gives."""

from collections.abc import Callable
import functools
import json

import jax
import numpy as np
import pytest

from emma_jax import rules, sharding
from emma_jax.build import data as build_data
from emma_jax.build import session as build_session
from emma_jax.checkpoints.integrity import CheckpointError
from emma_jax.checkpoints.weight_files import load_weights, save_weights
from emma_jax.sampling.context import SampleError
from tests import programs
from tests.sampling import small

# Compiled without optimisations: these programs run once.
FLAGS = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
# Levels of 255, where float32 sums are of another order.
LEVELS = 1
MESHES = {"2": (1, 1, 2, 1), "4": (1, 2, 1, 2), "8": (2, 1, 2, 2)}

# Draws, edits and answers on each mesh; prints what came and, of the last one,
# how many bytes the first device holds, beside what the planner counts.
SCRIPT = """
import json, sys
import jax, numpy as np
from emma_jax import rules, sharding
from emma_jax.build import session as build_session
from emma_jax.planner import jobs
from emma_jax.sampling.placement import of_cache
from emma_jax.sampling import context
from tests.sampling import small

path, meshes = sys.argv[1], json.loads(sys.argv[2])
caches = []
real = context.prefill


def prefill(*args):
  out = real(*args)
  if args[0] is not None and not isinstance(out[1].key_ZBSKE, jax.core.Tracer):
    caches.append(out[1])
  return out


context.prefill = prefill
every = jax.devices()


def run(sizes):
  count = int(np.prod(sizes)) if sizes else 1
  jax.devices = lambda *_: every[:count]
  mesh = sizes and sharding.MeshConfig(**dict(zip(sharding.AXES, sizes)))
  s = build_session.load(path, mesh=mesh, batch=4)
  pictures = s.draw(["red", "a blue ball", "x"], seed=5)
  pictures += s.edit([small.picture(1)], ["go"])
  said = s.answer([[small.picture(4)]], [["what?", "why?"]], max_tokens=8)
  out = {"pictures": [p.tolist() for p in pictures],
         "answers": [[[a.text, a.tokens] for a in x] for x in said]}
  if not mesh:
    return out
  held = lambda x: sum(
      p.data.nbytes for p in x.addressable_shards if p.device == every[0])
  out["held"] = sum(map(held, jax.tree.leaves(s.params)))
  wanted = of_cache(caches[-1], s.runner.place.mesh)
  out["cache"] = [x.sharding.is_equivalent_to(w, x.ndim) for x, w in
                  zip(jax.tree.leaves(caches[-1]), jax.tree.leaves(wanted))]
  if count == 8:
    planned = jobs.sample(
        s.config | {"mesh": dict(zip(sharding.AXES, sizes)), "stages": {}},
        jobs.Request(rows=8, height=64, width=64, text=8, edit=False), every)
    out["planned"] = planned[0].arguments["parameters"]
  return out


print(json.dumps({name: run(sizes) for name, sizes in meshes.items()}))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
  """A weight file of the small model."""
  config = small.config()
  path = tmp_path_factory.mktemp("weights") / "w.safetensors"
  meta = dict(
    config=config,
    fingerprints=build_data.fingerprints(config["data"]),
    step=7,
    scores={},
    router_trained=False,
  )
  save_weights(path, small.random_params(config["model"]), meta)
  return str(path)


@pytest.fixture(scope="module")
def made(weights) -> Callable[[str], dict]:
  """Name of a mesh -> what SCRIPT prints of it; "1": without a mesh."""

  @functools.cache
  def run(*names: str) -> dict[str, dict]:
    meshes = json.dumps({name: MESHES.get(name) for name in names})
    return programs.printed(SCRIPT, weights, meshes, devices=8, **FLAGS)

  return lambda name: run(*(("1", "8") if name in ("1", "8") else ("2", "4")))[
    name
  ]


@pytest.mark.parametrize(
  "name",
  [
    pytest.param("8", marks=pytest.mark.smoke),
    pytest.param("2", marks=pytest.mark.slow),
    pytest.param("4", marks=pytest.mark.slow),
  ],
)
def test_many_devices_answer_and_draw_as_one(made, name):
  """Caches are split by rows, as in the planner's programs."""
  one, many = made("1"), made(name)
  assert many["answers"] == one["answers"]
  assert any(tokens for x in one["answers"] for _, tokens in x)
  for a, b in zip(one["pictures"], many["pictures"], strict=True):
    assert np.abs(np.subtract(a, b)).max() <= LEVELS
  assert np.ptp(one["pictures"][0]) > 10  # something is drawn
  assert many["cache"] and all(many["cache"])


def test_weights_lie_as_the_planner_counts(made, weights):
  """Split by fsdp and tensor over 4 of 8 devices, but for the small ones."""
  many = made("8")
  assert many["held"] == many["planned"]
  params, _ = load_weights(weights, dtype="float32")
  whole = sum(x.nbytes for x in jax.tree.leaves(params))
  assert whole / 4 < many["held"] < whole / 2


def test_a_mesh_that_the_devices_do_not_fill_is_refused(weights):
  mesh = sharding.MeshConfig(slice=1, data=1, fsdp=3, tensor=1)
  with pytest.raises(SampleError, match="fsdp=3.* does not use 1 devices"):
    build_session.load(weights, mesh=mesh)


def test_rows_that_do_not_split_are_refused():
  """Where programs have a fixed number; else some rows are repeated."""
  script = """
from emma_jax import sharding
from emma_jax.build import session
from emma_jax.sampling.placement import Placement
from tests.sampling import small
c = small.config()
mesh = sharding.MeshConfig(slice=1, data=-1, fsdp=1, tensor=1)
try:
  session.session(c, small.random_params(c["model"]), "x", 0, batch=2,
                  fill=True, place=Placement.over(mesh))
except ValueError as error:
  print(error)
"""
  said = programs.run(script, devices=4)
  assert "Programs of 2 rows do not split over 4 devices; make rows" in said


# ------------------------------------------------------------------- dtype


def test_bfloat16_keeps_what_is_rounded_and_no_more(weights):
  """The velocity head, norms and patches' positions stay as they are."""
  s = build_session.load(weights, dtype="bfloat16")
  assert s.config["model"]["dtype"] == "bfloat16"
  kinds = {p: str(x.dtype) for p, x in rules.flatten(s.params).items()}
  assert kinds["llm/deep/und/mlp/gate"] == kinds["llm/embed"] == "bfloat16"
  for path in (
    "heads/velocity/kernel",
    "llm/norm_und/scale",
    "vision/embed/position",
  ):
    assert kinds[path] == "float32", path


def test_of_a_model_that_computes_in_bfloat16_nothing_changes(tmp_path):
  """Half the memory, the same answers and pictures bit for bit."""
  config = small.config()
  config["model"]["dtype"] = "bfloat16"
  meta = dict(
    config=config,
    fingerprints=build_data.fingerprints(config["data"]),
    step=1,
    router_trained=False,
  )
  path = tmp_path / "w.safetensors"
  save_weights(path, small.random_params(config["model"]), meta)
  whole, half = (
    build_session.load(str(path), dtype=dtype, batch=2)
    for dtype in build_session.DTYPES
  )
  size = lambda s: sum(x.nbytes for x in jax.tree.leaves(s.params))
  assert size(half) < 0.6 * size(whole)
  for a, b in zip(whole.draw(["red", "x"]), half.draw(["red", "x"])):
    np.testing.assert_array_equal(a, b)
  asked = ([[small.picture(0)]], [["what?"]])
  assert whole.ask(*asked) == half.ask(*asked)


def test_other_dtypes_are_refused(weights):
  with pytest.raises(SampleError, match="dtype='float16': choose float32 or"):
    build_session.load(weights, dtype="float16")


@pytest.mark.parametrize("dtype", build_session.DTYPES)
def test_weights_of_another_model_are_named(tmp_path, dtype):
  config = small.config()
  params = small.random_params(config["model"])
  params["heads"]["velocity"]["kernel"] = np.zeros((3, 5), np.float32)
  del params["llm"]["embed"]
  meta = dict(
    config=config,
    fingerprints=build_data.fingerprints(config["data"]),
    step=1,
    router_trained=False,
  )
  save_weights(tmp_path / "w.safetensors", params, meta)
  with pytest.raises(CheckpointError) as error:
    build_session.load(str(tmp_path / "w.safetensors"), dtype=dtype)
  said = str(error.value)
  assert "heads/velocity/kernel: [3, 5], the model has [32, 8]" in said
  assert "llm/embed: nothing, the model has" in said


def test_whole_numbers_are_no_weights(tmp_path):
  config = small.config()
  params = small.random_params(config["model"])
  scale = params["llm"]["norm_gen"]["scale"]
  params["llm"]["norm_gen"]["scale"] = scale.astype(np.int32)
  meta = dict(
    config=config,
    fingerprints=build_data.fingerprints(config["data"]),
    step=1,
    router_trained=False,
  )
  save_weights(tmp_path / "w.safetensors", params, meta)
  with pytest.raises(CheckpointError, match="norm_gen/scale is stored as int"):
    build_session.load(str(tmp_path / "w.safetensors"))


# --------------------------------------------------------------- processes


@pytest.mark.slow
def test_two_processes_sample_as_one_and_the_first_writes(tmp_path, weights):
  draw = ["draw", "--prompt", "red", "--prompt", "a ball", "--steps", "2"]
  ask = ["ask", "--question", "what?", "--max-tokens", "4"]
  said = {}
  for name, words in (("draw", draw), ("ask", ask)):
    for count in (1, 2):
      out = ["--out", str(tmp_path / f"draw{count}-{{i}}")]
      found = programs.together(
        "emma_jax.cli.sample",
        *words,
        *("--checkpoint", weights),
        *(out if name == "draw" else []),
        count=count,
        EMMA_CACHE=str(tmp_path / "cache"),
        **FLAGS,
      )
      said[name, count] = [out for out, _ in found]
  assert said["ask", 2] == [*said["ask", 1], ""]
  assert not (tmp_path / "draw2-1").exists()
  for file in ("000.png", "001.png"):
    a, b = (
      np.asarray(_opened(tmp_path / folder / file), int)
      for folder in ("draw1-0", "draw2-0")
    )
    assert np.abs(a - b).max() <= LEVELS


def _opened(path):
  from PIL import Image

  with Image.open(path) as image:
    return image.copy()
