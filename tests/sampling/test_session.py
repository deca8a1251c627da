"""Where weights come from, and what is refused."""

import functools

import jax
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.build import data as build_data
from emma_jax.build import session as build_session
from emma_jax.checkpoints import locate
from emma_jax.checkpoints.weight_files import save_weights
from emma_jax.sampling.context import SampleError
from tests import neutral
from tests.data import qwen
from tests.sampling import small, test_text


def metadata(config: dict, **changes) -> dict:
  prints = build_data.fingerprints(config["data"])
  return (
    dict(
      config=config,
      fingerprints=prints,
      step=7,
      scores={},
      router_trained=False,
    )
    | changes
  )


def save_run(workdir, config: dict, params: dict, stage: str, **told):
  """Two checkpoints as a training writes them: all but the vision trained."""
  trained, frozen = rules.split(params, lambda p: not p.startswith("vision/"))
  with neutral.checkpointer(workdir / "checkpoints") as checkpoints:
    for step in (5, 9):
      state = {
        "trained": trained,
        "frozen": frozen,
        "step": np.int32(step),
        "ema": jax.tree.map(
          functools.partial(np.add, np.float32(step)), trained
        ),
      }
      meta = metadata(config, **told) | dict(stage=stage, stage_step=step)
      checkpoints.save(step, state, meta, wait=True)


@pytest.fixture
def model():
  s = small.session()
  return s.config, small.random_params(s.config["model"])


def test_a_weight_file(tmp_path, model):
  config, params = model
  path = tmp_path / "w.safetensors"
  save_weights(path, params, metadata(config), dtype="float16")
  s = build_session.load(str(path))
  assert (s.step, s.runner.route, s.config) == (7, "versatile", config)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), s.params, params
  )
  assert s.params["heads"]["velocity"]["kernel"].dtype == np.float32
  save_weights(path, params, metadata(config, router_trained=True))
  assert build_session.load(str(path)).runner.route == "router"
  stem = build_session.load(str(path), route="stem")
  assert stem.runner.route == "stem"


def test_a_training(tmp_path, model):
  config, params = model
  save_run(tmp_path, config, params, "3_quality")
  bias = lambda found: found.params["heads"]["velocity"]["bias"]
  want = params["heads"]["velocity"]["bias"]
  found = build_session.read(str(tmp_path))
  assert (found.step, found.route) == (9, "versatile")
  np.testing.assert_allclose(bias(found), want + 9, atol=1e-6)
  assert set(rules.flatten(found.params)) == set(rules.flatten(params))
  raw = build_session.read(
    str(tmp_path), lambda c: c | {"sample": c["sample"] | {"averaged": False}}
  )
  np.testing.assert_array_equal(bias(raw), want)
  older = build_session.read(str(tmp_path / "checkpoints" / "5"))
  assert older.step == 5
  # A damaged newest step is passed over.
  leaf = max((tmp_path / "checkpoints" / "9" / "meta").rglob("metadata"))
  leaf.write_text(leaf.read_text().replace("3_quality", "4_quality"))
  assert build_session.read(str(tmp_path / "checkpoints")).step == 5


def test_the_router_counts_once_it_is_trained(tmp_path, model):
  config, params = model
  save_run(tmp_path / "b", config, params, "4b_router")
  assert build_session.read(str(tmp_path / "b")).route == "versatile"
  save_run(tmp_path, config, params, "routing", router_trained=True)
  assert build_session.read(str(tmp_path)).route == "router"


def test_routes_reach_their_experts():
  s = small.session()
  routed = build_session.session(
    s.config, s.params, "routed", 0, route="router"
  )
  stem = build_session.session(s.config, s.params, "stem", 0, route="stem")
  answers = [
    x.ask([[small.picture(0)]], [["what?", "why?"]], max_tokens=16)
    for x in (s, routed, stem)
  ]
  assert answers[0] != answers[2] and answers[1] in (answers[0], answers[2])


@pytest.mark.parametrize("key", ["preprocess", "tokenizer"])
def test_other_preparation_is_refused(tmp_path, model, key):
  config, _params = model
  meta = metadata(config)
  now = meta["fingerprints"][key]
  meta["fingerprints"][key] = "0ld"
  path = tmp_path / "w.safetensors"
  save_weights(path, {"a": np.zeros(1)}, meta)
  with pytest.raises(SampleError, match=f"{key}: trained with 0ld, now {now}"):
    build_session.load(str(path))


