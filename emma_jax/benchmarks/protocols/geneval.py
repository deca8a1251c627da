"""GenEval: a detector finds objects, the checks of `scoring.geneval` decide.

What is asked of the detector, per picture:

  classes   of NAMES: those whose boxes are looked at
  colors    of these: those whose boxes need a colour, one of COLOURS

Its reply is JSON; boxes are (x0, y0, x1, y1) in pixels from the top left:

  {"objects": {"dog": [{"box": [10, 20, 90, 80], "score": 0.95,
                        "color": "brown"}]}}

All boxes are to be told, however low their score: thresholds are applied here.
Source: djghosh13/geneval (MIT), evaluation/evaluate_images.py.
"""

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.protocols import drawing
from emma_jax.benchmarks.scoring import geneval
from emma_jax.benchmarks.suite import Case, Made, NoReply, Score
from emma_jax.scorers.classes import COLOURS, NAMES

PICTURES = 4

# x0, y0, x1, y1, score, and the colour's place in COLOURS, -1 where none is
# told.
Detection = tuple[float, float, float, float, float, int]

# What another form of a reply, or a number beyond floats, raises.
_UNREADABLE = (
  *(ValueError, TypeError, KeyError, AttributeError),
  *(OverflowError, RecursionError),
)


def classes(checks: Mapping[str, Any]) -> tuple[list[str], list[str]]:
  """(classes whose boxes are looked at, those of them whose colour is)."""
  wanted = [*checks.get("include", ()), *checks.get("exclude", ())]
  names = list(dict.fromkeys(check["class"] for check in wanted))
  colored = {c["class"] for c in checks.get("include", ()) if "color" in c}
  return names, [name for name in names if name in colored]


def detections(text: str) -> dict[str, list[Detection]]:
  """What a detector's reply says, by class.

  Raises:
    NoReply: it is not of the form above, or names a class that GenEval does not
      have: a detector with COCO's own names would find no "computer mouse".
  """
  try:
    objects = json.loads(text)["objects"]
    found = {
      name: [_detection(box) for box in boxes]
      for name, boxes in objects.items()
    }
  except _UNREADABLE as error:
    raise NoReply("unparsable", f"{error!r} in {text!r:.80}") from error
  unknown = [name for name in found if name not in NAMES]
  if unknown:
    raise NoReply("unparsable", f"GenEval has no classes {unknown}")
  return found


def _detection(told: Mapping[str, Any]) -> Detection:
  x0, y0, x1, y1 = map(_number, told["box"])
  if x1 < x0 or y1 < y0:
    raise ValueError(f"{told['box']} is no x0, y0, x1, y1")
  color = told.get("color")
  if color is not None and color not in COLOURS:
    raise ValueError(f"{color=} is none of {', '.join(COLOURS)}")
  place = -1 if color is None else COLOURS.index(color)
  return x0, y0, x1, y1, _number(told["score"]), place


def _number(value: Any) -> float:
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f"{value!r} is no number")
  if not math.isfinite(value):
    raise ValueError(f"{value!r} is not finite")
  return float(value)


def _colors(name: str, boxes: Sequence[Any]) -> list[str]:
  """Of boxes that are looked at; the classifier must have seen all of them."""
  places = [int(box[5]) for box in boxes]
  if -1 in places:
    raise NoReply("unparsable", f"no colour of a {name}")
  return [COLOURS[place] for place in places]


def score_picture(case: Case, made: Made) -> Score:
  """1 if all checks hold, else 0."""
  checks = drawing.needed(case.item, "checks")
  names, colored = classes(checks)
  reply = case.ask(
    "detect",
    "",
    [made.picture()],
    repeat=made.prediction.repeat,
    classes=names,
    colors=colored,
  )
  found = detections(reply.text)
  verdict = geneval.score_picture(found, checks, _colors, geneval.Settings())
  return Score(value=float(verdict.correct))


BENCHMARKS: tuple[suite.Benchmark, ...] = (
  suite.Benchmark(
    name="geneval",
    kind="drawing",
    task="draw",
    impls=("original",),
    prompts={"plain": drawing.plain},
    repeats=PICTURES,
    score=lambda case: suite.each(case, score_picture),
    scale=1.0,
    unit="",
    # The published number is the mean of the six tags, not of pictures.
    stratum=lambda item, impl: str(drawing.needed(item, "category")),
    categories=suite.by_category,
    judge="detector",
    protocol=(
      "Published numbers are of four pictures a prompt, Mask2Former Swin-S "
      "(mmdet 2.x, mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco) and, for "
      "colours, CLIP ViT-L/14 of OpenAI on boxes with all but the mask "
      "painted grey; the split long is of rewritten prompts, which papers "
      "mark with a dagger. Other detectors give other numbers; size and "
      "sampling of the pictures are each paper's own."
    ),
  ),
)
