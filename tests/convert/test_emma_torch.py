"""A whole EMMA to PyTorch and back: bits, numbers of each part, results.

The PyTorch code is imported from the exported folder, as a user would. Skipped
without torch; see test_emma for what needs none.
"""

import functools
import pathlib
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build import session as build_session
from emma_jax.convert import emma as convert
from emma_jax.convert.files import Folder, write_folder
from emma_jax.data.loading import sources
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.models.emma import Emma, to_unit
from emma_jax.sampling import context, image
from emma_jax.sampling.session import Session
from tests import tiny
from tests.convert.exported import SHOWN, config, export, save
from tests.goldens import emma_torch as golden

# Of the reference's maximum; measured: about 1e-6.
TOLERANCE = 5e-6
PICTURES = 1e-3  # of [0, 1]


@functools.cache
def files(root: pathlib.Path, variant: str) -> pathlib.Path:
  return export(root / variant, variant)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp("exported")


def load(folder: pathlib.Path):
  """(the module in the folder, its model)."""
  pytest.importorskip("torch")
  module = golden.imported(folder)
  return module, module.Emma.load(folder)


@pytest.fixture(params=SHOWN)
def both(request, root):
  """(variant, module, the PyTorch model, our model, its variables)."""
  pytest.importorskip("torch")
  variant = request.param
  module, model = load(files(root, variant))
  ours = Emma(build_model.emma_config(config(variant)["model"]))
  with jax.default_matmul_precision("highest"):
    yield variant, module, model, ours, {"params": tiny.params(variant)}


def tensor(x):
  import torch

  return torch.as_tensor(np.array(x))  # a copy: jax's arrays are read-only


def close(theirs, ours, what: str, tolerance: float = TOLERANCE):
  theirs, ours = np.asarray(theirs), np.asarray(ours)
  assert theirs.shape == ours.shape, what
  error = np.abs(theirs - ours).max() / np.abs(ours).max()
  print(f"{what}: {error:.1e} of the maximum")
  assert error < tolerance, what


def run(both, method, *args):
  """Our model's method, compiled at once and quickly."""
  _, _, _, ours, variables = both
  call = jax.jit(
    lambda v, *a: ours.apply(v, *a, method=method), compiler_options=tiny.QUICK
  )
  return call(variables, *args)


def pixels(count: int, height: int = 64, width: int = 96) -> np.ndarray:
  rng = np.random.default_rng(3)
  return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_autoencoder(both):
  _, _, model, _, _ = both
  x = pixels(2)
  z = run(both, Emma.encode_latents, x)
  y = tensor(to_unit(jnp.asarray(x), jnp.float32)).movedim(-1, 1)
  close(model.autoencoder.encode(y), z, "latents")
  back = run(
    both,
    lambda m, z: m.autoencoder.decode_normalised(z),
    z.reshape(2, 2, 3, -1),
  )
  close(
    model.autoencoder.decode(tensor(z), (2, 3)).movedim(1, -1), back, "pictures"
  )


def test_vision(both):
  variant, _, model, _, _ = both
  x = to_unit(jnp.asarray(pixels(3)), jnp.float32)
  routes = ("versatile", "stem", "router")
  seen = {}
  for route in routes[:1] if "no_experts" in variant else routes:
    want, _ = run(both, lambda m, x, route=route: m.vision(x, route), x)
    close(model.vision(tensor(x).movedim(-1, 1), route), want, route)
    seen[route] = np.asarray(want)
  if len(seen) > 1:
    assert np.abs(seen["stem"] - seen["versatile"]).max() > 0.01


def test_adapters(both):
  _, _, model, _, _ = both
  rng = np.random.default_rng(0)
  semantic = rng.normal(size=(2, 6, 64)).astype(np.float32)
  latent = rng.normal(size=(2, 6, tiny.CHANNELS)).astype(np.float32)
  for name, half in (("und", semantic), ("gen", semantic), ("gen", None)):
    want = run(
      both,
      lambda m, *a, name=name: getattr(m.adapters, name)(*a, (2, 3)),
      half,
      latent,
    )
    given = None if half is None else tensor(half)
    made = model.adapt(name, given, tensor(latent), (2, 3))
    close(made, want, f"{name} adapter")
  time = np.array([0.0, 0.3, 1.0], np.float32)
  want = run(both, lambda m, t: m.adapters.time(t, jnp.float32), time)
  close(model.embed_time(tensor(time)), want, "time")


