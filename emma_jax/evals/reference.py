"""The reference model that ships with the package, to compare with."""

from collections.abc import Callable
import dataclasses
from typing import Any

from emma_jax.checkpoints import locate
from emma_jax.evals import runner
from emma_jax.evals.outcomes import Evaluation, Progress, Scores, quiet
from emma_jax.evals.settings import EvalSettings
from emma_jax.structs import TASKS


def installed() -> bool:
  """Whether this installation has the reference model's weights."""
  return locate.installed("reference")


def load() -> Any:
  """Its session."""
  from emma_jax.build import session  # costs a second or two

  return session.load("reference")


def scores(
  settings: EvalSettings,
  load_session: Callable[[], Any] = load,
  progress: Progress = quiet,
) -> Scores:
  """Its scores of the three tasks on the very samples of `settings`."""
  return run(settings, load_session, progress).scores


def run(
  settings: EvalSettings,
  load_session: Callable[[], Any] = load,
  progress: Progress = quiet,
) -> Evaluation:
  """The same, with what it made."""
  settings = dataclasses.replace(settings, held_out=False, ceiling=False)
  found = runner.run(load_session(), settings, progress)
  kept = (*TASKS, "checkpoint", "step", *runner.TIMING)
  return Evaluation(
    scores={k: v for k, v in found.scores.items() if k in kept},
    outcomes=found.outcomes,
  )
