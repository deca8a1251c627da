"""GenEval: are the objects, counts, colours and positions of a prompt there?

553 prompts in six tags, four pictures each. A detector finds boxes, a
classifier names their colours; both are somebody else's, and what is here
starts from what they said. Source: djghosh13/geneval (MIT),
evaluation/evaluate_images.py and evaluation/summary_scores.py.

A box is (x0, y0, x1, y1) in pixels, from the top left; a detection has its
score as a fifth number.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.scorers.classes import COLOURS

Box = Sequence[float]
# (class, boxes of that class) -> the colour of each box, one of COLOURS.
ColorOf = Callable[[str, Sequence[Box]], Sequence[str]]

TAGS = (
  "single_object",
  "two_object",
  "counting",
  "colors",
  "position",
  "color_attr",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The original's options, with its values.

  threshold, counting_threshold: a detection's score must be above it; the
    second is for prompts tagged `counting`.
  max_objects: boxes that are kept of a class.
  max_overlap: a box that overlaps a better one of its class by this much (IoU)
    or more is dropped; 1 keeps all.
  position_threshold: the dead zone, in sums of the boxes' widths and heights.
  """

  threshold: float = 0.3
  counting_threshold: float = 0.9
  max_objects: int = 16
  max_overlap: float = 1.0
  position_threshold: float = 0.1


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Of one picture: whether all is there, what is not, and the boxes kept.

  reason: a line per requirement that is not met; empty where all are.
  kept: class -> detections, the most confident first; absent where none.
  """

  correct: bool
  reason: str
  kept: Mapping[str, Sequence[Box]]


def iou(box_a: Box, box_b: Box) -> float:
  """Intersection over union of two boxes whose last pixels count, 0..1."""

  def area(x0: float, y0: float, x1: float, y1: float) -> float:
    return max(x1 - x0 + 1, 0) * max(y1 - y0 + 1, 0)

  a, b = box_a[:4], box_b[:4]
  common = area(
    max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
  )
  union = area(*a) + area(*b) - common
  return common / union if union else 0.0


def relative_position(
  box_a: Box, box_b: Box, position_threshold: float = 0.1
) -> list[str]:
  """Where A lies, seen from B: none, one or two of left of, right of, above,
  below, in alphabetical order.

  Offsets within the dead zone count as none. The rest is divided by the length
  of the whole offset, so that an offset of 45 degrees has two relations, and a
  small one that hardly leaves the dead zone none.
  """
  corners = np.array([box_a[:4], box_b[:4]], np.float64).reshape(2, 2, 2)
  center_a, center_b = corners.mean(axis=1)
  size_a, size_b = np.abs(corners[:, 1] - corners[:, 0])
  offset = center_a - center_b
  beyond = np.abs(offset) - position_threshold * (size_a + size_b)
  revised = np.maximum(beyond, 0) * np.sign(offset)
  if np.all(np.abs(revised) < 1e-3):
    return []
  dx, dy = revised / np.linalg.norm(offset)
  found = {
    "left of": dx < -0.5,
    "right of": dx > 0.5,
    "above": dy < -0.5,
    "below": dy > 0.5,
  }
  return sorted(name for name, holds in found.items() if holds)


def keep(
  detections: Mapping[str, Sequence[Box]], tag: str, settings: Settings
) -> dict[str, list[Box]]:
  """Detections that count, the most confident first; classes without are left
  out.

  Args:
    detections: class -> (x0, y0, x1, y1, score), in any order.
    tag: of the prompt; see `Settings.counting_threshold`.
    settings: see there.
  """
  least = (
    settings.counting_threshold if tag == "counting" else settings.threshold
  )
  kept = {}
  for name, boxes in detections.items():
    # In float32, as the detector's: its 0.3 is not above 0.3, though as a
    # float64 it is.
    scores = np.array([box[4] for box in boxes], np.float32)
    # Of equal scores the later comes first: the original reverses a sort.
    order = np.argsort(scores, kind="stable")[::-1]
    ranked = [boxes[i] for i in order if scores[i] > np.float32(least)]
    chosen = _without_overlaps(
      ranked[: settings.max_objects], settings.max_overlap
    )
    if chosen:
      kept[name] = chosen
  return kept


def _without_overlaps(ranked: list[Box], max_overlap: float) -> list[Box]:
  if max_overlap == 1:
    return ranked
  chosen: list[Box] = []
  for box in ranked:
    if all(iou(better, box) < max_overlap for better in chosen):
      chosen.append(box)
  return chosen


def evaluate(
  objects: Mapping[str, Sequence[Box]],
  metadata: Mapping[str, Any],
  color_of: ColorOf,
  position_threshold: float = 0.1,
) -> tuple[bool, str]:
  """(whether a picture shows what its prompt asks for, what is not met).

  Only the most confident `count` boxes of a class are looked at: a dog in the
  right place does not help if another dog has a higher score.

  Args:
    objects: class -> boxes, the most confident first, as `keep` gives them.
    metadata: `include`: class, count and, where asked for, color and position
      (relation, place of the target in `include`); `exclude`: class and count,
      which must not be reached.
    color_of: asked for boxes with a required colour only.
    position_threshold: see `relative_position`.
  """
  reasons: list[str] = []
  groups: list[Sequence[Box] | None] = []
  for wanted in metadata.get("include", []):
    found = objects.get(wanted["class"], [])[: wanted["count"]]
    reason = _missing(wanted, found, color_of)
    if not reason and "position" in wanted:
      reason = _misplaced(wanted, found, groups, position_threshold)
    if reason:
      reasons.append(reason)
    groups.append(None if reason else found)
  for banned in metadata.get("exclude", []):
    name, count = banned["class"], len(objects.get(banned["class"], []))
    if count >= banned["count"]:
      objects[name]  # a count of 0 cannot be kept: KeyError, as there
      reasons.append(f"expected {name}<{banned['count']}, found {count}")
  return not reasons, "\n".join(reasons)


def _missing(
  wanted: Mapping[str, Any], found: Sequence[Box], color_of: ColorOf
) -> str:
  """What is amiss with number or colour, or nothing."""
  name, count = wanted["class"], wanted["count"]
  if len(found) < count:
    return f"expected {name}>={count}, found {len(found)}"
  if "color" not in wanted:
    return ""
  color, seen = wanted["color"], list(color_of(name, found))
  if seen.count(color) >= count:
    return ""
  others = ", ".join(f"{seen.count(c)} {c}" for c in COLOURS if c in seen)
  return (
    f"expected {color} {name}>={count}, "
    f"found {seen.count(color)} {color}; and {others}"
  )


def _misplaced(
  wanted: Mapping[str, Any],
  found: Sequence[Box],
  groups: Sequence[Sequence[Box] | None],
  position_threshold: float,
) -> str:
  """What is amiss with the position, or nothing; the first offence counts."""
  relation, target = wanted["position"]
  targets = groups[target]
  if targets is None:
    return f"no target for {wanted['class']} to be {relation}"
  for box in found:
    for other in targets:
      seen = relative_position(box, other, position_threshold)
      if relation not in seen:
        return (
          f"expected {wanted['class']} {relation} target, "
          f"found {' and '.join(seen)} target"
        )
  return ""


def score_picture(
  detections: Mapping[str, Sequence[Box]],
  metadata: Mapping[str, Any],
  color_of: ColorOf,
  settings: Settings,
) -> Verdict:
  """The verdict on one picture, from all that the detector said.

  Args:
    detections: class -> (x0, y0, x1, y1, score), in any order.
    metadata: the prompt's line, with its `tag`; see `evaluate`.
    color_of: see `evaluate`.
    settings: see there.
  """
  kept = keep(detections, metadata["tag"], settings)
  correct, reason = evaluate(
    kept, metadata, color_of, settings.position_threshold
  )
  return Verdict(correct, reason, kept)


def given_colors(colors: Mapping[str, Sequence[str]]) -> ColorOf:
  """Colours that are known before: class -> the colours of its boxes in order.

  Raises:
    KeyError: a colour is asked for that nobody named.
  """

  def color_of(name: str, boxes: Sequence[Box]) -> Sequence[str]:
    named = colors.get(name, [])
    if len(named) < len(boxes):
      raise KeyError(
        f"Colours of {len(boxes)} boxes of {name!r} are needed, "
        f"{len(named)} are given."
      )
    return named[: len(boxes)]

  return color_of


def tag_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """tag -> share of correct pictures, 0..1, in the order of appearance.

  Args:
    rows: one per picture, with `tag` and `correct`.
  """
  tags: dict[str, list[bool]] = {}
  for row in rows:
    tags.setdefault(row["tag"], []).append(bool(row["correct"]))
  return {tag: sum(correct) / len(correct) for tag, correct in tags.items()}


def overall(rows: Sequence[Mapping[str, Any]]) -> float:
  """The published number, 0..1: the mean of the tags' means, not of pictures.

  Raises:
    ValueError: there are no rows.
  """
  if not rows:
    raise ValueError("GenEval's score needs at least one picture.")
  return float(np.mean(list(tag_means(rows).values())))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What the original's script prints, rounded as it prints it.

  A prompt counts as correct if any of its pictures is.

  Args:
    rows: one per picture: tag, prompt, correct, and `metadata` where known,
      which then says which prompt it is.
  """
  score = overall(rows)
  prompts: dict[Any, bool] = {}
  for row in rows:
    key = row.get("metadata", (row["tag"], row["prompt"]))
    prompts[key] = prompts.get(key, False) or bool(row["correct"])
  pictures = sum(bool(row["correct"]) for row in rows) / len(rows)
  return {
    "images": len(rows),
    "prompts": len(prompts),
    "correct_images": f"{pictures:.2%}",
    "correct_prompts": f"{sum(prompts.values()) / len(prompts):.2%}",
    "tasks": {tag: f"{mean:.2%}" for tag, mean in tag_means(rows).items()},
    "overall": float(f"{score:.5f}"),
  }


def _evaluate_case(
  objects: Mapping[str, Sequence[Box]],
  metadata: Mapping[str, Any],
  colors: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
  # The script that stood in for the classifier took what there was.
  scripted = lambda name, boxes: colors[name][: len(boxes)]
  correct, reason = evaluate(objects, metadata, scripted)
  return {"correct": correct, "reason": reason}


def _thresholds_case(
  detections: Mapping[str, Sequence[Box]],
  metadata: Mapping[str, Any],
  colors: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
  verdict = score_picture(
    detections, metadata, given_colors(colors or {}), Settings()
  )
  return {
    "correct": verdict.correct,
    "kept": {name: len(boxes) for name, boxes in verdict.kept.items()},
  }


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("GenEval", "detector_thresholds", "original"): _thresholds_case,
  ("GenEval", "evaluate", "original"): _evaluate_case,
  ("GenEval", "iou", "original"): iou,
  ("GenEval", "relative_position", "original"): relative_position,
  ("GenEval", "summary", "original"): summary,
}
