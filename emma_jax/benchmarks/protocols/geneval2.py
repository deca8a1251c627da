"""GenEval 2: how sure is a VQA model of each atom of a prompt?

The judge's reply is not read: its first token's log-probabilities are. A server
tells at most the best 20 of them; what it does not tell is kept as `uncovered`,
by which an atom's score may be too small. Source: facebookresearch/GenEval2
(CC BY-NC 4.0), evaluation.py.

soft_tifa_gm: a prompt's score is the geometric mean of its atoms'.
soft_tifa_am: it is their arithmetic mean.

Parts of a score are the arithmetic means by skill, a mean over prompts; the
original's are means over atoms.
"""

import math
import statistics

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.protocols import drawing
from emma_jax.benchmarks.scoring import geneval2
from emma_jax.benchmarks.suite import Case, Made, NoReply, Score
from emma_jax.judge.base import Reply

TOP_LOGPROBS = 20
_MEANS = {
  "soft_tifa_gm": geneval2.soft_tifa_gm,
  "soft_tifa_am": geneval2.soft_tifa_am,
}


def first_token(text: str) -> str:
  """Of a spelling, as the Qwen3-VL tokenizer splits it: digits one by one, and
  the space before them apart. Words are one token.

  >>> [first_token(t) for t in (" Two", "10", " 2")]
  [' Two', '1', ' ']
  """
  return text[0] if text.strip().isdigit() else text


def _atom(
  question: str, answer: str, reply: Reply, *, quirks: bool
) -> geneval2.Atom:
  if not reply.logprobs:
    raise NoReply(
      "unparsable",
      f"no log-probabilities; the judge must tell {TOP_LOGPROBS} of them",
    )
  try:
    return geneval2.atom(
      question,
      answer,
      {text: math.exp(log) for text, log in reply.logprobs.items()},
      # Without quirks every spelling counts that the judge has as a token.
      first_token if quirks else str,
      official_quirks=quirks,
    )
  except (ValueError, OverflowError) as error:
    raise NoReply("unparsable", str(error)) from error


def score_picture(case: Case, made: Made) -> Score:
  """The mean over a prompt's atoms, 0..1."""
  pairs = drawing.needed(case.item, "questions")
  picture = made.picture()
  atoms = []
  for number, (question, answer) in enumerate(pairs):
    reply = case.ask(
      f"q{number}",
      geneval2.question_prompt(question),
      [picture],
      repeat=made.prediction.repeat,
      temperature=0,
      max_tokens=1,
      top_logprobs=TOP_LOGPROBS,
    )
    atoms.append(_atom(question, answer, reply, quirks=case.quirks))
  scores = [atom.score for atom in atoms]
  parts = {"uncovered": statistics.fmean(atom.uncovered for atom in atoms)}
  skills = drawing.needed(case.item, "skills")
  for skill, mean in geneval2.by_skill([scores], [skills]).items():
    if not math.isnan(mean):
      parts[skill] = mean / 100
  # Probabilities as told may sum to a rounding more than 1.
  return Score(value=min(1.0, _MEANS[case.impl]([scores]) / 100), parts=parts)


BENCHMARKS: tuple[suite.Benchmark, ...] = (
  suite.Benchmark(
    name="geneval2",
    kind="drawing",
    task="draw",
    impls=tuple(_MEANS),
    prompts={"plain": drawing.plain},
    score=lambda case: suite.each(case, score_picture),
    categories=lambda item: {"atoms": str(drawing.needed(item, "atom_count"))},
    judge="vqa",
    protocol=(
      "Published numbers are of one picture a prompt and Qwen3-VL-8B-Instruct "
      "in transformers 4.57.0, which sees the probabilities of all tokens; a "
      "server's best 20 give a lower bound. How pictures were drawn is each "
      "paper's own."
    ),
  ),
)
