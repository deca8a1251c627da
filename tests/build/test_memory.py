"""Whether devices are large enough is said before anything is read."""

import math
import types

import jax
import pytest

from configs import tiny as tiny_config
from emma_jax import sharding
from emma_jax.build import memory, sections
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build import session as build_session
from emma_jax.cli import train
from emma_jax.exits import Exit
from emma_jax.planner import chips
from emma_jax.training import step as step_lib
from tests import tiny

FIRST, STAGE = "1_pretraining", "3_quality"
WHOLE = (("autoencoder/.*", "frozen"), (".*", "train"))
DEEP = (("llm/deep/.*", "train"), (".*", "frozen"))
HEADS = (("heads/.*", "train"), (".*", "frozen"))


def config(names=(STAGE,), remat="none", **changes) -> dict:
  c = tiny_config.get_config()
  c.model = tiny.model(remat=remat)
  c.data.update(height=tiny.HEIGHT, width=tiny.WIDTH)
  sizes = dict(und_tokens=512, und_pictures=1, references=1, targets=1)
  for stage in c.stages.values():
    stage.update(rows=4, **sizes, draws=1, lr_multipliers=((".*", 1.0),))
  for name in names:
    c.stages[name].update(changes)
  c.stages = {name: c.stages[name] for name in names}
  return sections.plain(c)


