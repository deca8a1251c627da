"""Pages are one file each, whose values are text whatever they hold."""

import ast
import re

import jinja2
import pytest

from emma_jax.evals import cells, grids, made_by
from emma_jax.pages import charts, render
from emma_jax.pages.pictures import Picture

from . import reading

EVIL = "</p></style><script>alert('x')</script> & \"quotes\""
NAMES = sorted(p.name for p in render.TEMPLATES.iterdir())
PAGES = [n for n in NAMES if "extends" in (render.TEMPLATES / n).read_text()]
SHEET = {"classes": "sheet", "cards": []}
START = made_by.Start(
  time=EVIL,
  step=1234,
  command="emma-train",
  commit=EVIL,
  versions=EVIL,
  hosts=EVIL,
  devices=EVIL,
)
SHOWN = cells.shown(0.5, 128, [0.4, 0.6])
GRID = grids.Grid(
  title=EVIL,
  heads=[EVIL],
  lines=[
    grids.Line(
      text=EVIL, beside=EVIL, cells=[grids.Cell(answers=[(EVIL, "right")])]
    )
  ],
)
PART = {"text": EVIL, "learned": True, "mark": True, "picture": None}
ROW = {
  "number": 0,
  "used": 1,
  "slots": 2,
  "segments": [{"name": EVIL, "colour": "red", "parts": [PART]}],
  "attention": "",
}
STATS = {
  "drawn": 3,
  "bad": [],
  "packed": {"dropped": [1], "fill": 0.5},
  "slots": 8,
}
LINE = {
  **dict.fromkeys(("name", "split", "impl", "score", "interval"), EVIL),
  **dict.fromkeys(("n", "failed", "why"), EVIL),
  "classes": "all",
  "at": None,
  "unit": "%",
  "beside": {
    "mark": "",
    "verdict": EVIL,
    "reasons": [],
    "difference": 1.0,
    "row": {"value": 2.0},
  },
}
VALUES = {
  "benchmark.html.j2": {
    "title": EVIL,
    "rehearsal": True,
    "facts": [(EVIL, EVIL)],
    "tables": [("drawing", [LINE])],
    "resolvable": EVIL,
    "beside": [],
    "sets": [],
    "left_out": 1234,
    "unreadable": 1,
    "signed": lambda value, unit: f"{value:+}{unit}",
    "printed": lambda value, unit: f"{value}{unit}",
  },
  "comparison.html.j2": {
    "title": EVIL,
    "runs": [
      (
        {
          "name": EVIL,
          "folder": EVIL,
          "scores": {"checkpoint": EVIL, "step": 1},
        },
        [START],
      )
    ],
    "names": ["first", "other"],
    "tables": [
      {
        "title": EVIL,
        "rows": [
          {
            "name": EVIL,
            "classes": "all",
            "scores": [SHOWN, None],
            "differences": [None, {"text": EVIL, "mark": "right"}],
          }
        ],
      }
    ],
    "curves": [],
    "recorded": True,
    "differences": [(EVIL, [EVIL, ""])],
    "grids": [GRID],
  },
  "data_sheet.html.j2": {
    "about": EVIL,
    "batches": [
      {
        "step": 1,
        "stats": STATS,
        "notes": [EVIL],
        "rows": [ROW],
        "crops": [
          {"text": EVIL, "picture": Picture("data:image/png;base64,", "x", "")}
        ],
      }
    ],
  },
  "report.html.j2": {
    "title": EVIL,
    "facts": [EVIL],
    "made": [START, START],
    "tiles": [
      {"name": EVIL, "value": EVIL, "interval": EVIL, "beside": [EVIL]}
    ],
    "notes": [EVIL, EVIL],
    "history": {
      "tasks": [EVIL],
      "rows": [{"stage": EVIL, "step": 1, "cells": [SHOWN]}],
    },
    "progress": None,
    "stages": [GRID],
    "router": {
      "accuracy": SHOWN,
      "pictures": 1234,
      "stem_share": 0.5,
      "experts": [EVIL, "STEM"],
      "rows": [(EVIL, [1, 2])],
    },
    "tables": [
      {
        "title": EVIL,
        "columns": ["ceiling"],
        "rows": [
          {
            "name": EVIL,
            "classes": "all",
            "shown": SHOWN,
            "baseline": 0.25,
            "others": [("ceiling", EVIL)],
          }
        ],
      }
    ],
    "shares": [(EVIL, 0.5)],
    "sheets": [{"title": EVIL, "about": EVIL, "sheet": SHEET}],
    "marked": False,
    "predictions": EVIL,
    "seen": "samples",
    "curves": [],
    "samples": [GRID],
    "config": EVIL,
  },
  "statistics.html.j2": {
    "copies": {
      "compared": 3,
      "copies": 1,
      "groups": 1,
      "between": 1,
      "sheet": SHEET,
    },
    "sets": [
      {
        "name": EVIL,
        "stats": dict.fromkeys(
          ("records", "shown", "total_text_tokens", "bad"), 1234
        ),
        "counts": [],
        "word_counts": [],
        "looked": {
          "records": 5,
          "sheet": SHEET,
          "words": {
            "texts": 3,
            "distinct": 2,
            "vocabulary": 9,
            "everywhere": {EVIL: 2},
            "repeated": [(EVIL, 2)],
          },
          "framed": 2,
          "framing": [charts.bars("t", {"a": 1})],
          "crops": SHEET,
          "config": EVIL,
        },
      }
    ],
  },
}


