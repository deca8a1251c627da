"""What the core does without the extra, and what it says."""

import importlib
import sys

import numpy as np
from PIL import Image
import pytest

from emma_jax.data.curation.local import Local
from emma_jax.data.ingest.job import ConversionError
from emma_jax.scorers import classes, faces, make, ocr, pictures
from emma_jax.scorers.packages import BadPicture, ScorerError
from tests import programs
from tests.scorers import common

pytestmark = pytest.mark.smoke

OPTIONAL = ("rapidocr", "onnxruntime", "dlib", "face_recognition_models")


@pytest.fixture
def bare(monkeypatch):
  """None of the extra's packages can be imported."""
  find = importlib.util.find_spec
  for name in OPTIONAL:
    monkeypatch.setitem(sys.modules, name, None)
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name in OPTIONAL else find(name),
  )
  ocr._engine.cache_clear()
  faces._engine.cache_clear()
  yield
  ocr._engine.cache_clear()
  faces._engine.cache_clear()


@pytest.mark.parametrize(
  "use, package",
  [
    (lambda: ocr.read_words(common.plain()), "rapidocr"),
    (lambda: faces.find_faces(common.plain()), "dlib-bin"),
    (lambda: make.make({"kind": "ocr"}), "rapidocr"),
  ],
)
def test_what_is_absent_is_named_with_the_command(bare, use, package):
  with pytest.raises(ScorerError) as caught:
    use()
  assert 'pip install "emma-jax[scorers]"' in str(caught.value)
  assert f"pip install {package}" in str(caught.value)


@pytest.mark.parametrize("kind", ["ocr", "read", "face"])
def test_curation_says_so_too_before_it_starts(bare, kind):
  with pytest.raises(ConversionError, match=r"emma-jax\[scorers\]"):
    Local(kind)


def test_importing_the_room_imports_no_optional_package():
  program = """
import importlib, pkgutil
from emma_jax import scorers
for module in pkgutil.iter_modules(scorers.__path__):
  importlib.import_module(f"emma_jax.scorers.{module.name}")
"""
  optional = {*OPTIONAL, "jax", "cv2", "tokenizers"}
  assert not programs.loaded(program) & optional


def test_the_extra_holds_what_the_error_names(repo):
  import tomllib

  project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
  extra = " ".join(project["optional-dependencies"]["scorers"])
  for name in (
    "rapidocr",
    "onnxruntime",
    "dlib-bin",
    "face-recognition-models",
  ):
    assert name in extra


# ----------------------------------------------------------------- pictures


def test_pictures_are_upright_opaque_rgb():
  pixels = common.plain("red", 4, 6)
  pixels[:2] = 0
  assert (pictures.rgb(common.png(pixels)) == pixels).all()
  turned = Image.fromarray(pixels)
  exif = turned.getexif()
  exif[0x0112] = 6  # a quarter turn to the right
  import io

  out = io.BytesIO()
  turned.save(out, "PNG", exif=exif)
  assert (pictures.rgb(out.getvalue()) == np.rot90(pixels, -1)).all()
  clear = np.zeros((4, 4, 4), np.uint8)
  assert (pictures.rgb(common.png(clear)) == 255).all()


@pytest.mark.parametrize(
  "wrong", [b"", b"no picture", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_picture_says_so(wrong):
  with pytest.raises(BadPicture):
    pictures.rgb(wrong)


# ------------------------------------------------------------------ classes


def test_the_80_names_are_genevals():
  assert len(set(classes.NAMES)) == len(classes.NAMES) == 80
  assert all(classes.geneval_name(name) == name for name in classes.NAMES)
  assert [classes.geneval_name(n) for n in ("mouse", "remote", "keyboard")] == [
    "computer mouse",
    "tv remote",
    "computer keyboard",
  ]
  assert classes.geneval_name("dining_table") == "dining table"
  # Where COCO has them: after laptop, before cell phone.
  assert classes.NAMES[63:68] == (
    "laptop",
    "computer mouse",
    "tv remote",
    "computer keyboard",
    "cell phone",
  )
  with pytest.raises(ScorerError, match="near are motorcycle"):
    classes.geneval_name("motorcycl")


def test_names_of_the_benchmark(shared_dir):
  path = shared_dir / "data" / "benchmarks" / "geneval" / "object_names.txt"
  if not path.is_file():
    pytest.skip(f"{path} is not there.")
  assert tuple(path.read_text().splitlines()) == classes.NAMES


def test_colours_of_the_benchmark():
  """In the original's order, which its classifier's places are of."""
  named = "red orange yellow green blue purple pink brown black white"
  assert named.split() == [*classes.COLOURS]
  assert [x.format(color="red", name="cup") for x in classes.TEMPLATES] == [
    "a photo of a red cup",
    "a photo of a red-colored cup",
    "a photo of a red object",
  ]


# -------------------------------------------------------------------- faces


def test_similarity_falls_with_distance_and_meets_the_threshold():
  assert faces.of_distance(faces.SAME_PERSON) == pytest.approx(0.6)
  values = [faces.of_distance(d) for d in np.linspace(0, 2, 50)]
  assert values == sorted(values, reverse=True)
  assert (values[0], values[-1]) == (1.0, 0.0)


def test_faces_are_paired_the_closest_first_each_once():
  distance_AB = np.array([[0.1, 0.2, 0.9], [0.15, 0.8, 0.7]])
  assert faces._paired(distance_AB) == [0.1, 0.7]
  assert faces._paired(distance_AB.T) == [0.1, 0.7]
