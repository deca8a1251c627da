"""Evaluates a session on everything its settings ask for.

The result is what scores.json holds; but for "seconds" and "timing" it is a
function of weights and settings.
"""

from collections.abc import Sequence
import json
import pathlib
import time
from typing import Any

from emma_jax.evals import autoencoder, files, seen, world
from emma_jax.evals.outcomes import Evaluation, Outcome, Progress, Scores, quiet
from emma_jax.evals.settings import EvalSettings
from emma_jax.files import lines, write_text
from emma_jax.sampling.session import Session
from emma_jax.structs import Record

# Keys of scores that differ between two equal evaluations.
TIMING = ("seconds", "timing")


def evaluate(
  session: Any, settings: EvalSettings, progress: Progress = quiet
) -> Scores:
  """The scores of a session (see sampling.session); what `run` returns."""
  return run(session, settings, progress).scores


def run(
  session: Any, settings: EvalSettings, progress: Progress = quiet
) -> Evaluation:
  """Scores and outcomes.

  {"understanding" | "drawing" | "editing": {"score", "n", "kinds"}, "held_out":
  {set: the same}, of files "measures" (`files.measured`), "ceiling":
  {task: the same, "psnr" and "l1"}, "settings",
  "checkpoint", "step", "seconds", "timing"}. The overall score is the mean over
  questions for understanding, the mean over kinds for pictures. Of a session
  that is an autoencoder: see `autoencoder.run`.
  """
  work = _Evaluation(session, settings, progress)
  if session.config["model"]["kind"] == "autoencoder":
    work.autoencoder()
    return work.result()
  work.read_files()
  for task in settings.chosen:
    work.task(task)
  work.scores |= {"held_out": {}, "ceiling": work.scores.pop("ceiling", {})}
  if settings.held_out and not settings.sources:
    for name in world.HELD_OUT:
      if name.split("_")[0] in settings.chosen:
        work.held_out(name)
  return work.result()


class _Evaluation:
  """Collects an evaluation, part by part."""

  def __init__(self, session: Any, settings: EvalSettings, progress: Progress):
    self.session, self.settings = session, settings
    self.common: dict[str, Any] = dict(batch=settings.batch, progress=progress)
    self.flow = self.common | dict(seed=settings.seed, steps=settings.steps)
    self.scores: Scores = {}
    self.outcomes: dict[str, list[Outcome]] = {}
    self.timing: dict[str, float] = {}
    self.files: dict[str, tuple[Sequence[Record], list[tuple[str, str]]]] = {}
    self.begin = time.monotonic()

  def read_files(self):
    """All files before anything is computed: NoRecords then loses nothing."""
    settings = self.settings
    for task in settings.chosen:
      if settings.spec(task).kind != "world":
        self.files[task] = files.records(
          settings.sources[task],
          task,
          settings.samples,
          getattr(self.session, "check", None),
        )

  def task(self, task: str):
    start = time.monotonic()
    session, settings = self.session, self.settings
    spec = settings.spec(task)
    if spec.kind != "world":
      samples, bad = self.files[task]
      scores, done = files.run(session, samples, task, **self.flow)
      scores["bad_records"] = [f"{where}: {why}" for where, why in bad]
      found = seen.compare(
        settings.sources[task],
        len(samples) + len(bad),
        session.config["data"]["sources"],
      )
      scores["seen"] = {"unseen": found.unseen, "note": found.words()}
      if isinstance(session, Session):  # no stand-in, which has no weights
        scores["measures"] = files.measured(
          session, done, task, batch=settings.batch
        )
    else:
      count = min(settings.samples, spec.length or settings.samples)
      samples = world.records(spec.task, spec.split, count)
      scores, done = world.run(session, samples, task, **self.flow)
      if seen.drawn_from(spec.split, session.config["data"]["sources"]):
        note = f"the model was trained on the world's split {spec.split!r}."
        scores["seen"] = {"unseen": False, "note": note}
    self.scores[task], self.outcomes[task] = scores, done
    self.timing[task] = time.monotonic() - start
    if spec.kind == "world" and settings.ceiling and task != "understanding":
      ceilings = self.scores.setdefault("ceiling", {})
      ceilings[task], self.outcomes[f"ceiling_{task}"] = world.ceiling(
        session, samples, task, **self.common
      )

  def held_out(self, name: str):
    start = time.monotonic()
    samples = world.records(
      name, self.settings.split, self.settings.held_out_samples
    )
    self.scores["held_out"][name], self.outcomes[name] = world.run(
      self.session, samples, name, **self.flow
    )
    self.timing[name] = time.monotonic() - start

  def autoencoder(self):
    spec = self.settings.sources.get("drawing", "")
    self.scores["autoencoder"], self.outcomes["autoencoder"] = autoencoder.run(
      self.session,
      spec,
      self.settings.split,
      self.settings.samples,
      **self.common,
    )

  def result(self) -> Evaluation:
    self.scores |= {
      "settings": self.settings.options(),
      "checkpoint": self.session.name,
      "step": int(self.session.step),
      "seconds": time.monotonic() - self.begin,
      "timing": self.timing,
    }
    return Evaluation(scores=self.scores, outcomes=self.outcomes)


def without_timing(scores: Scores) -> Scores:
  """What two evaluations of the same weights have in common."""
  return {
    k: without_timing(v) if isinstance(v, dict) else v
    for k, v in scores.items()
    if k not in TIMING
  }


# ------------------------------------------------------------------ files


def write_scores(path: str | pathlib.Path, scores: Scores):
  """scores.json, whole or not at all."""
  text = json.dumps(scores, indent=2, allow_nan=False, ensure_ascii=False)
  write_text(path, text + "\n")


def read_history(path: str | pathlib.Path) -> list[Scores]:
  """The evaluations in scores.jsonl, oldest first; [] without a file."""
  path = pathlib.Path(path)
  if not path.exists():
    return []
  entries = []
  for line in lines(path):
    try:
      entries.append(json.loads(line))
    except ValueError:
      continue  # what a kill leaves; it will be evaluated again
  return [e for e in entries if isinstance(e, dict) and "step" in e]


def append_history(path: str | pathlib.Path, entry: Scores):
  """Adds an evaluation; what was known of its step and later ones goes.

  A resumed run evaluates a step again, or goes back and takes another way.
  """
  kept = [e for e in read_history(path) if e["step"] < entry["step"]]
  written = [
    json.dumps(e, allow_nan=False, ensure_ascii=False) + "\n"
    for e in (*kept, entry)
  ]
  write_text(path, "".join(written))
