"""Scoring of drawn pictures by judges that follow a script."""

from collections.abc import Callable, Mapping, Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import Prediction
from emma_jax.benchmarks.suite import Benchmark, Case, Made, Score
from emma_jax.judge.base import Call, Reply


def picture(repeat: int) -> bytes:
  """What stands for the file of a picture."""
  return f"picture {repeat}".encode()


def made(repeat: int) -> Made:
  """A prediction, whose key and prompt do not matter here."""
  return Made(
    prediction=Prediction(id="", repeat=repeat, key="", settings="", prompt=""),
    load=lambda: picture(repeat),
  )


def scores(
  benchmark: Benchmark,
  item: Item,
  judge: Callable[[Call], Reply | str],
  *,
  impl: str = "",
  quirks: bool = False,
  pictures: int = 0,
) -> Sequence[Score]:
  """Scores of an item's pictures, as many as the benchmark has by default.

  Args:
    judge: gives a reply, or its text.
  """

  def reply(call: Call) -> Reply:
    said = judge(call)
    return Reply(text=said) if isinstance(said, str) else said

  case = Case(
    set_name=benchmark.name,
    item=item,
    made=[made(n) for n in range(pictures or benchmark.repeats)],
    impl=impl or benchmark.impls[0],
    quirks=quirks,
    judge=reply,
  )
  return benchmark.score(case)


def values(found: Sequence[Score]) -> list[float]:
  """Of all, none of which is a failure."""
  assert not [s.failure for s in found if s.failure]
  return [s.value for s in found]


def failures(found: Sequence[Score]) -> list[str]:
  """Of all, each with the lowest value."""
  assert not any(s.value for s in found if s.failure)
  return [s.failure for s in found]


def weights(found: Sequence[Score]) -> list[float]:
  """As far as scores say them; else 1."""
  return [1.0 if s.weight is None else s.weight for s in found]


def weighted_mean(found: Sequence[Score]) -> float:
  """As a benchmark averages scores of one stratum."""
  values = [s.value for s in found]
  return sum(w * v for w, v in zip(weights(found), values)) / sum(
    weights(found)
  )


def mean_of_strata(
  benchmark: Benchmark, pairs: Sequence[tuple[Item, Score]], impl: str = ""
) -> float:
  """As a benchmark averages scores of several: by weight where it has any."""
  strata: dict[str, list[Score]] = {}
  stratum = benchmark.stratum
  assert stratum is not None
  for item, score in pairs:
    strata.setdefault(stratum(item, impl), []).append(score)
  means = {name: weighted_mean(found) for name, found in strata.items()}
  weights: Mapping[str, float] = benchmark.strata_weights or dict.fromkeys(
    means, 1 / len(means)
  )
  return sum(weights[name] * mean for name, mean in means.items())
