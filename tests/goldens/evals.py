"""What people read of an evaluation: tables, lines and reports' sections.

Made of fixed scores and metrics, every number another. Pages are kept as their
text (tags stripped) and, where drawings are, as digests of the markup.
"""

import io
from pathlib import Path
import re
import tempfile
from typing import Any

import numpy as np
import rich.console

from emma_jax.evals import report, sheets, table
from emma_jax.evals.outcomes import Outcome
from emma_jax.pages import charts, formats, render
from emma_jax.structs import Drawing, Editing, Understanding
from tests.goldens import store


def _task(score: float | None, n: int, kinds: dict[str, Any], **more) -> dict:
  return {"score": score, "n": n, "kinds": kinds} | more


def _kind(score: float, n: int, **more) -> dict:
  return {"score": score, "n": n} | more


ASKED = _task(
  0.6125,
  80,
  {
    "count": _kind(0.75, 60, baseline=0.3),
    "what_is": _kind(0.2, 20, baseline=0.1),
  },
  macro=0.475,
  samples=31,
  baseline=0.25,
)
DRAWN = _task(
  0.45, 12, {"single_object": _kind(0.9, 10), "two_object": _kind(0.0, 2)}
)
SCORES = {
  "understanding": ASKED,
  "drawing": DRAWN,
  "editing": _task(
    None,
    7,
    {},
    psnr=23.456,
    l1=9.87,
    copy={"psnr": 20.111, "l1": 12.345},
    bad_records=[f"e.jsonl:{i}: no <b>" for i in range(7)],
  ),
  "held_out": {
    "drawing_zh": _task(0.5, 6, {}),
    "understanding_pairs": _task(0.125, 16, {}, baseline=0.25),
  },
  "ceiling": {
    "drawing": _task(
      0.99,
      12,
      {"single_object": _kind(1.0, 10), "two_object": _kind(0.5, 2)},
      psnr=31.26,
      l1=3.3,
    )
  },
  "reference": {
    "understanding": _task(0.7, 80, {"count": _kind(0.8, 60)}),
    "drawing": _task(0.333, 12, {}),
  },
  "checkpoint": "run 4b_router",
  "step": 12345,
  "seconds": 1.5,
  "timing": {},
}
AUTOENCODER = {
  "autoencoder": _task(
    0.25, 4, {"scene": _kind(0.25, 4)}, psnr=28.04, l1=4.56, samples=9
  ),
  "checkpoint": "ae",
  "step": 8,
}
HISTORY = [
  {"stage": "0_alignment", "step": 30, "understanding": ASKED},
  {
    "stage": "4b_router",
    "step": 1234567,
    "drawing": DRAWN,
    "understanding": _task(None, 0, {}),
  },
]


def metrics() -> list[dict]:
  """Seven lines of two stages, of which the fourth lacks a drawing."""
  return [
    {
      "step": 10 * i,
      "stage": "0_alignment" if i < 3 else "1_rest",
      "loss/understanding": 5 / i,
      "loss/total": 9.0,
      "loss/router": 0.5 * i,
      **({"loss/drawing": 1 + 1 / i} if i != 4 else {}),
      "loss_by_time/time_0.00_0.50": 0.5 / i,
      "loss_by_time/time_0.50_1.00": "nan" if i == 2 else 0.25 * i,
      "accuracy/tokens": i / 10,
      "data/drawing": i / 8,
      "data/editing": 1 - i / 8,
      "data/tokens/drawing": 0.3,
      "learning_rate": 1e-3 / i,
      "timing": {
        "step_seconds": 0.5 * i,
        "data_seconds": 0.1 * i,
        "tokens_per_second": 1000.0 * i,
      },
    }
    for i in range(1, 8)
  ]


def plain(html: str) -> str:
  """The text of a page, one line an element that ends."""
  html = " ".join(html.split())
  html = re.sub(r"</(?:tr|p|div|h\d|figcaption|li|dd|th|td)>", "\n", html)
  lines = re.sub(r"<[^>]*>", " ", html).splitlines()
  return "|".join(filter(None, (" ".join(x.split()) for x in lines)))


def sections(**values) -> dict[str, str]:
  """Markup of a report's sections by heading; "tiles", and "head" before."""
  with tempfile.TemporaryDirectory() as folder:
    report.write(Path(folder, "r.html"), **values)
    page = Path(folder, "r.html").read_text()
  body = page.partition("<body>")[2].partition("</body>")[0]
  parts = re.split(r'(?=<h2>|<div class="tiles">)', body)
  names = re.findall(r'<h2>(.*?)</h2>|<div class="(tiles)">', body)
  names = ["head", *(a or b for a, b in names)]
  return {name: tight(part) for name, part in zip(names, parts, strict=True)}


