"""Does a detector find what it found where it was trusted?

Twenty pictures with their detections (the file of `detector.read_detections`)
are looked at before anything is scored: the same weights in another precision,
on another chip or behind another resize give other scores, without any error
(djghosh13/geneval, issues 6 and 15).
"""

from emma_jax.scorers.detector import Detection, Detector, read_detections
from emma_jax.scorers.packages import ScorerError

MIN_SCORE = 0.3  # what GenEval looks at
_MAX_SHIFT = 0.05  # of a score
_MIN_OVERLAP = 0.9  # of boxes, intersection over union


def check_anchors(detector: Detector, file: str) -> list[str]:
  """All differences, a line each; none where the detector is the same.

  Objects with a score of MIN_SCORE and more must be found again: of the class,
  with boxes that overlap by 90%, and scores within 0.05; and no others.

  Raises:
    ScorerError: the file is damaged, names no pictures, or has none.
  """
  lines, anchors = [], list(read_detections(file))
  for anchor in anchors:
    if not anchor.picture:
      raise ScorerError(f"{file}: anchors need pictures, not only their sums.")
    with open(anchor.picture, "rb") as picture:
      found = detector(picture.read())
    said = differences(anchor.detections, found)
    lines += [f"{anchor.picture}: {line}" for line in said]
  if not anchors:
    raise ScorerError(f"{file} has no anchors.")
  return lines


def require_anchors(detector: Detector, file: str) -> None:
  """ScorerError with all differences, if there are any."""
  lines = check_anchors(detector, file)
  if lines:
    raise ScorerError(
      "The detector does not find what it found for the anchors; nothing is "
      "scored with it. Look at weights, precision and preprocessing.\n"
      + "\n".join(lines)
    )


def differences(wanted: list[Detection], found: list[Detection]) -> list[str]:
  """What is not found again, and what is new."""
  lines, left = [], list(found)
  for one in sorted(wanted, key=lambda d: -d.score):
    if one.score < MIN_SCORE:
      continue
    same = [d for d in left if d.label == one.label]
    best = max(same, key=lambda d: overlap(d.box, one.box), default=None)
    if best is None or overlap(best.box, one.box) < _MIN_OVERLAP:
      lines.append(f"no {_said(one)}")
      continue
    left.remove(best)
    if abs(best.score - one.score) > _MAX_SHIFT:
      lines.append(f"{_said(one)} now scores {best.score:.2f}")
  # What was just below the limit may be just above it now.
  new = [d for d in left if d.score >= MIN_SCORE + _MAX_SHIFT]
  return lines + [f"a new {_said(d)}" for d in new]


def overlap(
  a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> float:
  """Intersection over union of two boxes, 0..1.

  >>> overlap((0, 0, 2, 2), (1, 0, 3, 2)) == 1 / 3
  True
  """
  area = lambda x1, y1, x2, y2: max(0.0, x2 - x1) * max(0.0, y2 - y1)
  common = area(
    max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
  )
  union = area(*a) + area(*b) - common
  return common / union if union else 0.0


def _said(one: Detection) -> str:
  box = ", ".join(f"{side:.0f}" for side in one.box)
  return f"{one.label} {one.score:.2f} at ({box})"
