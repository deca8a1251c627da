"""From an item and its predictions to outcomes; judging and scoring both.

The judge stage runs the scorers to learn what they ask, the aggregate stage
runs the same scorers with the replies that were kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import math

from emma_jax.benchmarks import records, suite
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import BadRun, Outcome, Prediction, Stopped
from emma_jax.benchmarks.selection import limited
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.benchmarks.suite import Case, Made, NoAnswers, NoReply, Score
from emma_jax.judge.base import Call, JudgeError, Reply

Ask = Callable[[Call], Reply]
Predictions = Mapping[tuple[str, int], Prediction]


def chosen(source: Source, limit: int) -> Iterator[Item]:
  """The items of a set that a limit leaves, one at a time.

  Raises:
    BadItem: see `Source.groups`.
  """
  for i in limited(list(source.groups.values()), limit):
    yield source[i]


def of_item(
  item: Item,
  predictions: Predictions,
  settings: SetSettings,
  impl: str,
  place: SetFolder,
  ask: Ask,
) -> list[Outcome]:
  """One outcome per repeat; what failed has the lowest score.

  Args:
    item: of the set.
    predictions: of the set, by (id, repeat).
    settings: of the set.
    impl: implementation.
    place: of the pictures.
    ask: gives the judge's replies.

  Raises:
    NoAnswers: the split has no references.
    BadRun: a picture's file is gone, or changed.
  """
  benchmark = settings.benchmark
  scores: dict[int, Score] = {}
  made: list[Made] = []
  for repeat in range(settings.repeats):
    found = predictions.get((item.id, repeat))
    if found is None or found.status in records.FAILED:
      kind = "missing" if found is None else found.status
      scores[repeat] = Score(value=benchmark.lowest, failure=f"predict:{kind}")
    else:
      load = functools.partial(place.picture, found)
      made.append(Made(prediction=found, load=load))
  case = Case(
    set_name=benchmark.name,
    item=item,
    made=made,
    impl=impl,
    quirks=settings.quirks,
    guess=settings.guess,
    judge=ask,
  )
  scores |= _scores(case, benchmark)
  return [
    _outcome(item, repeat, impl, scores[repeat], benchmark)
    for repeat in sorted(scores)
  ]


def by_all(
  item: Item,
  predictions: Predictions,
  settings: SetSettings,
  place: SetFolder,
  ask: Ask,
) -> list[Outcome]:
  """`of_item` by all implementations, the headline's first."""
  return [
    outcome
    for impl in settings.impls
    for outcome in of_item(item, predictions, settings, impl, place, ask)
  ]


# What is no fault of a prediction: it ends the stage.
_OF_THE_RUN = (NoAnswers, BadRun, JudgeError, Stopped, OSError)


def _scores(case: Case, benchmark: suite.Benchmark) -> dict[int, Score]:
  """By repeat; one that fails takes no other with it."""
  if not case.made:
    return {}
  try:
    found = benchmark.score(case)
    if len(found) != len(case.made):
      raise ValueError(f"{len(found)} scores for {len(case.made)} predictions")
    for one in found:
      numbers = (one.value, one.weight or 0.0, *one.parts.values())
      if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{one} has a number that is none")
    return {m.repeat: s for m, s in zip(case.made, found)}
  except _OF_THE_RUN:
    raise
  except Exception as error:
    if len(case.made) > 1:
      out: dict[int, Score] = {}
      for made in case.made:
        out |= _scores(dataclasses.replace(case, made=[made]), benchmark)
      return out
    kind = (
      f"judge:{error.kind}"
      if isinstance(error, NoReply)
      # A rule of an original that cannot take this answer: counted, and seen.
      else f"scorer:{type(error).__name__}"
    )
    (only,) = case.made
    return {only.repeat: Score(value=benchmark.lowest, failure=kind)}


def _outcome(
  item: Item, repeat: int, impl: str, score: Score, benchmark: suite.Benchmark
) -> Outcome:
  return Outcome(
    id=item.id,
    repeat=repeat,
    impl=impl,
    score=score.value,
    weight=benchmark.weight(item) if score.weight is None else score.weight,
    cluster=item.group,
    stratum=benchmark.stratum(item, impl) if benchmark.stratum else "",
    categories=dict(benchmark.categories(item)),
    parts=dict(score.parts),
    failure=score.failure,
  )


def merged(
  outcomes: Sequence[Outcome], benchmark: suite.Benchmark
) -> list[Outcome]:
  """Outcomes of one implementation, groups of items made one where they are."""
  if benchmark.merge is None:
    return list(outcomes)
  groups: dict[tuple[str, int], list[Outcome]] = {}
  for one in outcomes:
    groups.setdefault((one.cluster, one.repeat), []).append(one)
  return [benchmark.merge(members) for members in groups.values()]
