"""The rehearsal's sets about charts, pages and texts in pictures.

They and those of `choices` have the shapes that `data.folder` reads: tables
with pictures in base64, with the index of the row that has the picture, with
names of files, or lines of our own. Parquet and Arrow, which take a package
more, are left out.
"""

import os

from PIL import Image

from emma_jax.benchmarks.smoke import pictures as draw
from emma_jax.benchmarks.smoke import writing


def make(folder: str) -> None:
  """Writes ChartQA, DocVQA, InfoVQA, TextVQA and OCRBench."""
  for write in (_chartqa, _docvqa, _infovqa, _textvqa, _ocrbench):
    write(folder)


def _chartqa(folder: str) -> None:
  """Two charts in base64, each asked about twice."""
  fruit = draw.bars("Fruit sold", {"figs": 3, "pears": 5, "plums": 8})
  rain = draw.bars("Rain (mm)", {"Mon": 10, "Tue": 25, "Wed": 40})
  rows: list[tuple[str, Image.Image | str, str, str, str]] = [
    ("0", fruit, "How many pears were sold?", "5", "human"),
    ("1", "0", "Which fruit was sold most?", "plums", "augmented"),
    ("2", rain, "How much rain fell on Wednesday, in mm?", "40", "augmented"),
    ("3", "2", "Which days had less than 30?", "['Mon', 'Tue']", "human"),
  ]
  table = [
    {
      "index": index,
      "split": f"test_{half}",
      "question": question,
      "answer": answer,
      "image": image if isinstance(image, str) else writing.base64_of(image),
    }
    for index, image, question, answer, half in rows
  ]
  writing.tsv(os.path.join(folder, "chartqa", "ChartQA_TEST.tsv"), table)


def _docvqa(folder: str) -> None:
  """Two pages, by the names of their files."""
  place = os.path.join(folder, "docvqa")
  bill = draw.page(["BILL No. 318", "2 lamps     40.00", "Paid 4 March"])
  note = draw.page(["Dear Ms. Okoro,", "we meet at 9:15", "in room B2.", "Jo"])
  writing.picture(os.path.join(place, "images", "bill.png"), bill)
  writing.picture(os.path.join(place, "images", "note.png"), note)
  rows = [
    ("bill", "What is the number of the bill?", ["318", "No. 318"]),
    ("bill", "When was it paid?", ["4 March"]),
    ("note", "To whom is the note written?", ["Ms. Okoro", "Okoro"]),
    ("note", "In which room do they meet?", ["B2", "room B2"]),
  ]
  table = [
    {
      "index": str(n),
      "question": question,
      "answer": str(answers),
      "image_path": f"{page}.png",
    }
    for n, (page, question, answers) in enumerate(rows)
  ]
  writing.tsv(os.path.join(place, "DocVQA_VAL.tsv"), table)


def _infovqa(folder: str) -> None:
  """Lines of our own, with the type of each answer."""
  tea = draw.bars("Cups a day", {"tea": 4, "milk": 1})
  steps = draw.page(["1 wash", "2 dry", "3 fold", "4 store"], width=96)
  span, sums = "single span", "non-extractive"
  rows = [
    ("tea-1", "tea", "How many cups of tea are drunk a day?", ["4"], span),
    ("tea-2", "tea", "How many cups is that in all?", ["5"], sums),
    ("steps-1", "steps", "What comes after washing?", ["dry", "drying"], span),
    ("steps-2", "steps", "How many steps are there?", ["4", "four"], sums),
  ]
  writing.own(
    folder,
    "infovqa",
    {"tea.png": tea, "steps.png": steps},
    [
      {
        "id": name,
        "question": question,
        "answers": answers,
        "pictures": [f"{picture}.png"],
        "group": picture,
        "meta": {"answer_type": [kind]},
      }
      for name, picture, question, answers, kind in rows
    ],
  )


def _textvqa(folder: str) -> None:
  """Ten people's answers each, not all of one mind."""
  rows = [
    ("EXIT", "what does the sign say?", ["exit"] * 10),
    ("ROOM 7", "which room is this?", ["7"] * 6 + ["room 7"] * 4),
    ("LIMA", "what city is named?", ["lima"] * 9 + ["unanswerable"]),
    ("OPEN", "is the shop open?", ["yes"] * 8 + ["open"] * 2),
  ]
  table = [
    {
      "index": str(n),
      "question": question,
      "answer": str(answers),
      "image": writing.base64_of(draw.plate(text, background="gold")),
    }
    for n, (text, question, answers) in enumerate(rows)
  ]
  writing.tsv(os.path.join(folder, "textvqa", "TextVQA_VAL.tsv"), table)


def _ocrbench(folder: str) -> None:
  word = "what is written in the image?"
  rows = [
    ("Regular Text Recognition", draw.plate("MAPLE"), word, ["MAPLE"]),
    ("Digit String Recognition", draw.plate("40821"), word, ["40821"]),
    (
      "Scene Text-centric VQA",
      draw.plate("BUS 12", color="white", background="navy"),
      "What is the number of the bus?",
      ["12", "BUS 12"],
    ),
    (
      "Handwritten Mathematical Expression Recognition",
      draw.plate("a+b=7"),
      "Write the formula in LaTeX.",
      ["a + b = 7"],
    ),
  ]
  table = [
    {
      "index": str(n),
      "question": question,
      "answer": str(answers),
      "category": category,
      "image": writing.base64_of(picture),
    }
    for n, (category, picture, question, answers) in enumerate(rows)
  ]
  writing.tsv(os.path.join(folder, "ocrbench", "OCRBench.tsv"), table)
