"""Every shipped config is complete, and says what the paper says."""

import ast
import math
import re

import jax
from jax.sharding import AbstractMesh
import ml_collections
import pytest

from configs import defaults, emma_4b, models, stages, targets
from emma_jax import optimizer, rules, sharding
from emma_jax.build import config_file, look_cost, sections
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build import session as build_session
from emma_jax.checkpoints.integrity import config_differences
from emma_jax.data.pictures import aspect_buckets
from emma_jax.evals.during import StageEvaluator
from emma_jax.evals.settings import EvalSettings
from emma_jax.training import step as step_lib
from tests.goldens import configs as goldens
from tests.goldens import machines, store

# As `--config` takes them: files, and the variants of tiny.
CONFIGS = goldens.names()
# Of other people's files: nothing to open here.
OWN_FILES = [
  name for name in CONFIGS if name.startswith(("files", "emma", "tiny:shapes"))
]

# Of goldens; all others fix what these are of.
CASES = (
  "defaults",
  "emma_4b's model",
  "other models",
  "machines",
  "paper's stages",
  "tiny",
  "emma_4b",
  *(f"emma_4b:{word}" for word in goldens.WORDS[1:]),
  "digests",
)

# Table 2 of the paper: learning rate, schedule, and the sources of the batch
# (at the end of the stage, each with an equal share).
TABLE = {
  "0_alignment": (1e-3, "cosine", {"understanding"}),
  "1_pretraining": (1e-4, "constant", {"understanding", "drawing"}),
  "2_finetuning": (4e-5, "constant", {"understanding", "drawing", "editing"}),
  "3_quality": (1e-5, "cosine", {"understanding", "drawing", "editing"}),
  "4a_expert": (4e-6, "cosine", {"stem"}),
  "4b_router": (1e-4, "constant", {"stem", "understanding_general"}),
}
# Millions of samples, all tasks together.
SAMPLES = {
  "0_alignment": 0.56,
  "1_pretraining": 1000,
  "2_finetuning": 237,
  "3_quality": 1.5,
  "4a_expert": 15,
  "4b_router": 3,
}


@pytest.fixture(scope="module")
def load():
  """name -> config, through the loader that the commands use."""
  made = {}

  def of(name: str) -> ml_collections.ConfigDict:
    if name not in made:
      made[name] = config_file.load(name)
    return made[name]

  return of


@pytest.fixture(scope="module")
def shapes():
  """Parameters by model: variants of one size differ little, configs repeat."""
  made = {}

  def of(model) -> dict:
    key = _without_speed(sections.plain(model))
    if key not in made:
      made[key] = build_model.model(model)
    return made[key].shapes

  of.made = made
  return of


def _without_speed(model: dict) -> str:
  """The model's key: remat changes no weight."""
  return re.sub(r"'remat': '[^']*'", "", str(model))


@pytest.fixture(scope="module")
def keys() -> dict[str, dict]:
  return goldens.cases()


@pytest.mark.parametrize("case", CASES)
def test_every_key_is_as_it_was(case, keys):
  """No number in configs/ changes unless its golden does."""
  assert keys.keys() == set(CASES)
  store.check("configs", case, keys[case], store.EXACT)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_has_all_sections_and_its_command(name, load):
  c = load(name)
  assert set(defaults.get_config()) <= set(c)
  assert c.model.kind in build_model.KINDS and len(c.stages)
  file = f"{name.partition(':')[0]}.py"
  doc = ast.get_docstring(ast.parse((goldens.FOLDER / file).read_text()))
  assert f"python -m emma_jax.cli.train --config configs/{file}" in doc


@pytest.mark.parametrize("name", CONFIGS)
def test_what_scores_a_training_takes_its_config(name, load, tmp_path):
  """`train.evaluate` is on by default: a key that it does not know ends every
  training before its first step."""
  StageEvaluator(tmp_path, sections.plain(load(name)))


def test_what_scores_weights_takes_the_shipped_ones_config():
  """As `emma-evaluate` begins."""
  config = build_session.read("reference").config
  assert EvalSettings.of(config).tasks


