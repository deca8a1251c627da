"""GEdit-Bench: 606 edits in 11 types, twice: English and Chinese.

Rated by VIEScore, see `scoring.viescore`. Two implementations, which differ in
what the judge is shown, so that each asks it anew:

step1x     stepfun-ai/Step1X-Edit, GEdit-Bench/test_gedit_score.py and
           calculate_statistics.py: the edited picture at the source's size,
           both as JPEG; mean within each type, then over types
lmms_eval  0.7.3, tasks/gedit_bench/utils.py: both pictures at about 512 x 512
           pixels' area, as PNG; mean over edits

The judge sees `input_image`, the model `input_image_raw` (step1x,
generate_image_example.py): an item may have both, the model's first.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import random
from typing import Any

from PIL import Image

from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.protocols import edits
from emma_jax.benchmarks.scoring import viescore
from emma_jax.benchmarks.suite import (
  Benchmark,
  Case,
  Made,
  NoReply,
  Request,
  Score,
  each,
)

_LOWEST = 0.0
# Both prompts are asked once more where a reply cannot be read. The original
# then makes scores up, and asks for ever where even that does not help.
_ROUNDS = 2
_ROUNDS_OF_GUESSING = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Impl:
  """How one implementation shows (source, edited) to the judge, and asks."""

  prefix: str  # of the calls' names
  show: Callable[[Image.Image, Image.Image], tuple[bytes, bytes]]
  options: Mapping[str, Any]


def _step1x(source: Image.Image, made: Image.Image) -> tuple[bytes, bytes]:
  made = made.resize(source.size)
  return edits.encode(source, "JPEG"), edits.encode(made, "JPEG")


def _lmms(source: Image.Image, made: Image.Image) -> tuple[bytes, bytes]:
  def at_area(picture: Image.Image) -> bytes:
    ratio = picture.width / picture.height
    width, height, _ = viescore.lmms_dimensions(ratio)
    size = max(1, width), max(1, height)  # the original fails at a side of 0
    return edits.encode(picture.resize(size), "PNG")

  return at_area(source), at_area(made)


_IMPLS = {
  "step1x": _Impl(prefix="", show=_step1x, options={"max_tokens": 1400}),
  "lmms_eval": _Impl(
    prefix="lmms_",
    show=_lmms,
    options={"max_tokens": 512, "temperature": 0.1, "text_first": False},
  ),
}


def _type(item: Item) -> str:
  name = str(item.meta.get("category", ""))
  if name not in viescore.TASK_TYPES:
    raise BadItem(
      f"Edit {item.id!r}: {name!r} is no type of GEdit-Bench; those are "
      f"{', '.join(viescore.TASK_TYPES)}. Give its task_type as the category."
    )
  return name


def _plain(item: Item) -> Request:
  _type(item)  # before hours of drawing, not after
  return edits.plain(item)


@dataclasses.dataclass(kw_only=True)
class _Judge:
  """The judge as `viescore.rate` knows it.

  Args:
    case, made, impl: what is judged, and how.
    files: name -> picture.
    asked: prompt -> how often it was asked.
    last: prompt -> why its last reply cannot be read, if it cannot.
  """

  case: Case
  made: Made
  impl: _Impl
  files: Mapping[str, bytes]
  asked: dict[str, int] = dataclasses.field(
    default_factory=lambda: {"sc": 0, "pq": 0}
  )
  last: dict[str, NoReply] = dataclasses.field(default_factory=dict)

  def __call__(self, prompt: str, names: Sequence[str]) -> str:
    part = "sc" if viescore.SOURCE in names else "pq"
    attempt, self.asked[part] = self.asked[part], self.asked[part] + 1
    try:
      text = edits.ask(
        self.case,
        self.made,
        self.impl.prefix + part,
        prompt,
        [self.files[name] for name in names],
        attempt=attempt,
        **self.impl.options,
      )
    except NoReply as error:
      if attempt and error.kind == "absent":
        raise self.failure() from error  # a file of replies has the first alone
      if error.kind not in ("refused", "unparsable"):
        raise
      # As the original has it: nothing to read, so that both are asked again.
      self.last[part], text = error, ""
    else:
      self.last[part] = NoReply("unparsable", f"{part} is {text!r:.200}")
    return text

  def failure(self) -> NoReply:
    """What the last replies fail by."""
    kinds = {error.kind for error in self.last.values()}
    kind = "refused" if "refused" in kinds else "unparsable"
    return NoReply(kind, "; ".join(map(str, self.last.values())))


def _score(case: Case) -> list[Score]:
  return each(case, _one, lowest=_LOWEST)


def _one(case: Case, made: Made) -> Score:
  impl = _IMPLS[case.impl]
  source = case.item.pictures[-1]
  shown = impl.show(
    edits.decode(source.bytes(), source.where),
    edits.decode(*edits.edited(case, made)),
  )
  files = dict(zip((viescore.SOURCE, viescore.EDITED), shown, strict=True))
  judge = _Judge(case=case, made=made, impl=impl, files=files)
  guess = case.random(made.prediction.repeat) if case.guess else None
  rating = _rate(judge, case.item.question, guess)
  return Score(
    value=rating.overall,
    parts={"SC": float(rating.semantics), "PQ": float(rating.quality)},
  )


def _rate(
  judge: _Judge, instruction: str, guess: random.Random | None
) -> viescore.Rating:
  """A rating of 0..10.

  Scores that are no numbers, or none, end an evaluation of the original, which
  its caller then begins anew.

  Raises:
    NoReply: no rating in all rounds.
  """
  rounds = _ROUNDS if guess is None else _ROUNDS_OF_GUESSING
  while judge.asked["pq"] < rounds:
    left = rounds - judge.asked["pq"]
    try:
      rating = viescore.rate(judge, instruction, guess=guess, rounds=left)
    except (ValueError, TypeError, LookupError, ArithmeticError):
      continue
    if all(0 <= x <= 10 for x in (rating.semantics, rating.quality)):
      return rating
  raise judge.failure()


def _categories(item: Item) -> Mapping[str, str]:
  both = "yes" if item.meta.get("Intersection_exist") else "no"
  return {"category": _type(item), "intersection": both}


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="gedit",
    kind="editing",
    task="edit",
    impls=tuple(_IMPLS),
    prompts={"plain": _plain},
    score=_score,
    lowest=_LOWEST,
    scale=1.0,
    unit="",
    stratum=lambda item, impl: _type(item) if impl == "step1x" else "",
    categories=_categories,
    judge="rating",
    protocol=(
      "Published numbers are step1x's, 0..10, mostly judged by GPT-4.1, whose "
      "scores drifted from April to June 2025 (Step1X-Edit names no version, "
      "BAGEL gpt-4.1-2025-04-14; Qwen2.5-VL-72B-AWQ is its authors' advice for "
      "exact repeats); whether a row is of the full set or of the intersection "
      "is often unsaid, as in EMMA's paper, and rows of two judges must not be "
      "compared."
    ),
  ),
)
