"""Evaluates a run after each of its stages, and writes its report at the end.

Training does not know evaluations; the command line hands one of these in.
"""

from collections.abc import Callable, Mapping
import dataclasses
import pathlib
import sys
from typing import Any

import jax

from emma_jax import sharding
from emma_jax.build import sections
from emma_jax.evals import predictions, reference, runner, stage_sheet, table
from emma_jax.evals.files import NoRecords
from emma_jax.evals.outcomes import Evaluation, Scores
from emma_jax.evals.run_report import RunReport
from emma_jax.evals.samples import RunSamples
from emma_jax.evals.settings import EvalSettings, knows_world
from emma_jax.sampling.placement import Placement
from emma_jax.training.looks import Look

MakeSession = Callable[..., Any]


class RunObserver:
  """An observer of training.looks: samples, and the page, of every look."""

  def __init__(
    self,
    workdir: str | pathlib.Path,
    config: Mapping[str, Any],
    report: RunReport,
  ):
    self._samples = RunSamples(workdir, config)
    self._report = report

  def __call__(self, look: Look) -> None:
    """All processes call it."""
    if look.samples:
      self._samples(look)
    self._report.write()


class StageEvaluator:
  """An `AfterStage` of training.loop.

  After every stage: a line in scores.jsonl, the predictions it is of in
  evaluations/step-N, and report.html. After the last one: held-out sets,
  ceiling and the reference model too, and scores.json.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    config: Mapping[str, Any],
    make_session: MakeSession | None = None,
    load_reference: Callable[[], Any] | None = None,
    report: RunReport | None = None,
  ):
    """Nothing is loaded yet.

    Args:
      workdir: of the run.
      config: the whole config, as nested dicts or a ConfigDict.
      make_session: like build.session.session, the default.
      load_reference: gives the reference model's session; default: the shipped
        one, where there is one.
      report: the run's page; None: one of its own.
    """
    self.workdir = pathlib.Path(workdir)
    self.config = sections.plain(config)
    self.settings = EvalSettings.of(self.config)
    self._make_session = make_session
    self._load_reference = load_reference
    self.report = report or RunReport(self.workdir, self.config)
    self._beside: dict[str, Any] = {}  # outcomes of other weights, by name

  def __call__(
    self, params: dict, stage: str, step: int, last: bool, router_trained: bool
  ) -> dict[str, float]:
    """Evaluates `params` after `stage` at the global `step`; its scores by
    name.

    Pictures in questions take the router's way if it is a trained one.
    """
    route = "router" if router_trained else "versatile"
    done = self._evaluate(params, stage, step, last, route)
    if done is not None and jax.process_index() == 0:
      predictions.write(
        self.workdir / predictions.folder_of(step), done.outcomes
      )
      self._remember(done.scores, stage)
      self._draw(done)
    if last and jax.process_index() == 0:
      self._finish(done)
    else:
      self.report.write(done)
    return table.numbers(done.scores) if done is not None else {}

  def _evaluate(
    self, params: dict, stage: str, step: int, last: bool, route: str
  ) -> Evaluation | None:
    settings = self.settings
    if not settings.sources and not knows_world(self.config):
      self._note(
        "No scores: the run's files have no held-out ones; name "
        "some in evaluate.sources."
      )
      return None
    if not last:
      settings = dataclasses.replace(
        settings, samples=settings.stage_samples, held_out=False, ceiling=False
      )
    make = self._make_session
    if make is None:
      from emma_jax.build import session as build_session

      make = build_session.session
    name = f"{self.config['name']} {stage}"
    given: dict[str, Any] = dict(name=name, step=step, route=route)
    if jax.device_count() > 1:
      given["place"] = self._place()
    session = make(self.config, params, **given)
    try:
      done = runner.run(session, settings, table.Lines())
    except NoRecords as error:  # the training is worth more than its scores
      self._note(f"No scores: {error}")
      return None
    if last and settings.reference:
      self._compare(done.scores, settings)
    return done

  def _place(self) -> Placement:
    """The run's own mesh: a model may be larger than a device or a host."""
    return Placement.over(sharding.MeshConfig(**self.config["mesh"]))

  def _compare(self, scores: Scores, settings: EvalSettings):
    """Adds the reference model's scores on the same samples."""
    load = self._load_reference
    if load is None and not reference.installed():
      self._note("No reference model is installed to compare with.")
      return
    self._note("Evaluating the reference model on the same samples.")
    found = reference.run(settings, load or reference.load, table.Lines())
    scores["reference"] = found.scores
    self._beside["shipped model"] = found.outcomes

  def _remember(self, scores: Scores, stage: str):
    entry = {"stage": stage, "step": scores["step"]} | scores
    runner.append_history(self.workdir / "scores.jsonl", entry)
    self._note(
      f"After {stage}: {table.summary(scores)} [{scores['seconds']:.0f} s]"
    )

  def _draw(self, done: Evaluation) -> None:
    """The sheet of all stages so far; one that is lost ends no run."""
    step = done.scores["step"]
    history = runner.read_history(self.workdir / "scores.jsonl")
    history = [e for e in history if e["step"] <= step and "stage" in e]
    try:
      path = stage_sheet.write(
        self.workdir, history, done.outcomes, self._beside
      )
    except OSError as error:
      self._note(f"No sheet of the stages: {error}")
      return
    if path is not None:
      self._note(f"The same prompts after each stage -> {path}")

  def _finish(self, done: Evaluation | None):
    scores = done.scores if done else None
    if scores:
      runner.write_scores(self.workdir / "scores.json", scores)
    self.report.write(done)
    if scores:
      table.show(scores)
      print(f"Scores: {self.workdir / 'scores.json'}")
    print(f"Report: {self.report.path}", flush=True)

  def _note(self, text: str):
    if jax.process_index() == 0:
      print(text, file=sys.stderr, flush=True)
