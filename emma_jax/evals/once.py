"""Evaluates a session once, outside of any training; `during` does it there."""

import dataclasses
import pathlib

import jax

from emma_jax import distributed, provenance
from emma_jax.evals import predictions, reference, report, runner, table
from emma_jax.evals.outcomes import Progress, Scores, quiet
from emma_jax.evals.settings import EvalSettings
from emma_jax.sampling.session import Session
from emma_jax.training.metrics import read_metrics

PREDICTIONS = predictions.LINES


def evaluate(
  session: Session,
  settings: EvalSettings,
  out: str | pathlib.Path,
  workdir: str | pathlib.Path | None = None,
) -> Scores:
  """Scores a session, writes what came of it, and returns the scores.

  That are scores.json, report.html, starts.jsonl and the `predictions`. Of
  several processes all compute and the first one writes.

  Args:
    session: of `build.session`.
    settings: with `reference`, the shipped model is scored beside it.
    out: folder of the files.
    workdir: of the training whose curves the report shows, if there was one.
  """
  out = pathlib.Path(out)
  first = jax.process_index() == 0
  lines: Progress = table.Lines() if first else quiet
  hosts = distributed.hosts()
  done = runner.run(session, settings, lines)
  if settings.reference:
    plain = dataclasses.replace(settings, reference=False)
    done.scores["reference"] = reference.scores(plain, progress=lines)
  if not first:
    return done.scores
  predictions.write(out, done.outcomes)  # before the scores that they explain
  runner.write_scores(out / "scores.json", done.scores)
  start = provenance.about(
    session.config,
    step=int(session.step),
    devices=distributed.devices(),
    hosts=hosts,
  )
  provenance.append(out, start)
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
    predictions=PREDICTIONS,
    starts=[start],
  )
  return done.scores
