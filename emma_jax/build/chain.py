"""From a config of configs/data/ to a chain of data construction.

A section `steps.NAME` says by its key `do` what it is; all its other keys are
given to the construction of that kind, under the names of BUILDERS' arguments.
Whoever is asked is named by a word: a section of `servers`, "noted" (what an
earlier step left in the provenance), "local" (texts and faces, by the extra
`scorers`), or a file of answers.
"""

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any

from emma_jax.build import data as build_data
from emma_jax.build.sections import ConfigError, plain
from emma_jax.data.curation import (
  answers,
  captions,
  duplicates,
  edits,
  filters,
  generated_text,
  local,
  prompts,
  proposals,
  selection,
  stem_labels,
  text_pictures,
)
from emma_jax.data.curation.chain import Chain, Step
from emma_jax.data.curation.client import Client
from emma_jax.data.curation.painter import Painter
from emma_jax.data.ingest import part, sequences
from emma_jax.judge.ledger import Price
from emma_jax.structs import STEM_GENERAL, STEM_SCIENCE, STEM_UNKNOWN

_STEM = {"unknown": STEM_UNKNOWN, "general": STEM_GENERAL, "stem": STEM_SCIENCE}
REPLIES = "replies"  # folder in the chain's


def chain(
  config: Mapping[str, Any],
  out: str,
  inputs: Sequence[str],
  workers: int,
  requests: int,
) -> Chain:
  """The chain of a config.

  Args:
    config: of configs/data/.
    out: folder for its steps.
    inputs: files and the like, absolute; what the first steps read.
    workers, requests: see Chain.

  Raises:
    ConfigError: a section or key that does not fit.
    ConversionError: settings that a construction refuses.
  """
  given = plain(config)
  bench = _Bench(given, os.path.join(os.path.abspath(out), REPLIES))
  steps: list[Step] = []
  for name, section in given["steps"].items():
    steps.append(_step(bench, name, dict(section), steps, tuple(inputs)))
  return Chain(
    name=given["name"],
    out=out,
    steps=tuple(steps),
    workers=workers,
    requests=requests,
    rows_per_shard=given["rows_per_shard"],
    licence=given["licence"],
  )


def _step(
  bench: "_Bench",
  name: str,
  section: dict[str, Any],
  before: Sequence[Step],
  files: tuple[str, ...],
) -> Step:
  where = f"steps.{name}"
  kind = section.pop("do", "")
  if kind not in BUILDERS:
    raise ConfigError(
      f"config.{where}.do is {kind!r}; it is one of {sorted(BUILDERS)}."
    )
  try:
    wanted, share = section.pop("input"), section.pop("share")
    max_rejected = section.pop("max_rejected")
  except KeyError as error:
    raise ConfigError(f"config.{where} lacks the key {error}.") from error
  try:
    if kind in ("synth_text", "generate_text"):
      inputs: tuple[str, ...] = (f"range:{section.pop('count')}",)
    elif wanted:
      inputs = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    else:
      inputs = (before[-1].name,) if before else files
    maker = BUILDERS[kind](bench, **section)
  except (TypeError, KeyError) as error:
    raise ConfigError(f"config.{where} ({kind}): {error}") from error
  unknown = [n for n in inputs if n in bench.steps]
  unknown = [n for n in unknown if n not in {s.name for s in before}]
  if not inputs:
    raise ConfigError(
      f"config.{where} has no input: name files on the command line, or in "
      "config.inputs."
    )
  if unknown:
    raise ConfigError(f"config.{where}.input: {unknown[0]} comes later.")
  if wanted and not set(inputs) <= set(bench.steps):
    raise ConfigError(
      f"config.{where}.input is {wanted!r}; the steps are {bench.steps}."
    )
  return Step(
    name=name,
    maker=maker,
    inputs=inputs,
    share=share,
    max_rejected=max_rejected,
  )


class _Bench:
  """What all steps of a chain are built from.

  Args:
    config: the chain's.
    cache: folder of replies.
  """

  def __init__(self, config: Mapping[str, Any], cache: str):
    self.config = config
    self.cache = cache
    self.steps = list(config["steps"])
    self.tokenizer = build_data.tokenizer(config)
    unknown = sorted(set(config["prompts"]) - set(prompts.PROMPTS) - {"stem"})
    if unknown:
      raise ConfigError(
        f"config.prompts has {unknown}; it takes {sorted(prompts.PROMPTS)}."
      )

  def base(self, **more: Any) -> part.Recipe:
    return part.Recipe(
      **{
        "form": "",
        "tokenizer": self.tokenizer,
        "dataset": self.config["name"],
        **more,
      }
    )

  def back_end(self, kind: str, who: str, prompt: str = "") -> answers.Answers:
    """Who answers a question of prompts.PROMPTS."""
    if who == "noted":
      return answers.Noted(kind)
    if who == "local":
      return local.Local(kind)
    if who not in self.config["servers"]:
      if os.path.isfile(who):
        return answers.Precomputed(path=os.path.abspath(who))
      raise ConfigError(
        f"{kind} is to be answered by {who!r}, which is neither a section of "
        f"servers ({sorted(self.config['servers'])}), nor noted, nor local, "
        "nor a file."
      )
    prompt = self.config["prompts"].get(kind) or prompt
    return Client(
      prompt=prompt or prompts.PROMPTS[kind],
      answer_tokens=prompts.ANSWER_TOKENS[kind],
      **self._server(who, kind),
    )

  def optional(self, kind: str, who: str) -> answers.Answers | None:
    return self.back_end(kind, who) if who else None

  def score(
    self,
    name: str,
    kind: str,
    who: str,
    minimum: float | None = None,
    maximum: float | None = None,
  ) -> filters.ScoreRule:
    found = answers.Noted(name) if who == "noted" else self.back_end(kind, who)
    return filters.ScoreRule(
      name=name, answers=found, minimum=minimum, maximum=maximum
    )

  def painter(self, who: str, kind: str) -> Painter:
    if who not in self.config["servers"]:
      raise ConfigError(
        f"{kind} is to be painted by {who!r}, which is no section of servers: "
        f"{sorted(self.config['servers'])}."
      )
    return Painter(**self._server(who, kind))

  def _server(self, who: str, name: str) -> dict[str, Any]:
    section = dict(self.config["servers"][who])
    price = section.pop("price")
    unknown = sorted(set(price) - set(Price._fields))
    if unknown:
      raise ConfigError(f"config.servers.{who}.price has {unknown}.")
    return section | {
      "cache": self.cache,
      "name": name,
      "known_as": who,
      "price": Price(**price),
    }


