"""Perfect answers score 1, blind ones what blindness earns; nothing else."""

import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console

from emma_jax import stats, terminal
from emma_jax.build import sections
from emma_jax.evals import (
  drawing,
  editing,
  outcomes,
  runner,
  sheets,
  table,
  understanding,
  world,
)
from emma_jax.evals.settings import EvalSettings
from emma_jax.structs import TASKS, Understanding
from tests.evals.conftest import Blind, Perfect, bare


@pytest.fixture
def settings(config) -> EvalSettings:
  return EvalSettings.of(config)


def test_perfect_scores_one_everywhere(perfect, settings):
  scores = runner.evaluate(perfect, settings)
  for task in TASKS:
    assert scores[task]["score"] == 1.0
    kinds = scores[task]["kinds"]
    assert sum(k["n"] for k in kinds.values()) == scores[task]["n"]
    assert all(k["score"] == 1.0 for k in kinds.values())
  assert set(scores["held_out"]) == set(world.HELD_OUT)
  assert all(e["score"] == 1.0 for e in scores["held_out"].values())
  for task in ("drawing", "editing"):
    assert scores["ceiling"][task]["score"] == 1.0
    assert scores["ceiling"][task]["psnr"] == outcomes.MAX_PSNR
  assert set(scores["drawing"]["kinds"]) == {
    "single_object",
    "two_object",
    "counting",
    "colours",
    "position",
    "colour_attribution",
  }
  assert all(k["n"] == 2 for k in scores["drawing"]["kinds"].values())
  assert scores["checkpoint"] == "perfect" and scores["step"] == 7
  assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_blind_scores_nothing_but_its_luck(blind, settings):
  scores = runner.evaluate(blind, settings)
  assert scores["drawing"]["score"] == 0.0
  assert scores["editing"]["score"] == 0.0
  assert scores["ceiling"]["drawing"]["score"] == 0.0
  asked = scores["understanding"]
  assert 0 < asked["score"] <= asked["baseline"] < 1
  for entry in asked["kinds"].values():
    assert entry["score"] <= entry["baseline"]


def test_overall_is_a_mean_of_questions_or_of_kinds():
  marks = lambda *m: outcomes.Outcome(record=None, marks=m)
  done = [marks(("a", True), ("a", True)), marks(("a", False), ("b", False))]
  assert outcomes.tally(done, macro=False)["score"] == 0.5
  assert outcomes.tally(done, macro=True)["score"] == pytest.approx(1 / 3)
  nothing = outcomes.tally([marks(("a", None))], macro=True)
  assert bare(nothing) == {"score": None, "n": 0, "kinds": {}}


def wilson(right: int, n: int) -> list[float]:
  ends = stats.wilson(right, n)
  return [ends.low, ends.high]


def test_a_score_comes_with_its_interval():
  """Independent marks: Wilson's, so one of one is not sure to be all."""
  marks = lambda *m: outcomes.Outcome(record=None, marks=m)
  one = outcomes.tally([marks(("a", True))], macro=True)
  assert one["score"] == 1.0 and one["ci95"] == wilson(1, 1)
  assert one["ci95"][0] < 0.21
  many = [marks(("ab"[i % 2], i % 3 > 0)) for i in range(60)]
  found = outcomes.tally(many, macro=False)
  assert found["ci95"] == wilson(40, 60) and found["ci_method"] == "wilson"
  assert found["kinds"]["a"]["ci95"] == wilson(20, 30)
  assert outcomes.tally([], macro=True)["ci95"] is None


def test_questions_about_one_picture_count_as_one_and_kinds_alike():
  marks = lambda *m: outcomes.Outcome(record=None, marks=m)
  right = lambda i: bool(i % 3)
  alone = [marks(("a", right(i))) for i in range(60)]
  thrice = [marks(*[("a", right(i))] * 3) for i in range(60)]
  a = outcomes.tally(alone, macro=False)["ci95"]
  b = outcomes.tally(thrice, macro=False)["ci95"]
  assert np.allclose(a, b, atol=0.02)  # three times the marks tell no more
  rare = [marks(("b", True)), marks(("b", False)), marks(("b", True))]
  found = outcomes.tally(alone + rare, macro=True)
  low, high = found["ci95"]
  assert found["ci_method"] == "wilson, 2 kinds"
  # Half of the mean is of three marks: wider than that of all 63 together.
  assert high - low > 1.5 * (a[1] - a[0])
  # Of kinds of one size: as of all samples, also where one kind is all right.
  alike = [marks(("a", True))] * 8 + [marks(("b", i < 6)) for i in range(8)]
  assert outcomes.tally(alike, macro=True)["ci95"] == wilson(14, 16)
  # Of records with several marks each nothing is said.
  both = [marks(("a", True), ("b", False))] * 9
  assert outcomes.tally(both, macro=True)["ci95"] is None


