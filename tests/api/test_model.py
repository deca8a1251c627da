"""One thing or lists, pictures of Pillow; what would go wrong silently ends."""

import concurrent.futures
import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
import warnings

import jax
import numpy as np
from PIL import Image
import pytest

import emma_jax
from emma_jax.api import inputs
from emma_jax.api.model import Model, load
from emma_jax.checkpoints.integrity import CheckpointError
from emma_jax.data.pictures.images import BadRecord
from emma_jax.sampling.context import SampleError
from tests.sampling import small

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def model() -> Model:
  return Model(small.session())


def same(a: Image.Image, b) -> bool:
  return np.array_equal(np.asarray(a), np.asarray(b))


def test_one_gives_one_and_a_list_a_list(model):
  session = model.session
  wanted = session.draw(["red", "blue"], seed=3)
  made = model.draw(["red", "blue"], seed=3)
  assert isinstance(made, list) and all(map(same, made, wanted))
  alone = model.draw("red", seed=3)
  assert isinstance(alone, Image.Image) and alone.mode == "RGB"
  np.testing.assert_allclose(np.asarray(alone, int), wanted[0], atol=1)
  (of_list,) = model.draw(["red"], seed=3)
  assert same(of_list, alone) and model.draw([]) == []


def test_a_list_of_seeds_gives_each_seeds_first_picture(model):
  made = model.draw("red", seed=range(2, 4))
  for picture, seed in zip(made, (2, 3)):
    alone = np.asarray(model.draw("red", seed=seed), int)
    np.testing.assert_allclose(np.asarray(picture, int), alone, atol=1)
  assert not same(*made)
  source = small.picture(0)
  first, _ = model.edit(source, "do", seed=[5, 6])
  alone = np.asarray(model.edit(source, "do", seed=5), int)
  np.testing.assert_allclose(np.asarray(first, int), alone, atol=1)


def test_progress_is_told_and_changes_no_bit(model):
  told: list[tuple[int, int]] = []
  made = model.draw(["red"] * 5, on_progress=lambda *x: told.append(x))
  total = 2 * model.session.defaults["steps"]  # two chunks: batch is 4
  assert told == [(n, total) for n in range(1, total + 1)]
  assert all(map(same, made, model.draw(["red"] * 5)))


def test_questions_and_pictures_pair_up(model):
  one, two = small.picture(0), small.picture(1, 40, 70)
  ask = lambda *args: model.ask(*args, max_tokens=4)
  session = lambda pictures, question: model.session.ask(
    [pictures], [[question]], max_tokens=4
  )[0][0]
  assert ask(one, "what?") == session([one], "what?")
  assert ask([one], ["what?"]) == [session([one], "what?")]
  both = [session([one], "what?"), session([two], "what?")]
  assert ask([one, two], "what?") == both
  assert ask(np.stack([one, one]), "what?") == both[:1] * 2
  told: list[tuple[int, int]] = []
  progress = lambda *done: told.append(done)
  model.ask([one, two], "what?", max_tokens=4, on_progress=progress)
  assert told == [(1, 2), (2, 2)]
  assert ask(one, ["what?", "why?"]) == [both[0], session([one], "why?")]
  assert ask((one, two), "what?") == session([one, two], "what?")
  assert ask([(one, two)], "what?") == [session([one, two], "what?")]
  assert ask(None, "what?") == session([], "what?")


def test_pictures_of_every_kind_are_the_same_picture(
  model, tmp_path, monkeypatch
):
  monkeypatch.setenv("HOME", str(tmp_path))
  pixels = small.picture(3, 40, 50)
  image = Image.fromarray(pixels)
  path, buffer = tmp_path / "a.png", io.BytesIO()
  image.save(path)
  image.save(buffer, "PNG")
  data = buffer.getvalue()
  kinds = [pixels, image, path, str(path), data, bytearray(data)]
  kinds += [memoryview(data), buffer, jax.numpy.asarray(pixels), "~/a.png"]
  made = model.edit(kinds, "do", seed=[1] * len(kinds), steps=1)
  assert {x.size for x in made} == {(50, 40)}
  assert all(same(x, made[0]) for x in made)


