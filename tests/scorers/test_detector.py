"""Files of detections, GenEval's reply, colours' crops, anchors, sections."""

import hashlib
import json

import numpy as np
import pytest

from emma_jax.benchmarks.scoring import geneval
from emma_jax.judge.base import key_of
from emma_jax.scorers import anchors, colours, detector, make
from emma_jax.scorers.detector import Detection
from emma_jax.scorers.packages import ScorerError
from tests.scorers import common

pytestmark = pytest.mark.smoke

PICTURE = common.png(common.plain("red", 20, 30))
OTHER = common.png(common.plain("blue", 20, 30))
DOG = {"label": "dog", "score": 0.95, "box": [1, 2, 11, 12], "color": "red"}
SMALL = {"label": "Dining_Table", "score": 0.02, "box": [0, 0, 1, 1]}
MOUSE = {"label": "mouse", "score": 0.4, "box": [2, 2, 8, 8]}


@pytest.fixture
def file(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "0.png").write_bytes(PICTURE)
  lines = [
    {
      "picture": "a/0.png",
      "detections": [MOUSE, SMALL, DOG, {**DOG, "score": 0.5}],
    },
    {"sha256": hashlib.sha256(OTHER).hexdigest(), "detections": []},
  ]
  path = tmp_path / "found.jsonl"
  path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
  return path


def test_a_file_of_detections_gives_genevals_reply(file):
  judge = make.make({"kind": "detector", "detections": str(file)})
  reply = judge.ask(common.call(PICTURE, colors=["dog"]))
  assert reply.status == "ok"
  objects = json.loads(reply.text)["objects"]
  box = [1, 2, 11, 12]
  assert objects == {
    "dog": [
      {"box": box, "score": 0.95, "color": "red"},
      {"box": box, "score": 0.5, "color": "red"},
    ],
    "computer mouse": [{"box": [2, 2, 8, 8], "score": 0.4}],
  }
  # Colours only where they are asked for.
  plain = json.loads(judge.ask(common.call(PICTURE)).text)["objects"]
  assert not any("color" in found for of in plain.values() for found in of)
  # What GenEval makes of it.
  wanted = {
    "tag": "colors",
    "include": [{"class": "dog", "count": 1, "color": "red"}],
  }
  verdict = geneval.score_picture(
    {k: [[*d["box"], d["score"]] for d in v] for k, v in objects.items()},
    wanted,
    geneval.given_colors({"dog": [d["color"] for d in objects["dog"]]}),
    geneval.Settings(),
  )
  assert verdict.correct
  assert json.loads(judge.ask(common.call(OTHER)).text) == {"objects": {}}


def test_unknown_pictures_are_absent_and_wrong_calls_raise(file):
  judge = detector.DetectorJudge(detector.FileDetector(str(file)))
  reply = judge.ask(common.call(b"another"))
  assert reply.status == "absent" and "no line of the picture" in reply.error
  with pytest.raises(ValueError, match="2 pictures"):
    judge.ask(common.call(PICTURE, OTHER))
  with pytest.raises(ScorerError, match="none of the 80"):
    judge.ask(common.call(PICTURE, colors=["dragon"]))


def test_what_decides_a_reply_is_in_the_identity(file):
  one = detector.DetectorJudge(detector.FileDetector(str(file)))
  two = detector.DetectorJudge(detector.FileDetector(str(file)), min_score=0.3)
  file.write_text(file.read_text().replace("0.95", "0.96"))
  three = detector.DetectorJudge(detector.FileDetector(str(file)))
  keys = {key_of(j.identity(), common.call(PICTURE)) for j in (one, two, three)}
  assert len(keys) == 3


@pytest.mark.parametrize(
  "line, said",
  [
    ({"picture": "lost.png", "detections": []}, "lost.png"),
    ({"detections": []}, "sha256"),
    (
      {"sha256": "x", "detections": [{**DOG, "label": "dragon"}]},
      "none of the 80",
    ),
    ({"sha256": "x", "detections": [{**DOG, "box": [5, 5, 1, 9]}]}, "x1, y1"),
    ({"sha256": "x", "detections": [{**DOG, "score": 95}]}, "score 95"),
    (
      {
        "sha256": "x",
        "detections": [{**DOG, "mask": {"size": [2, 2], "counts": "0"}}],
      },
      "compressed",
    ),
  ],
)
def test_wrong_lines_are_named(tmp_path, line, said):
  path = tmp_path / "found.jsonl"
  path.write_text(json.dumps(line))
  with pytest.raises(ScorerError, match=said) as caught:
    detector.FileDetector(str(path))
  assert "found.jsonl:1" in str(caught.value)


def test_two_lines_of_a_picture(file):
  file.write_text(file.read_text().splitlines()[0] + "\n" + file.read_text())
  with pytest.raises(ScorerError, match="two lines"):
    detector.FileDetector(str(file))


def test_run_lengths_go_down_the_columns():
  mask = detector.run_lengths([3, 2], [2, 2, 2])
  assert mask.astype(int).tolist() == [[0, 1], [0, 0], [1, 0]]
  with pytest.raises(ValueError, match="runs of 5"):
    detector.run_lengths([3, 2], [2, 3])


# ------------------------------------------------------------------- colours


