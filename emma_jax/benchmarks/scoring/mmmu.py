"""MMMU: multiple choice and short answers.

  original         MMMU-Benchmark/MMMU, mmmu/utils/eval_utils.py
  lmms_eval        0.7.3, tasks/mmmu/utils.py: also finds "Answer:B" and "A."
  lmms_eval_0.7.2  scores every short answer 0
  vlmevalkit       vlmeval/dataset/utils/multiple_choice.py: a short answer
                   becomes a choice between it and "Other Answers"

Where no option can be read the originals draw one at random.
"""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
import random
import re
import string
from typing import Any
import zlib

from emma_jax.benchmarks.scoring import choice

Parsed = Sequence[str | float]  # what an open answer may mean

# ---------------------------------------------------------- multiple choice

# How a letter stands in an answer, and where its last place is looked for.
# Each is tried if no letter was found in the ones before.
_ORIGINAL = (("({})", "({})"), (" {} ", " {} "))
# " B " is looked for where "B " was found, which may be nowhere.
_LMMS = (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} "))


def parse_choice(
  response: str,
  options: Sequence[str],
  forms: Sequence[tuple[str, str]] = _ORIGINAL,
) -> str | None:
  """The letter that an answer gives, or None.

  A letter in brackets, else as a word, else the text of an option in an answer
  of more than five words. Of several the last wins.

  >>> parse_choice("(A) or rather (B).", ["6", "7"])
  'B'

  Args:
    response: what the model said.
    options: their texts; the letters are A, B, ...
    forms: how letters stand; `original` or `lmms_eval`.
  """
  for mark in ",.!?;:'":
    response = response.strip(mark)
  response = f" {response} "
  letters = [chr(ord("A") + i) for i in range(len(options))]
  for form, place in forms:
    found = [x for x in letters if form.format(x) in response]
    if found:
      return max(found, key=lambda x: response.rfind(place.format(x)))
  if len(response.split()) <= 5:
    return None
  said = response.lower()
  texts = {x: text.lower() for x, text in zip(letters, options)}
  named = [x for x in letters if texts[x] in said]
  return max(named, key=lambda x: said.rfind(texts[x]), default=None)


def parse_choice_lmms(response: str, options: Sequence[str]) -> str | None:
  """The same by lmms-eval's forms, which need no space before the letter.

  >>> parse_choice_lmms("Answer:B", ["6", "7"]), parse_choice_lmms("B:", "xy")
  ('B', 'B')
  """
  return parse_choice(response, options, _LMMS)


def drawn(response: str, options: Sequence[str]) -> str:
  """A letter at random, a function of the answer alone: no skill, no luck.

  Stands for the originals' draw where one is asked for (`fallback:
  seeded_random`).

  Raises:
    IndexError: no options.
  """
  letters = [chr(ord("A") + i) for i in range(len(options))]
  return random.Random(zlib.crc32(response.encode(errors="replace"))).choice(
    letters
  )


# ------------------------------------------------------------- short answers

_KEYS = (
  *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer "),
  "result ",
)
_TRIVIAL = frozenset(":,.!?;'")
_WITH_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_SIMPLE = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")


def numbers_in(text: str) -> list[str]:
  """All numbers of a text: with commas, scientific, then plain ones.

  The patterns overlap, so that "1,200" also gives "200".

  >>> numbers_in("1,200 or 3e5")
  ['1,200', '3e5', '200', '5']
  """
  patterns = (_WITH_COMMAS, _SCIENTIFIC, _SIMPLE)
  return [found for p in patterns for found in p.findall(text)]


def normalise(text: str) -> list[str | float]:
  """A number rounded to two decimals, or the text in lower case.

  A single letter gets a space on either side, so that it is not found within
  words.

  >>> normalise("1,234.567"), normalise("C"), normalise("Yes")
  ([1234.57], [' c', 'c '], ['yes'])
  """
  text = text.strip()
  try:
    return [round(float(text.replace(",", "")), 2)]
  except ValueError:
    text = text.lower()
  return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def key_parts(response: str) -> list[str]:
  """The shortest tail behind "is ", "answer " and the like, a line each.

  In the last line "=" counts too. The whole answer where there is none.
  """
  response = response.strip().strip(".").lower()
  lines = response.split("\n")
  parts = []
  for i, line in enumerate(lines):
    keys = _KEYS if i < len(lines) - 1 else (*_KEYS, "=")
    shortest = ""
    for key in keys:
      if key in line:
        tail = line.split(key)[-1].strip()
        if not shortest or len(tail) < len(shortest):
          shortest = tail
    if shortest and shortest not in _TRIVIAL:
      parts.append(shortest)
  return parts or [response]