# ------------------------------------------------------------------ the kinds
# Arguments are the keys of a step's section; see configs/data/chains.py.


def _convert(
  bench: _Bench,
  *,
  form: str,
  columns: Sequence[Sequence[str]],
  images: str,
  keep: Sequence[str],
  stem: str,
  weight: float,
  check: Any,
  data_dir: str,
) -> part.Recipe:
  return bench.base(
    form=form,
    columns={ours: theirs for ours, theirs in columns},
    images_dir=os.path.abspath(images) if images else None,
    keep=tuple(keep),
    stem=_STEM[stem],
    weight=weight,
    check=check,
    options=sequences.Options(data_dir=data_dir or None),
  )


def _filter(
  bench: _Bench,
  *,
  score: str,
  ask: str,
  by: str,
  minimum: float | None,
  maximum: float | None,
  tasks: Sequence[str],
  noted: Sequence[Sequence[str]],
  max_side: int,
  max_aspect: float,
  **more: Any,
) -> filters.Filter:
  rules = (bench.score(score, ask, by, minimum, maximum),) if score else ()
  return filters.Filter(
    base=bench.base(),
    scores=rules,
    tasks=tuple(tasks),
    noted={key: value for key, value in noted},
    max_side=max_side or None,
    max_aspect=max_aspect or None,
    **more,
  )


def _check_edits(
  bench: _Bench,
  *,
  reversals: str,
  judge: str,
  min_judge: float,
  ocr: str,
  face: str,
  min_face: float,
  **more: Any,
) -> edits.EditPairs:
  rule = lambda kind, who, low: (
    bench.score(kind, kind, who, low) if who else None
  )
  return edits.EditPairs(
    base=bench.base(),
    reversals=bench.optional("reverse", reversals),
    judge=rule("judge", judge, min_judge),
    ocr=bench.optional("ocr", ocr),
    face=rule("face", face, min_face),
    **more,
  )


def _label_stem(
  bench: _Bench, *, reading: str, rules: str, by: str, **more: Any
) -> selection.LabelStem:
  if reading not in stem_labels.READINGS:
    raise ConfigError(
      f"reading is {reading!r}, none of {sorted(stem_labels.READINGS)}."
    )
  found = stem_labels.READINGS[reading]
  return selection.LabelStem(
    base=bench.base(),
    rules=selection.read_rules(rules) if rules else found.rules,
    answers=bench.back_end("stem", by, found.prompt) if by else None,
    **more,
  )


def _select(
  bench: _Bench,
  *,
  score: str,
  ask: str,
  answers: str,
  counts: Sequence[Sequence[Any]],
  **more: Any,
) -> selection.Select:
  return selection.Select(
    base=bench.base(),
    score=bench.score(score, ask, answers),
    counts={group: count for group, count in counts},
    **more,
  )


def _label(
  bench: _Bench, *, name: str, by: str, words: Sequence[str], missing: Any
) -> captions.Label:
  no, yes = words
  return captions.Label(
    base=bench.base(),
    name=name,
    answers=bench.back_end(name, by),
    words=(no, yes),
    missing=missing,
  )


def _asked(cls: Callable[..., Any], kind: str) -> Callable[..., Any]:
  """A construction whose one back end is the key `by`."""

  def build(bench: _Bench, *, by: str, **more: Any) -> Any:
    return cls(base=bench.base(), answers=bench.back_end(kind, by), **more)

  return build


def _synth_text(
  bench: _Bench,
  *,
  sizes: Sequence[Sequence[int]],
  languages: Sequence[str],
  fonts: Sequence[str],
  **more: Any,
) -> text_pictures.TextPictures:
  return text_pictures.TextPictures(
    base=bench.base(form="index"),
    sizes=tuple((height, width) for height, width in sizes),
    languages=tuple(languages),
    folders=tuple(fonts),
    **more,
  )


BUILDERS: dict[str, Callable[..., Any]] = {
  "convert": _convert,
  "filter": _filter,
  "dedup": lambda bench, **more: duplicates.Dedup(base=bench.base(), **more),
  "recaption": _asked(captions.Recaption, "caption"),
  "as_questions": lambda bench: captions.AsQuestions(base=bench.base()),
  "label": _label,
  "propose_edits": _asked(proposals.Propose, "instruction"),
  "propose_text_edits": _asked(proposals.ProposeText, "read"),
  "apply_edits": lambda bench, painter, **more: proposals.ApplyEdits(
    base=bench.base(), painter=bench.painter(painter, "edit"), **more
  ),
  "check_edits": _check_edits,
  "synth_text": _synth_text,
  "generate_text": lambda bench, painter, **more: generated_text.GenerateText(
    base=bench.base(form="index"),
    painter=bench.painter(painter, "draw"),
    **more,
  ),
  "check_text": _asked(generated_text.CheckText, "read"),
  "select": _select,
  "label_stem": _label_stem,
}
