"""Every shipped config is complete, and says what the paper says."""

import ast
import pathlib

import jax
import ml_collections
import pytest

from configs import defaults, stages
from emma_jax import build, optimizer, rules
from emma_jax.cli import common
from emma_jax.training import assemble
from emma_jax.training.integrity import config_differences

CONFIGS = sorted(
    p for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
    if p.stem not in ("defaults", "models", "stages", "variants"))
# Of other people's files: nothing to open here.
OWN_FILES = [p for p in CONFIGS if p.stem.startswith(("files", "emma"))]

# Table 2 of the paper: learning rate, schedule, and the sources of the batch
# (at the end of the stage, each with an equal share).
TABLE = {
    "0_alignment": (1e-3, "cosine", {"understanding"}),
    "1_pretraining": (1e-4, "constant", {"understanding", "drawing"}),
    "2_finetuning": (4e-5, "constant",
                     {"understanding", "drawing", "editing"}),
    "3_quality": (1e-5, "cosine", {"understanding", "drawing", "editing"}),
    "4a_expert": (4e-6, "cosine", {"stem"}),
    "4b_router": (1e-4, "constant", {"understanding"}),
}
# Millions of samples, all tasks together.
SAMPLES = {"0_alignment": 0.56, "1_pretraining": 1000, "2_finetuning": 237,
           "3_quality": 1.5, "4a_expert": 15, "4b_router": 3}


@pytest.fixture(scope="module")
def load():
  """name -> config, through the loader that the commands use."""
  made = {}

  def of(path: pathlib.Path) -> ml_collections.ConfigDict:
    if path not in made:
      made[path] = common.load_config(str(path))
    return made[path]

  return of


@pytest.fixture(scope="module")
def shapes():
  """Parameters by model: variants of one size differ little, configs repeat."""
  made = {}

  def of(model) -> dict:
    key = str(build.plain(model))
    if key not in made:
      made[key] = build.model(model).shapes
    return made[key]

  return of


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_has_all_sections_and_its_command(path, load):
  c = load(path)
  assert set(defaults.get_config()) <= set(c)
  assert c.model.kind in build.KINDS and len(c.stages)
  doc = ast.get_docstring(ast.parse(path.read_text()))
  assert "python -m emma_jax.cli.train --config configs/" + path.name in doc


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_tables_are_total_and_live(path, load, shapes):
  """Freezing, loading and learning rates, of every stage of every config."""
  c = load(path)
  paths = rules.flatten(shapes(c.model))
  for name, section in c.stages.items():
    decided = rules.resolve(section.policy, paths, f"{name} policy")
    rules.resolve(section.load, paths, f"{name} load")
    trained = [p for p in paths if decided[p] == "train"]
    rules.resolve(section.lr_multipliers, trained, f"{name} lr_multipliers")
    assert trained
    if c.model.kind == "emma":
      assert not any(p.startswith("autoencoder/") for p in trained)


@pytest.mark.parametrize("path", [p for p in CONFIGS if p not in OWN_FILES],
                         ids=lambda p: p.stem)
def test_a_config_assembles(path, load, shapes, monkeypatch):
  """Sources open, layouts hold their samples, objectives fit the model."""
  c = load(path)
  model = build.Model(module=build.Emma(build.emma_config(c.model))
                      if c.model.kind == "emma"
                      else build.Autoencoder(build.dcae_config(c.model)),
                      shapes=shapes(c.model), kind=c.model.kind,
                      dtype=c.model.dtype)
  monkeypatch.setattr(build, "model", lambda section: model)
  run = assemble.run(c)
  assert [s.name for s in run.stages] == list(c.stages)
  batch = run.stages[-1].source[0]
  assert not batch.info.unusable
  layout = run.stages[-1].source.config.layout
  assert batch.batch.tokens_BU.shape == (layout.rows, layout.und_tokens)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_run_continues_with_its_own_config(path, load):
  """What a checkpoint keeps, JSON, equals the config of the next start."""
  plain = build.plain(load(path))
  assert not config_differences(plain, build.plain(load(path)), ())
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


def test_the_papers_optimizer():
  c = defaults.get_config().optimizer
  made = build.make(optimizer.OptimizerConfig, c, "optimizer",
                    learning_rate=1e-3, total_steps=10)
  assert (made.b1, made.b2, made.eps) == (0.9, 0.999, 1e-8)
  assert (made.weight_decay, made.clip_norm) == (0.0, 1.0)


def test_tiny_goes_through_all_stages_in_order(load):
  tiny = next(p for p in CONFIGS if p.stem == "tiny")
  assert list(load(tiny).stages) == list(TABLE) == list(stages.NAMES)
