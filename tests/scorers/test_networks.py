"""ONNX files of a user: what goes in, what comes out, what is refused."""

import json

import numpy as np
from PIL import Image
import pytest

pytest.importorskip("onnxruntime")

from emma_jax.scorers import detector, encoders, make, networks
from emma_jax.scorers.onnx_detector import OnnxDetector
from emma_jax.scorers.packages import ScorerError
from tests.scorers import common, onnx_files

FOUND = {
  "boxes": np.array([[[8.0, 4, 24, 12], [0, 0, 999, 999]]]),
  "scores": np.array([[0.9, 0.4]]),
  "labels": np.array([[1, 0]]),
}
VOCABULARY = ["[PAD]", "[UNK]", "red", "green", "blue", "a"]


@pytest.fixture
def tokenizer(tmp_path) -> str:
  tokenizers = pytest.importorskip("tokenizers")
  words = {word: n for n, word in enumerate(VOCABULARY)}
  one = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token="[UNK]")
  )
  one.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  path = str(tmp_path / "tokenizer.json")
  one.save(path)
  return path


# ------------------------------------------------------------------ encoders


def test_pictures_are_resized_cropped_and_normalised(tmp_path):
  """The mean of what the network saw, computed by hand."""
  pixels = common.plain("black", 8, 24)
  pixels[:, 8:16] = (255, 51, 0)  # what the crop in the middle shows
  path = onnx_files.mean_colour(
    tmp_path / "i.onnx",
    **{"size": 8, "crop": 8, "mean": [0.5, 0.1, 0.0], "std": [0.5, 0.2, 1.0]},
  )
  vector = encoders.PictureEncoder(path)(common.png(pixels))
  np.testing.assert_allclose(vector, [1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(
  "height, width", [(30, 50), (50, 30), (33, 33), (7, 90)]
)
def test_squares_are_torchvisions(height, width):
  """Shorter side to size, the other floored; the crop's corner rounded."""
  pixels = np.random.default_rng(0).integers(
    0, 256, (height, width, 3), np.uint8
  )
  out = encoders.squared(pixels, 16, 12, "bicubic")
  assert out.shape == (12, 12, 3)
  short = min(height, width)
  to = (width * 16 // short, height * 16 // short)
  whole = np.asarray(
    Image.fromarray(pixels).resize(to, Image.Resampling.BICUBIC)
  )
  y, x = round((to[1] - 12) / 2), round((to[0] - 12) / 2)
  assert (out == whole[y : y + 12, x : x + 12]).all()


def test_texts_are_padded_and_cut(tmp_path, tokenizer):
  table = np.eye(len(VOCABULARY))
  path = onnx_files.summed_words(tmp_path / "t.onnx", table, length=4)
  encode = encoders.TextEncoder(path, tokenizer)
  np.testing.assert_allclose(encode("red a") * 4, [2, 0, 1, 0, 0, 1])
  np.testing.assert_allclose(
    encode("red red green a blue") * 4, [0, 0, 2, 1, 0, 1]
  )


def test_an_encoders_reply_is_in_the_calls_order(tmp_path, tokenizer):
  section = {
    "kind": "encoder",
    "clip_image": onnx_files.mean_colour(tmp_path / "i.onnx"),
    "clip_text": onnx_files.summed_words(tmp_path / "t.onnx", np.eye(6)),
    "tokenizer": tokenizer,
    "dino_image": onnx_files.mean_colour(tmp_path / "d.onnx", std=[0.5] * 3),
  }
  judge = make.make(section)
  red, blue = (common.png(common.plain(c)) for c in ("red", "blue"))
  ask = lambda **options: judge.ask(
    common.call(red, blue, text=json.dumps(["red", "blue"]), **options)
  )
  vectors = json.loads(ask().text)
  np.testing.assert_allclose(vectors["images"], [[1, 0, 0], [0, 0, 1]])
  assert vectors["texts"][0][2] == vectors["texts"][1][4] == 1 / 8
  # DINO has no texts, which is said; its pictures are its own.
  reply = ask(encoder="dino")
  assert reply.status == "absent" and "dino_text" in reply.error
  alone = json.loads(judge.ask(common.call(red, encoder="dino")).text)
  np.testing.assert_allclose(alone["images"], [[2, 0, 0]])
  assert alone["texts"] == []
  assert judge.ask(common.call(red, encoder="siglip")).status == "absent"
  with pytest.raises(ValueError, match="no list of captions"):
    judge.ask(common.call(red, text='{"a": 1}'))
  other = make.make({k: v for k, v in section.items() if k != "dino_image"})
  assert other.identity() != judge.identity()


def test_colours_by_clip(tmp_path, tokenizer):
  """Grey outside of a mask; of the ten, the vocabulary has three."""
  table = np.zeros((6, 3))
  table[1] = 1e-3  # an unknown word: near nothing, but no zero vector
  table[2:5] = np.eye(3)
  # Centred, so that grey votes for nothing.
  picture = onnx_files.mean_colour(tmp_path / "i.onnx", mean=[0.6] * 3)
  pixels = common.plain("red", 8, 8)
  pixels[:, 4:] = (0, 0, 255)
  (tmp_path / "a.png").write_bytes(common.png(pixels))
  right = {"size": [8, 8], "counts": [32, 32]}
  dogs = [
    {"label": "dog", "score": 0.9, "box": [0, 0, 4, 8]},
    {"label": "dog", "score": 0.8, "box": [0, 0, 8, 8], "mask": right},
  ]
  line = {"picture": "a.png", "detections": dogs}
  (tmp_path / "found.jsonl").write_text(json.dumps(line))
  judge = make.make(
    {
      "kind": "detector",
      "detections": str(tmp_path / "found.jsonl"),
      "clip_image": picture,
      "clip_text": onnx_files.summed_words(tmp_path / "t.onnx", table),
      "tokenizer": tokenizer,
    }
  )
  reply = judge.ask(common.call(common.png(pixels), colors=["dog"]))
  dogs = json.loads(reply.text)["objects"]["dog"]
  assert [d["color"] for d in dogs] == ["red", "blue"]


@pytest.mark.parametrize(
  "settings, said",
  [
    (None, "needs its settings in .*i.json"),
    ({"size": 4}, r"missing \['crop', 'resample', 'mean', 'std'\]"),
    ({"sise": 4}, r"unknown \['sise'\]"),
    ({"crop": 9}, "crop is 9, size 4"),
    ({"resample": "nearest"}, "'nearest', none of"),
    ({"mean": [123.7, 116.3, 103.5]}, "pixels in 0..1"),
    ({"std": [0, 0, 0]}, "std is"),
  ],
)
def test_settings_that_are_missing_or_wrong(tmp_path, settings, said):
  path = onnx_files.mean_colour(tmp_path / "i.onnx")
  beside = tmp_path / "i.json"
  if settings is None:
    beside.unlink()
  else:
    given = {} if settings == {"size": 4} else json.loads(beside.read_text())
    beside.write_text(json.dumps({**given, **settings}))
  with pytest.raises(ScorerError, match=said):
    encoders.PictureEncoder(path)


def test_files_of_another_shape_are_refused(tmp_path, tokenizer):
  text = onnx_files.summed_words(tmp_path / "t.onnx", np.eye(6))
  picture = onnx_files.mean_colour(tmp_path / "i.onnx")
  (tmp_path / "x.onnx").write_bytes(b"no model")
  with pytest.raises(ScorerError, match="is no ONNX file"):
    networks.Network(str(tmp_path / "x.onnx"))
  (tmp_path / "t.json").write_text((tmp_path / "i.json").read_text())
  with pytest.raises(ScorerError, match="must have one input, float32"):
    encoders.PictureEncoder(text)
  (tmp_path / "i.json").write_text('{"length": 4, "pad": 0}')
  with pytest.raises(ScorerError, match="an input of ids"):
    encoders.TextEncoder(picture, tokenizer)
  (tmp_path / "t.json").write_text('{"length": 4, "pad": 77}')
  with pytest.raises(ScorerError, match="no token 77"):
    encoders.TextEncoder(text, tokenizer)
  with pytest.raises(ScorerError, match="needs its tokenizer"):
    encoders.TextEncoder(text, "lost.json")


# ------------------------------------------------------------------ detectors


def test_boxes_are_pixels_of_the_picture(tmp_path):
  """Twice as large as what went in; what leaves the picture is cut."""
  path = onnx_files.fixed_detector(
    tmp_path / "d.onnx", FOUND, shorter=16, longer=64, multiple=32
  )
  found = OnnxDetector(path)(common.png(common.plain("red", 32, 60)))
  assert [(d.label, round(d.score, 3)) for d in found] == [
    ("dining table", 0.9),
    ("cat", 0.4),
  ]
  assert found[0].box == pytest.approx((16, 8, 48, 24))
  assert found[1].box == pytest.approx((0, 0, 60, 32))
  judge = detector.DetectorJudge(OnnxDetector(path), min_score=0.5)
  reply = judge.ask(common.call(common.png(common.plain("red", 32, 60))))
  assert list(json.loads(reply.text)["objects"]) == ["dining table"]


def test_relative_boxes_and_masks_count_the_padding(tmp_path):
  """A picture of 16x24 in an input of 32x32: its right lower corner is at
  (0.75, 0.5)."""
  mask = np.zeros((1, 4, 4))
  mask[0, :2, :3] = 1.0  # all of the picture
  given = {
    "boxes": np.array([[0.0, 0.0, 0.75, 0.5]]),
    "scores": np.array([0.9]),
    "labels": np.array([0]),
    "masks": mask,
  }
  path = onnx_files.fixed_detector(
    tmp_path / "d.onnx",
    given,
    shorter=16,
    longer=24,
    multiple=32,
    boxes="relative",
  )
  (one,) = OnnxDetector(path)(common.png(common.plain("red", 32, 48)))
  assert one.box == pytest.approx((0, 0, 48, 32))
  assert one.mask is not None and one.mask.shape == (32, 48)
  assert one.mask[:28, :44].all()  # the last cells lean on what is beside


def test_a_stretched_picture(tmp_path):
  path = onnx_files.fixed_detector(
    tmp_path / "d.onnx", FOUND, height=16, width=32
  )
  found = OnnxDetector(path)(common.png(common.plain("red", 64, 64)))
  assert found[0].box == pytest.approx((16, 16, 48, 48))


def test_outputs_under_other_names(tmp_path):
  names = {"boxes": "pred_boxes", "scores": "probs", "labels": "ids"}
  path = onnx_files.fixed_detector(
    tmp_path / "d.onnx",
    {names[k]: v for k, v in FOUND.items()},
    height=16,
    width=16,
    outputs=names,
  )
  assert len(OnnxDetector(path)(common.png(common.plain()))) == 2


@pytest.mark.parametrize(
  "found, settings, said",
  [
    ({"scores": np.zeros((1, 2, 81))}, {}, r"\['scores'\] are missing or"),
    ({}, {"outputs": {"boxes": "dets"}}, r"\['dets'\] are missing or"),
    ({}, {"outputs": {"bboxes": "dets"}}, "outputs renames"),
    ({}, {"classes": ["dragon"]}, "none of the 80"),
    ({}, {"classes": []}, "names no class"),
    ({}, {"boxes": "xywh"}, "not pixels or relative"),
    ({}, {"shorter": 8, "longer": 8}, "give one pair"),
    ({}, {"height": 0}, "give one pair"),
    ({}, {"multiple": 0}, "multiple=0"),
  ],
)
def test_detectors_are_checked_when_they_are_opened(
  tmp_path, found, settings, said
):
  size = {"height": 16, "width": 16}
  path = onnx_files.fixed_detector(
    tmp_path / "d.onnx", {**FOUND, **found}, **{**size, **settings}
  )
  with pytest.raises(ScorerError, match=said):
    OnnxDetector(path)


@pytest.mark.parametrize(
  "found, said",
  [
    ({"labels": np.array([[1, 7]])}, "labels 1 to 7; .* 2 classes"),
    ({"scores": np.array([[0.9, 3.5]])}, "softmax or sigmoid"),
    ({"scores": np.array([[0.9]])}, "for 2 boxes"),
    ({"boxes": np.zeros((1, 2, 5))}, "for 2 boxes"),
  ],
)
def test_and_by_what_they_find(tmp_path, found, said):
  path = onnx_files.fixed_detector(
    tmp_path / "d.onnx", {**FOUND, **found}, height=16, width=16
  )
  with pytest.raises(ScorerError, match=said):
    OnnxDetector(path)(common.png(common.plain()))


def test_a_device_that_is_not_there(tmp_path):
  path = onnx_files.mean_colour(tmp_path / "i.onnx")
  import onnxruntime

  if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
    pytest.skip("this onnxruntime needs a GPU")
  with pytest.raises(ScorerError, match="onnxruntime-gpu"):
    networks.Network(path, device="cuda")