def run_of(c: dict):
  run = build_run.run(c, data=False)
  return run, sharding.make_mesh(run.mesh, jax.devices()[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
  "remat, changes",
  [
    ("full", dict(policy=WHOLE)),
    ("none", dict(policy=WHOLE, accumulation=2)),
    ("full", dict(policy=DEEP)),
  ],
)
def test_a_compiled_step_needs_what_is_said_and_more(remat, changes):
  """A lower bound: nothing that fits is refused. (One is compiled for plans
  too, see tests/planner/test_plan.py.)"""
  run, mesh = run_of(config(remat=remat, **changes))
  jitted, *abstract = step_lib.abstract_step(run, run.stages[0], mesh)
  compiled = jitted.lower(*abstract).compile(compiler_options=tiny.QUICK)
  stats = compiled.memory_analysis()
  total = stats.argument_size_in_bytes + stats.temp_size_in_bytes
  total += stats.output_size_in_bytes - stats.alias_size_in_bytes
  need = memory.of_stage(run, run.stages[0], mesh)
  assert need.size <= total
  kinds = ("parameters", "moments", "average", "batch")
  held = sum(need.held[kind] for kind in kinds)
  assert held == pytest.approx(stats.argument_size_in_bytes, rel=1e-3)


def test_kinds_follow_from_what_is_trained():
  def parts(**changes):
    run, mesh = run_of(config(**changes))
    need = memory.of_stage(run, run.stages[0], mesh)
    return need.held | need.passing

  whole, deep, heads = (parts(policy=p) for p in (WHOLE, DEEP, HEADS))
  assert whole["average"] > deep["average"] > heads["average"] > 0
  # Two moments of what is trained, and a few counters.
  assert 0 <= whole["moments"] - 2 * whole["average"] < 64
  assert whole["gradients"] == whole["average"] // 2
  # Three blocks, of which two are deep.
  assert whole["activations"] * 2 == deep["activations"] * 3
  assert heads["activations"] == 0
  twice = parts(policy=WHOLE, accumulation=2)
  assert twice["activations"] * 2 == whole["activations"]
  assert twice["sums of gradients"] == whole["average"]


def test_what_shares_devices_is_split():
  shape = jax.ShapeDtypeStruct((8, 3), "bfloat16")
  assert memory.bytes_of({"a": shape, "b": [shape]}) == 96


# ------------------------------------------------------------------ devices


def device(platform="gpu", stats=None, kind="of its own"):
  return types.SimpleNamespace(
    platform=platform,
    process_index=0,
    device_kind=kind,
    memory_stats=lambda: stats,
  )


def test_the_smallest_device_of_this_process_counts():
  found = memory.room([device(stats={"bytes_limit": n}) for n in (7, 5)])
  assert found == memory.Room(size=5, name="of its own")
  other = device(stats={"bytes_limit": 1})
  other.process_index = 1
  assert memory.room([device(stats={"bytes_limit": 7}), other]).size == 7


def test_a_device_that_tells_nothing_is_known_by_its_kind():
  (h100,) = (c for c in chips.CHIPS.values() if c.name == "h100")
  found = memory.room([device(kind="NVIDIA H100 80GB HBM3")])
  assert found.size >= h100.hbm_bytes
  found = memory.room(
    [device(kind="NVIDIA H100 80GB HBM3", stats={"bytes_limit": 60 * 10**9})]
  )
  assert found.size == 60 * 10**9
  assert "takes 71%: XLA_PYTHON_CLIENT_MEM_FRACTION" in found.name
  found = memory.room([device("tpu", kind="TPU v6 lite")])
  assert found.size == chips.CHIPS["v6e"].hbm_bytes
  assert memory.room([device(kind="of its own")]) is None


def test_cpus_share_the_machine(monkeypatch):
  monkeypatch.setattr(memory, "machine", lambda: 100)
  assert memory.room([device("cpu")] * 4).size == 25
  monkeypatch.setattr(memory, "machine", lambda: None)
  assert memory.room([device("cpu")]) is None


def files(root, **contents):
  for name, text in contents.items():
    path = root / name.replace("__", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_has_what_is_available_and_its_groups_allow(tmp_path):
  assert memory.machine(tmp_path) is None
  files(
    tmp_path,
    proc__meminfo="MemTotal: 900 kB\nMemAvailable: 100 kB\nSwapFree: 20 kB\n",
  )
  assert memory.machine(tmp_path) == 120 * 1024
  # The second version of groups: that of the group above is the smaller one.
  files(tmp_path, proc__self__cgroup="0::/job/task\n")
  top = tmp_path / "sys" / "fs" / "cgroup" / "job"
  (top / "task").mkdir(parents=True)
  for folder, most in ((top, "5000"), (top / "task", "max")):
    (folder / "memory.max").write_text(most)
    (folder / "memory.current").write_text("4000\n")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 300\n")
  assert memory.machine(tmp_path) == 1300
  # The first version, in a container: the path of outside is not there.
  files(tmp_path, proc__self__cgroup="4:cpu:/x\n3:memory:/outside\n")
  first = tmp_path / "sys" / "fs" / "cgroup" / "memory"
  first.mkdir()
  (first / "memory.limit_in_bytes").write_text("9000")
  (first / "memory.usage_in_bytes").write_text("8000")
  (first / "memory.stat").write_text("total_inactive_file 7\n")
  assert memory.machine(tmp_path) == 1007


def test_this_machine_has_memory():
  free = memory.machine()
  assert free is None or 0 < free < 2**50


# ------------------------------------------------------------------ refusals


@pytest.fixture
def holding(monkeypatch):
  """Makes every device hold so many bytes."""

  def set_to(size: int):
    found = memory.Room(size=size, name="a small chip")
    monkeypatch.setattr(memory, "room", lambda devices: found)

  return set_to


def test_a_stage_that_does_not_fit_is_refused_with_value_and_remedy(holding):
  run, mesh = run_of(config((FIRST, STAGE), policy=WHOLE))
  needs = [memory.of_stage(run, s, mesh).size for s in run.stages]
  holding(max(needs))
  memory.check_training(run)
  holding(needs[0] - 1)
  with pytest.raises(sections.TooLittleMemory) as found:
    memory.check_training(run)
  for part in (
    "Stage 1_pretraining needs at least",
    "a small chip",
    *("parameters", "moments", "average", "activations"),
    *("config.mesh.fsdp", "emma-plan", "larger machine"),
  ):
    assert part in str(found.value)
  # Stages that are done need nothing any more.
  holding(needs[1])
  memory.check_training(run, STAGE)


def test_training_ends_before_it_makes_anything(holding, tmp_path, capsys):
  holding(1000)
  code = train.main(
    ["--config", "tiny", "--workdir", str(tmp_path / "run")]
    + ["--compilation_cache", "off"]
  )
  assert code == Exit.MEMORY
  assert "a small chip" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit_are_refused(holding):
  c = sections.plain(tiny.config())
  exact = memory.bytes_of(build_model.model(c["model"]).shapes)
  holding(exact)
  memory.check_sampling(c, "mine")
  holding(exact - 1)
  with pytest.raises(sections.TooLittleMemory, match="weights of mine need"):
    memory.check_sampling(c, "mine")
  # Half as much, but for what is computed in float32.
  holding(round(0.6 * exact))
  memory.check_sampling(
    c | {"model": c["model"] | {"dtype": "bfloat16"}}, "mine", dtype="bfloat16"
  )


def test_a_session_is_refused_by_name(holding):
  holding(1000)
  with pytest.raises(sections.TooLittleMemory, match="weights of reference"):
    build_session.load("reference")


@pytest.mark.parametrize("variant", ["paper", *tiny.MIXTURES])
def test_the_quick_look_never_says_less_than_there_is(variant):
  section = tiny.model(variant)
  shapes = build_model.model(section).shapes
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  assert count <= memory.most_weights(section) < 4 * count