def macro(template: str, name: str, value: Any) -> str:
  """What a template's macro makes of a chart or a contact sheet."""
  module = render.environment().get_template(template).module
  return tight(str(getattr(module, name)(value)))


def shown(scores: dict) -> str:
  out = io.StringIO()
  table.show(scores, rich.console.Console(file=out, width=100))
  text = re.sub(r"\u2500+", "--", out.getvalue())
  return "\n".join(x.rstrip() for x in text.splitlines())


def outcomes() -> dict[str, Outcome]:
  """One of every kind; pictures are flat, so that cards have little in them."""
  grey = np.full((8, 12, 3), 99, np.uint8)
  return {
    "understanding": Outcome(
      record=Understanding(
        pictures=(grey,),
        turns=(("<image>\nHow many?", "2 & 3"), ("And?", "no"), ("So?", "x")),
      ),
      marks=(("a", True), ("a", False), ("b", None)),
      answers=("2 & 3", "", "<y>"),
    ),
    "drawing": Outcome(
      record=Drawing(prompt="a <cat>", picture=grey[:, :4]),
      marks=(("drawing", None),),
      picture=grey,
    ),
    "editing": Outcome(
      record=Editing(sources=(grey,), instruction="more & more", target=grey),
      marks=(("editing", False),),
      picture=grey[:4],
    ),
  }


def tight(html: str) -> str:
  """Without the ends of lines between tags, which show nothing."""
  return re.sub(r"(?<=>)\s*\n\s*(?=<)", "", html).strip()


def markup(html: str) -> str:
  """Without the pictures' bytes, which are another Pillow's business."""
  return re.sub(r"base64,[^\"]*", "base64,", html)


def _charts() -> dict[str, str]:
  lines = lambda *x, **options: macro(
    "charts.html.j2", "lines", charts.chart(*x, **options)
  )
  points = [(x, (x % 7) + 0.5 * x) for x in range(0, 130, 2)]
  long = lines(
    "long <t>",
    [charts.Series("a&b", points), charts.Series("one", [(3, 2.0)])],
    stages=[(0, "0"), (50, "1"), (52, "2"), (999, "3")],
    note="n & m",
  )
  return {
    "long": store.digest(long),
    "long, ticks": plain(long.replace("</text>", "</p>")),
    "log": lines(
      "log", [charts.Series("x", [(0, 0.02), (5, 0.3), (9, 4.0)])], log=True
    ),
    "percent": lines(
      "p",
      [charts.Series("x", [(0, 0.25), (4, 0.5)])],
      top=1.0,
      label=formats.percent,
      mean=False,
    ),
    "bars": macro(
      "charts.html.j2",
      "bars",
      charts.bars("b", {"one": 3, "two <": 1, "none": 0}),
    ),
    "no bars": str(charts.bars("b", {"none": 0})),
    "ticks": str(
      [
        charts.linear_ticks(0, 1),
        charts.linear_ticks(-3, 7),
        charts.linear_ticks(0.1, 0.13),
        charts.log_ticks(0.1, 2.5),
        charts.log_ticks(1, 9e5),
        charts.log_ticks(3, 4),
      ]
    ),
    "short": " ".join(
      formats.short(x) for x in (0, 0.012345, 9999, 10000, 999999, 1e6, 2.5e9)
    ),
  }


def cases() -> dict[str, dict]:
  each = {k: [o] for k, o in outcomes().items()}
  page = sections(
    title="a & b",
    scores=SCORES,
    outcomes=each,
    history=HISTORY,
    metrics=metrics(),
  )
  autoencoder = sections(title="a", scores=AUTOENCODER)
  return {
    "terminal": {
      "scores": shown(SCORES),
      "autoencoder": shown(AUTOENCODER),
      "no reference": shown(SCORES | {"reference": {}}),
      "summary": table.summary(SCORES),
      "names": str(table.NAMES),
    },
    "page": {
      "head": plain(page["head"]),
      "tiles": plain(page["tiles"]),
      "tiles of an autoencoder": plain(autoencoder["tiles"]),
      "history": plain(page["Scores over time"]),
      "tables": plain(page["Scores by kind"]),
      "curves": plain(page["Training"]),
      "sheets": plain(page["Contact sheets"]),
    },
    "markup": {
      "tables": store.digest(page["Scores by kind"]),
      "tiles": store.digest(page["tiles"]),
      "history": store.digest(page["Scores over time"]),
      "curves": store.digest(page["Training"]),
      "cards": {
        k: store.digest(
          markup(macro("pictures.html.j2", "sheet", sheets.sheet(o)))
        )
        for k, o in each.items()
      },
      "css": store.digest((render.TEMPLATES / "style.css").read_bytes()),
    },
    "charts": _charts(),
  }
