"""What a benchmark is: how its items are asked, scored and averaged.

A protocol, one module of `protocols` a set or family, says so in functions of
an item; everything else (predicting, judging, resuming, intervals, pages) is
the same for all.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import importlib
import random
import re
from typing import Any, Literal

from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.records import Outcome, Prediction
from emma_jax.data.text.chat import IMAGE_MARK
from emma_jax.judge.base import Call, Reply

Task = Literal["ask", "draw", "edit"]
Kind = Literal["understanding", "drawing", "editing"]
MODULES = (
  *("chartqa", "document_vqa", "textvqa", "ocrbench", "choice", "mmbench"),
  *("mmmu", "mathvista", "mmvet"),
  *("geneval", "dpg", "gedit", "imgedit", "emu_edit"),
  *("geneval2", "wise", "longtext", "rise"),
)


class NoReply(Exception):
  """A judge gave nothing that can be used.

  kind: refused, unparsable, unreachable or absent.
  """

  def __init__(self, kind: str, detail: str = ""):
    super().__init__(f"{kind}: {detail}" if detail else kind)
    self.kind = kind


class NoAnswers(ValueError):
  """A split whose answers are not there: nobody can score it here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What the model is asked of an item.

  Args:
    text: the prompt. In questions IMAGE_MARK stands where a picture does;
      without any they come first.
    pictures: of a question, or the sources of an edit.
  """

  text: str
  pictures: tuple[Picture, ...] = ()


def interleaved(text: str, pictures: Sequence[Picture]) -> Request:
  """A request whose text says <image 1>, <image 2>, ... where pictures stand.

  Pictures that the text does not name come first; one that is named twice is
  shown twice.
  """
  marks = [int(m) for m in re.findall(r"<image (\d+)>", text)]
  known = [m for m in marks if 1 <= m <= len(pictures)]
  lead = [p for i, p in enumerate(pictures, 1) if i not in known]
  text = re.sub(
    r"<image (\d+)>",
    lambda m: IMAGE_MARK if 1 <= int(m[1]) <= len(pictures) else m[0],
    text,
  )
  return Request(
    text=IMAGE_MARK * len(lead) + text,
    pictures=(*lead, *(pictures[m - 1] for m in known)),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
  """A prediction with its picture's bytes at hand."""

  prediction: Prediction
  load: Callable[[], bytes]

  @property
  def repeat(self) -> int:
    """0, 1, ... of the predictions of an item."""
    return self.prediction.repeat

  @property
  def text(self) -> str:
    """The answer."""
    return self.prediction.text

  def picture(self) -> bytes:
    """The file of what was drawn."""
    return self.load()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """Of one prediction.

  Args:
    value: in units of the set.
    weight: in the mean; None: the item's. 0 leaves it out.
    parts: what it is made of, by name.
    failure: a kind of failure that `value`, the lowest, stands for.
  """

  value: float
  weight: float | None = None
  parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
  failure: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """What a scorer looks at: an item and what was made of it.

  Args:
    set_name: of the benchmark.
    item: with its pictures.
    made: by repeat, all of them usable.
    impl: implementation to score by.
    quirks: whether to reproduce the original's defects too.
    guess: whether an answer of choice that nobody can read is a random option,
      by a seed, as the originals do; otherwise it is wrong.
    judge: gives replies.
  """

  set_name: str
  item: Item
  made: Sequence[Made]
  impl: str
  quirks: bool = False
  guess: bool = False
  judge: Callable[[Call], Reply]

  def ask(
    self,
    part: str,
    text: str,
    pictures: Sequence[bytes] = (),
    *,
    repeat: int = 0,
    system: str = "",
    attempt: int = 0,
    text_first: bool = False,
    **options: Any,
  ) -> Reply:
    """The judge's reply.

    Args:
      part: names the call among those of a prediction: "sc".
      text, pictures, system, attempt, text_first, options: see `Call`.
      repeat: of the prediction it is about.

    Raises:
      NoReply: there is none.
    """
    name = f"{self.set_name}/{self.item.id}/{repeat}/{part}"
    reply = self.judge(
      Call(
        id=f"{name}/{attempt}" if attempt else name,
        text=text,
        system=system,
        pictures=tuple(pictures),
        options=options,
        attempt=attempt,
        text_first=text_first,
      )
    )
    if reply.status != "ok":
      raise NoReply(reply.status, reply.error)
    return reply

  def random(self, repeat: int = 0) -> random.Random:
    """Of this item alone, the same in every run."""
    return random.Random(f"{self.set_name}/{self.item.id}/{repeat}")


