"""DPG-Bench: a VQA model answers each prompt's questions on four pictures.

The original puts the pictures of a prompt into one grid and cuts it again; here
each is asked about as it was drawn. All have four, so the mean over pictures is
the mean over prompts of theirs. Source: TencentQQGYLab/ELLA (Apache-2.0),
dpg_bench/compute_dpg_bench.py.

original: an answer is yes if it is "yes", as mPLUG's are; with quirks, if it is
  that to the letter.
vlm: it is yes if its first word is, for models that answer in sentences.

Parts of a score are the shares of yes by broad category (L1), a mean over
pictures; the original's tables are means over questions.
"""

from collections.abc import Mapping
import re
import statistics

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item, Missing
from emma_jax.benchmarks.protocols import drawing
from emma_jax.benchmarks.scoring import dpg
from emma_jax.benchmarks.suite import Case, Made, NoReply, Score


def is_yes(text: str, impl: str, *, quirks: bool = False) -> bool:
  """Whether an answer is yes.

  >>> [is_yes(t, "original") for t in ("Yes ", "yes.", "no")]
  [True, False, False]
  >>> [is_yes(t, "vlm") for t in ("**Yes**, two dogs.", "yesterday", "no")]
  [True, False, False]

  Args:
    text: as it came.
    impl: "original" or "vlm".
    quirks: whether "Yes" is no yes in the original.

  Raises:
    NoReply: there is no word in it.
  """
  if impl == "original" and quirks:
    return text == "yes"
  words = re.findall(r"\w+", text.lower())
  if not words:
    raise NoReply("unparsable", f"{text!r} is no answer")
  if impl == "vlm":
    return words[0] == "yes"
  return text.strip().lower() == "yes"


def questions_of(item: Item, *, quirks: bool) -> dpg.Questions:
  """A prompt's questions; none where the original loses all of them.

  Args:
    item: whose `meta` has its rows of the csv as `questions`, and where they
      stand there as `csv_rows`.
    quirks: 1 and 5 of `scoring.dpg`: the csv's first row is lost, and so are
      rows before those of another prompt.

  Raises:
    Missing: it has none: the csv is not there.
  """
  rows = list(item.meta.get("questions", ()))
  if not rows:
    raise Missing(
      f"The prompt {item.id!r} has no questions: dpg_bench.csv is not beside "
      "the prompts, or lacks it. It is in dpg_bench/ of TencentQQGYLab/ELLA."
    )
  if not quirks:
    return dpg.read_questions(rows, official_quirks=False)[item.id]
  places = item.meta.get("csv_rows", range(1, len(rows) + 1))
  last = [n for n, place in enumerate(places) if place - 1 not in places][-1]
  rows, places = rows[last:], places[last:]
  # What stands first is skipped: of the first prompt its first question.
  before = [] if places[0] == 0 else [rows[0]]
  found = dpg.read_questions([*before, *rows], official_quirks=True)
  return found.get(item.id, {})


class _Dropped(Exception):
  """The original fails on a prompt, and leaves it out."""


def score(case: Case) -> list[Score]:
  """One score a picture: the share of its questions that are answered yes,
  where a question whose parent is not has no yes."""
  questions = questions_of(case.item, quirks=case.quirks)

  def score_picture(case: Case, made: Made) -> Score:
    raw = _answers(case, made, questions)
    try:
      left = dpg.zero_dependants(raw, questions, official_quirks=case.quirks)
    except KeyError as error:  # the parent was lost, with quirks
      raise _Dropped from error
    shown = left
    if case.quirks:  # 2 of `scoring.dpg`
      shown = raw if made is case.made[-1] else {}
    value = statistics.fmean(left.values())
    return Score(value=value, parts=_broad(shown, questions))

  try:
    if not questions:
      raise _Dropped
    return suite.each(case, score_picture)
  except _Dropped:
    return [Score(value=0.0, weight=0.0) for _ in case.made]


def _answers(
  case: Case, made: Made, questions: dpg.Questions
) -> dict[int, float]:
  """number of a question -> 1 for yes, else 0."""
  picture, repeat = made.picture(), made.prediction.repeat
  answers = {}
  for number, question in questions.items():
    reply = case.ask(f"q{number}", question.text, [picture], repeat=repeat)
    answers[number] = float(is_yes(reply.text, case.impl, quirks=case.quirks))
  return answers


def _broad(
  scores: Mapping[int, float], questions: dpg.Questions
) -> dict[str, float]:
  found: dict[str, list[float]] = {}
  for number, value in scores.items():
    broad = questions[number].category.split("-")[0].strip()
    found.setdefault(broad, []).append(value)
  return {name: statistics.fmean(values) for name, values in found.items()}


BENCHMARKS: tuple[suite.Benchmark, ...] = (
  suite.Benchmark(
    name="dpg",
    kind="drawing",
    task="draw",
    impls=("original", "vlm"),
    # Of the texts two have white space around them.
    prompts={"plain": drawing.stripped},
    repeats=dpg.TILES,
    score=score,
    judge="vqa",
    protocol=(
      "Published numbers are of four pictures a prompt, mPLUG-large "
      "(ModelScope, damo/mplug_visual-question-answering_coco_large_en) and "
      "the official script with its defects (official_quirks), which drops "
      "the first prompt; with another VQA model they are other numbers. How "
      "pictures were drawn is each paper's own."
    ),
  ),
)
