"""GenEval 2: how sure is a VQA model that each atom of a prompt is there?

800 prompts of 3..10 atoms, 6,012 questions, one picture per prompt. Qwen3-VL-8B
is asked "{question} Answer in one word."; an atom's score is the probability
that its first token is a spelling of the right answer. Source:
facebookresearch/GenEval2 (CC BY-NC 4.0), evaluation.py, soft_tifa_analysis.py;
its data must not be shipped.

The original sees all tokens' probabilities. A server that tells the best 20
leaves a rest; how much is stored with each atom, since the score may be too
small by as much.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any

NUMBERS = (
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
  "nine",
  "ten",
)
SKILLS = ("object", "attribute", "count", "position", "verb")
_YES = ("Yes", "yes", " yes", " Yes")


@dataclasses.dataclass(frozen=True)
class Atom:
  """One question's probability of the right answer, and that of tokens which
  nobody told: the true score is in score..score + uncovered."""

  score: float
  uncovered: float


def question_prompt(question: str) -> str:
  """What the VQA model is asked, with the picture."""
  return f"{question} Answer in one word."


def spellings(question: str, answer: str) -> tuple[str, ...]:
  """How the right answer may begin.

  Of "How many" questions the word, capitalised or not, and its digits, each
  with a space before or not; numbers beyond ten have the digits "other". All
  other questions are answered by yes, whatever `answer` says.

  >>> spellings("How many pigs are in the image?", "two")
  ('two', 'Two', ' two', ' Two', '2', ' 2')
  """
  if not question.startswith("How many"):
    return _YES
  digits = "other"
  if answer in NUMBERS:
    digits = str(NUMBERS.index(answer) + 1)
  big = answer.capitalize()
  return (answer, big, f" {answer}", f" {big}", digits, f" {digits}")


def atom(
  question: str,
  answer: str,
  probabilities: Mapping[str, float],
  first_token: Callable[[str], str] = lambda text: text,
  *,
  official_quirks: bool,
) -> Atom:
  """One atom from what was told of its answer's first token.

  Args:
    question, answer: of the benchmark's `vqa_list`.
    probabilities: token -> probability, 0..1, of all tokens or of the best.
    first_token: text -> its first token, by the VQA model's tokenizer. Without
      one, each spelling is taken to be a token.
    official_quirks: a spelling counts by its first token whatever that is ("10"
      by "1", which is also the answer one; " 7" by the space), and twice where
      two begin alike. Otherwise those count that are one token, once each.

  Raises:
    ValueError: a probability is not in 0..1, or their sum is above 1.
  """
  total = math.fsum(probabilities.values())
  if not all(0 <= p <= 1 for p in probabilities.values()) or total > 1 + 1e-3:
    raise ValueError(f"These are no probabilities: {dict(probabilities)}.")
  texts = spellings(question, answer)
  tokens: Sequence[str] = [first_token(text) for text in texts]
  if not official_quirks:
    whole = [t for t, text in zip(tokens, texts, strict=True) if t == text]
    tokens = list(dict.fromkeys(whole))
  score = 0.0
  for token in tokens:
    score += probabilities.get(token, 0.0)
  return Atom(score, max(0.0, 1.0 - total))


def hit(question: str, answer: str, token: str) -> bool:
  """TIFA's hard judgement: the likeliest token, lower-cased, is a spelling."""
  return token.lower() in spellings(question, answer)


def soft_tifa_am(atoms: Sequence[Sequence[float]]) -> float:
  """Mean over prompts of the atoms' arithmetic means, 0..100.

  Args:
    atoms: per prompt, the atoms' scores.

  Raises:
    ZeroDivisionError: no prompts, or one without atoms.
  """
  means = [sum(scores) / len(scores) for scores in atoms]
  return 100 * sum(means) / len(means)


def soft_tifa_gm(atoms: Sequence[Sequence[float]]) -> float:
  """Mean over prompts of the atoms' geometric means, 0..100.

  One atom that is not there at all makes its prompt 0.

  Args:
    atoms: per prompt, the atoms' scores.

  Raises:
    ZeroDivisionError: no prompts.
    ValueError: a prompt without atoms.
  """
  means = [_geometric(scores) for scores in atoms]
  return 100 * sum(means) / len(means)


def _geometric(scores: Sequence[float]) -> float:
  if min(scores) <= 0:
    return 0.0
  return math.exp(math.fsum(map(math.log, scores)) / len(scores))


def by_skill(
  atoms: Sequence[Sequence[float]], skills: Sequence[Sequence[str]]
) -> dict[str, float]:
  """skill -> mean of its atoms over all prompts, 0..100; NaN without any.

  Args:
    atoms: per prompt, the atoms' scores.
    skills: per prompt, the atoms' skills, of SKILLS.

  Raises:
    ValueError: another skill, or another number of skills than of atoms.
  """
  found: dict[str, list[float]] = {skill: [] for skill in SKILLS}
  for scores, names in zip(atoms, skills, strict=True):
    for score, name in zip(scores, names, strict=True):
      if name not in found:
        raise ValueError(f"{name!r} is no skill of {', '.join(SKILLS)}.")
      found[name].append(score)
  return {
    skill: 100 * sum(x) / len(x) if x else math.nan
    for skill, x in found.items()
  }


def by_atomicity(
  atoms: Sequence[Sequence[float]], atom_counts: Sequence[int]
) -> dict[int, float]:
  """atoms of a prompt -> soft-TIFA GM of those prompts, 0..100.

  Args:
    atoms: per prompt, the scores of its questions.
    atom_counts: per prompt, the benchmark's `atom_count`, which is not the
      number of its questions.
  """
  groups: dict[int, list[Sequence[float]]] = {}
  for scores, count in zip(atoms, atom_counts, strict=True):
    groups.setdefault(count, []).append(scores)
  return {count: soft_tifa_gm(groups[count]) for count in sorted(groups)}


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("GenEval2", "soft_tifa_am", "original"): soft_tifa_am,
  ("GenEval2", "soft_tifa_gm", "original"): soft_tifa_gm,
}