def test_pillows_modes_are_read_as_their_files():
  clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
  turned = Image.new("RGB", (40, 20), "red")
  turned.getexif()[0x112] = 6
  from emma_jax.data.pictures.images import load_picture

  read = lambda image: load_picture(inputs.picture(image))
  assert read(clear).min() == 255  # transparent is white
  assert read(turned).shape == (40, 20, 3)
  assert read(Image.new("CMYK", (4, 4))).min() == 255
  for mode in ("I", "I;16", "I;16B", "I;16L"):
    assert read(Image.new(mode, (4, 4), 65535)).min() == 255, mode
    assert 127 <= read(Image.new(mode, (4, 4), 32768)).min() <= 128, mode
  assert read(Image.new("HSV", (4, 4))).max() == 0
  palette = Image.new("PA", (4, 4), (0, 0))
  palette.putpalette([255, 0, 0] * 256)
  assert read(palette).min() == 255
  for mode in ("La", "LA", "RGBa"):  # clear ones, in any mode
    other = clear.convert({"La": "LA"}.get(mode, "RGBA")).convert(mode)
    assert read(other).min() == 255, mode
  for mode in ("1", "LAB", "RGBX", "YCbCr"):
    assert read(Image.new(mode, (4, 4))).shape == (4, 4, 3), mode
  broken = Image.new("RGB", (4, 5))
  broken.info["exif"] = b"Exif\0\0garbage"
  assert read(broken).shape == (5, 4, 3)
  with pytest.raises(SampleError, match="picture of floats"):
    read(Image.new("F", (4, 4)))
  buffer = io.BytesIO()
  Image.fromarray(small.picture(0)).save(buffer, "PNG")
  with pytest.raises(BadRecord, match="truncated"):
    read(Image.open(io.BytesIO(buffer.getvalue()[:-500])))


def test_lists_of_every_kind_are_lists(model):
  wanted = model.draw(["red", "blue"], seed=[1, 2], steps=1)
  for prompts, seeds in (
    (("red", "blue"), np.array([1, 2])),
    (np.array(["red", "blue"]), (1, 2)),
    (iter(["red", "blue"]), jax.numpy.arange(1, 3)),
  ):
    made = model.draw(prompts, seed=seeds, steps=1)
    assert len(made) == 2 and all(map(same, made, wanted))


def test_an_array_is_as_large_as_a_file_may_be(model):
  large = np.broadcast_to(np.uint8(0), (9000, 9000, 3))
  for call in (model.ask, model.edit, lambda p, _: model.reconstruct(p)):
    with pytest.raises(BadRecord, match="9000x9000 exceeds 64000000 pixels"):
      call(large, "do")


def test_a_model_goes_to_other_processes_and_threads(model):
  wanted = model.draw("red", seed=1, steps=1)
  again = pickle.loads(pickle.dumps(model))
  draw = lambda one: one.draw("red", seed=1, steps=1)
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert all(same(x, wanted) for x in pool.map(draw, [model, again]))


def test_a_forked_process_is_told_instead_of_waiting(model):
  chat = model.chat()
  calls = [
    lambda: model.draw("red", steps=1),
    lambda: pickle.loads(pickle.dumps(model)).ask(None, "what?"),
    lambda: model.reconstruct(small.picture(3, 40, 50)),
    lambda: chat.say("what?"),
    lambda: load("reference"),
  ]
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # JAX's own, of forks
    child = os.fork()
  if not child:
    signal.alarm(60)
    told = 0
    for call in calls:
      try:
        call()
      except SampleError as error:
        told += "spawn" in str(error)
    os._exit(told)
  assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(calls)


def test_repr_says_what_it_is(model):
  said = repr(model)
  for word in ("small", "step 7", "parameters", "64x64", "draw, edit, ask"):
    assert word in said, said