def parse_open(response: str) -> list[str | float]:
  """Everything that an answer may mean, each once.

  Texts are in lower case, numbers rounded to two decimals. The originals cut
  at ". " before a capital too, but in lower case there is none.
  """
  parts = key_parts(response)
  found = parts + [n for part in parts for n in numbers_in(part)]
  return list(dict.fromkeys(v for text in found for v in normalise(text)))


def open_right(answer: str | Sequence[str], parsed: Iterable) -> bool:
  """Whether a number equals a reference, or a text contains one.

  Args:
    answer: a reference, or several.
    parsed: what `parse_open` gave; the characters of a text, if it is one.
  """
  listed = [answer] if isinstance(answer, str) else answer
  wanted = [value for text in listed for value in normalise(text)]
  texts = [value for value in wanted if isinstance(value, str)]
  return any(
    any(t in value for t in texts)
    if isinstance(value, str)
    else value in wanted
    for value in parsed
  )


def choice_right(answer: str | Sequence[str], letter: str | None) -> bool:
  """Whether a letter is the answer, or one of several."""
  return letter in answer if isinstance(answer, list) else letter == answer


# ---------------------------------------------------------------- aggregates


def evaluate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Verdicts and accuracy of one subject, as the original gives them.

  Args:
    samples: "id", "question_type", "answer", "parsed_pred" each; the last is a
      letter, or a list for a short answer.

  Returns:
    {"judge": {id: "Correct" or "Wrong"}, "metric": {"acc": 0 to 1}}; without
    samples {"acc": 0}.
  """
  if not samples:
    return {"acc": 0}
  judge = {}
  right = 0
  for sample in samples:
    multiple = sample["question_type"] == "multiple-choice"
    check = choice_right if multiple else open_right
    good = check(sample["answer"], sample["parsed_pred"])
    judge[sample["id"]] = "Correct" if good else "Wrong"
    right += good
  return {"judge": judge, "metric": {"acc": right / len(samples)}}


def weighted(results: Mapping[str, Mapping[str, float]]) -> float:
  """Accuracy over subjects, each weighted by its number of examples.

  Args:
    results: subject -> {"acc", "num_example"}.
  """
  count = sum(r["num_example"] for r in results.values())
  if not count:
    return 0
  return sum(r["acc"] * r["num_example"] for r in results.values()) / count


def subject(identity: str) -> str:
  """validation_Art_Theory_12 -> Art_Theory

  Raises:
    ValueError: an id of another form.
  """
  found = re.fullmatch(r"[^_]*_(.+?)_\d+\n?", identity)
  if not found:
    raise ValueError(f"{identity!r} names no subject: SPLIT_SUBJECT_NUMBER.")
  return found[1]


def lmms_right(sample: Mapping[str, Any]) -> bool:
  """Whether lmms-eval counts an answer; one that cannot be read is wrong.

  Args:
    sample: "question_type", "options" (a list written as text), "answer",
      "response".
  """
  if sample["question_type"] == "multiple-choice":
    options = ast.literal_eval(sample["options"])
    letter = parse_choice_lmms(sample["response"], options)
    return choice_right(sample["answer"], letter)
  return open_right(sample["answer"], parse_open(sample["response"]))


def lmms_accuracy(samples: Iterable[Mapping[str, Any]]) -> float:
  """lmms-eval's accuracy, 0 to 1, rounded to five decimals.

  Args:
    samples: as of `lmms_right`, with "id".

  Raises:
    ValueError: an id that names no subject.
  """
  subjects: dict[str, list[bool]] = {}
  for sample in samples:
    subjects.setdefault(subject(sample["id"]), []).append(lmms_right(sample))
  results = {
    name: {"acc": sum(hits) / len(hits), "num_example": len(hits)}
    for name, hits in subjects.items()
  }
  return round(weighted(results), 5)


def as_choice(answer: str) -> tuple[dict[str, str], str]:
  """VLMEvalKit's choice in place of a short answer: (options, right letter).

  A is the answer, B is any other. The right letter is A, unless the answer
  itself is a capital: then it is that, and no prediction can be right.
  """
  right = answer if answer in list(string.ascii_uppercase) else "A"
  return {"A": answer, "B": "Other Answers"}, right


def open_as_choice(answer: str, prediction: str) -> bool:
  """VLMEvalKit without a judge on a short answer, see `as_choice`."""
  options, right = as_choice(answer)
  return (choice.infer(prediction, options) or choice.NO_OPTION) == right


# ------------------------------------------------------------------- prompts


def lmms_prompt(
  doc: Mapping[str, str], mc_prompt: str = "", open_ended_prompt: str = ""
) -> str:
  """lmms-eval's text; pictures stay where "<image 1>" names them.

  Args:
    doc: "question", "question_type", "options" (a list written as text).
    mc_prompt: below the options.
    open_ended_prompt: below a question for a short answer.
  """
  if doc["question_type"] != "multiple-choice":
    return f"{doc['question']}\n\n{open_ended_prompt}"
  options = "\n".join(
    f"{chr(ord('A') + i)}. {text}"
    for i, text in enumerate(ast.literal_eval(doc["options"]))
  )
  return f"{doc['question']}\n{options}\n\n{mc_prompt}"


def interleave(msgs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
  """VLMEvalKit's message with pictures where the text names them.

  Args:
    msgs: {"type": "image" or "text", "value"} each; one text.

  Returns:
    The same without a "<image N>" in the text; else text and pictures in
    turns, beginning and ending with text, which may be empty.

  Raises:
    AssertionError: two texts, or a number above 9: theirs reads one digit.
    AttributeError: no text.
    IndexError: no such picture.
  """
  texts = [m["value"] for m in msgs if m["type"] == "text"]
  pictures = [m["value"] for m in msgs if m["type"] == "image"]
  if not texts:
    raise AttributeError("A question has one text, not none.")
  if len(texts) > 1:
    raise AssertionError(f"A question has one text, not {len(texts)}.")
  first, *parts = texts[0].split("<image ")
  if not parts:
    return [dict(m) for m in msgs]
  out = [{"type": "text", "value": first}]
  for part in parts:
    if part[0] not in string.digits or part[1] != ">":
      raise AssertionError(f"No number of one digit: <image {part[:8]}")
    out.append({"type": "image", "value": pictures[int(part[0]) - 1]})
    out.append({"type": "text", "value": part[2:]})
  return out


# ------------------------------------------------------------------- scorers


def _choice(
  parse: Callable[[str, Sequence[str]], str | None],
) -> Callable[..., str]:
  # The originals' outcome is one of the letters: any will do.
  return lambda response, options: (
    parse(response, options) or drawn(response, options)
  )


def _open_original(
  answer: str | Sequence[str], response: str
) -> dict[str, Any]:
  parsed = parse_open(response)
  return {
    "correct": open_right(answer, parsed),
    "parsed": sorted(f"{value}|{type(value).__name__}" for value in parsed),
  }


def _open_lmms(answer: str | Sequence[str], response: str) -> float:
  return float(open_right(answer, parse_open(response)))


def _open_lmms_0_7_2(answer: str | Sequence[str], response: str) -> float:
  # It goes through the characters of the first reading.
  return float(open_right(answer, str(parse_open(response)[0])))


def _open_as_choice(answer: str, prediction: str) -> int:
  return int(open_as_choice(answer, prediction))


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MMMU", "parse_multi_choice", "original"): _choice(parse_choice),
  ("MMMU", "parse_multi_choice", "lmms_eval"): _choice(parse_choice_lmms),
  ("MMMU", "open_eval", "original"): _open_original,
  ("MMMU", "open_eval", "lmms_eval"): _open_lmms,
  ("MMMU", "open_eval_bug_0_7_2", "lmms_eval_0.7.2"): _open_lmms_0_7_2,
  ("MMMU", "open_as_mcq", "vlmevalkit"): _open_as_choice,
  ("MMMU", "evaluate", "original"): evaluate,
  ("MMMU", "ins_level_acc", "original"): weighted,
  ("MMMU", "aggregate", "lmms_eval"): lmms_accuracy,
  ("MMMU", "prompt", "lmms_eval"): lmms_prompt,
  ("MMMU", "interleave", "vlmevalkit"): interleave,
}