def test_cut_outs_are_grey_outside_of_the_mask():
  pixels = common.plain("red", 6, 8)
  pixels[:, 4:] = (0, 0, 255)
  mask = np.zeros((6, 8), bool)
  mask[2:4, 3:5] = True
  of = lambda box, mask=None: colours.cut_out(
    pixels, Detection("dog", 1.0, box, mask)
  )
  cut = of((2.4, 1.6, 6.0, 4.4), mask)
  assert cut.shape == (2, 4, 3)
  grey, red, blue = [0x99] * 3, [255, 0, 0], [0, 0, 255]
  assert cut.tolist() == [[grey, red, blue, grey]] * 2
  assert (of((0, 0, 8, 6)) == pixels).all()
  assert of((3.2, 3.2, 3.3, 3.3)).shape == (1, 1, 3)
  with pytest.raises(ScorerError, match="mask of"):
    of((0, 0, 8, 6), mask[:3])


class _ByMean:
  """Names the nearest of three colours."""

  def identity(self):
    return {"by": "mean"}

  def __call__(self, pixels, name, objects):
    names = ("red", "green", "blue")
    cuts = [colours.cut_out(pixels, one) for one in objects]
    return [names[int(cut.mean((0, 1)).argmax())] for cut in cuts]


def test_a_classifier_names_what_the_file_does_not():
  pixels = common.plain("red", 10, 20)
  pixels[:, 10:] = (0, 0, 255)
  found = [
    Detection("dog", 0.9, (0, 0, 10, 10)),
    Detection("dog", 0.8, (10, 0, 20, 10)),
    Detection("cat", 0.7, (10, 0, 20, 10)),
    Detection("dog", 0.6, (0, 0, 10, 10), color="pink"),
  ]

  class Found:
    identity = lambda self: {}
    __call__ = lambda self, picture: found

  judge = detector.DetectorJudge(Found(), _ByMean())
  reply = judge.ask(common.call(common.png(pixels), colors=["dog"]))
  objects = json.loads(reply.text)["objects"]
  assert [d["color"] for d in objects["dog"]] == ["red", "blue", "pink"]
  assert "color" not in objects["cat"][0]
  broken = judge.ask(common.call(b"broken", colors=["dog"]))
  assert broken.status == "unreachable" and "cannot" not in broken.text


# ------------------------------------------------------------------- anchors


def _drifted(file, **changes):
  lines = [json.loads(line) for line in file.read_text().split("\n") if line]
  lines[0]["detections"][0].update(changes)
  file.write_text("\n".join(map(json.dumps, lines[:1])))


def test_anchors_that_are_found_again(file):
  found = detector.FileDetector(str(file))
  lines = file.read_text().splitlines()
  file.write_text(lines[0])
  assert anchors.check_anchors(found, str(file)) == []
  anchors.require_anchors(found, str(file))


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"score": 0.5}, "computer mouse 0.50 at (2, 2, 8, 8) now scores 0.40"),
    ({"box": [3, 2, 9, 8]}, "no computer mouse 0.40 at (3, 2, 9, 8)"),
    ({"label": "cat"}, "no cat 0.40"),
    ({"score": 0.1}, "a new computer mouse 0.40"),
  ],
)
def test_anchors_tell_what_has_changed(file, changes, said):
  found = detector.FileDetector(str(file))
  _drifted(file, **changes)
  lines = anchors.check_anchors(found, str(file))
  assert any(said in line for line in lines)
  with pytest.raises(ScorerError, match="nothing is"):
    anchors.require_anchors(found, str(file))


def test_anchors_need_pictures(file):
  found = detector.FileDetector(str(file))
  with pytest.raises(ScorerError, match="need pictures"):
    anchors.check_anchors(found, str(file))
  file.write_text("")
  with pytest.raises(ScorerError, match="no anchors"):
    anchors.check_anchors(found, str(file))


def test_a_section_with_anchors_stops_before_anything_is_scored(file, tmp_path):
  wrong = tmp_path / "anchors.jsonl"
  wrong.write_text(file.read_text().splitlines()[0])
  _drifted(wrong, score=0.9)
  section = {"kind": "detector", "detections": str(file)}
  with pytest.raises(ScorerError, match=r"a/0\.png: .* now scores"):
    make.make({**section, "anchors": str(wrong)})


# ------------------------------------------------------------------ sections


@pytest.mark.parametrize(
  "section, said",
  [
    ({}, "ocr, detector, encoder"),
    ({"kind": "openai"}, "ocr, detector, encoder"),
    ({"kind": "detector", "modle": "x"}, "has no modle; its keys are model"),
    ({"kind": "detector"}, "a model or a file"),
    (
      {"kind": "detector", "model": "a", "detections": "b"},
      "a model or a file",
    ),
    ({"kind": "detector", "detections": "lost.jsonl"}, "lost.jsonl"),
    ({"kind": "detector", "model": "lost.onnx"}, "There is no file lost.onnx"),
    ({"kind": "detector", "model": "x", "device": "tpu"}, "'tpu' is none of"),
    ({"kind": "encoder"}, "at least one ONNX file"),
    ({"kind": "encoder", "dino_image": "lost.onnx"}, "no file lost.onnx"),
  ],
)
def test_wrong_sections_say_what_is_wrong(section, said):
  with pytest.raises(ScorerError, match=said):
    make.make(section)


def test_half_a_clip_names_no_colours(file, tmp_path, monkeypatch):
  monkeypatch.setattr(make, "PictureEncoder", lambda path, **run: object())
  section = {"kind": "detector", "detections": str(file), "clip_image": "x"}
  with pytest.raises(ScorerError, match="both clip_image and clip_text"):
    make.make(section)