def test_every_page_is_tried():
  assert PAGES == sorted(VALUES)


@pytest.mark.smoke
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_file_whose_values_are_text(name):
  page = render.render(name, **VALUES[name])
  read = reading.check(page)
  assert page.startswith("<!doctype html>\n") and page.endswith("</html>\n")
  tags = [tag for tag, _ in read.tags]
  assert tags[:3] == ["html", "head", "meta"] and tags.count("h1") == 1
  style = (render.TEMPLATES / "style.css").read_text()
  assert page.count(style) == 1 and page.count("</style>") == 1
  # A title stands in the head and above the page.
  given = str(VALUES[name]).count("<script>") + ("title" in VALUES[name])
  assert read.text.count(EVIL) == given > 0


@pytest.mark.parametrize("name", PAGES)
def test_a_value_that_is_missing_is_an_error(name):
  for missing in VALUES[name]:
    values = {k: v for k, v in VALUES[name].items() if k != missing}
    with pytest.raises(jinja2.UndefinedError, match=missing):
      render.render(name, **values)


def test_an_unknown_page_is_an_error():
  with pytest.raises(jinja2.TemplateNotFound, match=r"none\.html\.j2"):
    render.render("none.html.j2")


@pytest.mark.parametrize("name", NAMES)
def test_no_template_lets_markup_through(name):
  text = (render.TEMPLATES / name).read_text()
  if name == "style.css":  # it is a template, too, when it is included
    assert not re.search(r"\{[{%#]", text)
    return
  assert "safe" not in re.findall(r"\w+", text)
  assert "autoescape" not in text
  # Without quotes a space would begin another attribute.
  assert not re.search(r"=\s*\{\{", text)
  render.environment().get_template(name)  # parses


def test_filters_write_numbers():
  made = render.environment().from_string(
    "{{ none | score }} {{ 0.5 | score }} {{ 1234 | thousands }} "
    "{{ (1 / 8) | share }}"
  )
  assert made.render(none=None) == " 0.500 1,234 12.5%"


def test_markup_stands_in_templates_alone(repo):
  """Nothing escapes what Python puts together."""
  tag = re.compile(
    r"</?(?:a|body|div|figure|h[1-6]|head|html|img|p|pre|script|span|style|svg"
    r"|table|t[dhr]|title|ul)\b[^<>]*>"
  )
  for path in sorted((repo / "emma_jax").rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        assert not tag.search(node.value), f"{path}:{node.lineno}"
