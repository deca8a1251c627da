"""A fine-tuning is the model's own stage 3 on other data, of any size."""

import pytest

from emma_jax import rules
from emma_jax.build import config_file, finetune
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build.sections import ConfigError, plain
from emma_jax.data.batching import summary
from emma_jax.data.records.lengths import Measure
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests.data import made

MODELS = ("tiny", "tiny:no_experts")


def _config(name: str, **data) -> dict:
  given = plain(config_file.load(name))
  base = config_file.load("finetune/emma")
  return finetune.config(base, "some weights", given | data)


@pytest.mark.smoke
@pytest.mark.parametrize("name", MODELS)
def test_trains_what_stage_3_trains(name):
  """Exactly these weights, at the same multiples of the stage's rate."""
  config, model = _config(name), plain(config_file.load(name))
  section = config["stages"]["finetune"]
  theirs = model["stages"]["3_quality"]
  paths = list(rules.flatten(build_model.model(model["model"]).shapes))
  tables = ("policy", "lr_multipliers")
  for key in tables:
    ours = rules.resolve(section[key], paths)
    assert ours == rules.resolve(theirs[key], paths)
  rate = theirs["learning_rate"] / theirs["rate_factor"]
  assert section["learning_rate"] == pytest.approx(rate)
  assert section["load"] == [[".*", "weights:some weights"]]
  assert config["model"] == model["model"]
  assert config["sample"] == model["sample"]


def test_weights_that_name_no_stages_get_the_paper_s():
  """What was converted from elsewhere has a model and data alone."""
  config = _config("tiny:no_experts", stages={})
  section = config["stages"]["finetune"]
  assert section["policy"] == [["autoencoder/.*", "frozen"], [".*", "train"]]
  assert section["learning_rate"] == 1e-5


def test_an_autoencoder_is_no_model_to_fine_tune():
  with pytest.raises(ConfigError, match="is an autoencoder"):
    _config("world_autoencoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> finetune.OwnData:
  """Four records of each task, prompts of unequal lengths."""
  root = tmp_path_factory.mktemp("own")
  stored = made.tasks_in_turn(12, " in a picture, and some more words")
  measure, folders = Measure.of(TinyTokenizer()), {}
  for n, task in enumerate(("understanding", "drawing", "editing")):
    folders[task] = str(
      made.dataset(root / task, stored[n::3], measure=measure)
    )
  return finetune.OwnData(train=folders, held_out=folders)


def _only(data: finetune.OwnData, *tasks: str) -> finetune.OwnData:
  folders = {task: data.train[task] for task in tasks}
  return finetune.OwnData(train=folders, held_out=folders)


@pytest.mark.parametrize(
  "tasks",
  [("drawing",), ("understanding",), ("understanding", "drawing", "editing")],
)
def test_rows_lose_nothing_and_are_full(data, tasks):
  """Of any subset of the tasks; the mixture is equal, as in stage 3."""
  own = _only(data, *tasks)
  config = finetune.with_data(_config("tiny"), own)
  section = config["stages"]["finetune"]
  found = summary.summarise(build_data.batches(config, "finetune").plan, 40)
  assert all(s["dropped"] == 0 for s in found.sources.values())
  assert found.fill["slots"] > 0.75
  (phase,) = found.phases
  for share in phase.samples.values():
    assert share == pytest.approx(1 / len(tasks), abs=0.02)
  samples = section["rows"] * section["row_samples"]
  chosen = config["finetune"]
  assert 0.5 * chosen["batch"] <= samples <= 1.5 * chosen["batch"]
  passes = section["steps"] * samples / (4 * len(tasks))
  least = section["steps"] == chosen["min_steps"]
  assert least or passes == pytest.approx(chosen["passes"], rel=0.02)
  assert f"{section['steps']:,} steps" in finetune.lines(config, own)[1]


def test_a_full_size_model_takes_the_same_way(data, monkeypatch):
  """The 4B's run can be planned: tables, shapes and rows fit its weights."""
  given = plain(config_file.load("emma_4b:stage3,v5e-256"))
  model = build_model.model(given["model"])  # once: it takes seconds
  monkeypatch.setattr(build_model, "model", lambda section: model)
  given["data"] |= {"tokenizer": "tiny"}  # of the records here
  base = config_file.load("finetune/emma")
  config = finetune.config(base, "some weights", given)
  config["mesh"] = {"slice": 1, "data": 1, "fsdp": -1, "tensor": 1}
  config["data"]["max_crop"] = 0.99  # of pictures of 40 x 64
  config = finetune.with_data(config, data)
  run = build_run.run(config, data=False)
  (stage,) = run.stages
  sizes = rules.flatten(run.shapes)
  done = rules.resolve(stage.policy, sizes)
  assert done == rules.resolve(given["stages"]["3_quality"]["policy"], sizes)
  frozen = sum(sizes[p].size for p, what in done.items() if what == "frozen")
  assert frozen > 10**8 and stage.layout.height == given["data"]["height"]


def test_only_the_decoder_learns_to_show_own_pictures(data):
  """Latents stay what they were: encoder and their norm are frozen."""
  base = plain(config_file.load("finetune/decoder"))
  model = plain(config_file.load("tiny"))
  config = finetune.decoder(base, "some weights", model, data)
  assert config["model"]["autoencoder"] == model["model"]["autoencoder"]
  assert config["data"]["sources"] == {
    "pictures": f"records:{data.train['drawing']}"
  }
  run = build_run.run(config, data=False)
  done = rules.resolve(run.stages[0].policy, rules.flatten(run.shapes))
  trained = {path for path, what in done.items() if what == "train"}
  assert trained == {p for p in done if p.startswith("autoencoder/decoder/")}
  with pytest.raises(ConfigError, match="pictures with captions"):
    finetune.decoder(base, "some weights", model, _only(data, "editing"))
