"""The rehearsal's sets of pictures to draw, in their repositories' files."""

import os
from typing import Any

from emma_jax.benchmarks.scoring.wise import CATEGORIES
from emma_jax.benchmarks.smoke import writing


def make(folder: str) -> None:
  """Writes GenEval, DPG-Bench, GenEval 2, WISE_Verified and LongText-Bench."""
  for write in (_geneval, _dpg, _geneval2, _wise, _longtext):
    write(folder)


def _geneval(folder: str) -> None:
  """A prompt of each tag, twice: short, and rewritten at length."""

  def one(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **more}

  rows: list[tuple[str, dict[str, Any], str, str]] = [
    (
      "single_object",
      {"include": [one("kite")]},
      "a kite",
      "One kite, with a long tail, alone in a clear evening sky.",
    ),
    (
      "two_object",
      {"include": [one("spoon"), one("clock")]},
      "a spoon and a clock",
      "A spoon lies on a table; a clock stands next to it.",
    ),
    (
      "counting",
      {"include": [one("bird", 3)], "exclude": [{"class": "bird", "count": 4}]},
      "three birds",
      "Three birds, no more and no fewer, sit in a row on a wire.",
    ),
    (
      "colors",
      {"include": [one("bus", color="purple")]},
      "a purple bus",
      "A bus that is painted purple all over waits at its stop.",
    ),
    (
      "position",
      {"include": [one("cup"), one("boat", position=["left of", 0])]},
      "a boat left of a cup",
      "A toy boat to the left, and a cup to the right of it.",
    ),
    (
      "color_attr",
      {"include": [one("chair", color="green"), one("cat", color="orange")]},
      "a green chair and an orange cat",
      "An orange cat stands before a chair that is painted green.",
    ),
  ]
  for name, texts in (
    ("evaluation_metadata", [short for *_, short, _ in rows]),
    ("evaluation_metadata_long", [long for *_, long in rows]),
  ):
    writing.lines(
      os.path.join(folder, "geneval", f"{name}.jsonl"),
      [
        {"tag": tag, **checks, "prompt": text}
        for (tag, checks, *_), text in zip(rows, texts, strict=True)
      ],
    )


def _dpg(folder: str) -> None:
  """Prompts, and the table of their questions, some of which need another."""
  # (number, the question it depends on or 0, what it is about, question)
  prompts = {
    "smoke_boat": (
      "A small boat with a striped sail lies on a calm lake. Behind it there "
      "are low hills, and a white gull stands on its bow.",
      (
        (1, 0, "entity - whole (boat)", "Is there a boat?"),
        (2, 1, "attribute - texture (sail, striped)", "Is its sail striped?"),
        (3, 0, "entity - whole (gull)", "Is there a gull?"),
        (4, "1,3", "relation - spatial (gull, on)", "Is it on the boat?"),
      ),
    ),
    "smoke_desk": (
      "On a wooden desk stand a blue lamp and two books, one of them open.",
      (
        (1, 0, "entity - whole (lamp)", "Is there a lamp?"),
        (2, 1, "attribute - color (lamp, blue)", "Is the lamp blue?"),
        (3, 0, "other - count (books, 2)", "Are there two books?"),
      ),
    ),
    "smoke_wall": (
      "A red door in a long white wall, seen from across an empty street.\n",
      (
        (1, 0, "entity - whole (door)", "Is there a door?"),
        (2, 0, "global - (street, empty)", "Is the street empty?"),
      ),
    ),
  }
  place = os.path.join(folder, "dpg")
  writing.lines(
    os.path.join(place, "prompts.jsonl"),
    [{"item_id": name, "prompt": text} for name, (text, _) in prompts.items()],
  )
  rows = [
    {
      "item_id": name,
      "proposition_id": number,
      "dependency": parents,
      "tuple": about,
      "question_natural_language": question,
    }
    for name, (_, questions) in prompts.items()
    for number, parents, about, question in questions
  ]
  writing.tsv(os.path.join(place, "dpg_bench.csv"), rows)


def _geneval2(folder: str) -> None:
  rows = [
    {
      "prompt": "two yellow kites above a house",
      "atom_count": 4,
      "vqa_list": [
        ["How many kites are in the picture?", "two"],
        ["Are the kites yellow?", "Yes"],
        ["Is there a house in the picture?", "Yes"],
        ["Are the kites above the house?", "Yes"],
      ],
      "skills": ["count", "attribute", "object", "position"],
    },
    {
      "prompt": "a dog that digs beside three stones",
      "atom_count": 3,
      "vqa_list": [
        ["Is there a dog in the picture?", "Yes"],
        ["Does the dog dig?", "Yes"],
        ["How many stones are in the picture?", "three"],
      ],
      "skills": ["object", "verb", "count"],
    },
  ]
  writing.lines(os.path.join(folder, "geneval2", "geneval2_data.jsonl"), rows)


def _wise(folder: str) -> None:
  """A prompt of each category; which one it is, its number says."""
  texts = {
    "CULTURE": ("What one gives at a housewarming in Poland", "Bread and salt"),
    "TIME": ("A candle that was lit ten hours ago", "Nearly all of it is gone"),
    "SPACE": (
      "A spoon seen in a glass of water",
      "It looks bent at the surface",
    ),
    "BIOLOGY": ("A frog's child", "A tadpole with a tail, in water"),
    "PHYSICS": ("A stone and a cork in a bowl of water", "The cork floats"),
    "CHEMISTRY": ("An iron gate by the sea after years", "It is rusty"),
  }
  files = {
    "cultural_common_sense": ("CULTURE",),
    "spatio-temporal_reasoning": ("TIME", "SPACE"),
    "natural_science": ("BIOLOGY", "PHYSICS", "CHEMISTRY"),
  }
  for name, categories in files.items():
    writing.whole(
      os.path.join(
        folder, "wise_verified", "data_verified", f"{name}_verified.json"
      ),
      [
        {
          "Prompt": texts[category][0],
          "Explanation": texts[category][1],
          "Category": name,
          "Subcategory": category.capitalize(),
          "prompt_id": CATEGORIES["verified"][category][0],
        }
        for category in categories
      ],
    )


def _longtext(folder: str) -> None:
  rows = [
    {
      "prompt_id": 0,
      "category": "signboard",
      "length": "short",
      "prompt": 'A wooden board with the words "Fresh bread from six to noon".',
      "text": ["Fresh bread from six to noon"],
    },
    {
      "prompt_id": 1,
      "category": "letter",
      "length": "long",
      "prompt": 'A letter on lined paper. It begins with "Dear Tomas," and '
      'goes on: "the roof is mended and the hens are well. Come when you can."',
      "text": [
        "Dear Tomas,",
        "the roof is mended and the hens are well. Come when you can.",
      ],
    },
  ]
  chinese = {
    "prompt_id": 200,
    "category": "signboard",
    "length": "short",
    "prompt": "一块木牌，上面写着“今日有鱼，小店早开”。",
    "text": ["今日有鱼，小店早开"],
  }
  place = os.path.join(folder, "longtext", "textbench")
  writing.lines(os.path.join(place, "text_prompts.jsonl"), rows)
  writing.lines(os.path.join(place, "text_prompts_zh.jsonl"), [chinese])