@pytest.mark.parametrize("name", CONFIGS)
def test_tables_are_total_and_live(name, load, shapes):
  """Freezing, loading and learning rates, of every stage of every config."""
  c = load(name)
  paths = rules.flatten(shapes(c.model))
  for stage, section in c.stages.items():
    decided = rules.resolve(section.policy, paths, f"{stage} policy")
    rules.resolve(section.load, paths, f"{stage} load")
    trained = [p for p in paths if decided[p] == "train"]
    rules.resolve(section.lr_multipliers, trained, f"{stage} lr_multipliers")
    assert trained
    if c.model.kind == "emma":
      assert not any(p.startswith("autoencoder/") for p in trained)


@pytest.mark.parametrize("name", [n for n in CONFIGS if n not in OWN_FILES])
def test_a_config_assembles(name, load, shapes, monkeypatch):
  """Sources open, layouts hold their samples, objectives fit the model."""
  c = load(name)
  shapes(c.model)
  model = shapes.made[_without_speed(sections.plain(c.model))]
  monkeypatch.setattr(build_model, "model", lambda section: model)
  run = build_run.run(c)
  assert [s.name for s in run.stages] == list(c.stages)
  batch = run.stages[-1].source[0]
  assert not batch.info.unusable
  layout = run.stages[-1].source.config.layout
  assert batch.batch.tokens_BU.shape == (layout.rows, layout.und_tokens)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_continues_with_its_own_config(name, load):
  """What a checkpoint keeps, JSON, equals the config of the next start."""
  plain = sections.plain(load(name))
  assert not config_differences(plain, sections.plain(load(name)), ())
  loaded = jax.tree.leaves(plain)
  assert all(isinstance(x, (bool, int, float, str)) for x in loaded)


@pytest.mark.parametrize("name", TABLE)
def test_the_papers_table_2(name):
  section = stages.stage(name)
  rate, schedule, sources = TABLE[name]
  assert (section.learning_rate, section.schedule) == (rate, schedule)
  _, last = section.mixture[-1]
  assert set(last) == sources and len(set(last.values())) == 1
  seen = section.steps * section.samples_per_batch / 1e6
  assert abs(seen / SAMPLES[name] - 1) < 0.01
  assert section.text_weight / section.velocity_weight == 0.25


def test_finetunings_three_phases():
  """One epoch; STEM:general and portrait:general 1:1; editing joins, 1:1:1."""
  (first, one), (second, two, options), (third, three) = stages.stage(
    "2_finetuning"
  ).mixture
  of = lambda weights, task: sum(
    w for name, w in weights.items() if name.startswith(task)
  )
  asked = lambda weights: of(weights, "understanding") + of(weights, "stem")
  for weights in (one, two, three):
    assert asked(weights) == of(weights, "drawing") == 1
  assert two["stem"] == two["understanding_general"]
  assert two["drawing_portrait"] == two["drawing_general"]
  assert options == dict(even_buckets=True)
  assert "editing" not in one | two and three["editing"] == 1
  # Millions: about 50 + 50 in the second, 12 of each task in the third.
  assert first == 0 and abs(237 * (third - second) - 100) < 1
  assert abs(237 * (1 - third) - 3 * 12) < 1


@pytest.mark.parametrize("name", ["emma_4b", "emma_1_7b"])
def test_full_size_finetuning_draws_in_buckets_of_the_table(name):
  for word, drawn in (
    ("stage1", True),
    ("stage2", True),
    ("stage3", True),
    ("stage4a", False),
  ):
    c = config_file.load(f"{name}.py:{word}")
    (section,) = c.stages.values()
    assert bool(c.data.buckets) == drawn
    small = word == "stage1"
    table = aspect_buckets.TABLE_512 if small else aspect_buckets.TABLE_1024
    assert set(c.data.buckets) <= set(table)
    aspect_buckets.check(c.data.buckets)
    named = {n for _, weights, *_ in section.mixture for n in weights}
    assert named <= set(c.data.sources)