def test_decoder_on_packed_rows(both):
  """Hidden states, keys and values, logits, velocity of packed samples with
  references, targets and padding."""
  variant, module, model, _, _ = both
  batch = tiny.packed(
    [tiny.understanding(), tiny.editing(), tiny.drawing(1)], variant
  )
  rng, xs, ids, used = np.random.default_rng(5), {}, {}, {}
  for b, i in (("und", batch.und_ids), ("gen", batch.gen_ids)):
    xs[b] = rng.normal(size=(*i.segment.shape, 32)).astype(np.float32)
    ids[b] = tensor(
      np.stack(
        [i.segment, i.order, i.last_visible, i.noise_group, i.position]
      ).astype(np.int64)
    )
    used[b] = i.segment > 0

  def ours(m, und, gen):
    und, gen, cache = m.llm(
      und, gen, batch.und_ids, batch.gen_ids, return_kv=True
    )
    return und, gen, cache, m.logits(und), m.heads.velocity(gen)

  und, gen, cache, logits, velocity = run(both, ours, xs["und"], xs["gen"])
  hidden, (_, kept) = model.llm({b: tensor(x) for b, x in xs.items()}, ids)
  for b, want in (("und", und), ("gen", gen)):
    close(hidden[b][tensor(used[b])], want[used[b]], f"{b} hidden")
  made = module.primitives.linear(model.w.llm.lm_head, hidden["und"])
  close(made[tensor(used["und"])], logits[used["und"]], "logits")
  made = module.primitives.linear(model.w.heads.velocity, hidden["gen"])
  close(made[tensor(used["gen"])], velocity[used["gen"]], "velocity")
  held = np.concatenate([used["und"], used["gen"]], axis=1)
  for n, (k, v) in enumerate(kept):
    close(k[tensor(held)], cache.key_ZBSKE[n][held], f"keys {n}")
    close(v[tensor(held)], cache.value_ZBSKE[n][held], f"values {n}")
  # The same text in two pieces, the second behind the first one's cache.
  text, at = tensor(xs["und"]), ids["und"]
  _, past = model.llm({"und": text[:, :9]}, {"und": at[:, :, :9]})
  then, _ = model.llm({"und": text[:, 9:]}, {"und": at[:, :, 9:]}, past)
  once, _ = model.llm({"und": text}, {"und": at})
  mask = tensor(used["und"][:, 9:])
  close(then["und"][mask], once["und"][:, 9:][mask], "behind a cache")


# --------------------------------------------------------------- end to end


@pytest.fixture
def unrounded(monkeypatch):
  """Session's pictures as floats in [0, 1], before they become bytes."""

  def decode(emma, params, latents_BTC, grid):
    z = latents_BTC.reshape(-1, *grid, latents_BTC.shape[-1])
    x = emma.apply(
      {"params": params},
      z,
      method=lambda m, z: m.autoencoder.decode_normalised(z),
    )
    return jnp.clip((x + 1) / 2, 0, 1)

  monkeypatch.setattr(image, "decode", decode)


def noise_of(session: Session, seed: int, index: int, tokens: int):
  """What `Session` starts picture `index` of a request from; (T, C)."""
  (key,) = context.keys(seed, [index])
  channels = session.emma.config.autoencoder.latent_channels
  return np.array(jax.random.normal(key, (tokens, channels), jnp.float32))


def same_pictures(theirs, ours, what: str):
  error = np.abs(np.asarray(theirs) - np.asarray(ours)).max()
  print(f"{what}: {error:.1e} of [0, 1]")
  assert theirs.shape == ours.shape and error < PICTURES, what


@pytest.mark.parametrize("variant", SHOWN)
def test_the_same_answers_and_pictures(root, variant, unrounded):
  _, model = load(files(root, variant))
  session = build_session.session(
    config(variant), tiny.params(variant), "micro", 0
  )
  picture = pixels(1, tiny.HEIGHT, tiny.WIDTH)[0]
  questions = ["what colour is it?", "why? <|im_end|> naïve 表情"]
  (answers,) = session.ask([[picture]], [questions], max_tokens=5)
  assert model.ask(picture, questions, max_tokens=5) == answers
  options = dict(steps=3, seed=4)
  ours = session.draw(["red", "a blue star"], **options)[1]
  noise = noise_of(session, 4, 1, 2)
  made = model.draw("a blue star", noise=noise, steps=3)
  same_pictures(made, ours, "drawing")
  (ours,) = session.edit([picture], ["make it red"], **options)
  noise = noise_of(session, 4, 0, 2)
  made = model.edit(picture, "make it red", noise=noise, steps=3)
  same_pictures(made, ours, "edit")
  # Of several pictures, of other shapes than the first.
  several = [picture, pixels(2, 50, 70)[0], pixels(3, 20, 70)[0]]
  (ours,) = session.edit([several], ["make it red"], **options)
  made = model.edit(several, "make it red", noise=noise, steps=3)
  same_pictures(made, ours, "edit of three pictures")
  swapped = model.edit(
    [*several[:1], *several[:0:-1]], "make it red", noise=noise, steps=3
  )
  assert np.abs(np.asarray(swapped) - np.asarray(made)).max() > 10 * PICTURES