def each(
  case: Case,
  score: Callable[[Case, Made], Score],
  *,
  lowest: float = 0.0,
  weight: float | None = None,
) -> list[Score]:
  """A score of each prediction: where a judge fails on one, others count.

  Args:
    case: of an item.
    score: of one of its predictions.
    lowest: what one without a usable reply counts.
    weight: of such a failure in the mean; None: the item's.
  """
  scores = []
  for made in case.made:
    try:
      scores.append(score(case, made))
    except NoReply as error:
      failure = f"judge:{error.kind}"
      scores.append(Score(value=lowest, weight=weight, failure=failure))
  return scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """One published benchmark.

  Args:
    name: of the set, as in `data.sets`.
    kind: the table it belongs to.
    task: what the model does.
    impls: implementations, the headline's first.
    prompts: name of a template -> the request of an item, the default first.
    max_tokens: of an answer.
    stop: strings that end an answer, and are not part of it.
    repeats: predictions of an item.
    score: one for each of an item's predictions. NoReply of one of them fails
      that one alone.
    weight: of an item in the mean; words of a text where words count.
    lowest: the score of a failure.
    scale: of the printed number: 100 where scores are shares, in percent.
    unit: of the printed number.
    stratum: of an item under an implementation: means of strata are averaged;
      None: the mean of all.
    strata_weights: of those means; without any they are alike.
    categories: columns of tables.
    merge: for benchmarks that score groups of items as one.
    judge: what it asks: "" nothing, or one of choice, extraction, rating,
      detector, vqa, reader, encoder; `fallback` says the judge is asked only of
      what rules cannot read.
    protocol: of which judge, sampling and data the published numbers are.
  """

  name: str
  kind: Kind
  task: Task
  impls: tuple[str, ...]
  prompts: Mapping[str, Callable[[Item], Request]]
  max_tokens: int = 0
  stop: tuple[str, ...] = ()
  repeats: int = 1
  score: Callable[[Case], Sequence[Score]]
  weight: Callable[[Item], float] = lambda item: 1.0
  lowest: float = 0.0
  scale: float = 100.0
  unit: str = "%"
  stratum: Callable[[Item, str], str] | None = None
  strata_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
  categories: Callable[[Item], Mapping[str, str]] = lambda item: {}
  merge: Callable[[Sequence[Outcome]], Outcome] | None = None
  judge: str = ""
  fallback: bool = False
  protocol: str = ""


def by_category(item: Item) -> Mapping[str, str]:
  """The column "category" of an item, where it has one."""
  value = item.meta.get("category", "")
  return {"category": str(value)} if value else {}


@functools.cache
def benchmarks() -> Mapping[str, Benchmark]:
  """All there are, by name."""
  found: dict[str, Benchmark] = {}
  for module in MODULES:
    name = f"{__name__.rpartition('.')[0]}.protocols.{module}"
    for one in importlib.import_module(name).BENCHMARKS:
      found[one.name] = one
  return found


def find(name: str) -> Benchmark:
  """The benchmark of a set.

  Raises:
    ValueError: there is none of that name.
  """
  if name not in benchmarks():
    raise ValueError(
      f"No benchmark {name!r}; there are {', '.join(benchmarks())}."
    )
  return benchmarks()[name]