def test_full_size_stages_see_native_pictures():
  for word in ("stage2", "stage3", "stage4a", "stage4b"):
    c = config_file.load(f"emma_4b.py:{word},v5e-256")
    (section,) = c.stages.values()
    layout = build_data.layout(c, section, "stages")
    assert c.data.native and c.data.latents == "stored"
    assert layout.und_patches == 4 * c.data.max_tokens
    assert layout.und_tokens > c.data.max_tokens
  for spec in ("fixed", "stage1,fixed"):
    with pytest.raises(ValueError, match="one of .'stage2', 'stage3'"):
      emma_4b.get_config(spec)


def test_the_papers_optimizer():
  c = defaults.get_config().optimizer
  made = sections.make(
    optimizer.OptimizerConfig,
    c,
    "optimizer",
    learning_rate=1e-3,
    total_steps=10,
    schedule="constant",
    warmup_steps=0,
    final_ratio=0.0,
  )
  assert (made.b1, made.b2, made.eps) == (0.9, 0.999, 1e-8)
  assert (made.weight_decay, made.clip_norm) == (0.0, 1.0)


def test_tiny_goes_through_all_stages_in_order(load):
  assert list(load("tiny").stages) == list(TABLE) == list(stages.NAMES)


# ------------------------------------------------------------------ full size

SIZES = ("emma_4b", "emma_1_7b", "emma_0_6b")
WORDS = ("stage0", "stage1", "stage2", "stage3", "stage4a", "stage4b")


@pytest.fixture(scope="module")
def full():
  """Config's name -> its model, shapes only; made once."""
  made = {n: build_model.model(getattr(models, n)()) for n in SIZES}
  return made.__getitem__


@pytest.mark.parametrize("target", targets.TARGETS)
@pytest.mark.parametrize("size", SIZES)
def test_every_stage_fits_the_mesh_of_every_machine(
  size, target, full, monkeypatch
):
  """Rows split, no large weight is whole, nothing needs data or a device."""
  monkeypatch.setattr(build_model, "model", lambda section: full(size))
  for word in WORDS:
    c = config_file.load(f"{size}.py:{word},{target}")
    machine = targets.TARGETS[target]
    run = build_run.run(c, data=False)
    mesh = AbstractMesh(machine.mesh, sharding.AXES)
    assert run.mesh.shape(mesh.size) == machine.mesh
    (stage,) = run.stages
    sharding.check_rows(stage.layout.rows, word, mesh, stage.accumulation)
    tokens = stage.layout.rows * stage.layout.slots // stage.accumulation
    least = stage.layout.slots * machine.row_shards
    assert least <= tokens <= max(least, machine.tokens)
    batch = step_lib.abstract_batch(stage.layout, mesh)
    assert batch.tokens_BU.shape[0] % machine.row_shards == 0
    state = step_lib.abstract_state(run, stage, mesh)
    for path, x in rules.flatten((state.ema, state.opt_state)).items():
      assert x.dtype == "float32" or not x.ndim, path
    bytes_of = lambda shape, x: math.prod(shape) * x.dtype.itemsize
    leaves = jax.tree.leaves(state)
    everything = sum(bytes_of(x.shape, x) for x in leaves)
    mine = sum(bytes_of(x.sharding.shard_shape(x.shape), x) for x in leaves)
    # But for norms and biases, every device holds its share and no more.
    assert mine - everything / machine.mesh[2] < 40e6


def test_the_4bs_weights_lie_where_they_lay(full):
  """On four meshes, by path; see goldens/machines.py."""
  store.check("machines", "4b", machines.places(full("emma_4b")), store.EXACT)


@pytest.mark.parametrize("word", WORDS)
def test_a_machine_may_be_named_by_its_topology(word):
  own = config_file.load(f"emma_4b.py:{word},v5e:16x16")
  assert own == config_file.load(f"emma_4b.py:{word},v5e-256")
  assert own.name == f"emma_4b_{word}" and len(own.stages) == 1
  assert own.mesh.to_dict() == dict(slice=1, data=4, fsdp=64, tensor=1)


def test_a_stage_starts_where_the_one_before_ended():
  before = "runs/emma_4b_init"
  for word in WORDS:
    c = config_file.load(f"emma_4b.py:{word}")
    assert c.initial == before
    before = f"runs/{c.name}"