def test_the_tokenizer_and_other_sizes_of_pictures(root):
  _module, model = load(files(root, "paper"))
  theirs, ours = model.tokenizer, TinyTokenizer()
  text = "user\na smiling face, naïve 表情 🙂 <|im_end|> what is this? 背景"
  ids = ours.encode(text)
  assert theirs.encode(text) == ids and theirs.decode(ids) == text
  assert theirs.decode([1, *ids, 5000]) == text  # a special, a stranger
  fit = build_data.framing(config()["data"]).generation
  for size in ((32, 64), (9, 17), (100, 310)):
    picture = pixels(1, *size)[0]
    made, content, original = model.fit(picture, "ref")
    want = fit(picture)
    np.testing.assert_array_equal(made, want.pixels_YXC)
    assert (content, original) == (want.content_size, want.original_size)
  made = model.edit(pixels(1, 20, 30)[0], "do", steps=1)
  assert made.shape == (20, 30, 3) and 0 <= made.min() <= made.max() <= 1
  assert model.draw("red", size=(40, 50), steps=1).shape == (40, 50, 3)
  with pytest.raises(TypeError, match="guidance"):
    model.draw("red", guidance=2)


def test_shards_are_read_by_both(root):
  whole = Folder.open(files(root, "paper"))
  parts = root / "shards"
  write_folder(
    parts,
    whole.config,
    ((name, whole.read(name)) for name in whole.names()),
    max_shard_bytes=100_000,
  )
  shutil.copy(whole.path / "tokenizer.json", parts)
  shutil.copytree(whole.path / "emma_torch", parts / "emma_torch")
  assert len(list(parts.glob("model-*.safetensors"))) > 1
  chex.assert_trees_all_equal(convert.load(parts).params, tiny.params())
  _, model = load(parts)
  weight = model.w.llm.shallow.__dict__["0"].gen.mlp.down.weight
  ours = tiny.params()["llm"]["shallow"]["gen"]["mlp"]["down"][0].T
  np.testing.assert_array_equal(weight, ours)


def test_bfloat16_runs(root):
  torch = pytest.importorskip("torch")
  module, exact = load(files(root, "paper"))
  model = module.Emma.load(files(root, "paper"), dtype=torch.bfloat16)
  assert model.w.heads.velocity.weight.dtype == torch.float32
  noise = np.random.default_rng(0).normal(size=(2, tiny.CHANNELS))
  made, want = (m.draw("red", noise=noise, steps=2) for m in (model, exact))
  assert (made - want).abs().max() < 0.1
  assert isinstance(model.ask([], "what?"), str)


def test_the_command_line(root, monkeypatch, capsys):
  folder = files(root, "paper")
  module, model = load(folder)
  command = golden.imported(folder, ".__main__")
  to, picture = root / "drawn.png", root / "given.png"
  module.Emma.to_image(tensor(pixels(1, 32, 64)[0] / 255)).save(picture)

  def run(*arguments):
    monkeypatch.setattr("sys.argv", ["emma_torch", *map(str, arguments)])
    command.main()

  run("ask", "what?", "--image", picture)
  assert capsys.readouterr().out.strip() == model.ask(str(picture), "what?")
  run("edit", "do", "--image", picture, "--out", to)
  with Image.open(to) as made:
    assert made.size == (64, 32)
  run("edit", "do", "--image", picture, "--image", to, "--out", to)
  with Image.open(to) as made:
    assert made.size == (64, 32)
  with pytest.raises(SystemExit):
    run("edit", "do")


@pytest.mark.slow
def test_the_reference_model(root, unrounded):
  """The shipped weights answer alike, and draw and edit alike."""
  pytest.importorskip("torch")
  session = build_session.load("reference")
  folder = root / "reference"
  save(
    folder,
    dict(session.config),
    session.params,
    step=session.step,
    route=session.runner.route,
  )
  _, model = load(folder)
  source = sources.open_source("world:understanding:test")
  samples = [source[i] for i in range(6)]
  asked = [[question for question, _ in s.turns] for s in samples]
  answers = session.ask([list(s.pictures) for s in samples], asked)
  for sample, questions, answer in zip(samples, asked, answers):
    assert model.ask(list(sample.pictures), questions) == answer
  data = session.config["data"]
  tokens = data["height"] * data["width"] // 32**2
  prompt, picture = "a red star and a blue square", samples[0].pictures[0]
  (ours,) = session.draw([prompt], steps=8, seed=3)
  noise = noise_of(session, 3, 0, tokens)
  same_pictures(model.draw(prompt, noise=noise, steps=8), ours, "drawing")
  instruction = "make the background pink"
  (ours,) = session.edit([picture], [instruction], steps=8, seed=3)
  made = model.edit(picture, instruction, noise=noise, steps=8)
  same_pictures(made, ours, "edit")
