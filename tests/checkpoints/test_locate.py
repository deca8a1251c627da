"""One door to weights: every kind of place gives the same ones."""

import chex
import numpy as np
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import session as build_session
from emma_jax.checkpoints import locate
from emma_jax.checkpoints.integrity import CheckpointDamaged
from emma_jax.checkpoints.weight_files import save_weights
from emma_jax.convert import emma as exported
from tests import neutral, tiny
from tests.sampling import small


@pytest.fixture(scope="module")
def params() -> dict:
  return small.random_params(small.config()["model"])


def meta(**changes) -> dict:
  config = small.config()
  prints = build_data.fingerprints(config["data"])
  return dict(config=config, fingerprints=prints) | changes


def run(root, params):
  state = {"trained": params, "ema": params, "frozen": {}}
  with neutral.checkpointer(root / "checkpoints") as checkpoints:
    more = meta(stage="routing", stage_step=7, router_trained=True)
    checkpoints.save(7, state, more, wait=True)


def file(root, params):
  save_weights(
    root / "w.safetensors", params, meta(step=7, router_trained=True)
  )


def export(root, params):
  tokenizer = build_data.tokenizer(small.config()["data"])
  framing = build_session.framing(small.config())
  exported.save(
    root, small.config(), params, tokenizer, framing, step=7, route="router"
  )


@pytest.mark.smoke
@pytest.mark.parametrize(
  "write, name",
  [
    (run, ""),
    (run, "checkpoints"),
    (run, "checkpoints/7"),
    (file, "w.safetensors"),
    (export, ""),
  ],
)
def test_every_place_gives_the_weights_and_what_belongs_to_them(
  write, name, tmp_path, params
):
  write(tmp_path, params)
  found = locate.read(str(tmp_path / name))
  chex.assert_trees_all_equal(found.params, params)
  assert found.meta["step"] == 7 and found.meta["router_trained"]
  assert found.meta["config"] == small.config()
  source = build_session.read(str(tmp_path / name))
  assert (source.step, source.route) == (7, "router")
  chex.assert_trees_all_equal(source.params, params)


@pytest.mark.parametrize(
  "stage, said, route",
  [
    ("4b_router", {}, "router"),
    ("4a_expert", {}, "versatile"),
    ("4b_router", {"router_trained": False}, "versatile"),
  ],
)
def test_older_runs_that_do_not_say_whether_the_router_is_trained(
  stage, said, route, tmp_path, params
):
  """It was by the stage's name; what is said goes before it."""
  state = {"trained": params, "ema": params, "frozen": {}}
  with neutral.checkpointer(tmp_path / "checkpoints") as checkpoints:
    more = meta(stage=stage, stage_step=7) | said
    checkpoints.save(7, state, more, wait=True)
  assert build_session.read(str(tmp_path)).route == route


def test_the_shipped_references_router_is_a_trained_one():
  """Its file says so by an older name."""
  assert build_session.read("reference").route == "router"


def test_a_home_folder_is_found(tmp_path, params, monkeypatch):
  file(tmp_path, params)
  monkeypatch.setenv("HOME", str(tmp_path))
  found = locate.read("~/w.safetensors")
  chex.assert_trees_all_equal(found.params, params)


def test_shipped_weights_are_named():
  for name in locate.SHIPPED:
    assert locate.installed(name)
  found = locate.read("world_autoencoder")
  assert found.params.keys() == {"autoencoder"}


def test_another_preprocessing_than_an_exports_is_refused(tmp_path, params):
  export(tmp_path, params)
  other = lambda c: c | {"data": c["data"] | {"height": 96}}
  with pytest.raises(ValueError, match="preprocess: trained with"):
    build_session.read(str(tmp_path), other)


@pytest.mark.parametrize("made", [[], ["checkpoints"], ["config.txt"]])
def test_where_nothing_is_all_kinds_are_named(made, tmp_path):
  for name in made:
    (tmp_path / name).mkdir()
  with pytest.raises(locate.NoWeights) as error:
    locate.read(str(tmp_path))
  for word in ("reference", ".safetensors", "training", "convert export"):
    assert word in str(error.value)


def test_what_is_refused_is_refused_before_arrays_are_read(tmp_path):
  """A config that does not fit costs no minutes of reading."""
  run(tmp_path, {"a": np.zeros(2, np.float32)})
  seen = []

  def refuse(found):
    seen.append(found["stage"])
    raise ValueError("no")

  with pytest.raises(ValueError, match="^no$"):
    locate.read(str(tmp_path), refuse)
  assert seen == ["routing"]


def damage(step, what: str) -> None:
  """Flips a byte in the middle of each file of the arrays, or of metadata."""
  for path in (step / what).rglob("*"):
    if path.is_file() and path.stat().st_size:
      data = bytearray(path.read_bytes())
      data[len(data) // 2] ^= 0xFF
      path.write_bytes(data)


def steps(root, *numbers: int) -> None:
  with neutral.checkpointer(root) as checkpoints:
    for n in numbers:
      x = {"a": np.full(64, n, np.float32)}
      state = {"trained": x, "ema": x, "frozen": {}}
      checkpoints.save(n, state, meta(stage="3_quality"), wait=True)


def test_each_damaged_step_is_told_once(tmp_path, capsys):
  """In its arrays or beside them; what was taken instead is told, too."""
  steps(tmp_path, 2, 9, 10)
  damage(tmp_path / "10", "meta")
  damage(tmp_path / "9", "state")
  capsys.readouterr()
  asked = []
  found = locate.read(str(tmp_path), lambda m: asked.append(m["step"]) or True)
  assert found.meta["step"] == 2 and (found.params["a"] == 2).all()
  assert asked == [9, 2]  # nothing is known of 10
  said = capsys.readouterr().err
  of = lambda n: said.count(f"checkpoint {tmp_path / n} is damaged")
  assert [of("10"), of("9"), of("2")] == [1, 1, 0]
  assert said.count("went back to the checkpoint of step 2") == 1


def test_where_all_is_damaged_all_steps_are_named(tmp_path, capsys):
  steps(tmp_path, 1, 2)
  damage(tmp_path / "1", "state")
  damage(tmp_path / "2", "state")
  with pytest.raises(CheckpointDamaged, match=r"tried \[2, 1\]"):
    locate.read(str(tmp_path))
  assert capsys.readouterr().err.count("is damaged") == 2


def test_a_step_by_name_has_nothing_to_fall_back_to(tmp_path, capsys):
  steps(tmp_path, 1, 2)
  damage(tmp_path / "2", "state")
  with pytest.raises(CheckpointDamaged, match="tried 2"):
    locate.read(str(tmp_path / "2"))
  assert capsys.readouterr().err.count("is damaged") == 1


def test_tiny_has_the_same_door(tmp_path):
  """A stage's load table reads by name what `locate` reads."""
  save_weights(tmp_path / "w.safetensors", tiny.params(), {})
  found = locate.read(str(tmp_path / "w.safetensors"))
  chex.assert_trees_all_equal(found.params, tiny.params())
