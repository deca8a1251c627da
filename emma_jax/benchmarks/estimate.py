"""What a run will take: a rehearsal on two items a set, and what judges cost.

Times are of programs with all their rows, so that two items tell how long as
many as there are rows take. Calls and tokens are those of judges as asked, and
what they come to at the prices in the config.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import os
import shutil
from typing import Any

from emma_jax.benchmarks import asked, decide, scored
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.judges import judge_of
from emma_jax.benchmarks.runs import Run, never
from emma_jax.benchmarks.selection import Shard, limited
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.benchmarks.suite import NoAnswers
from emma_jax.judge.base import Call, Reply, tokens_of
from emma_jax.judge.cached import Cached
from emma_jax.judge.ledger import Price, total

FOLDER = "dry-run"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """Of one set, as far as two items show it.

  Args:
    name: of the set.
    items: of the whole set.
    predictions: of all of them.
    hours: of predicting them on this device.
    calls: to the judge.
    input_tokens, output_tokens: of those calls, as far as the server counts.
    usd: of them; None: no price, or no count.
    prompts: of the two items.
    replies: to the first call about each.
  """

  name: str
  items: int
  predictions: int
  hours: float
  calls: int
  input_tokens: float
  output_tokens: float
  usd: float | None
  prompts: Sequence[str]
  replies: Sequence[str]


def two_of(source: Source, settings: SetSettings) -> Source:
  """The first item and the one with the longest prompt.

  Args:
    source: of a set.
    settings: of it.
  """
  longest, length = 0, -1
  for i in range(len(source)):
    text = settings.benchmark.prompts[settings.prompt](source[i]).text
    if len(text) > length:
      longest, length = i, len(text)
  chosen = [source[i] for i in dict.fromkeys((0, longest))]
  return dataclasses.replace(source, items=chosen)


def dry_run(
  run: Run, model: Any, sources: Mapping[str, Source]
) -> list[Estimate]:
  """Takes two items of each set through predicting and judging.

  Its files are in a folder of the run's, made anew.

  Args:
    run: with its sets.
    model: `model.Model`.
    sources: of each set.

  Raises:
    JudgeError, BadRun: as in the stages.
  """
  out = os.path.join(run.out, FOLDER)
  shutil.rmtree(out, ignore_errors=True)
  small = {s.name: two_of(sources[s.name], s) for s in run.sets}
  whole = [dataclasses.replace(s, limit=0) for s in run.sets]
  # The first time compiles; the second shows what a run will be like.
  seconds: dict[str, float] = {}
  for number in (1, 2):
    place = os.path.join(out, str(number))
    seconds = _predicted(
      dataclasses.replace(run, sets=whole, out=place), model, small
    )
  last = dataclasses.replace(run, sets=whole, out=place)
  rows = model.session.runner.batch
  return [
    _estimate(last, one, limit, small[one.name], sources, seconds, rows)
    for one, limit in zip(whole, (s.limit for s in run.sets))
  ]


def _predicted(
  run: Run, model: Any, sources: Mapping[str, Source]
) -> dict[str, float]:
  """Predicts; seconds of a program's call, by set."""
  from emma_jax.benchmarks import predict  # knows jax

  seconds = {}
  for one in run.sets:
    tally = predict.predict(
      model,
      sources[one.name],
      one,
      run.out,
      shard=Shard(),
      batch=model.session.runner.batch,
      stop=never,
      tell=lambda tally, total: None,
    )
    seconds[one.name] = tally.seconds / max(1, tally.calls)
  return seconds


def _estimate(
  run: Run,
  one: SetSettings,
  limit: int,
  small: Source,
  sources: Mapping[str, Source],
  seconds: Mapping[str, float],
  rows: int,
) -> Estimate:
  source = sources[one.name]
  items = len(limited(list(source.groups.values()), limit))
  tested = len(small)
  hours = seconds[one.name] * items * one.repeats / rows / 3600
  calls, usage, replies = 0, (0.0, 0.0), []
  price = Price(input=None, output=None)
  if one.judge:
    place = SetFolder(run.out, one.name)
    judge = judge_of(run.config, one.judge, run.out)
    with contextlib.suppress(NoAnswers):
      decide.judge(
        small,
        one,
        place,
        judge,
        concurrency=1,
        stop=never,
        tell=lambda _, done: None,
      )
    kept = list(decide.kept(place.judgements).values())
    factor = items / max(1, tested)
    calls = round(len(kept) * factor)
    read, written = tokens_of(kept)
    usage = (read * factor, written * factor)
    replies = [reply.text or f"({reply.status})" for reply in kept[:2]]
    price = price_of(run.config["judges"][one.judge])
  template = one.benchmark.prompts[one.prompt]
  return Estimate(
    name=one.name,
    items=items,
    predictions=items * one.repeats,
    hours=hours,
    calls=calls,
    input_tokens=usage[0],
    output_tokens=usage[1],
    usd=price.of(usage[0], usage[1], 0) if calls else 0.0,
    prompts=[template(small[i]).text for i in range(tested)],
    replies=replies,
  )


