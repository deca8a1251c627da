"""MMMU: college questions of choice and for short answers, with pictures.

  vlmevalkit  VLMEvalKit, vlmeval/dataset/utils/multiple_choice.py
              (`MMMU_preproc`, `mcq_vanilla_eval`): rules, else a judge; a short
              answer becomes a choice between it and "Other Answers"
  original    MMMU-Benchmark/MMMU, mmmu/utils/{data_utils,eval_utils}.py and
              mmmu/configs/llava1.5.yaml
  lmms_eval   0.7.3, tasks/mmmu/utils.py: "Answer:B" is read; of a short answer
              with several references none is ever right, because its table has
              their list as one text

All are the mean over all questions. The pictures stand where "<image 1>" names
them, as in VLMEvalKit (`split_MMMU`) and lmms-eval (`mmmu_doc_to_messages`).
"""

from collections.abc import Mapping, Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import matching
from emma_jax.benchmarks.protocols.choice import vlmevalkit_text
from emma_jax.benchmarks.scoring import literals, mmmu
from emma_jax.benchmarks.scoring.choice_prompts import DIRECT
from emma_jax.benchmarks.suite import (
  Benchmark,
  Case,
  Made,
  Request,
  Score,
  interleaved,
)

_SHORT = "Answer the question using a single word or phrase."
_DISCIPLINES = {
  "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
  "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
  "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
  "Health and Medicine": (
    *("Basic_Medical_Science", "Clinical_Medicine"),
    *("Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health"),
  ),
  "Humanities and Social Science": (
    *("History", "Literature", "Sociology", "Psychology"),
  ),
  "Tech and Engineering": (
    *("Agriculture", "Architecture_and_Engineering", "Computer_Science"),
    *("Electronics", "Energy_and_Power", "Materials"),
    "Mechanical_Engineering",
  ),
}
_OF_SUBJECT = {
  subject: discipline
  for discipline, subjects in _DISCIPLINES.items()
  for subject in subjects
}


# ------------------------------------------------------------------- prompts


def _is_choice(item: Item) -> bool:
  kind = item.meta.get("question_type")
  return kind == "multiple-choice" if kind else bool(item.options)


def _vlmevalkit(item: Item) -> Request:
  hint = str(item.meta.get("hint") or "")
  text = vlmevalkit_text(item.question, item.options, hint)
  return interleaved(text, item.pictures)


def _lmms(item: Item) -> Request:
  doc = {
    "question": item.question,
    "question_type": "multiple-choice" if _is_choice(item) else "open",
    "options": str(list(item.options.values())),
  }
  return interleaved(mmmu.lmms_prompt(doc, DIRECT, _SHORT), item.pictures)


def _original(item: Item) -> Request:
  # YAML folds the empty lines of the config's templates: each is one break.
  text = f"{item.question}\n{_SHORT}"
  if _is_choice(item):
    options = "".join(f"({k}) {v}\n" for k, v in item.options.items())
    text = f"{item.question}\n{options}\n{DIRECT}"
  return interleaved(text, item.pictures)


# -------------------------------------------------------------------- scores


def _golds(item: Item) -> list[str]:
  """References; a table may have several as the text of a list."""
  answers = matching.references(item)
  listed = literals.as_list(answers[0]) if len(answers) == 1 else None
  return [str(text) for text in listed or answers]


def _as_text(golds: Sequence[str]) -> str:
  """References as tables have them: one, or the text of a list."""
  return golds[0] if len(golds) == 1 else str(list(golds))


def _vlmevalkit_score(case: Case, made: Made) -> Score:
  answer = _as_text(_golds(case.item))
  options, right = dict(case.item.options), answer
  # Also a choice whose A is "None", which is missing there.
  if "A" not in matching.pandas_options(options):
    first_two, right = mmmu.as_choice(answer)
    options |= first_two
  return matching.by_vlmevalkit(case, made, right, options)


def _rules_score(case: Case, made: Made) -> Score:
  golds, lmms = _golds(case.item), case.impl == "lmms_eval"
  if not _is_choice(case.item):
    wanted = [_as_text(golds)] if lmms else golds
    parsed = mmmu.parse_open(made.text)
    return Score(value=float(mmmu.open_right(wanted, parsed)))
  parse = mmmu.parse_choice_lmms if lmms else mmmu.parse_choice
  letter = parse(made.text, list(case.item.options.values()))
  return matching.verdict(case, made, letter, golds[0], list(case.item.options))


def _score(case: Case) -> Sequence[Score]:
  vlmevalkit = case.impl == "vlmevalkit"
  one = _vlmevalkit_score if vlmevalkit else _rules_score
  return [one(case, made) for made in case.made]


# ---------------------------------------------------------------- categories


def subject(item: Item) -> str:
  """Its name, such as "Art_Theory"; "" where the item does not tell."""
  for name in (item.meta.get("id"), item.id):
    try:
      return mmmu.subject(str(name))
    except ValueError:
      continue
  return str(item.meta.get("category") or "")


def _categories(item: Item) -> Mapping[str, str]:
  of = subject(item)
  discipline = _OF_SUBJECT.get(of) or item.meta.get("l2-category")
  found = {
    "discipline": discipline,
    "subject": of,
    "subfield": item.meta.get("subfield"),
    "difficulty": item.meta.get("topic_difficulty"),
    "question type": "choice" if _is_choice(item) else "short answer",
  }
  return {column: str(value) for column, value in found.items() if value}


BENCHMARKS = (
  Benchmark(
    name="mmmu",
    kind="understanding",
    task="ask",
    # Papers print VLMEvalKit's on the validation split.
    impls=("vlmevalkit", "original", "lmms_eval"),
    prompts={
      "vlmevalkit": _vlmevalkit,
      "lmms_eval": _lmms,
      "original": _original,
    },
    # VLMEvalKit's for models behind an API; its prompt leaves room to reason.
    # lmms-eval and the original stop at 128, which suits their prompts.
    max_tokens=2048,
    score=_score,
    categories=_categories,
    judge="choice",
    fallback=True,
    protocol=(
      "Validation split (900), greedy answers; VLMEvalKit asks gpt-4o-mini, at "
      "temperature 0, what its rules cannot read. Some papers mix in the 150 "
      "questions of the dev split."
    ),
  ),
)
