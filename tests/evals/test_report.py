"""The report needs no other file, and texts in it stay texts."""

import copy
import dataclasses
import doctest
import html
import json
import re

import numpy as np
import pytest

from emma_jax.evals import files, outcomes, report, runner, sheets
from emma_jax.evals.settings import EvalSettings
from emma_jax.structs import TASKS
from tests.goldens import evals as goldens
from tests.goldens import store
from tests.pages import reading

from .conftest import CONFIG

EVIL = "<script>alert('x')</script> & \"quotes\""


@pytest.mark.parametrize("module", [files, outcomes])
def test_docstrings(module):
  assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("case", ["terminal", "page", "markup", "charts"])
def test_what_people_read_is_as_it_was(case):
  """Tables, tiles, lines and charts of fixed scores, number by number."""
  found = goldens.cases()
  assert len(found) == 4
  store.check("evals", case, found[case], store.EXACT)


def metrics(steps: int = 200) -> list[dict]:
  return [
    {
      "step": step,
      "stage": "0_alignment" if step < 50 else "1_rest",
      "loss/understanding": 5 / step,
      "loss/drawing": 1 + 1 / step,
      "loss/total": 9.0,
      "loss_by_time/time_0.00_0.50": 0.5,
      "loss_by_time/time_0.50_1.00": "nan",
      "accuracy/tokens": 0.5,
      "data/drawing": 0.5,
      "data/editing": 0.5,
      "learning_rate": 1e-3,
      "timing": {
        "step_seconds": 0.1,
        "data_seconds": 0.01,
        "tokens_per_second": 1e4,
      },
    }
    for step in range(1, steps + 1)
  ]


@pytest.fixture(scope="module")
def page(tmp_path_factory, blind) -> str:
  config, tmp_path = copy.deepcopy(CONFIG), tmp_path_factory.mktemp("page")
  done = runner.run(blind, EvalSettings.of(config))
  scores = done.scores | {"reference": {t: done.scores[t] for t in TASKS}}
  drawn = done.outcomes["drawing"]
  drawn[0] = dataclasses.replace(
    drawn[0], record=dataclasses.replace(drawn[0].record, prompt=EVIL)
  )
  asked = done.outcomes["understanding"]
  asked[0] = dataclasses.replace(
    asked[0], answers=(EVIL,) * len(asked[0].answers)
  )
  report.write(
    tmp_path / "report.html",
    title=EVIL,
    scores=scores,
    outcomes=done.outcomes,
    history=[{"stage": EVIL, **scores}],
    metrics=metrics(),
    config=config | {"note": EVIL},
  )
  page = (tmp_path / "report.html").read_text()
  text = reading.check(page).text
  for outcome in drawn:
    assert outcome.record.prompt in text
  for outcome in done.outcomes["editing"]:
    assert outcome.record.instruction in text
  for outcome in asked:
    for question, _ in outcome.record.turns:
      assert question in text
  return page


def test_texts_are_escaped(page):
  assert "<script" not in page and page.count("&lt;script&gt;") >= 5


def test_curves_tables_and_frames_are_there(page):
  for words in (
    "Scores over time",
    "data:image/png;base64,",
    "Velocity error by flow time",
    "Editing",
    "Tokens per second",
    "Realised mixture, share of samples",
    "Never trained on",
    "Ceiling",
    'class="wrong"',
    'class="stage"',
    "200 training steps",
    "0.3 min",
  ):
    assert words in page
  assert "nan" not in re.sub(r'"[^"]*"|<pre>.*</pre>', "", page, flags=re.S)


def test_metrics_alone_make_a_report(tmp_path):
  report.write(tmp_path / "r.html", title="run", metrics=metrics(3))
  text = (tmp_path / "r.html").read_text()
  assert "<svg" in text and "Contact sheets" not in text


def test_large_pictures_are_shrunk():
  noise = np.random.default_rng(0).integers(0, 256, (900, 300, 3), np.uint8)
  assert len(sheets.picture(noise, "noise").src) < 100_000


def test_json_of_config_is_readable(page):
  text = html.unescape(re.search(r"<pre>(.*)</pre>", page, re.S)[1])
  assert json.loads(text)["evaluate"]["split"] == "test"


def test_the_router_is_shown_by_label_and_expert(tmp_path):
  cells = {
    "router/general_to_general": 126,
    "router/general_to_stem": 2,
    "router/stem_to_general": 3,
    "router/stem_to_stem": 125,
  }
  balance = {"labels/stem": 0.5, "labels/pictures": 1920}
  last = {"step": 10, "stage": "4b_router", "router/accuracy": 0.98}
  after = {"step": 20, "stage": "5_more", "loss/total": 1.0}
  report.write(
    tmp_path / "r.html", title="x", metrics=[last | cells | balance, after]
  )
  page = (tmp_path / "r.html").read_text()
  section = page[page.index("The router") :]
  section = section[: section.index("</table>")]
  assert "Accuracy 0.98 (0.96–0.99) on 256 held-out" in section
  assert "1,920 pictures" in section
  text = re.sub(r"<[^>]+>", " ", section).split()
  assert text[-6:] == ["general", "126", "2", "STEM", "3", "125"]
  names = ("general", "stem", "art")
  cells = {f"router/{a}_to_{b}": 5 for a in names for b in names}
  report.write(tmp_path / "r.html", title="x", metrics=[last | cells | balance])
  page = (tmp_path / "r.html").read_text()
  assert "on 45 held-out" in page and '<th scope="col">to art</th>' in page
  report.write(tmp_path / "none.html", title="x", metrics=[after])
  assert "The router" not in (tmp_path / "none.html").read_text()
