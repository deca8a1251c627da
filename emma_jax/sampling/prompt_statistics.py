"""How far a prompt is outside of what a model was trained on, as a number.

Texts of a task's training are counted in pairs of tokens. A prompt's surprise
is the mean of -ln p(token | token before) over the four neighbouring tokens
that are least expected, in nats: Witten and Bell's interpolation of pairs with
single tokens, those with one more of each of the vocabulary. What counts as
outside is no list of words but a quantile of other texts of the same training.

The numbers lie beside the weights (`checkpoints.locate.prompts_file`); without
them nothing is said.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
from typing import Any

from emma_jax.data.text.tokenizer import Tokenizer

WINDOW = 4
# Share of a training's own texts that are no more surprising than the limit.
QUANTILE = 0.999
_SHOWN = 40
_BEGIN = -1  # stands before the first token


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TextStatistics:
  """Of the texts of one task.

  texts: how many were counted.
  longest: tokens of the longest of them.
  limit: the surprise that `QUANTILE` of others stay below or at, in nats.
  pairs: token -> what followed it, how often; _BEGIN stands before the first.
  vocabulary: number of tokens there are.
  """

  texts: int
  longest: int
  limit: float
  pairs: Mapping[int, Mapping[int, int]]
  vocabulary: int

  def __post_init__(self):
    single: Counter[int] = Counter()
    for followers in self.pairs.values():
      single.update(followers)
    object.__setattr__(self, "_single", single)
    object.__setattr__(self, "_total", single.total())

  def surprise(self, tokens: Sequence[int]) -> float:
    """Of the least expected `WINDOW` neighbours, nats a token; 0 for none."""
    single: Mapping[int, int] = self._single  # type: ignore[attr-defined]
    total: int = self._total  # type: ignore[attr-defined]
    nats = []
    before = _BEGIN
    for token in tokens:
      share = (single.get(token, 0) + 1) / (total + self.vocabulary)
      followers = self.pairs.get(before, {})
      seen, kinds = sum(followers.values()), len(followers)
      if seen:
        share = (followers.get(token, 0) + kinds * share) / (seen + kinds)
      nats.append(-math.log(share))
      before = token
    width = min(WINDOW, len(nats))
    windows = (nats[i : i + width] for i in range(len(nats) - width + 1))
    return max((sum(w) / width for w in windows), default=0.0) if nats else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PromptStatistics:
  """Task ("drawing", "editing", "understanding") -> its texts' statistics.

  tokenizer: the fingerprint of the tokenizer that they were counted with.
  earlier: of what the model had learned before; what is inside of that is
    inside.
  """

  tokenizer: str
  tasks: Mapping[str, TextStatistics]
  earlier: "PromptStatistics | None"

  def knows(self, task: str) -> bool:
    """Whether it has learned the task."""
    before = self.earlier is not None and self.earlier.knows(task)
    return task in self.tasks or before

  def note(
    self, name: str, task: str, text: str, tokenizer: Tokenizer
  ) -> str | None:
    """One line about a text outside of what was trained; None: it is inside.

    `name`: of the model.
    """
    known = self.tasks.get(task)
    if self.earlier is not None and self.earlier.knows(task):
      before = self.earlier.note(name, task, text, tokenizer)
      if known is None or before is None:
        return before
    if known is None or tokenizer.fingerprint() != self.tokenizer:
      return None
    tokens = tokenizer.encode(text)
    found = known.surprise(tokens)
    reasons = []
    if found > known.limit:
      reasons.append(
        f"{found:.1f} nats a token where it is least like them, "
        f"{QUANTILE:.1%} of them are below {known.limit:.1f}"
      )
    if len(tokens) > known.longest:
      reasons.append(f"{len(tokens)} tokens, the longest has {known.longest}")
    if not reasons:
      return None
    short = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return (
      f"note: {short!r} is unlike the texts {name} learned {task} from: "
      f"{'; '.join(reasons)}."
    )

  def notes(
    self, name: str, task: str, texts: Iterable[str], tokenizer: Tokenizer
  ) -> list[str]:
    """The `note` of each text that has one, once."""
    found = (self.note(name, task, x, tokenizer) for x in dict.fromkeys(texts))
    return [note for note in found if note]

  def to_json(self) -> str:
    """The same, as `from_json` reads it."""
    tasks = {
      name: {
        **{k: getattr(one, k) for k in _NUMBERS},
        "pairs": {
          str(a): " ".join(f"{b}:{n}" for b, n in sorted(of.items()))
          for a, of in sorted(one.pairs.items())
        },
      }
      for name, one in sorted(self.tasks.items())
    }
    table: dict[str, Any] = {"tokenizer": self.tokenizer, "tasks": tasks}
    if self.earlier is not None:
      table["earlier"] = json.loads(self.earlier.to_json())
    return json.dumps(table) + "\n"

  @classmethod
  def from_json(cls, text: str) -> "PromptStatistics":
    """Raises ValueError for what `to_json` did not write."""
    try:
      table: dict[str, Any] = json.loads(text)
      tasks = {
        name: TextStatistics(
          **{k: kind(one[k]) for k, kind in _NUMBERS.items()},
          pairs={
            int(a): dict(
              (int(b), int(n)) for b, n in (x.split(":") for x in of.split())
            )
            for a, of in one["pairs"].items()
          },
        )
        for name, one in table["tasks"].items()
      }
      for one in tasks.values():
        counts = [n for of in one.pairs.values() for n in of.values()]
        if one.vocabulary < 1 or min(counts, default=1) < 1:
          raise ValueError("a count is not positive")
      earlier = table.get("earlier")
      return cls(
        tokenizer=str(table["tokenizer"]),
        tasks=tasks,
        earlier=earlier and cls.from_json(json.dumps(earlier)),
      )
    except (
      *(KeyError, TypeError, AttributeError, ValueError),
      *(ArithmeticError, RecursionError),
    ) as error:
      raise ValueError(f"These are no prompt statistics: {error!r}.") from error


_NUMBERS: Mapping[str, Any] = {
  "texts": int,
  "longest": int,
  "limit": float,
  "vocabulary": int,
}


def count(
  texts: Iterable[Sequence[int]],
  others: Iterable[Sequence[int]],
  vocabulary: int,
) -> TextStatistics:
  """Statistics of tokenised texts; the limit is of others of the same kind.

  Raises:
    ValueError: there are no texts, or no others.
  """
  pairs: dict[int, Counter[int]] = {}
  number = longest = 0
  for tokens in texts:
    number += 1
    longest = max(longest, len(tokens))
    for a, b in zip([_BEGIN, *tokens], tokens):
      pairs.setdefault(a, Counter())[b] += 1
  made = TextStatistics(
    texts=number, longest=longest, limit=0.0, pairs=pairs, vocabulary=vocabulary
  )
  held_out = [list(tokens) for tokens in others]
  found = sorted(map(made.surprise, held_out))
  if not number or not found:
    raise ValueError("There are no texts to count.")
  place = min(len(found) - 1, math.ceil(QUANTILE * len(found)) - 1)
  return dataclasses.replace(
    made,
    limit=math.ceil(found[place] * 1000) / 1000,  # it is within itself
    longest=max(longest, *map(len, held_out)),
  )
