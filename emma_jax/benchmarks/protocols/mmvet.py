"""MM-Vet: open questions, whose answers a judge rates from 0 to 1.

Prompts and limits:

  vlmevalkit  open-compass/VLMEvalKit, vlmeval/dataset/image_vqa.py, `MMVet`
              with `ImageBaseDataset.build_prompt` of image_base.py: the
              question as it is, as yuweihao/MM-Vet asks in inference/utils.py;
              limits an answer nowhere
  lmms_eval   EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/mmvet/mmvet.yaml:
              asks to reason first; 1,024 tokens

Ratings:

  vlmevalkit  vlmeval/dataset/utils/mmvet.py, `MMVet_auxeval`, and `MMVet`: the
              whole reply is a number
  original    yuweihao/MM-Vet, mm-vet_evaluator.py, `runs`: its first word is;
              from the second try on the judge is told so. The second is as
              cold as the first, and a sixth reply is asked for but never read.

Both score 0 where no reply can be read; here it is a failure, which scores the
same and is counted. "nan" is a number to both; here it cannot be read.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

from emma_jax.benchmarks.data.rows import listed
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import free_answers
from emma_jax.benchmarks.scoring import mmvet, prompt_texts
from emma_jax.benchmarks.suite import Benchmark, Case, NoReply, Score

_REMEDY = "score a copy of the set that has its column of answers"
_SHOWN = 80  # characters of a reply in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rating:
  """How an implementation asks its judge.

  Args:
    prompt: (question, reference, answer) -> what the judge is asked.
    again: is added to it from the second try on.
    temperatures: of the tries.
    max_tokens: of a reply.
    read: reply -> score, or None.
  """

  prompt: Callable[[str, str, str], str]
  again: str = ""
  temperatures: tuple[float, ...]
  max_tokens: int
  read: Callable[[str], float | None]


def original_prompt(question: str, answer: str, prediction: str) -> str:
  """The authors' own table; VLMEvalKit breaks its lines, its row is theirs."""
  text = mmvet.vlmevalkit_prompt(question, answer, prediction)
  row = text.removeprefix(prompt_texts.read("mmvet_judge_vlmevalkit"))
  return prompt_texts.read("mmvet_judge") + row


RATINGS: Mapping[str, Rating] = {
  # The rows that EMMA compares with are VLMEvalKit's.
  "vlmevalkit": Rating(
    prompt=mmvet.vlmevalkit_prompt,
    temperatures=(0.0, 0.5, 1.0, 1.5, 2.0),
    max_tokens=2048,  # 3 before 2026-05-28
    read=mmvet.whole_number,
  ),
  "original": Rating(
    prompt=original_prompt,
    again="\nPredict the correctness of the answer (digit): ",
    temperatures=(0.0, 0.0, 0.5, 1.0, 1.5),
    max_tokens=3,
    read=mmvet.first_word,
  ),
}


def _rate(case: Case, text: str, answer: str, repeat: int) -> float:
  rating = RATINGS[case.impl]
  asked = rating.prompt(case.item.question, answer, text)
  reply = ""
  for attempt, temperature in enumerate(rating.temperatures):
    reply = case.ask(
      case.impl,
      asked + (rating.again if attempt else ""),
      repeat=repeat,
      attempt=attempt,
      temperature=temperature,
      max_tokens=rating.max_tokens,
    ).text
    found = rating.read(reply)
    if found is not None and not math.isnan(found):
      return found
  raise NoReply(
    "unparsable",
    f"no number from 0 to 1 in {len(rating.temperatures)} replies, the last "
    f"{reply[:_SHOWN]!r}",
  )


def _score(case: Case) -> Sequence[Score]:
  answer, *more = free_answers.references(case, _REMEDY)
  if more:
    raise ValueError(
      f"{case.set_name}, item {case.item.id}: {1 + len(more)} answers; the "
      "judge is shown one, with <AND> and <OR> between its parts."
    )
  return [
    Score(
      value=_rate(
        case,
        free_answers.as_read(case, made.text),
        free_answers.as_read(case, answer),
        made.prediction.repeat,
      )
    )
    for made in case.made
  ]


def _capabilities(item: Item) -> Mapping[str, str]:
  """One column a capability, of which a question needs several, and all of
  them as one: the integrations of the paper's second table.

  VLMEvalKit counts a question with a single capability twice in that
  capability's row; here every question counts once.
  """
  column = item.meta.get("capability") or item.meta.get("category") or ()
  parts = column.split(",") if isinstance(column, str) else listed(column)
  needed = {part.strip() for part in parts}
  found = [name for name in mmvet.CAPABILITIES if name in needed]
  columns = dict.fromkeys(found, "yes")
  return columns | {"integration": "_".join(found)} if found else {}


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="mmvet",
    kind="understanding",
    task="ask",
    impls=tuple(RATINGS),
    prompts={
      "vlmevalkit": free_answers.prompt(),
      "lmms_eval": free_answers.prompt(
        before="First please perform reasoning, and think step by step to "
        "provide best answer to the following question: \n\n"
      ),
      "plain": free_answers.prompt(),
    },
    max_tokens=1024,
    score=_score,
    categories=_capabilities,
    judge="rating",
    protocol=(
      "The mean rating of 218 answers; VLMEvalKit's judge is gpt-4-turbo "
      "(gpt-4-1106-preview), the paper's gpt-4-0613 with the mean of five runs "
      "of it, and another judge moves it by points; EMMA's paper names neither "
      "toolkit nor judge."
    ),
  ),
)