def asked(kind: str, *pairs: tuple[str, str]) -> outcomes.Outcome:
  """A conversation of (truth, answer) about one kind."""
  record = Understanding(
    pictures=(),
    kinds=(kind,) * len(pairs),
    turns=tuple(("?", truth) for truth, _ in pairs),
  )
  return understanding._mark(record, [answer for _, answer in pairs])


@pytest.mark.smoke
def test_the_baseline_is_weighted_as_the_score_is():
  """Kinds of four and of one question, by hand; a mean of kinds would differ.

  Of kind a the most frequent answer is "1" (2 of 4), of b the only one.
  """
  done = [
    asked("a", ("1", "1."), ("1", "2")),
    asked("b", ("yes", "no")),
    asked("a", ("2", "2"), ("3", " 3 ")),
  ]
  found = understanding.score(done)
  assert bare(found) == {
    "score": 3 / 5,
    "macro": (3 / 4 + 0) / 2,
    "n": 5,
    "samples": 3,
    "baseline": (2 + 1) / 5,
    "kinds": {
      "a": {"score": 3 / 4, "n": 4, "baseline": 2 / 4},
      "b": {"score": 0.0, "n": 1, "baseline": 1.0},
    },
  }
  # Whoever always gives the most frequent answers scores the baseline.
  best = [
    asked("a", ("1", "1"), ("1", "1")),
    asked("b", ("yes", "yes")),
    asked("a", ("2", "1"), ("3", "1")),
  ]
  assert understanding.score(best)["score"] == found["baseline"]


def test_drawings_and_edits_score_the_mean_over_kinds():
  marks = lambda *m: outcomes.Outcome(record=None, marks=m)
  done = [
    marks(("a", True)),
    marks(("a", True)),
    marks(("a", False)),
    marks(("b", False)),
    marks(("c", None)),
  ]
  for family in (drawing, editing):
    assert bare(family.score(done)) == {
      "score": pytest.approx((2 / 3 + 0) / 2),
      "n": 4,
      "kinds": {"a": {"score": 2 / 3, "n": 3}, "b": {"score": 0.0, "n": 1}},
    }


def test_fidelity_is_a_mean_over_pictures_by_hand():
  """PSNR of each picture, then the mean: not of the mean error."""
  grey = np.full((2, 2, 3), 100, np.uint8)
  pairs = [(grey, grey + 3), (grey + 10, grey), (grey, grey)]
  of = lambda error: 10 * np.log10(255**2 / error**2)
  found = outcomes.fidelity(pairs)
  assert found["psnr"] == pytest.approx((of(3) + of(10) + 60) / 3)
  assert found["l1"] == pytest.approx(13 / 3)
  low, high = found["psnr_ci95"]
  assert low < found["psnr"] < high
  assert outcomes.fidelity(pairs[:1])["psnr_ci95"] is None
  off = grey.copy()
  off[0, 0, 0] += 6  # one value of twelve
  assert outcomes.psnr(grey, off) == pytest.approx(of((36 / 12) ** 0.5))


def test_settings_are_told_but_for_what_decides_no_score(config):
  """So that an equal `settings` in two scores.json means comparable ones."""
  names = {f.name for f in dataclasses.fields(EvalSettings)}
  told = EvalSettings.of(config).options()
  assert names - told.keys() == {"stage_samples", "reference"}
  assert told == json.loads(json.dumps(told))
  assert told["samples"] == 12 and told["held_out_samples"] == 6


def test_constant_answers_score_the_baseline():
  records = world.records("understanding", "test", 300)
  digit = [r for r in records if r.kinds == ("digit",)]
  truths = [a for r in digit for _, a in r.turns]
  common = max(set(truths), key=truths.count)

  class Constant:
    config = {"sample": {"max_tokens": 4}}

    def ask(self, pictures, turns, **_):
      return [[common] * len(q) for q in turns]

  done = understanding.run(Constant(), digit, batch=4, progress=outcomes.quiet)
  scores = understanding.score(done)
  assert scores["score"] == scores["baseline"] > 0