def price_of(section: Mapping[str, Any]) -> Price:
  """Of a judge's section; what asks no server costs nothing."""
  if section["kind"] != "openai":
    return Price(input=0.0, output=0.0)
  return Price(**section["price"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """What is left to be asked of a set's judge.

  Args:
    name: of the set.
    judge: in the config.
    known: calls that have a reply.
    missing: calls that have none. Where a protocol asks on, depending on a
      reply, or again, that is the least.
    usd: of the missing ones, by the mean of the tokens so far; None: no price,
      or nothing was asked yet.
  """

  name: str
  judge: str
  known: int
  missing: int
  usd: float | None


def cost(run: Run, sources: Mapping[str, Source]) -> list[Cost]:
  """What the judge stage of a run with predictions still costs.

  Raises:
    BadRun: predictions that cannot be used.
  """
  found = []
  for one in run.sets:
    if not one.judge:
      continue
    place = run.place(one)
    judge = judge_of(run.config, one.judge, run.out)
    desk = _Counter(judge, decide.Replay(place, judge.identity()))
    predictions, _ = asked.answered(sources[one.name], one, place)
    with contextlib.suppress(NoAnswers):  # so nothing to ask
      for item in scored.chosen(sources[one.name], one.limit):
        scored.by_all(item, predictions, one, place, desk)
    replies = list(decide.kept(place.judgements).values())
    usd = None if desk.missing else 0.0
    if replies and desk.missing:
      read, written = tokens_of(replies)
      more = len(desk.missing) / len(replies)
      price = price_of(run.config["judges"][one.judge])
      usd = price.of(read * more, written * more, 0)
    found.append(
      Cost(
        name=one.name,
        judge=one.judge,
        known=len(desk.known),
        missing=len(desk.missing),
        usd=usd,
      )
    )
  return found


class _Counter:
  """Replies that are there; of the others, how many."""

  def __init__(self, judge: Any, kept: scored.Ask):
    self._judge, self._kept = judge, kept
    self.known: set[str] = set()
    self.missing: set[str] = set()

  def __call__(self, call: Call) -> Reply:
    reply = self._kept(call)
    judge = self._judge
    known = isinstance(judge, Cached) and judge.knows(call)
    if known and reply.status not in decide.FINAL:
      reply = judge.ask(call)  # from the disk
    if reply.status in decide.FINAL:
      self.known.add(call.id)
      return reply
    if not call.attempt:
      self.missing.add(call.id)
    # A reply of some kind, so that a scorer goes on to its further calls.
    return Reply(text="no")


def lines(found: Sequence[Estimate]) -> list[str]:
  """Estimates as a table, then prompts and replies to be read."""
  out = [
    f"{'set':<16}{'items':>8}{'predictions':>13}{'hours':>9}{'calls':>9}"
    f"{'tokens in':>12}{'out':>10}{'USD':>9}"
  ]
  for one in found:
    out.append(
      f"{one.name:<16}{one.items:>8,}{one.predictions:>13,}{one.hours:>9.2f}"
      f"{one.calls:>9,}{one.input_tokens:>12,.0f}{one.output_tokens:>10,.0f}"
      f"{_usd(one.usd):>9}"
    )
  out.append(
    f"{'in all':<16}{sum(x.items for x in found):>8,}"
    f"{sum(x.predictions for x in found):>13,}"
    f"{sum(x.hours for x in found):>9.2f}{sum(x.calls for x in found):>9,}"
    f"{'':>22}{_usd(total(x.usd for x in found)):>9}"
  )
  for one in found:
    for text in one.prompts:
      out.append(f"\n{one.name}, a prompt:\n{text}")
    for text in one.replies:
      out.append(f"\n{one.name}, a reply of its judge:\n{text}")
  return out


def cost_lines(found: Sequence[Cost]) -> list[str]:
  """What judges still cost, a line a set."""
  out = [f"{'set':<16}{'judge':<14}{'known':>9}{'to ask':>9}{'USD':>9}"]
  out += [
    f"{x.name:<16}{x.judge:<14}{x.known:>9,}{x.missing:>9,}{_usd(x.usd):>9}"
    for x in found
  ]
  return out


def _usd(value: float | None) -> str:
  return "?" if value is None else f"{value:.2f}"
