"""Letters of questions of choice: by rules, else by a judge, else a failure.

Where nobody can read an answer VLMEvalKit, lmms-eval and MMMU draw a letter at
random. Here it is wrong, and counted as a failure; a draw, by a seed, is made
only where `Case.guess` asks for it, and counted too (part "guessed").
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.scoring import choice, choice_judge
from emma_jax.benchmarks.scoring.missing import NA_TEXTS
from emma_jax.benchmarks.suite import Case, Made, NoAnswers, NoReply, Score

# VLMEvalKit's rules, today's and those of ms-vlmeval 0.0.20.
RULES: Mapping[str, Callable[..., str | None]] = {
  "vlmevalkit": choice.infer,
  "ms_vlmeval_0.0.20": functools.partial(choice.infer, said=False),
}


def references(item: Item, remedy: str = "") -> tuple[str, ...]:
  """The references of an item.

  Raises:
    NoAnswers: the split keeps them secret.
  """
  if item.answers in ((), ("",), ("?",)):
    raise NoAnswers(
      f"There are no answers in this split (item {item.id}). "
      f"{remedy or 'Choose a split that has them.'}"
    )
  return item.answers


def reference(item: Item, remedy: str = "") -> str:
  """The only one; raises ValueError too where an item has several."""
  answers = references(item, remedy)
  if len(answers) > 1:
    raise ValueError(
      f"Item {item.id} has {len(answers)} answers, {answers}; this set has one "
      "each."
    )
  return answers[0]


def pandas_cell(text: str) -> str:
  """A text as pandas gives it back: "None", "NA" and their like are "nan".

  VLMEvalKit writes predictions to a table and reads them again.
  """
  return "nan" if text in NA_TEXTS else text


def pandas_options(options: Mapping[str, str]) -> dict[str, str]:
  """Options that VLMEvalKit sees; one whose text is "None" is lost."""
  return {k: text for k, text in options.items() if text not in NA_TEXTS}


class Asked:
  """The judge as `choice_judge` calls it: prompt -> reply; counts its tries.

  Attributes:
    kind: why nothing was read: "unparsable" once there was a reply.
  """

  def __init__(self, case: Case, made: Made, part: str):
    self._case, self._part = case, part
    self._repeat = made.prediction.repeat
    self._tries = 0
    self.kind = ""

  def __call__(self, prompt: str) -> str:
    """The reply, or the originals' text for none.

    Raises:
      NoReply: there is no judge.
    """
    attempt, self._tries = self._tries, self._tries + 1
    try:
      reply = self._case.ask(
        self._part, prompt, repeat=self._repeat, attempt=attempt
      )
    except NoReply as error:
      self.kind = self.kind or error.kind
      if error.kind == "absent":  # nor will there be at the next try
        raise
      return choice.API_FAILED
    self.kind = "unparsable"
    return reply.text


def verdict(
  case: Case,
  made: Made,
  letter: str | None,
  answer: str,
  letters: Sequence[str],
  kind: str = "unparsable",
) -> Score:
  """1 for the right letter, else 0.

  Args:
    case, made: of which answer.
    letter: that was read; None: nobody could.
    answer: the right one.
    letters: to draw from where `case.guess` asks for it.
    kind: of the failure otherwise.
  """
  if letter:
    return Score(value=float(letter == answer))
  if not case.guess:
    return Score(value=0.0, failure=f"judge:{kind}")
  drawn = case.random(made.prediction.repeat).choice(list(letters))
  return Score(value=float(drawn == answer), parts={"guessed": 1.0})


def judged(
  case: Case,
  made: Made,
  answer: str,
  letters: Sequence[str],
  read: Callable[[choice_judge.Judge], str | None],
  part: str = "match",
) -> Score:
  """The same for what `read` makes of it, which may ask the judge it is given.

  Args:
    case, made, answer, letters: see `verdict`.
    read: of `choice_judge`.
    part: name of the calls; those with other prompts have another.
  """
  judge = Asked(case, made, part)
  try:
    letter = read(judge)
  except NoReply:
    letter = None
  return verdict(case, made, letter, answer, letters, judge.kind)


def by_vlmevalkit(
  case: Case,
  made: Made,
  answer: str,
  options: Mapping[str, str],
  question: str | None = None,
) -> Score:
  """A letter as VLMEvalKit reads it; "Z" is none of the options.

  Args:
    case: `impl` is one of RULES.
    made: the answer.
    answer: the right letter.
    options: letter -> text.
    question: for the judge; None: that of the item.
  """
  known = pandas_options(options)
  row: dict[str, Any] = {
    **known,
    "question": case.item.question if question is None else question,
    "prediction": pandas_cell(made.text),
  }
  return judged(
    case,
    made,
    answer,
    (*known, choice.NO_OPTION),
    lambda judge: choice_judge.resolve(row, judge, RULES[case.impl]),
  )