def recipes(target: str):
  """(stage's name, its section) of the 4B on a machine, alone and in a run."""
  for word in ("", *(f"{word}," for word in WORDS)):
    c = config_file.load(f"emma_4b.py:{word}{target}")
    yield from c.stages.items()


@pytest.mark.parametrize("target", targets.TARGETS)
def test_a_machine_changes_neither_batch_nor_samples(target):
  """Or the rate, by the root of the batch's ratio; warm-up and average keep
  their samples in any case."""
  for name, section in recipes(target):
    recipe = stages.RECIPE[name]
    samples = section.rows * section.row_samples
    assert section.samples_per_batch == 0  # planned
    assert section.batch_samples == recipe["batch"]
    ratio = samples / recipe["batch"]
    factor = 1.0 if abs(ratio - 1) <= 0.1 else math.sqrt(ratio)
    assert section.rate_factor == pytest.approx(factor)
    assert section.learning_rate == pytest.approx(
      factor * recipe["learning_rate"]
    )
    if factor != 1:  # only where no rows that split evenly come close
      shards = targets.TARGETS[target].row_shards
      wanted = recipe["batch"] / section.row_samples / shards
      each = {max(1, math.floor(wanted)), math.ceil(wanted)}
      assert min(abs(n / wanted - 1) for n in each) > 0.1
    seen = section.steps * samples / 1e6
    assert abs(seen / SAMPLES[name] - 1) < 0.01
    warm = section.warmup_steps * samples
    assert abs(warm - recipe["warmup"]) <= samples / 2
    assert warm < 0.04 * seen * 1e6
    half_life = math.log(0.5) / math.log(section.ema_decay) * samples
    assert half_life == pytest.approx(recipe["half_life"], rel=1e-6)


def test_a_small_machine_takes_the_batch_in_micro_batches():
  """Of as many rows as it had room for before there were any."""
  parts = {
    t: next(iter(config_file.load(f"emma_4b.py:stage1,{t}").stages.values()))
    for t in ("h100", "8xh100", "v5p-128", "v6e-256")
  }
  assert {t: (s.rows, s.accumulation) for t, s in parts.items()} == {
    "h100": (260, 130),
    "8xh100": (256, 16),
    "v5p-128": (256, 2),
    "v6e-256": (256, 1),
  }


@pytest.mark.parametrize(
  "spec, message",
  [
    ("emma_4b.py:v5e-25", "Unknown target 'v5e-25'"),
    ("emma_4b.py:stage1,stage2", "more than one stage"),
    ("reference.py:v5e-256", "takes nothing after a colon"),
  ],
)
def test_a_wrong_word_after_the_colon_is_named(spec, message):
  with pytest.raises(sections.ConfigError, match=message):
    config_file.load(spec)


# Width, hidden width, layers, query and key heads, all heads 128 wide.
QWEN3 = {
  "emma_4b": (2560, 9728, 36, 32, 8),
  "emma_1_7b": (2048, 6144, 28, 16, 8),
  "emma_0_6b": (1024, 3072, 28, 16, 8),
}


@pytest.mark.parametrize("shallow", [0, 18, 36])
@pytest.mark.parametrize("size", SIZES)
def test_parameters_of_the_decoder_are_the_hand_formula(size, shallow):
  """Two Qwen3s that share Q, K and their norms in the shallow blocks."""
  m = getattr(models, size)()
  D, F, L, H, K = QWEN3[size]
  shallow = shallow * L // 36
  m.llm.num_shallow = shallow
  flat = rules.flatten(build_model.model(m).shapes)
  count = sum(x.size for p, x in flat.items() if p.startswith("llm/"))
  qk = D * 128 * (H + K) + 2 * 128
  layer = qk + D * 128 * (H + K) + 3 * D * F + 2 * D
  assert count == 151936 * D + 2 * (L * layer + D) - shallow * qk


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.startswith("emma_")])
def test_looks_take_at_most_a_hundredth_of_any_full_size_stage(
  name, load, shapes
):
  """And they are taken."""
  c = load(name)
  assert c.train.validate_every and c.train.sample_every
  for stage in c.stages:
    found = look_cost.shares(c, stage, shapes(c.model))
    assert 0 < found.validation and 0 < found.samples
    assert found.total <= 0.01
