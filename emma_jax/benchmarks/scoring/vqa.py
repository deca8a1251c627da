"""TextVQA: accuracy against ten people, and the normaliser under it.

vqa_official  GT-Vision-Lab/VQA, vqaEval.py: punctuation, then digits, words
mmf           facebookresearch/mmf, utils/m4c_evaluators.py ("EvalAI"): first
              lower case, "," and "?" removed, "'s" a word of its own
lmms_eval     0.7.3, tasks/_task_utils/vqa_eval_metric.py: the same
vlmevalkit    vlmeval/smp/misc.py, dataset/utils/vqa_eval.py: no step for
              "'s"; a period after a digit stays ("5.")
"""

from collections.abc import Callable, Mapping, Sequence
import math
import re
import statistics
from typing import Any

# Everything that is written with one apostrophe less is this word. "Im" and
# the like never match, as the text is in lower case by then: kept as it is.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's I'd've I'm I've
isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't
shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd
there'd've there're there's they'd they'd've they'll they're they've 'twas
wasn't we'd've we've weren't what'll what're what's what've when's where'd
where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
you're you've
""".split()
CONTRACTIONS = {
  word[:place] + word[place + 1 :]: word
  for word in _CONTRACTED
  for place, letter in enumerate(word)
  if letter == "'"
} | {"somebody'd": "somebodyd"}  # the wrong way round in the originals
NUMBERS = {"none": "0"} | {
  word: str(n)
  for n, word in enumerate(
    "zero one two three four five six seven eight nine ten".split()
  )
}
ARTICLES = frozenset(("a", "an", "the"))
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'

# A period that no digit follows. The look-behind of the originals, "(?!<=\d)",
# is misspelt and looks ahead for the characters "<=": it always holds.
_PERIOD = re.compile(r"\.(?!\d)")
_PERIOD_VLMEVALKIT = re.compile(r"(?<!\d)\.(?!\d)")
# They pass the flag re.UNICODE where `sub` takes the count.
_MOST_PERIODS = int(re.UNICODE)
_THOUSANDS = re.compile(r"\d,\d")


def _punctuation(text: str, period: re.Pattern[str]) -> str:
  """Removes marks beside a space, puts a space for the others.

  All are removed where the text has digits about a comma.
  """
  out, always = text, _THOUSANDS.search(text) is not None
  for mark in PUNCTUATION:
    beside = f"{mark} " in text or f" {mark}" in text
    out = out.replace(mark, "" if always or beside else " ")
  return period.sub("", out, count=_MOST_PERIODS)


def _words(text: str) -> str:
  """Number words as digits, no articles, apostrophes in contractions."""
  words = [NUMBERS.get(word, word) for word in text.lower().split()]
  kept = [word for word in words if word not in ARTICLES]
  return " ".join(CONTRACTIONS.get(word, word) for word in kept)


def normalise_official(text: str) -> str:
  """`processDigitArticle(processPunctuation(text))` of the VQA script.

  >>> normalise_official("The Red Car."), normalise_official("1,234,567")
  ('red car', '1234567')
  """
  return _words(_punctuation(text, _PERIOD))


def normalise_evalai(text: str) -> str:
  """As mmf and lmms-eval do, after EvalAI.

  >>> normalise_evalai("Joe's two cats, 5.")
  "joe 's 2 cats 5"
  """
  text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
  text = text.strip().replace("\n", " ").replace("\t", " ").strip()
  return _words(_punctuation(text, _PERIOD))


def normalise_vlmevalkit(text: str) -> str:
  """As VLMEvalKit does.

  >>> normalise_vlmevalkit("Joe's two cats, 5.")
  "joe's 2 cats 5."
  """
  text = text.replace("\n", " ").replace("\t", " ").strip()
  return _words(_punctuation(text, _PERIOD_VLMEVALKIT))


def leave_one_out(answers: Sequence[str], prediction: str) -> float:
  """Accuracy of a normalised prediction against normalised answers, 0 to 1.

  Each answer is left out once; a third for each of the others that agrees, at
  most 1. So 1, 2, 3 and 4 of ten people who agree give 0.3, 0.6, 0.9 and 1.
  """
  agree = sum(answer == prediction for answer in answers)
  left_out = [agree - (answer == prediction) for answer in answers]
  # An exact sum: the order of the answers makes no difference.
  return math.fsum(min(1.0, n / 3) for n in left_out) / len(answers)


def accuracy(
  answers: Sequence[str], prediction: str, normalise: Callable[[str], str]
) -> float:
  """Accuracy of one question, 0 to 1; nan without answers (VLMEvalKit's)."""
  if not answers:
    return math.nan
  people = [normalise(answer) for answer in answers]
  return leave_one_out(people, normalise(prediction))


def _mmf(answers: Sequence[str], prediction: str) -> float:
  if len(answers) != 10:  # the original's own assertion
    raise AssertionError(f"TextVQA has ten answers, not {len(answers)}.")
  return accuracy(answers, prediction, normalise_evalai)


def lmms_prompt(
  question: str,
  kwargs: Mapping[str, Any] | None = None,
  ocr_tokens: Sequence[str] = (),
) -> str:
  """lmms-eval's question; `capitalize` puts all but the first letter lower.

  Args:
    question: as in the data.
    kwargs: the task's `pre_prompt`, `post_prompt` and `ocr`.
    ocr_tokens: words read off the picture, shown if `ocr` is set.

  Raises:
    UnboundLocalError: no `post_prompt`: the original spells its default
      differently from its use.
  """
  told = kwargs or {}
  if "post_prompt" not in told:
    raise UnboundLocalError("TextVQA's prompt needs `post_prompt`.")
  ocr = ""
  if told.get("ocr"):
    ocr = f"\nReference OCR token: {', '.join(ocr_tokens)}"
  text = question.capitalize()
  return f"{told.get('pre_prompt', '')}{text}{ocr}{told['post_prompt']}"


def _lmms(answers: Sequence[str] | None, prediction: str) -> float:
  if answers is None:  # a split without answers
    return 0.0
  if not answers:  # as the original's mean of nothing
    raise statistics.StatisticsError("An item has no answers.")
  return accuracy(answers, prediction, normalise_evalai)


def _normaliser(function: Callable[[str], str]) -> Callable[..., str]:
  return lambda text: function(text)


def _accuracy(normalise: Callable[[str], str]) -> Callable[..., float]:
  return lambda answers, prediction: accuracy(answers, prediction, normalise)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("TextVQA", "answer_normaliser", "vqa_official"): _normaliser(
    normalise_official
  ),
  ("TextVQA", "answer_normaliser", "mmf"): _normaliser(normalise_evalai),
  ("TextVQA", "answer_normaliser", "lmms_eval"): _normaliser(normalise_evalai),
  ("TextVQA", "answer_normaliser", "vlmevalkit"): _normaliser(
    normalise_vlmevalkit
  ),
  ("TextVQA", "vqa_accuracy", "mmf"): _mmf,
  ("TextVQA", "vqa_accuracy", "lmms_eval"): _lmms,
  ("TextVQA", "vqa_accuracy", "vlmevalkit"): _accuracy(normalise_vlmevalkit),
  ("TextVQA", "prompt", "lmms_eval"): lmms_prompt,
}
