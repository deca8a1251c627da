"""What sets whose answers are free text have in common."""

from collections.abc import Callable, Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.scoring import missing
from emma_jax.benchmarks.suite import Case, NoAnswers, Request, Score

SHORT_ANSWER = "\nAnswer the question using a single word or phrase."


def prompt(before: str = "", after: str = "") -> Callable[[Item], Request]:
  """A template: the question between two texts, its pictures before all.

  >>> ask = prompt(after=" Be brief.")
  >>> ask(Item(id="1", group="1", question="How many?")).text
  'How many? Be brief.'
  """

  def request(item: Item) -> Request:
    return Request(text=before + item.question + after, pictures=item.pictures)

  return request


def references(case: Case, remedy: str) -> tuple[str, ...]:
  """The item's right answers.

  Args:
    case: of the item.
    remedy: what to do with a split without answers, for the message.

  Raises:
    NoAnswers: there is none, or none with a word: an empty cell is no answer.
  """
  if not any(answer.strip() for answer in case.item.answers):
    raise NoAnswers(
      f"{case.set_name}, item {case.item.id}: no answers in this split; "
      f"{remedy}."
    )
  return case.item.answers


def as_read(case: Case, text: str) -> str:
  """A text as the implementation's scorer gets to see it.

  Under `quirks`, VLMEvalKit's: it writes predictions into a table and reads it
  with pandas' defaults (`load` in vlmeval/smp/file.py), which take "None" or
  "NA" for missing; `str` makes that "nan".
  """
  lost = case.quirks and case.impl == "vlmevalkit"
  return "nan" if lost and text in missing.NA_TEXTS else text


def each(case: Case, score: Callable[[str], float]) -> Sequence[Score]:
  """One score per repeat.

  Args:
    case: of the item.
    score: of an answer.
  """
  return [Score(value=score(as_read(case, made.text))) for made in case.made]
