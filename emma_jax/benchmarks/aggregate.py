"""The aggregate stage: scores of all implementations, into results.json.

It reads predictions and judgements, and needs neither model nor judge.
"""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from emma_jax import files
from emma_jax.benchmarks import (
  asked,
  decide,
  folders,
  numbers,
  records,
  runs,
  scored,
)
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.records import Outcome
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.judge.base import Reply, tokens_of


def aggregate(
  source: Source,
  settings: SetSettings,
  place: SetFolder,
  identity: Mapping[str, Any],
  *,
  max_failed: float,
  seed: int,
) -> dict[str, Any]:
  """A set's numbers, JSON; its outcomes go into outcomes.jsonl.

  Args:
    source: the set's items.
    settings: of the set.
    place: its folder.
    identity: of its judge.
    max_failed: see `numbers.number`.
    seed: of intervals.

  Raises:
    BadRun: files of the run that cannot be used.
    NoAnswers: the split has no references.
  """
  predictions, stale = asked.answered(source, settings, place)
  ask = decide.Replay(place, identity)
  count, by_impl = _outcomes(source, settings, place, predictions, ask)
  made = list(predictions.values())
  noted = place.noted()
  return _protocol(settings) | {
    "prompt_sha256": _prompts(made),
    "sampling": noted["decides"],
    "judge": {
      "name": settings.judge,
      **_judge(ask.used, identity),
      "anchors": _anchors(place.run, settings.judge),
    },
    "run": noted.get("run", {}),
    "data": folders.data_of(source, settings)
    | {"items": count, "limit": settings.limit, "rehearsal": source.rehearsal},
    "predictions": {
      "made": len(made),
      "stale": stale,
      "truncated": sum(x.status == "truncated" for x in made),
    },
    "timing": _timing(place),
    "numbers": [
      numbers.number(
        outcomes,
        settings.benchmark,
        impl=impl,
        partial=bool(settings.limit) or source.rehearsal,
        judged=bool(settings.judge),
        max_failed=max_failed,
        seed=seed,
      ).as_json()
      for impl, outcomes in by_impl.items()
    ],
  }


def _protocol(settings: SetSettings) -> dict[str, Any]:
  """What was asked and how it is scored."""
  return {
    "name": settings.name,
    "set": settings.benchmark.name,
    "title": settings.title,
    "kind": settings.benchmark.kind,
    "split": settings.split,
    "impl": settings.impl,
    "repeats": settings.repeats,
    "prompt": settings.prompt,
    "quirks": settings.quirks,
    "guess": settings.guess,
    "protocol": settings.benchmark.protocol,
  }


def _outcomes(
  source: Source,
  settings: SetSettings,
  place: SetFolder,
  predictions: scored.Predictions,
  ask: scored.Ask,
) -> tuple[int, dict[str, list[Outcome]]]:
  """(how many items, outcomes by implementation), which are written down."""
  by_impl: dict[str, list[Outcome]] = {impl: [] for impl in settings.impls}
  count = 0
  for item in scored.chosen(source, settings.limit):
    count += 1
    for one in scored.by_all(item, predictions, settings, place, ask):
      by_impl[one.impl].append(one)
  if not count:
    raise records.BadRun(f"{settings.name}: the set has no items.")
  benchmark = settings.benchmark
  by_impl = {k: scored.merged(v, benchmark) for k, v in by_impl.items()}
  lines = "".join(records.dump(x) for v in by_impl.values() for x in v)
  with records.writing(place.outcomes):
    files.write_text(place.outcomes, lines)
  return count, by_impl


def _prompts(made: Sequence[records.Prediction]) -> str:
  """Of all prompts, by item."""
  return records.digest(sorted({(x.id, x.prompt) for x in made}))


def _judge(
  used: Mapping[str, Reply], identity: Mapping[str, Any]
) -> dict[str, Any]:
  """Who judged, as asked and as the server named itself, and when."""
  models: dict[str, int] = {}
  statuses: dict[str, int] = {}
  read, written = tokens_of(used.values())
  dates = [reply.date for reply in used.values() if reply.date]
  for reply in used.values():
    if reply.status == "ok":  # a filter before the model says not whose it is
      models[reply.model] = models.get(reply.model, 0) + 1
    statuses[reply.status] = statuses.get(reply.status, 0) + 1
  return {
    "identity": dict(identity),
    "answered_as": dict(sorted(models.items())),
    "replies": dict(sorted(statuses.items())),
    "input_tokens": read,
    "output_tokens": written,
    "first": min(dates, default=""),
    "last": max(dates, default=""),
  }


def _anchors(folder: str, judge: str) -> Any:
  """How far the judge has moved, where it has anchors; see `calibration`."""
  path = os.path.join(folder, runs.ANCHORS)
  if not judge or not os.path.exists(path):
    return None
  return folders.read_json(path, "").get(judge)


def _timing(place: SetFolder) -> dict[str, float]:
  """Sums over the processes and their runs."""
  total: dict[str, float] = {}
  for one in place.timings():
    for key, value in one.items():
      total[key] = total.get(key, 0) + value
  return total


def write(
  folder: str, config: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
) -> str:
  """Writes results.json; returns its path.

  Sets of an earlier call that are not among these stay.
  """
  path = os.path.join(folder, "results.json")
  run = folders.check(folder)
  before: Sequence[Mapping[str, Any]] = ()
  if os.path.exists(path):
    before = folders.read_json(path, "", "sets")["sets"]
  # Where they stood; new ones behind.
  sets = {one["name"]: one for one in (*before, *found)}
  content = {
    "format": records.FORMAT,
    "run": run,
    "config": dict(config),
    "sets": list(sets.values()),
  }
  folders.write_json(path, content)
  return path
