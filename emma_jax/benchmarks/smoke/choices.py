"""The rehearsal's sets of choice, of college and of mathematics; MM-Vet."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from emma_jax.benchmarks.data.rows import ROLL
from emma_jax.benchmarks.smoke import pictures as draw
from emma_jax.benchmarks.smoke import writing


def make(folder: str) -> None:
  """Writes MMBench, MMMU, MathVista, AI2D, MMStar and MM-Vet."""
  for write in (_mmbench, _mmmu, _mathvista, _ai2d, _mmstar, _mmvet):
    write(folder)


def _mmbench(folder: str) -> None:
  """Two questions with all their rolls, which share the first row's picture."""
  three = draw.shapes(("circle", "red", (30, 50)), ("square", "blue", (68, 50)))
  two = draw.shapes(("triangle", "green", (48, 30)))
  questions = [
    (7, three, "What is left of the square?", "", "spatial_relationship"),
    (8, two, "Where is the triangle?", "Up is the top.", "object_localization"),
  ]
  choices = [["a circle", "a triangle", "nothing"], ["at the top", "below"]]
  table = []
  for (number, picture, question, hint, category), texts in zip(
    questions, choices, strict=True
  ):
    for k in range(len(texts)):
      rolled = [*texts[k:], *texts[:k]]
      table.append(
        {
          "index": str(number + k * ROLL),
          "question": question,
          "hint": hint,
          **dict(zip("ABC", rolled)),
          "answer": "ABC"[rolled.index(texts[0])],
          "category": category,
          "l2-category": "finegrained_perception",
          "split": "dev",
          "image": str(number) if k else writing.base64_of(picture),
        }
      )
  writing.tsv(os.path.join(folder, "mmbench", "MMBench_DEV_EN_V11.tsv"), table)


def _mmmu(folder: str) -> None:
  """Several pictures of a question, short answers, and a row of the dev split,
  which is another."""
  circle = draw.shapes(("circle", "red", (48, 48)))
  square = draw.shapes(("square", "blue", (48, 48)))
  costs = draw.bars("Costs", {"wood": 4, "nails": 8})
  both = str([writing.base64_of(circle), writing.base64_of(square)])
  choice, short = "multiple-choice", "open"
  rows = [
    (
      *("901", "validation_Design_901", both, choice, "B"),
      "Which has corners, <image 1> or <image 2>?",
      ("the first", "the second", "both"),
    ),
    (
      *("902", "validation_Accounting_902", writing.base64_of(costs)),
      *(short, "12", "<image 1> What are the costs in all?", ()),
    ),
    (
      *("903", "validation_Accounting_903", "902", choice, "A"),
      "By <image 1>, which costs are higher?",
      ("nails", "wood"),
    ),
    (
      *("904", "validation_Math_904", writing.base64_of(square), short),
      *("['square', 'a square']", "Which shape does <image 1> show?", ()),
    ),
    (
      *("905", "dev_Math_905", "904", choice, "A"),
      "How many corners has <image 1>?",
      ("four", "three"),
    ),
  ]
  table = [
    {
      "index": index,
      "id": name,
      "question": question,
      **dict.fromkeys("ABC", ""),
      **dict(zip("ABC", options)),
      "answer": answer,
      "question_type": kind,
      "split": {"dev": "dev"}.get(name.split("_")[0], "validation"),
      "topic_difficulty": "Easy",
      "image": image,
    }
    for index, name, image, kind, answer, question, options in rows
  ]
  writing.tsv(os.path.join(folder, "mmmu", "MMMU_DEV_VAL.tsv"), table)


def _mathvista(folder: str) -> None:
  """An answer of each type."""
  drawn = {
    "plums.png": draw.bars("Plums", {"Mon": 2, "Tue": 6}),
    "ruler.png": draw.page(["0 |---------| 4.5 cm"], width=144),
    "two.png": draw.shapes(
      ("circle", "red", (28, 48)), ("circle", "orange", (68, 48))
    ),
  }
  rows: list[tuple[str, str, str, str, str, dict[str, str]]] = [
    (
      *("which", "plums", "On which day were there more plums?", "Tue"),
      *("text", {"A": "Mon", "B": "Tue"}),
    ),
    ("count", "two", "How many circles are there?", "2", "integer", {}),
    ("length", "ruler", "How long is the line, in cm?", "4.5", "float", {}),
    ("both", "plums", "How many plums on each day?", "[2, 6]", "list", {}),
  ]
  writing.own(
    folder,
    "mathvista",
    drawn,
    [
      {
        "id": name,
        "question": question,
        "options": options,
        "answers": [answer],
        "pictures": [f"{picture}.png"],
        "meta": {
          "question_type": "multi_choice" if options else "free_form",
          "answer_type": kind,
          "precision": 1.0 if kind == "float" else None,
          "metadata": {
            "task": "figure question answering",
            "skills": ["statistical reasoning", "numeric commonsense"],
          },
        },
      }
      for name, picture, question, answer, kind, options in rows
    ],
  )


