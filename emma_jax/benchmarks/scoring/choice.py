"""Which option an answer means: MMBench, MMStar, AI2D, MMMU in VLMEvalKit.

  vlmevalkit          vlmeval/utils/matching_util.py, `can_infer`
  ms_vlmeval_0.0.20   the same, older: without the rule for "answer is B"
  lmms_eval           0.7.3, tasks/mmbench/mmbench_evals.py (`can_infer`),
                      tasks/_task_utils/mcq_extract.py (`extract_mcq_answer`),
                      tasks/ai2d/utils.py (a regular expression)
  original            MMStar-Benchmark/MMStar, eval/vlmeval/evaluate/mmstar.py

None guesses here: what cannot be read is None, and who calls decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import re
import string
from typing import Any

API_FAILED = "Failed to obtain answer via API"
NO_OPTION = "Z"  # VLMEvalKit's letter for "none of them"

_REFUSALS = (
  "Sorry, I can't help with images of people yet.",
  "I can't process this file.",
  "I'm sorry, but without the image provided",
  "Cannot determine the answer",
)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# Also the first letter of a word: "the answer is bear" means B by this rule.
_SAID = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)
_LAST_WORDS = 4  # a letter further ahead is rather the article "A"


# -------------------------------------------------------------- VLMEvalKit


def _option_text(answer: str, choices: Mapping[str, Any]) -> str | None:
  """The only option whose text is in an answer, both in lower case."""
  answer = answer.lower()
  found = [k for k, text in choices.items() if str(text).lower() in answer]
  return found[0] if len(found) == 1 else None


def _option_letter(answer: str, letters: Sequence[str]) -> str | None:
  """The only letter that is a word of an answer, among its last words."""
  words = answer.translate(_MARKS).split()
  found = [letter for letter in letters if letter in words]
  if len(found) == 1 and words.index(found[0]) >= len(words) - _LAST_WORDS:
    return found[0]
  if not found and NO_OPTION in words:
    return NO_OPTION
  return None


def infer(
  answer: Any, choices: Mapping[str, Any], *, said: bool = True
) -> str | None:
  """The option's letter as VLMEvalKit reads it, "Z" for a refusal, or None.

  In this order: a refusal; one capital letter among the last four words; with
  `said`, "answer is B", bold or not, where B is an option; the text of one
  option in an answer that is at most twice as long as all options together.

  >>> options = {"A": "bear", "B": "rabbit"}
  >>> infer("(B)", options), infer("a Rabbit", options), infer("b", options)
  ('B', 'B', None)

  Args:
    answer: what the model said; read as text.
    choices: letter -> text of each option.
    said: the rule that versions up to ms-vlmeval 0.0.20 lack.
  """
  answer = str(answer)
  if API_FAILED not in answer:
    if any(refusal in answer for refusal in _REFUSALS):
      return NO_OPTION
    letter = _option_letter(answer, list(choices))
    if letter:
      return letter
    marked = _SAID.search(answer) if said else None
    if marked and marked[1].upper() in choices:
      return marked[1].upper()
  if len(answer.lower()) > 2 * sum(len(str(t)) for t in choices.values()):
    return None
  return _option_text(answer, choices)


# --------------------------------------------------------------- lmms-eval

_LMMS_LETTERS = "ABCDE"
_LMMS_OPTIONS = "ABCD"
_LMMS_FRAMES = (
  "{}. {}, {}: {}) {}). ({}) ({}). :{} :{}, :{}. :{}) :{}).".split()
)


def infer_lmms(answer: str, choices: Mapping[str, Any]) -> str | None:
  """The option's letter as lmms-eval's MMBench reads it, or None.

  Letters A to E are looked for whatever the options are; an "A" among more
  than three words is taken for the article.

  Raises:
    AssertionError: no letter was found, and an option is not A to D.
  """
  if API_FAILED not in answer:
    words = answer.split()
    found = [letter for letter in _LMMS_LETTERS if letter in words]
    article = "A" in words and len(words) > 3
    if len(found) == 1 and not article:
      return found[0]
    for frame in _LMMS_FRAMES:
      framed = [x for x in _LMMS_LETTERS if frame.format(x) in words]
      if len(framed) == 1:
        return framed[0]
  foreign = [key for key in choices if key not in _LMMS_OPTIONS]
  if foreign:  # the original's own assertion
    raise AssertionError(f"lmms-eval knows options A to D, not {foreign}.")
  return _option_text(answer, choices)


_PHRASES = (
  *("the answer is", "answer is", "the correct answer is"),
  *("correct answer is", "the best answer is", "best answer is"),
  *("the correct option is", "correct option is", "the best option is"),
  *("best option is", "the choice is", "choice is", "the correct choice is"),
  *("correct choice is", "i choose", "i select", "i pick", "my answer is"),
  *("my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选"),
  "答えは",
)
_FRAMES = ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} "))


def _candidates(
  text: str, letters: Sequence[str]
) -> Iterator[tuple[int, int, str]]:
  """(rank of the form, place, letter) of every form that a letter is in.

  Args:
    text: with one space before and behind.
    letters: to look for.
  """
  for rank, frame in _FRAMES:
    for letter in letters:
      place = text.rfind(frame.format(letter))
      if place >= 0:
        yield rank, place, letter
  for phrase in _PHRASES:
    start = text.lower().find(phrase)
    for letter in letters if start >= 0 else ():
      place = text.find(letter, start + len(phrase))
      if place >= 0:
        yield 7, place, letter
  alone = text.strip()
  for letter in letters:
    if alone.startswith(letter) and not alone[1:2].isalpha():
      yield 10, 0, letter
  for letter in letters:
    if alone.endswith(letter) and not alone[-2:-1].isalpha():
      yield 9, len(text) - 1, letter


def extract_letter(answer: str, letters: Sequence[str] = ()) -> str:
  """lmms-eval's reading of free text, "" where no letter is in it.

  The form that ranks highest wins (alone at the start, alone at the end, after
  "the answer is", in brackets, ...), in one form the last place. A letter of
  any word counts if there is no form at all: "A" of "API".

  >>> extract_letter("I think (B)."), extract_letter("A and B", "ABCD")
  ('B', 'A')

  Args:
    answer: what the model said.
    letters: of the options; none: A to H.
  """
  if not answer.strip():
    return ""
  letters = letters or "ABCDEFGH"
  text = answer.strip()
  for mark in ",.!?;:'\"":
    text = text.strip(mark)
  text = f" {text} "
  found = list(_candidates(text, letters))
  if not found:
    found = [(0, text.rfind(x), x) for x in letters if x in text]
  # `max` keeps the first of equals, as the original's stable sort does.
  return max(found, key=lambda f: f[:2], default=(0, 0, ""))[2]


_LETTER_AND_PERIOD = re.compile(r"\s*([A-Z])\.")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def filter_ai2d(answer: str) -> str:
  """The letter of "D. Thorax"; an answer of another form as it is."""
  found = _LETTER_AND_PERIOD.match(answer)
  return found[1] if found else answer


def _ai2d_lmms(answer: str, prediction: str) -> dict[str, Any]:
  filtered = filter_ai2d(prediction)
  # NumPy's arrays of texts, which are compared there, drop NULs at the end.
  said, wanted = (
    text.lower().translate(_NO_PUNCTUATION).rstrip("\0")
    for text in (filtered, answer)
  )
  return {"filtered": filtered, "score": float(said == wanted)}


def ai2d_target(options: Sequence[str], answer: str | int) -> str:
  """The letter of AI2D's answer, an index from 0 written as text.

  Raises:
    IndexError: no such option.
  """
  return [chr(ord("A") + i) for i in range(len(options))][int(answer)]


# ------------------------------------------------------------------ MMStar


def match_mmstar(answer: str, prediction: str) -> bool:
  """MMStar's own rule: the letter, whatever its case, at a known place.

  First, after "(", after "option " or after "the answer is ". "An apple" is A.
  """
  wanted, said = (
    str(text).lower().strip().replace("\n", " ")
    for text in (answer, prediction)
  )
  if not said or not wanted:
    return False
  places = [0]
  places += [
    len(start)
    for start in ("(", "option ", "the answer is ")
    if said.startswith(start)
  ]
  return any(wanted == said[place : place + 1] for place in places)


def _mmstar_original(answer: str, prediction: str) -> int:
  return int(match_mmstar(answer, prediction))


def _mmstar_lmms(answer: str, prediction: str) -> float:
  wanted = answer.strip().upper()
  return float(extract_letter(prediction, "ABCD") == wanted)


# ----------------------------------------------------------------- scorers


def _hit(answer: str, prediction: str, choices: Mapping[str, Any]) -> int:
  return int((infer(prediction, choices) or False) == answer)


def _can_infer(**options: Any) -> Callable[..., str | bool]:
  return lambda prediction, choices: (
    infer(prediction, choices, **options) or False
  )


def _can_infer_lmms(prediction: str, choices: Mapping[str, Any]) -> str | bool:
  return infer_lmms(prediction, choices) or False


def _extract(prediction: str, choices: Sequence[str] = ()) -> str:
  return extract_letter(prediction, choices)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MMBench", "can_infer", "vlmevalkit"): _can_infer(),
  ("MMBench", "can_infer", "ms_vlmeval_0.0.20"): _can_infer(said=False),
  ("MMBench", "can_infer", "lmms_eval"): _can_infer_lmms,
  ("MMBench", "extract_mcq_answer", "lmms_eval"): _extract,
  ("AI2D", "can_infer", "vlmevalkit"): _hit,
  ("AI2D", "exact_match", "lmms_eval"): _ai2d_lmms,
  ("AI2D", "target", "lmms_eval"): ai2d_target,
  ("MMStar", "letter_match", "original"): _mmstar_original,
  ("MMStar", "letter_match", "lmms_eval"): _mmstar_lmms,
  ("MMStar", "letter_match", "vlmevalkit"): _hit,
}
