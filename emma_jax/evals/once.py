"""Evaluates a session once, outside of any training; `during` does it there."""

import dataclasses
import pathlib

from emma_jax.evals import reference, report, runner, table
from emma_jax.evals.outcomes import Scores
from emma_jax.evals.settings import EvalSettings
from emma_jax.sampling.session import Session
from emma_jax.training.metrics import read_metrics


def evaluate(
  session: Session,
  settings: EvalSettings,
  out: str | pathlib.Path,
  workdir: str | pathlib.Path | None = None,
) -> Scores:
  """Scores a session; writes scores.json and report.html, and returns scores.

  Args:
    session: of `build.session`.
    settings: with `reference`, the shipped model is scored beside it.
    out: folder of the two files.
    workdir: of the training whose curves the report shows, if there was one.
  """
  out = pathlib.Path(out)
  done = runner.run(session, settings, table.Lines())
  if settings.reference:
    plain = dataclasses.replace(settings, reference=False)
    done.scores["reference"] = reference.scores(plain, progress=table.Lines())
  runner.write_scores(out / "scores.json", done.scores)
  history, metrics = [], []
  if workdir is not None:
    history = runner.read_history(pathlib.Path(workdir) / "scores.jsonl")
    metrics = read_metrics(workdir)
  report.write(
    out / "report.html",
    title=f"{session.config['name']}: evaluation",
    scores=done.scores,
    outcomes=done.outcomes,
    history=history,
    metrics=metrics,
    config=session.config,
  )
  return done.scores