PICTURE = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
  "request_, words",
  [
    (lambda m: m.draw(3), "prompt is 3; give a text"),
    (lambda m: m.draw(["a", None]), "prompt 1 is None; give a text"),
    (lambda m: m.draw("a", size="96"), "size='96'"),
    (lambda m: m.draw("a", seed=1.5), "seed=1.5 must be a whole number"),
    (lambda m: m.draw(["a", "b"], seed=[1, 2, 3]), "2 prompts and 3 seeds"),
    (lambda m: m.draw({"prompt": "a"}), "give a text"),
    (lambda m: m.draw({"a", "b"}), "give a text"),
    (lambda m: m.draw("a", seed=itertools.count()), "More than 1000000 seeds"),
    (lambda m: m.draw("a", seed=[1, -2]), "seed=-2"),
    (lambda m: m.draw("a", seed=None), "seed=None"),
    (lambda m: m.draw("a", steps=1.7), "steps=1.7 must be a whole number"),
    (lambda m: m.draw("a", steps="2"), "steps='2' must be a number"),
    (lambda m: m.draw("a", guidance="2"), "text_guidance='2'"),
    (lambda m: m.draw("a", shift=float("nan")), "shift=nan"),
    (lambda m: m.ask(PICTURE, "a", max_tokens=2.5), "max_tokens=2.5"),
    (lambda m: m.ask(PICTURE, "a", temperature=None), "temperature=None"),
    (lambda m: m.ask(PICTURE, "a", top_p="1"), "top_p='1'"),
    (lambda m: m.ask(PICTURE / 255, "a"), "array of float64; give uint8"),
    (lambda m: m.ask(PICTURE.T, "a"), "x.transpose(1, 2, 0)"),
    (lambda m: m.ask(PICTURE[:0], "a"), "array of shape (0, 64, 3)"),
    (lambda m: m.ask(io.StringIO("a"), "a"), 'open it with "rb"'),
    (lambda m: m.ask({"a": PICTURE}, "a"), "give a PIL image"),
    (lambda m: m.chat(pictures=1.5), "pictures=1.5 must be a whole number"),
    (lambda m: m.ask([PICTURE] * 2, ["a"] * 3), "2 pictures and 3 questions"),
    (lambda m: m.ask(PICTURE, " "), "question is empty"),
    (lambda m: m.ask(7, "what?"), "picture is 7; give a PIL image"),
    (lambda m: m.edit("none.png", "do"), "'none.png': there is no such file"),
    (lambda m: m.edit(None, "do"), "picture is None; give a PIL image"),
    (lambda m: m.chat(pictures=0), "pictures=0"),
    (lambda m: m.session.draw("a red star"), "prompts is one str"),
    (lambda m: m.session.ask([[PICTURE]], ["what?"]), "turns is one str"),
    (lambda m: m.session.ask(PICTURE, [["a"]] * 64), "pictures is one ndarray"),
    (lambda m: m.session.ask([PICTURE], [["a"]]), "pictures is one ndarray"),
    (lambda m: m.session.edit(PICTURE, ["a"] * 64), "pictures is one ndarray"),
  ],
)
def test_silent_wrongs_end_with_value_and_remedy(model, request_, words):
  with pytest.raises(SampleError) as error:
    request_(model)
  assert words in str(error.value)


def test_loading_says_what_is_wrong(tmp_path):
  with pytest.raises(SampleError, match="name=3 is no name"):
    emma_jax.load(3, cache=False)  # type: ignore[arg-type]
  for batch in (3, 0, "8"):
    with pytest.raises(SampleError, match="batch="):
      emma_jax.load(tmp_path, cache=False, batch=batch)
  for mesh, words in (
    ({"rows": 2}, "no axis 'rows'"),
    ({"data": 0}, "mesh.data=0"),
    ({"data": "2"}, "mesh="),
    ({"data": 64}, "64"),
  ):
    with pytest.raises(SampleError, match=words):
      emma_jax.load(cache=False, mesh=mesh)
  with pytest.raises(CheckpointError, match="No weights at"):
    emma_jax.load(tmp_path, cache=False)


def test_texts_unlike_the_training_get_one_warning(model):
  known = load("reference", cache=False).known
  assert known is not None
  own = Model(model.session, known)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    own.draw("a red star", steps=1)
    model.draw("zzz qqq xxx", steps=1)  # nothing is known of its training
  with pytest.warns(emma_jax.UnlikeTraining) as found:
    own.draw(["zzz qqq xxx"] * 2, steps=1)
  (warning,) = found
  assert "nats a token" in str(warning.message)
  assert warning.filename == __file__
  with pytest.warns(emma_jax.UnlikeTraining, match="editing"):
    own.edit(PICTURE, "zzz qqq xxx", steps=1)
  with pytest.warns(emma_jax.UnlikeTraining, match="understanding"):
    own.ask(PICTURE, "zzz qqq xxx", max_tokens=1)


def test_a_mesh_of_all_devices_draws_the_same():
  models = [load("reference", cache=False, mesh=mesh) for mesh in (None, {})]
  assert models[1].session.runner.place.mesh is not None
  a, b = (m.draw("a red star", steps=1) for m in models)
  assert same(a, b)


def test_importing_the_package_imports_nothing():
  program = """
import sys
import emma_jax
assert emma_jax.__version__ and callable(emma_jax.load)
heavy = {"jax", "numpy", "flax", "PIL", "emma_jax.api"} & set(sys.modules)
assert not heavy, heavy
"""
  subprocess.run([sys.executable, "-c", program], check=True)
