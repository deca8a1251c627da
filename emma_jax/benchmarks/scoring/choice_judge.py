"""Questions of choice whose answer only a language model can match.

What `choice` cannot read goes to a judge with a fixed prompt, three times at
most. The originals then draw a letter at random; here it is None, a failure.

  vlmevalkit  vlmeval/dataset/utils/multiple_choice.py, `eval_vanilla`
  lmms_eval   0.7.3, tasks/mmbench/mmbench_evals.py: "E" means none of them
"""

from collections.abc import Callable, Mapping, Sequence
import re
import string
from typing import Any

from emma_jax.benchmarks.scoring import choice, prompt_texts
from emma_jax.benchmarks.scoring.missing import is_missing

Judge = Callable[[str], str]  # prompt -> reply
TRIES = 3
_CHINESE = re.compile("[一-鿿]")


def options_of(row: Mapping[str, Any]) -> dict[str, Any]:
  """Letter -> text of the options that a row has, A to Z."""
  return {
    letter: row[letter]
    for letter in string.ascii_uppercase
    if letter in row and not is_missing(row[letter])
  }


def listed(options: Mapping[str, Any]) -> str:
  """The options as the prompt has them, a line each."""
  lines = [f"{letter}. {text}\n" for letter, text in options.items()]
  return "".join(["There are several options: \n", *lines])


def match_prompt(
  question: str, options: str, prediction: Any, name: str = "match_option"
) -> str:
  """What a judge is asked.

  Args:
    question: of the item.
    options: as `listed` writes them.
    prediction: what the model said.
    name: of the text in `prompts/`.
  """
  return prompt_texts.read(name).format(
    question=question, options=options, prediction=prediction
  )


def resolve(
  row: Mapping[str, Any],
  judge: Judge | None,
  infer: Callable[..., str | None] = choice.infer,
) -> str | None:
  """The letter that a row's prediction means, None if nobody can say.

  "Z", none of the options, where there is no judge ("exact matching"), or
  where the judge says so.

  Args:
    row: "question", options by letter, "prediction".
    judge: asked up to three times, if the rules cannot read the prediction.
    infer: the rules, for predictions and replies alike.
  """
  options = options_of(row)
  letter = infer(row["prediction"], options)
  if letter:
    return letter
  if judge is None:
    return choice.NO_OPTION
  chinese = _CHINESE.search(row["question"])
  prompt = match_prompt(
    row["question"],
    listed(options),
    row["prediction"],
    "match_option_zh" if chinese else "match_option",
  )
  return _asked(judge, prompt, lambda reply: infer(reply, options))


def resolve_lmms(row: Mapping[str, Any], judge: Judge) -> str | None:
  """The same by lmms-eval's rules: options A to D, "E" is none of them."""
  options = {x: row[x] for x in "ABCD" if not is_missing(row[x])}
  letter = choice.infer_lmms(row["prediction"], options)
  if letter:
    return letter
  shown = {}
  for x in "ABCD":  # up to the first that is missing
    if x not in options:
      break
    shown[x] = options[x]
  prompt = match_prompt(
    row["question"], listed(shown), row["prediction"], "match_option_lmms"
  )
  return _asked(judge, prompt, lambda reply: choice.infer_lmms(reply, options))


def _asked(
  judge: Judge, prompt: str, read: Callable[[str], str | None]
) -> str | None:
  """The first letter that is read of a few replies, or None."""
  for _ in range(TRIES):
    reply = judge(prompt)
    letter = None if choice.API_FAILED in reply else read(reply)
    if letter:
      return letter
  return None


class Script:
  """A judge that says given replies in order, then fails; it counts.

  Attributes:
    calls: how often it was asked.
  """

  def __init__(self, replies: Sequence[str]):
    self._replies = list(replies)
    self.calls = 0

  def __call__(self, prompt: str) -> str:
    """The next reply, whatever the prompt."""
    self.calls += 1
    left = self._replies[self.calls - 1 : self.calls]
    return left[0] if left else choice.API_FAILED


def _fallback(
  item: Mapping[str, Any], judge_outputs: Sequence[str]
) -> dict[str, int]:
  judge = Script(judge_outputs)
  letter = resolve(item, judge)
  return {"calls": judge.calls, "hit": int(letter == item["GT"])}


def _match_prompt(question: str, options: str, prediction: str) -> str:
  return match_prompt(question, options, prediction)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MMBench", "llm_match_prompt", "vlmevalkit"): _match_prompt,
  ("MMBench", "llm_fallback", "vlmevalkit"): _fallback,
}
