"""Understanding: every question of a conversation counts, exact match."""

from collections.abc import Sequence
import math
from typing import Any

from emma_jax.evals.outcomes import Outcome, Progress, Scores, batches, tally
from emma_jax.structs import Understanding
from emma_jax.world import scoring


def run(
  session: Any,
  records: Sequence[Understanding],
  *,
  batch: int,
  progress: Progress,
  name: str = "understanding",
) -> list[Outcome[Understanding]]:
  """Asks greedily, turn after turn; the model sees its own earlier answers."""
  outcomes = []
  max_tokens = session.config["sample"]["max_tokens"]
  for start, part in batches(records, batch):
    progress(name, start, len(records))
    said = session.ask(
      [r.pictures for r in part],
      [tuple(question for question, _ in r.turns) for r in part],
      max_tokens=max_tokens,
      temperature=0.0,
    )
    outcomes += [_mark(r, s) for r, s in zip(part, said)]
  progress(name, len(records), len(records))
  return outcomes


def _mark(
  record: Understanding, answers: Sequence[str]
) -> Outcome[Understanding]:
  kinds = record.kinds or ("question",) * len(record.turns)
  right = [
    scoring.score_answer(truth, answer)
    for (_, truth), answer in zip(record.turns, answers, strict=True)
  ]
  return Outcome(
    record=record, marks=tuple(zip(kinds, right)), answers=tuple(answers)
  )


def score(outcomes: Sequence[Outcome[Understanding]]) -> Scores:
  """Overall, the mean over all questions; beside each kind, its baseline.

  The baseline is what the most frequent answer of a kind (and script) scores;
  the overall one is weighted as the overall score is. "macro" is the mean over
  kinds.
  """
  scores = tally(outcomes, macro=False)
  truths = [
    (kind, truth)
    for outcome in outcomes
    for (kind, _), (_, truth) in zip(outcome.marks, outcome.record.turns)
  ]
  baselines = scoring.majority_baseline(truths)
  kinds = scores["kinds"]
  for kind, entry in kinds.items():
    entry["baseline"] = baselines[kind]
  expected = sum(entry["baseline"] * entry["n"] for entry in kinds.values())
  of_kinds = [entry["score"] for entry in kinds.values()]
  return {
    "score": scores["score"],
    "macro": math.fsum(of_kinds) / len(kinds) if kinds else None,
    "n": scores["n"],
    "ci95": scores["ci95"],
    "ci_method": scores["ci_method"],
    "samples": len(outcomes),
    "baseline": expected / max(scores["n"], 1),
    "kinds": kinds,
  }
