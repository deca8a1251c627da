"""WISE: a judge who is told the answer says whether a picture shows it.

original: the judge's prompt of PKU-YuanGroup/WISE, as published numbers have
  it. WISE states no licence, so it is not part of this package but read out of
  the user's copy of the script (`data.wise_rows`); without, there is no score.
own: a prompt of ours, of the same question and marks. Its numbers stand beside
  no published ones.

The two sets differ in prompts, judge and scale: see `scoring.wise`. lmms-eval's
implementation of the legacy one asks and weighs alike, where all items count.
"""

from collections.abc import Callable, Mapping
import dataclasses
import re
from typing import TypeVar

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import drawing
from emma_jax.benchmarks.scoring import wise
from emma_jax.benchmarks.suite import Case, Made, NoReply, Score

TRIES = 3
OWN_SYSTEM = "You check pictures that were drawn from a text."
_OWN_TASK = """\
A model was given the text below and drew this picture. The text does not always
say outright what has to be seen: that takes knowledge, which the note spells
out. Go by the note.

Text: {Prompt}
Note: {Explanation}

"""
OWN = {
  "verified": _OWN_TASK
  + """\
Does the picture show what the text means by the note, with the right things, in
the right state and relation to each other, and clearly enough to tell? It need
not be beautiful or look like a photograph. If it shows the words of the text
without what they mean, if something that is needed is missing, wrong or too
unclear to tell, or if the picture is spoilt, the answer is no. In doubt it is
no.

Reply with one line: "Score: 1" for yes, or "Score: 0" for no.""",
  "legacy": _OWN_TASK
  + """\
Give three marks, each 0, 1 or 2. Be strict: 2 is for pictures without a fault,
and in doubt the lower mark is right.

Consistency, with the text as the note explains it: 0 if what matters is missing
or wrong, 1 if it is there in part, 2 if all of it is there.
Realism: 0 if it cannot be taken for real, 1 if small faults give it away, 2 if
it could be a photograph.
Aesthetic Quality: 0 if it is poor to look at, 1 if it is plain, 2 if it is
outstanding.

Reply with three lines:
Consistency: <mark>
Realism: <mark>
Aesthetic Quality: <mark>""",
}
MAX_TOKENS = {"verified": 500, "legacy": 2000}
_SCRIPTS = {"verified": "vllm_eval.py", "legacy": "WISE_legacy/gpt_eval.py"}

Marks = TypeVar("Marks")


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What a judge is asked; {Prompt} and {Explanation} are an item's."""

  system: str
  user: str

  def fill(self, item: Item) -> str:
    """The text for an item, in one pass: braces of an item stay."""
    texts = {
      "Prompt": item.question,
      "Explanation": str(drawing.needed(item, "explanation")),
    }
    return re.sub(
      r"\{(Prompt|Explanation)\}", lambda found: texts[found[1]], self.user
    )


def prompt_of(item: Item, impl: str, version: wise.Version) -> Prompt:
  """What the judge is asked of an item.

  Raises:
    NoReply: the original's prompt is not there.
  """
  if impl == "own":
    return Prompt(OWN_SYSTEM, OWN[version])
  texts = item.meta.get("judge_prompt")
  if texts is None:
    raise NoReply(
      "absent",
      f"the judge's prompt is in {_SCRIPTS[version]} of PKU-YuanGroup/WISE; "
      "put that beside the set's files, or take the implementation `own`",
    )
  return Prompt(**texts)


def _read(
  case: Case,
  made: Made,
  version: wise.Version,
  parse: Callable[[str], Marks | None],
) -> Marks:
  """What the judge says; asked anew where that cannot be read."""
  prompt = prompt_of(case.item, case.impl, version)
  text = ""
  for attempt in range(TRIES):
    try:
      reply = case.ask(
        "score" if case.impl == "original" else f"score-{case.impl}",
        prompt.fill(case.item),
        [made.picture()],
        repeat=made.prediction.repeat,
        system=prompt.system,
        attempt=attempt,
        text_first=True,
        temperature=0,
        max_tokens=MAX_TOKENS[version],
      )
    except NoReply as error:
      if attempt and error.kind == "absent":
        break  # a file of replies has the first alone
      raise
    text = reply.text
    marks = parse(wise.without_thoughts(text))
    if marks is not None:
      return marks
  raise NoReply("unparsable", f"{text!r:.80} is no score")


def score_verified(case: Case, made: Made) -> Score:
  """0 or 1."""
  return Score(value=_read(case, made, "verified", wise.parse_verified))


def score_legacy(case: Case, made: Made) -> Score:
  """The weighted sum of the three marks, 0..1; parts are the marks, 0..2."""
  marks = _read(
    case, made, "legacy", wise.parse_legacy if case.quirks else _checked_legacy
  )
  return Score(value=wise.wiscore(**marks), parts=marks)


def _checked_legacy(text: str) -> dict[str, float] | None:
  """The original takes any digit for a mark."""
  marks = wise.parse_legacy(text)
  return marks if marks and max(marks.values()) <= 2 else None


def _benchmark(
  version: wise.Version, score: Callable[[Case, Made], Score], protocol: str
) -> suite.Benchmark:
  def score_all(case: Case) -> list[Score]:
    prompt_of(case.item, case.impl, version)  # without, no picture has a score
    return suite.each(case, score)

  return suite.Benchmark(
    name=f"wise_{version}",
    kind="drawing",
    task="draw",
    impls=("original", "own"),
    prompts={"plain": drawing.plain},
    score=score_all,
    scale=1.0,
    unit="",
    stratum=lambda item, impl: str(drawing.needed(item, "category")),
    strata_weights={
      name: weight for name, (_, _, weight) in wise.CATEGORIES[version].items()
    },
    categories=_categories,
    judge="rating",
    protocol=protocol,
  )


def _categories(item: Item) -> Mapping[str, str]:
  return {
    name: str(item.meta[name])
    for name in ("category", "subcategory")
    if name in item.meta
  }


BENCHMARKS: tuple[suite.Benchmark, ...] = (
  _benchmark(
    "verified",
    score_verified,
    "Published numbers are of one picture a prompt and Qwen3.5-35B-A3B behind "
    "vLLM at temperature 0 without thoughts, with the prompt of vllm_eval.py "
    "(2026-04), which shows the picture after the text; replies that cannot "
    "be read are left out there, and are 0 here.",
  ),
  _benchmark(
    "legacy",
    score_legacy,
    "Published numbers are of one picture a prompt and GPT-4o-2024-05-13 at "
    "temperature 0, with the prompt of WISE_legacy/gpt_eval.py, which shows "
    "the picture after the text; of the split rewrite, with prompts that say "
    "outright what to draw. Some papers name another judge, or none.",
  ),
)
