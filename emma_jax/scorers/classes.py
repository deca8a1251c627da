"""GenEval's names: of COCO's 80 classes, whoever detects them, and of colours.

Source: djghosh13/geneval (MIT), evaluation/object_names.txt, in COCO's order.
"""

import difflib

from emma_jax.scorers.packages import ScorerError

NAMES = tuple(
  name.strip()
  for name in """
  person, bicycle, car, motorcycle, airplane, bus, train, truck, boat,
  traffic light, fire hydrant, stop sign, parking meter, bench, bird, cat, dog,
  horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
  handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
  baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
  wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
  broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant,
  bed, dining table, toilet, tv, laptop, computer mouse, tv remote,
  computer keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
  book, clock, vase, scissors, teddy bear, hair drier, toothbrush
  """.split(",")
)
# That objects have, and what CLIP compares a crop with, per colour; the three
# are averaged (evaluation/evaluate_images.py).
COLOURS = (
  *("red", "orange", "yellow", "green", "blue"),
  *("purple", "pink", "brown", "black", "white"),
)
TEMPLATES = (
  "a photo of a {color} {name}",
  "a photo of a {color}-colored {name}",
  "a photo of a {color} object",
)
# COCO's own names, then those that Pascal VOC's had in older lists of COCO's.
_OTHERS = {
  "mouse": "computer mouse",
  "remote": "tv remote",
  "keyboard": "computer keyboard",
  "aeroplane": "airplane",
  "diningtable": "dining table",
  "motorbike": "motorcycle",
  "pottedplant": "potted plant",
  "sofa": "couch",
  "tvmonitor": "tv",
}


def geneval_name(label: str) -> str:
  """GenEval's name of a class.

  >>> geneval_name("Dining_Table"), geneval_name("remote")
  ('dining table', 'tv remote')

  Raises:
    ScorerError: it is none of the 80.
  """
  name = " ".join(label.replace("_", " ").lower().split())
  name = _OTHERS.get(name, name)
  if name not in NAMES:
    near = difflib.get_close_matches(name, [*NAMES, *_OTHERS], 3)
    raise ScorerError(
      f"{label!r} is none of the 80 classes of COCO and GenEval"
      + (f"; near are {', '.join(near)}." if near else ".")
    )
  return name
