"""Which answers a page shows, and all that belongs to one.

Half of them are drawn at random, half are those that implementations disagree
on most: who reads only the good ones learns nothing about a rule.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import os
import random
from typing import Any

from emma_jax.benchmarks import records, suite
from emma_jax.benchmarks import results as reading
from emma_jax.benchmarks.data import folder as data_folder
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import BadItem, Item, file_inside
from emma_jax.benchmarks.records import Judgement, Outcome, Prediction
from emma_jax.benchmarks.results import Results
from emma_jax.benchmarks.suite import Benchmark
from emma_jax.pages.pictures import Picture, thumbnail

# Of pictures, in pixels; of texts, in characters.
SIDE, TEXT, REPLY = 256, 1500, 800
# Of a group of items that is scored as one; of replies about an answer.
_ITEMS, _REPLIES = 4, 6


class Room:
  """How many bytes of pictures still go into a page.

  Attributes:
    left_out: pictures that did not fit.
    unreadable: pictures that cannot be shown.
  """

  def __init__(self, size: int):
    self._left, self._kept = size, 0
    self.left_out = self.unreadable = 0

  def keep_for(self, others: int) -> None:
    """Leaves as much to each of so many others as to who comes now."""
    self._kept = self._left * others // (others + 1)

  def picture(self, load: Callable[[], bytes], alt: str) -> Picture | None:
    """A picture for the page; None where it does not fit, or is damaged."""
    if self._left <= self._kept:
      self.left_out += 1
      return None
    try:
      source = thumbnail(load(), SIDE)
    except (BadItem, ValueError, OSError):
      self.unreadable += 1
      return None
    if self._left - len(source) < self._kept:
      self.left_out += 1
      return None
    self._left -= len(source)
    return Picture(source, alt)


def cut(text: str, most: int) -> str:
  """The beginning of a text.

  >>> cut("abcdef", 3), cut("abc", 3)
  ('abc … (3 more characters)', 'abc')
  """
  if len(text) <= most:
    return text
  return f"{text[:most]} … ({len(text) - most:,} more characters)"


# ------------------------------------------------------------------ choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
  """Outcomes of a set: implementation -> outcome, each under all of them."""

  random: Sequence[Mapping[str, Outcome]]
  disputed: Sequence[Mapping[str, Outcome]]
  failed: Mapping[str, Sequence[Mapping[str, Outcome]]]

  def every(self) -> Iterator[Mapping[str, Outcome]]:
    """All of them; one may come twice."""
    yield from self.random
    yield from self.disputed
    for some in self.failed.values():
      yield from some


def choose(
  by_impl: Mapping[str, Sequence[Outcome]],
  *,
  count: int,
  failures: int,
  seed: str,
) -> Chosen:
  """Picks what a page shows of a set; the same for the same seed.

  Args:
    by_impl: outcomes, the headline's implementation first.
    count: at random, and again of the disputed.
    failures: of each kind.
    seed: of the draws.
  """
  found: dict[str, dict[str, Outcome]] = {}
  for impl, outcomes in by_impl.items():
    for one in outcomes:
      found.setdefault(reading.identify(one), {})[impl] = one
  top = next(iter(by_impl))
  every = sorted((x for x in found.values() if top in x), key=_order)
  drawn = random.Random(seed)
  drawn.shuffle(every)  # also decides among equally disputed ones
  disputed = sorted((x for x in every if spread(x) > 0), key=spread)[::-1]
  failed: dict[str, list[Mapping[str, Outcome]]] = {}
  for each in every:
    some = failed.setdefault(each[top].failure, [])
    if len(some) < failures:
      some.append(each)
  failed.pop("", None)
  return Chosen(
    random=sorted(every[:count], key=_order),
    disputed=disputed[:count],
    failed=dict(sorted(failed.items())),
  )


def _order(outcomes: Mapping[str, Outcome]) -> tuple[str, int]:
  one = next(iter(outcomes.values()))
  return one.id, one.repeat


def spread(outcomes: Mapping[str, Outcome]) -> float:
  """How far implementations are apart on an answer, in units of the set."""
  values = [x.score for x in outcomes.values()]
  return max(values) - min(values)


# ---------------------------------------------------------------- evidence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """One item and what was made of it; texts are cut.

  Args:
    id: of the item.
    prompt: None where the data is not there; so are question's pictures.
    pictures: of the question, or the sources of an edit.
    drawn: what the model drew.
    answer: what it said; None where there is no prediction.
    status, error: of the prediction.
    answers: references.
    replies: of the judge: (part, status or model, text).
  """

  id: str
  prompt: str | None
  pictures: Sequence[Picture]
  drawn: Picture | None
  answer: str | None
  status: str
  error: str
  answers: Sequence[str]
  replies: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """An outcome on the page.

  Args:
    id, repeat: of it.
    asked: the item, or those of its group.
    more: items of the group that are not shown.
    scores: (implementation, score or failure, mark).
  """

  id: str
  repeat: int
  asked: Sequence[Asked]
  more: int
  scores: Sequence[tuple[str, str, str]]


class Evidence:
  """Items, predictions and replies of the outcomes that a page shows.

  Attributes:
    note: why there are no items; "" where there are.
    first: of the set; None where the data is not there.
  """

  def __init__(
    self, run: Results, one: Mapping[str, Any], chosen: Chosen, data: str
  ):
    """Goes through the set's files once.

    Args:
      run: with its folder.
      one: the entry of the set.
      chosen: what is shown.
      data: folder of the test sets.

    Raises:
      BadRun: damaged files.
    """
    self.benchmark = suite.find(one["set"])
    self._prompt = one["prompt"]
    self._place: SetFolder = run.place(one)
    top = one["impl"]
    wanted = {x[top].id: x[top].cluster for x in chosen.every()}
    source, self.note = _opened(one, data)
    self.first: Item | None = None
    self._items: dict[str, list[Item]] = {}
    if source is not None:
      self._read(source, wanted)
    ids = {x.id for some in self._items.values() for x in some} | set(wanted)
    self._predictions = self._find_predictions(ids)
    self._replies = self._find_replies()

  def _read(self, source: Source, wanted: Mapping[str, str]) -> None:
    """Items of the wanted outcomes: of their id, or of the group they are."""
    groups = {cluster: id_ for id_, cluster in wanted.items()}
    merged = self.benchmark.merge is not None
    missing = set(wanted)
    for i in range(len(source)):
      item = source[i]
      self.first = self.first or item
      name = groups.get(item.group, "") if merged else item.id
      if name in wanted:
        self._items.setdefault(name, []).append(item)
        missing.discard(name)
      if not missing and not merged:
        return

  def _find_predictions(
    self, ids: set[str]
  ) -> dict[tuple[str, int], Prediction]:
    if not os.path.exists(os.path.join(self._place.path, "set.json")):
      return {}
    made_with = self._place.noted()["settings"]
    return {
      (line.id, line.repeat): line
      for _, line in self._place.lines()
      if line.id in ids and line.settings == made_with
    }

  def _find_replies(self) -> dict[tuple[str, int], list[Judgement]]:
    """Of the predictions that were found, in the order they came."""
    known = {
      f"{self.benchmark.name}/{id_}/{repeat}/": (id_, repeat)
      for id_, repeat in self._predictions
    }
    starts = tuple(known)
    found: dict[tuple[str, int], list[Judgement]] = {}
    for line in records.load(Judgement, self._place.judgements):
      if line.call.startswith(starts):
        start = max((s for s in starts if line.call.startswith(s)), key=len)
        line = dataclasses.replace(line, call=line.call[len(start) :])
        found.setdefault(known[start], []).append(line)
    return found

  def prompt(self, item: Item) -> str | None:
    """What the model is asked of an item; None where it lacks something."""
    try:
      return self.benchmark.prompts[self._prompt](item).text
    except BadItem:
      return None

  def sample(self, outcomes: Mapping[str, Outcome], room: Room) -> Sample:
    """An outcome with all that belongs to it.

    Args:
      outcomes: by implementation.
      room: for its pictures.
    """
    one = next(iter(outcomes.values()))
    items = self._items.get(one.id, [])
    shown = [self._asked(x, x.id, one.repeat, room) for x in items[:_ITEMS]]
    return Sample(
      id=one.id,
      repeat=one.repeat,
      asked=shown or [self._asked(None, one.id, one.repeat, room)],
      more=max(0, len(items) - _ITEMS),
      scores=[_score(k, x, self.benchmark) for k, x in outcomes.items()],
    )

  def _asked(
    self, item: Item | None, id_: str, repeat: int, room: Room
  ) -> Asked:
    prediction = self._predictions.get((id_, repeat))
    drawn = None
    if prediction and prediction.picture:
      path = os.path.join(self._place.path, prediction.picture)
      load = file_inside(self._place.path, path, prediction.picture)
      drawn = room.picture(load, "what was drawn")
    prompt = self.prompt(item) if item else None
    replies = self._replies.get((id_, repeat), [])
    return Asked(
      id=id_,
      prompt=None if prompt is None else cut(prompt, TEXT),
      pictures=[
        shown
        for picture in (item.pictures if item else ())
        if (shown := room.picture(picture.bytes, "of the item"))
      ],
      drawn=drawn,
      answer=cut(prediction.text, TEXT) if prediction else None,
      status=prediction.status if prediction else "missing",
      error=cut(prediction.error, REPLY) if prediction else "",
      answers=[cut(x, REPLY) for x in (item.answers[:12] if item else ())],
      replies=[_reply(line) for line in replies[:_REPLIES]],
    )


def _opened(one: Mapping[str, Any], data: str) -> tuple[Source | None, str]:
  """The set's data, or why it cannot be shown.

  `data`: its folder; where there is none, the one that was predicted from.
  """
  data = data_folder.located(data)
  if not os.path.isdir(data):
    data = one["data"].get("folder", "") or data
  if not os.path.isdir(data):
    return None, (
      f"the folder of the test sets ({data or 'none is named'}) is not there; "
      "name it with --data"
    )
  try:
    source = data_folder.open_set(data, one["set"], one["split"])
  except (BadItem, OSError, ImportError, ValueError) as error:
    return None, str(error)
  if len(source) != one["data"]["rows"]:
    return None, (
      f"the set in {data} has {len(source):,} rows, and the run's had "
      f"{one['data']['rows']:,}"
    )
  return source, ""


def _score(
  impl: str, outcome: Outcome, benchmark: Benchmark
) -> tuple[str, str, str]:
  if outcome.failure:
    return impl, outcome.failure, "wrong"
  best = {0.0: "wrong", 1.0: "right"} if benchmark.scale != 1.0 else {}
  shown = f"{outcome.score:.3g}"
  if outcome.parts:
    parts = ", ".join(f"{k} {v:.3g}" for k, v in outcome.parts.items())
    shown += f" ({cut(parts, REPLY)})"
  return impl, shown, best.get(outcome.score, "")


def _reply(line: Judgement) -> tuple[str, str, str]:
  reply = line.reply
  text = reply.get("text") or reply.get("error") or ""
  status = reply.get("status", "")
  who = reply.get("model", "") if status == "ok" else status
  return line.call, who, cut(text, REPLY)
