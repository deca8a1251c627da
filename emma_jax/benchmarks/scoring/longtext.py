"""LongText-Bench: which of the words that were asked for can be read?

160 English and as many Chinese prompts, four pictures each; Qwen2.5-VL-7B reads
the text. Words, of Chinese prompts characters, are compared as multisets, so
neither order nor what else is written counts. Source: X-Omni-Team/X-Omni
(Apache-2.0), textbench/evaluate_text_reward.py and summary_scores.py.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import re
from typing import Any, Literal

Language = Literal["en", "zh"]

READ_PROMPT = (
  "Recognize the text in the image, only reply with the text content, but "
  "avoid repeating previously mentioned content. If no text is recognized, "
  "please reply with 'No text recognized'."
)
# What the reader says that is not in the picture.
HALLUCINATIONS = ("addCriterion", "No text recognized.")
_LETTERS = r"\u4e00-\u9fa5a-zA-Z0-9àâäéèêëîïôöùûüçÀÂÄÉÈÊËÎÏÔÖÙÛÜÇ"


def clean(reply: str, *, official_quirks: bool) -> str:
  """A reply without what the reader makes up.

  official_quirks: only the last of HALLUCINATIONS is taken out, since the
  original starts anew from the reply for each.
  """
  text = reply
  for words in HALLUCINATIONS[-1:] if official_quirks else HALLUCINATIONS:
    text = text.replace(words, "")
    text = text.replace(f"\n{words}", "").replace(f"{words}\n", "")
  return text


def normalise(text: str, language: Language) -> str:
  """Letters and digits of Latin, French and Chinese alone.

  English is lower-cased, with single spaces; Chinese has no white space, and
  its Latin letters keep their case.
  """
  kept = re.sub(rf"[^{_LETTERS}\s]", "", text)
  if language == "en":
    return re.sub(r"\s+", " ", kept).strip().lower()
  return re.sub(r"\s", "", kept)


def matched(
  wanted: Sequence[str], reply: str, language: Language
) -> tuple[int, int]:
  """(words that were read, words that were asked for); of Chinese, characters.

  Args:
    wanted: the texts of a prompt.
    reply: what was read, after `clean`.
    language: of the prompt.
  """
  texts = normalise(" ".join(wanted), language), normalise(reply, language)
  units = [text.split() if language == "en" else list(text) for text in texts]
  asked, read = map(collections.Counter, units)
  return (asked & read).total(), asked.total()


def text_score(results: Sequence[Mapping[str, Any]], mode: Language) -> float:
  """The published number, 0..1: all that was read over all that was asked for.

  Args:
    results: one per picture: ocr_gt, the prompt's texts; ocr_results, what was
      read, after `clean`.
    mode: the language.

  Raises:
    ZeroDivisionError: a prompt that asks for nothing, or no results.
  """
  pairs = [matched(r["ocr_gt"], r["ocr_results"], mode) for r in results]
  for (_, asked), result in zip(pairs, results, strict=True):
    if not asked:
      raise ZeroDivisionError(f"{result['ocr_gt']} asks for no word.")
  return sum(read for read, _ in pairs) / sum(asked for _, asked in pairs)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("LongText-Bench", "text_score", "original"): text_score
}