def _choices(
  rows: Sequence[tuple[Any, str, Sequence[str], str, Mapping[str, str]]],
) -> list[dict[str, Any]]:
  """Of (picture or row, question, options, answer, categories)."""
  return [
    {
      "index": str(n),
      "question": question,
      **dict.fromkeys("ABCD", ""),
      **dict(zip("ABCD", options)),
      "answer": answer,
      **categories,
      "image": image if isinstance(image, str) else writing.base64_of(image),
    }
    for n, (image, question, options, answer, categories) in enumerate(rows)
  ]


def _ai2d(folder: str) -> None:
  """Beside the sets' folders, as in VLMEvalKit's own."""
  chain = draw.page(["grass > hare", "hare  > fox", "fox   > lynx"], width=96)
  leaf = draw.shapes(
    ("triangle", "green", (48, 40)), ("square", "tan", (48, 76))
  )
  draw.write(leaf, "A", (4, 34))
  draw.write(leaf, "B", (4, 70))
  where = {"category": "foodChainsWebs"}
  plant = {"category": "partsOfAPlant"}
  rows = [
    (chain, "What does the fox eat?", ("grass", "hare", "lynx"), "B", where),
    ("0", "Which comes first?", ("fox", "lynx", "hare", "grass"), "D", where),
    (leaf, "Which letter names the leaves?", ("A", "B"), "A", plant),
    ("2", "What is below the leaves?", ("stem", "root"), "A", plant),
  ]
  writing.tsv(os.path.join(folder, "AI2D_TEST.tsv"), _choices(rows))


def _mmstar(folder: str) -> None:
  """One of its options is the text "None", which pandas loses."""
  dots = draw.shapes(
    ("circle", "purple", (24, 30)),
    ("circle", "purple", (70, 30)),
    ("circle", "purple", (46, 70)),
  )
  star = draw.shapes(("triangle", "gold", (48, 48)), background="navy")

  def of(category: str, part: str) -> dict[str, str]:
    return {"category": category, "l2_category": part}

  coarse, fine = "coarse perception", "instance reasoning"
  rows = [
    (dots, "How many dots are there?", ("2", "3", "5"), "B", of(fine, "count")),
    (
      *("0", "Which colour have they?", ("red", "None", "purple"), "C"),
      of(coarse, "colour"),
    ),
    (star, "What is shown?", ("a triangle", "a bus"), "A", of(coarse, "scene")),
    ("2", "Is it dark behind it?", ("yes", "no"), "A", of(fine, "count")),
  ]
  writing.tsv(os.path.join(folder, "mmstar", "MMStar.tsv"), _choices(rows))


def _mmvet(folder: str) -> None:
  """Questions that need several capabilities, with parts of an answer."""
  drawn = {
    "sums.png": draw.page(["3 + 4 = ?", "9 - 2 = ?"], width=96),
    "menu.png": draw.page(["Soup   3", "Bread  2"], width=96),
    "scene.png": draw.shapes(
      ("square", "brown", (30, 70)), ("circle", "red", (30, 40))
    ),
  }
  rows = [
    ("v1", "sums", "What is the first result?", "7", ["ocr", "math"]),
    (
      *("v2", "menu", "What do soup and bread cost?", "soup 3<AND>bread 2"),
      ["ocr"],
    ),
    (
      *("v3", "scene", "What lies on the square?", "a circle<OR>a ball"),
      ["rec", "spat"],
    ),
    (
      *("v4", "scene", "Write a line about the picture.", "A ball on a box."),
      ["rec", "know", "gen"],
    ),
  ]
  writing.own(
    folder,
    "mmvet",
    drawn,
    [
      {
        "id": name,
        "question": question,
        "answers": [answer],
        "pictures": [f"{picture}.png"],
        "meta": {"capability": needed},
      }
      for name, picture, question, answer, needed in rows
    ],
  )