def test_native_size_is_the_samplers_choice_and_height_is_not(tmp_path, model):
  config, params = model
  path = tmp_path / "w.safetensors"
  save_weights(path, params, metadata(config))
  with_data = lambda **k: lambda c: c | {"data": c["data"] | k}
  native = build_session.load(str(path), change=with_data(native=True))
  assert native.requests.framing.understanding.native
  with pytest.raises(SampleError, match="preprocess"):
    build_session.load(str(path), change=with_data(height=96))


def test_a_native_training_fixes_the_size_of_what_is_drawn(tmp_path, model):
  """Native pictures are of questions; whether they are is still a choice."""
  config, params = model
  native = config | {"data": config["data"] | {"native": True}}
  path = tmp_path / "w.safetensors"
  save_weights(path, params, metadata(native))
  with_data = lambda **k: lambda c: c | {"data": c["data"] | k}
  fixed = build_session.load(str(path), change=with_data(native=False))
  assert not fixed.requests.framing.understanding.native
  for change, key in (
    (dict(height=96), "generation"),
    (dict(max_tokens=5), "preprocess"),
  ):
    with pytest.raises(SampleError, match=f"{key}: trained with"):
      build_session.load(str(path), change=with_data(**change))


def test_missing_sources(tmp_path):
  with pytest.raises(locate.NoWeights, match="No weights at .*nowhere"):
    build_session.load(str(tmp_path / "nowhere"))
  with pytest.raises(locate.NoWeights, match="No weights at"):
    build_session.load(str(tmp_path))
  save_weights(tmp_path / "w.safetensors", {"a": np.zeros(1)}, {"step": 1})
  with pytest.raises(SampleError, match="config.*fingerprints.*router_tr"):
    build_session.load(str(tmp_path / "w.safetensors"))


def test_an_autoencoder_reconstructs_and_refuses_the_rest():
  config = small.config()
  model = dict(
    kind="autoencoder",
    dtype="float32",
    autoencoder=config["model"]["autoencoder"],
  )
  params = {"autoencoder": small.session().params["autoencoder"]}
  s = build_session.session(config | {"model": model}, params, "ae", 0)
  picture = small.picture(0, 40, 40)
  (out,) = s.reconstruct([picture])
  np.testing.assert_array_equal(out, small.session().reconstruct([picture])[0])
  for request in (
    lambda: s.draw(["red"]),
    lambda: s.edit([picture], ["do"]),
    lambda: s.ask([[picture]], [["what?"]]),
  ):
    with pytest.raises(SampleError, match="ae is an autoencoder"):
      request()


def test_qwen3s_tokenizer_through_the_whole_session(tmp_path):
  """Its ids reach the model, <|im_end|> ends answers, its text comes out."""
  pytest.importorskip("tokenizers")
  config = small.config()
  path = qwen.write(tmp_path, "vocab.json", qwen.full_size())
  config["data"]["tokenizer"] = f"qwen3:{path}"
  config["model"]["llm"]["vocab_size"] = 151936
  s = build_session.session(
    config, small.random_params(config["model"]), "q", 0, batch=4
  )
  eos = s.requests.tokenizer.eos
  _, _, first, second, _ = test_text.talk(s, eos)
  said = s.ask(
    [(small.picture(i),) * (1 + i) for i in range(2)], test_text.QUESTIONS
  )
  assert said == [
    [s.requests.tokenizer.decode(test_text.cut(row, eos)) for row in rows]
    for rows in zip(first, second)
  ]
  # NFC is Qwen's; the tiny tokenizer keeps both spellings apart.
  whole, parts, other = (
    s.draw([prompt], steps=1)[0]
    for prompt in ("caf\u00e9", "cafe\u0301", "cafe")
  )
  np.testing.assert_array_equal(whole, parts)
  assert (whole != other).any()
  (edited,) = s.edit([small.picture(0, 40, 50)], ["red"], steps=1)
  assert edited.shape == (40, 50, 3)


def test_nothing_gives_nothing():
  s = small.session()
  assert s.draw([]) == s.edit([], []) == s.ask([], []) == []
  assert s.reconstruct([]) == []
