"""The rehearsal's sets of pictures to edit."""

from collections.abc import Sequence
import os
from typing import Any

from PIL import Image

from emma_jax.benchmarks.smoke import pictures as draw
from emma_jax.benchmarks.smoke import writing


def make(folder: str) -> None:
  """Writes GEdit-Bench, ImgEdit-Bench, Emu Edit and RISEBench."""
  for write in (_gedit, _imgedit, _emu_edit, _rise):
    write(folder)


def _gedit(folder: str) -> None:
  """Lines of our own. One source is a JPEG that lies on its side; one is shown
  to the model in another size than to the judge."""
  ball = draw.shapes(("circle", "red", (48, 60)), background="lightblue")
  pine = draw.shapes(("triangle", "green", (32, 50)), size=(64, 96))
  block = ("square", "tan")
  drawn: dict[str, Image.Image | bytes] = {
    "ball.png": ball,
    "sign.png": draw.plate("OPEN", background="khaki"),
    "wide-raw.png": draw.shapes((*block, (64, 48)), size=(128, 96)),
    "wide.png": draw.shapes((*block, (80, 60)), side=38, size=(160, 120)),
    "lying.jpg": draw.lying_jpeg(pine),
  }
  rows = (
    ("g1", "color_alter", "Make the ball blue.", ["ball.png"]),
    ("g2", "text_change", "Change OPEN to SHUT.", ["sign.png"]),
    (
      *("g3", "subject-add", "Add a circle beside the square."),
      ["wide-raw.png", "wide.png"],
    ),
    ("g4", "subject-remove", "Take the triangle away.", ["lying.jpg"]),
  )
  chinese = (
    ("c1", "color_alter", "把球变成蓝色。", ["ball.png"]),
    ("c2", "background_change", "把背景变成黑色。", ["ball.png"]),
  )
  writing.own(folder, "gedit", drawn, _edits("en", rows))
  # In a folder of data of its own: lines of our own know no split.
  place = os.path.join(folder, "cn")
  writing.own(place, "gedit", {"ball.png": ball}, _edits("cn", chinese))


def _edits(
  language: str, rows: Sequence[tuple[str, str, str, list[str]]]
) -> list[dict[str, Any]]:
  """Of (id, type, instruction, pictures); the first is of no intersection."""
  return [
    {
      "id": name,
      "question": instruction,
      "pictures": files,
      "meta": {
        "category": kind,
        "Intersection_exist": n > 0,
        "instruction_language": language,
      },
    }
    for n, (name, kind, instruction, files) in enumerate(rows)
  ]


def _imgedit(folder: str) -> None:
  """basic_edit.json, with the pictures it names."""
  place = os.path.join(folder, "imgedit")
  rows = {
    "1": ("shapes/1.png", "Replace the circle by a square.", "replace"),
    "2": ("shapes/2.png", "Add a red circle on the left.", "add"),
    "3": ("shapes/2.png", "Make the triangle yellow.", "adjust"),
    "4": ("shapes/1.png", "Make the background black.", "background"),
  }
  writing.picture(
    os.path.join(place, "shapes/1.png"),
    draw.shapes(("circle", "blue", (48, 48))),
  )
  writing.picture(
    os.path.join(place, "shapes/2.png"),
    draw.shapes(("triangle", "green", (66, 52)), background="beige"),
  )
  writing.whole(
    os.path.join(place, "basic_edit.json"),
    {
      key: {"id": file, "prompt": text, "edit_type": kind}
      for key, (file, text, kind) in rows.items()
    },
  )


def _emu_edit(folder: str) -> None:
  """Lines of our own, with captions of before and after."""
  drawn = {
    "square.png": draw.shapes(("square", "red", (48, 48))),
    "pair.png": draw.shapes(
      ("circle", "blue", (28, 48)), ("circle", "red", (68, 48))
    ),
  }
  rows = [
    (
      *("e1", "square", "color", "Make the square green."),
      *("a red square", "a green square"),
    ),
    (
      *("e2", "square", "background", "Make it night."),
      *("a red square by day", "a red square at night"),
    ),
    (
      *("e3", "pair", "remove", "Remove the red circle."),
      *("two circles", "one blue circle"),
    ),
    (
      *("e4", "pair", "add", "Add a star above."),
      *("two circles", "a star above two circles"),
    ),
  ]
  writing.own(
    folder,
    "emu_edit",
    drawn,
    [
      {
        "id": name,
        "question": instruction,
        "pictures": [f"{picture}.png"],
        "group": picture,
        "meta": {
          "category": task,
          "input_caption": before,
          "output_caption": after,
        },
      }
      for name, picture, task, instruction, before, after in rows
    ],
  )


def _rise(folder: str) -> None:
  """An edit of each category: one whose looks are free, one with a picture for
  its reference, and one with an answer in words."""
  place = os.path.join(folder, "rise")
  for name, drawn in {
    "candle.png": draw.shapes(("square", "ivory", (48, 60)), background="navy"),
    "glass.png": draw.shapes(("square", "lightblue", (48, 48))),
    "stack.png": draw.shapes(
      ("square", "red", (48, 75)), ("square", "blue", (48, 40))
    ),
    "stack-turned.png": draw.shapes(
      ("square", "blue", (48, 75)), ("square", "red", (48, 40))
    ),
    "row.png": draw.page(["2  4  6  ?"], width=96),
  }.items():
    writing.picture(os.path.join(place, "data", name), drawn)
  rows: list[dict[str, Any]] = [
    {
      "index": "temporal_1",
      "category": "temporal_reasoning",
      "subtask": "hours",
      "instruction": "Show the candle after five hours of burning.",
      "image": "candle.png",
      "reference": "The candle is much shorter.",
      "consistency_free": None,
    },
    {
      "index": "causal_1",
      "category": "causal_reasoning",
      "subtask": "breaking",
      "instruction": "Show what is left when a hammer hits the glass.",
      "image": "glass.png",
      "reference": "There are pieces of glass.",
      "consistency_free": True,
    },
    {
      "index": "spatial_1",
      "category": "spatial_reasoning",
      "subtask": "order",
      "instruction": "Swap the upper and the lower block.",
      "image": "stack.png",
      "reference_img": "stack-turned.png",
      "consistency_free": None,
    },
    {
      "index": "logical_1",
      "category": "logical_reasoning",
      "subtask": "sequence",
      "instruction": "Write the number that the question mark stands for.",
      "image": "row.png",
      "reference_txt": "8",
      "consistency_free": None,
    },
  ]
  writing.whole(os.path.join(place, "datav2_total_w_subtask.json"), rows)
