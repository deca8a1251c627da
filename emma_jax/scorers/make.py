"""From a judge's section of a config to one of this room's judges.

All keys and what they are where a section does not say; paths are of the
user's files:

ocr       min_score: of a line of text
detector  model: an ONNX file (onnx_detector.py), or detections: a file of them
          (detector.py); anchors: pictures that it is checked with first
          (anchors.py); clip_image, clip_text, tokenizer: CLIP, which names
          colours (encoders.py); min_score: of a detection
encoder   clip_image, clip_text with its tokenizer, dino_image (encoders.py)

All have `threads` (0: as many as there are cores); those with ONNX files,
`device`: cpu or cuda.
"""

from collections.abc import Callable, Mapping
from typing import Any

from emma_jax.judge.base import Judge
from emma_jax.scorers import detector as detectors
from emma_jax.scorers import ocr
from emma_jax.scorers.anchors import require_anchors
from emma_jax.scorers.colours import ClipColours
from emma_jax.scorers.encoders import (
  EncoderJudge,
  Pair,
  PictureEncoder,
  TextEncoder,
)
from emma_jax.scorers.onnx_detector import OnnxDetector
from emma_jax.scorers.packages import ScorerError

_CLIP = {"clip_image": "", "clip_text": "", "tokenizer": ""}
_RUN = {"threads": 0, "device": "cpu"}
KEYS: Mapping[str, Mapping[str, Any]] = {
  "ocr": {"min_score": ocr.MIN_SCORE, "threads": 0},
  "detector": {
    "model": "",
    "detections": "",
    "anchors": "",
    "min_score": detectors.MIN_SCORE,
    **_CLIP,
    **_RUN,
  },
  "encoder": {**_CLIP, "dino_image": "", **_RUN},
}


def make(section: Mapping[str, Any]) -> Judge:
  """The judge of a section, {"kind": "ocr", ...}; see KEYS.

  Raises:
    ScorerError: an unknown kind or key, a package or file that is missing, or
      a detector that does not find its anchors.
  """
  given = dict(section)
  kind = given.pop("kind", None)
  if kind not in KEYS:
    raise ScorerError(f"kind is {kind!r}; scorers are {', '.join(KEYS)}.")
  unknown = sorted(set(given) - set(KEYS[kind]))
  if unknown:
    raise ScorerError(
      f"A judge of the kind {kind} has no {', '.join(unknown)}; its keys are "
      f"{', '.join(KEYS[kind])}."
    )
  return _MAKERS[kind](**{**KEYS[kind], **given})


def _ocr(*, min_score: float, threads: int) -> Judge:
  return ocr.OcrJudge(min_score=min_score, threads=threads)


def _detector(
  *, model: str, detections: str, anchors: str, min_score: float, **rest: Any
) -> Judge:
  if bool(model) == bool(detections):
    raise ScorerError(
      f"A detector is a model or a file of detections: model={model!r}, "
      f"detections={detections!r}."
    )
  run = {key: rest.pop(key) for key in _RUN}
  found: detectors.Detector = (
    OnnxDetector(model, **run) if model else detectors.FileDetector(detections)
  )
  if anchors:
    require_anchors(found, anchors)
  clip = _clip(run, **rest)
  colours = None
  if clip.pictures is not None and clip.texts is not None:
    colours = ClipColours(clip.pictures, clip.texts)
  elif clip != Pair():
    raise ScorerError(
      "Colours need both clip_image and clip_text, with its tokenizer."
    )
  return detectors.DetectorJudge(found, colours, min_score=min_score)


def _encoder(*, dino_image: str, threads: int, device: Any, **rest: Any):
  run = {"threads": threads, "device": device}
  pairs = {"clip": _clip(run, **rest)}
  if dino_image:
    pairs["dino"] = Pair(PictureEncoder(dino_image, **run))
  return EncoderJudge({k: v for k, v in pairs.items() if v != Pair()})


def _clip(
  run: Mapping[str, Any], *, clip_image: str, clip_text: str, tokenizer: str
) -> Pair:
  return Pair(
    PictureEncoder(clip_image, **run) if clip_image else None,
    TextEncoder(clip_text, tokenizer, **run) if clip_text else None,
  )


_MAKERS: Mapping[str, Callable[..., Judge]] = {
  "ocr": _ocr,
  "detector": _detector,
  "encoder": _encoder,
}