def test_same_weights_same_scores(perfect, settings):
  first = runner.evaluate(perfect, settings)
  second = runner.evaluate(perfect, settings)
  assert runner.without_timing(first) == runner.without_timing(second)
  assert "seconds" not in json.dumps(runner.without_timing(first))


@pytest.mark.parametrize("batch", [1, 5, 12, 64])
def test_noise_is_by_a_samples_number_whatever_the_batch(
  perfect, config, batch
):
  """Seeds and places were added once, so that pictures were the batch's."""
  perfect.calls.clear()
  settings = EvalSettings.of(
    config, held_out=False, ceiling=False, seed=3, batch=batch
  )
  runner.evaluate(perfect, settings)
  for task, what in (("draw", ((96, 96), 2, 3)), ("edit", (2, 3))):
    calls = [call[1:] for call in perfect.calls if call[0] == task]
    assert {call[:-1] for call in calls} == {what}
    assert [n for call in calls for n in call[-1]] == list(range(12))
    assert len(calls) == -(-12 // batch)


def test_sources_choose_tasks_and_split(perfect, config):
  settings = EvalSettings.of(
    config, sources={"editing": "world:editing_multi:test:4"}
  )
  scores = runner.evaluate(perfect, settings)
  assert [t for t in TASKS if t in scores] == ["editing"]
  assert scores["editing"]["n"] == 4 and scores["held_out"] == {}


class _Sized(Perfect):
  """Knows a prompt at each of the sizes it is wanted in."""

  def draw(self, prompts, *, size, **options):
    super().draw(prompts, size=size, **options)
    return [
      next(
        r.picture
        for r in world.records("drawing_shapes", "test", 30)
        if (r.prompt, r.truth.canvas) == (prompt, size)
      )
      for prompt in prompts
    ]


def test_pictures_of_many_sizes_are_asked_for_and_scored_by_size(config):
  sources = {task: f"world:{task}_shapes:test" for task in TASKS}
  samples = [
    record
    for task in TASKS
    for record in world.records(f"{task}_shapes", "test", 30)
  ]
  session = _Sized(records=samples)
  settings = EvalSettings.of(config, samples=30, batch=8, sources=sources)
  scores = runner.evaluate(session, settings)
  names = {"96x96", "64x128", "128x64", "96x128", "128x96"}
  for entry in (*(scores[t] for t in TASKS), *scores["ceiling"].values()):
    assert entry["score"] == 1.0 and set(entry["sizes"]) == names
    assert sum(e["n"] for e in entry["sizes"].values()) == entry["n"]
    assert all(e["score"] == 1.0 for e in entry["sizes"].values())
  assert all(e["n"] == 6 for e in scores["drawing"]["sizes"].values())
  # Each batch in as many requests as it has sizes, of the sizes wanted.
  calls = [call[1:] for call in session.calls if call[0] == "draw"]
  assert sum(len(streams) for *_, streams in calls) == 30
  assert {f"{y}x{x}" for (y, x), *_ in calls} == names
  wrong = Blind(records=samples)
  scores = runner.evaluate(wrong, settings)
  assert {e["score"] for e in scores["drawing"]["sizes"].values()} == {0.0}
  plain = runner.evaluate(Perfect(), EvalSettings.of(config))
  assert not any("sizes" in plain[task] for task in TASKS)


def test_edits_of_two_sources_are_asked_for_with_both_and_scored(config):
  samples = world.records("editing_two", "test", 12)
  sources = {"editing": "world:editing_two:test"}
  settings = EvalSettings.of(config, samples=12, sources=sources)
  entry = runner.evaluate(Perfect(records=samples), settings)["editing"]
  assert entry["score"] == 1.0 and entry["n"] == 12
  assert set(entry["kinds"]) == {"one", "several"}
  blind = runner.evaluate(Blind(records=samples), settings)["editing"]
  assert blind["score"] == 0.0  # the first picture is not the answer
  done = runner.run(Perfect(records=samples), settings).outcomes["editing"]
  (card, *_) = sheets.sheet(done).cards
  assert card.arrow == 2 and len(card.pictures) == 4  # sources, made, target


def test_an_autoencoder_is_scored_by_what_can_be_read(perfect, config):
  class Only:
    name, step = "ae", 3

    def reconstruct(self, pictures):
      return list(pictures)

  only = Only()
  only.config = config | {"model": {"kind": "autoencoder"}}
  scores = runner.evaluate(only, EvalSettings.of(config))
  entry = scores["autoencoder"]
  assert entry["score"] == 1.0 and entry["n"] <= entry["samples"] == 12


@pytest.mark.parametrize(
  "wrong, words",
  [
    ({"split": "train"}, "choose test or val"),
    ({"samples": 0}, "samples=0"),
    ({"tasks": ("drawings",)}, "drawings"),
    ({"sources": {"drawing": "csv:x"}}, "csv:x"),
    ({"typo": 1}, "typo"),
  ],
)
def test_wrong_settings_are_named(config, wrong, words):
  with pytest.raises(sections.ConfigError, match=words):
    EvalSettings.of(config, **wrong)


def test_files_are_whole(tmp_path, perfect, settings):
  scores = runner.evaluate(perfect, settings)
  path = tmp_path / "deep" / "scores.json"
  runner.write_scores(path, scores)
  assert json.loads(path.read_text()) == scores
  assert [p.name for p in path.parent.iterdir()] == ["scores.json"]


def test_history_forgets_what_is_evaluated_again(tmp_path):
  path = tmp_path / "scores.jsonl"
  for step in (10, 20, 30):
    runner.append_history(path, {"step": step, "try": 1})
  path.write_text(path.read_text() + '{"step": 40, "t')  # a kill
  runner.append_history(path, {"step": 20, "try": 2})
  assert runner.read_history(path) == [
    {"step": 10, "try": 1},
    {"step": 20, "try": 2},
  ]


def test_a_name_loses_no_line_of_the_history(tmp_path):
  """Only a newline ends a line; others' ends may stand in a name."""
  path = tmp_path / "scores.jsonl"
  names = ["a\u2028b", "c\u2029\x85\x0b\x0c\x1c\r\n", "d\udcff", "e"]
  for step, name in enumerate(names):
    runner.append_history(path, {"step": step, "checkpoint": name})
  found = runner.read_history(path)
  assert [entry["checkpoint"] for entry in found] == names


def test_a_table_of_names_with_brackets(perfect, settings):
  """The evaluation is done when it is shown: no name may end it."""
  scores = runner.evaluate(perfect, settings)
  name = "runs/[/red]a[b]:tada:\x1b[2J"
  (kind, entry), *_ = scores["understanding"]["kinds"].items()
  scores["understanding"]["kinds"] = {f"{kind} [/x]": entry}
  scores["understanding"]["bad_records"] = ["[/a].jsonl:1: no [b]"]
  for console in (rich.console.Console, terminal.Console):
    out = io.StringIO()
    table.show(scores | {"checkpoint": name}, console(file=out, width=120))
    shown = out.getvalue()
    assert "runs/[/red]a[b]:tada:\\x1b[2J, step 7" in shown
    assert f"{table.plain_kind(kind)} [/x]" in shown
    assert "Left out: [/a].jsonl:1: no [b]" in shown


def test_table_shows_every_kind_and_set(perfect, settings):
  scores = runner.evaluate(perfect, settings)
  scores["reference"] = {t: scores[t] for t in TASKS}
  text = io.StringIO()
  table.show(scores, rich.console.Console(file=text, width=100))
  for words in (
    "Text to image",
    "colour attribution",
    "recolour",
    "baseline",
    "Chinese prompts",
    "Two edits at once",
    "reference",
    "60.0 dB",
  ):
    assert words in text.getvalue()
  assert "text to image 1.000 (12)" in table.summary(scores)


def test_progress_speaks_only_when_slow(capsys):
  now = iter([0.0, 1.0, 11.0, 12.0])
  lines = table.Lines(every=10.0, clock=lambda: next(now))
  for done in range(3):
    lines("drawing", done, 9)
  assert capsys.readouterr().err == "  evaluating Text to image: 1/9\n"


@pytest.mark.smoke
def test_psnr():
  one = np.zeros((2, 2, 3), np.uint8)
  assert outcomes.psnr(one, one) == outcomes.MAX_PSNR
  assert outcomes.psnr(one, one + 255) == 0.0
