"""What a batch is made of, what could not be used, and when it is too much."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, ClassVar, NamedTuple

from emma_jax.data.batching import pack_info
from emma_jax.exits import Exit
from emma_jax.structs import STEM_LABELS, TASKS, Mean


class Bad(NamedTuple):
  """A record that could not be used; `where`: file:line or the like."""

  where: str
  reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchStats:
  """What a batch is made of: the parts of it that this host answers for."""

  step: int
  drawn: int  # samples, bad ones included
  bad: tuple[Bad, ...]
  packed: pack_info.PackInfo
  slots: int  # of the batch, used or not
  # Of each row this host holds, what is in it: "name/epoch/element".
  ids: tuple[tuple[str, ...], ...] = ()
  # Samples and tokens placed, by the name of their source; all names.
  sources: Mapping[str, tuple[int, int]] = dataclasses.field(
    default_factory=dict
  )
  num_truncated: int = 0  # conversations that lost turns so that they fit
  num_oversized: int = 0  # records passed over, since no row could hold them
  num_targets: int = 0  # pictures to draw
  cropped: float = 0.0  # sum over them of the shares of area that framing lost
  # Understanding pictures placed, by the code of their STEM label.
  labels: Mapping[int, int] = dataclasses.field(default_factory=dict)

  @property
  def tokens(self) -> int:
    """Tokens in the batch, padding left out."""
    return self.packed.und_tokens + self.packed.gen_tokens

  @property
  def unusable(self) -> tuple[Bad, ...]:
    """Corrupt records, and samples that no row could ever hold."""
    large = (Bad(d.id, d.reason) for d in self.packed.dropped if d.never)
    return (*self.bad, *large)

  def counts(self) -> dict[str, int]:
    """Whole numbers whose sums over hosts describe the whole batch."""
    out = {
      "drawn": self.drawn,
      "slots": self.slots,
      "tokens": self.tokens,
      "bad": len(self.bad),
      "dropped": len(self.packed.dropped),
      "unusable": len(self.unusable),
      "num_truncated": self.num_truncated,
      "num_oversized": self.num_oversized,
      "num_targets": self.num_targets,
      "cropped_ppm": round(1e6 * self.cropped),
    }
    for task in TASKS:  # all, so that 0 counts as 0
      out[f"samples/{task}"] = self.packed.samples_per_task.get(task, 0)
      out[f"tokens/{task}"] = self.packed.tokens_per_task.get(task, 0)
    for name, (samples, tokens) in self.sources.items():
      out[f"source samples/{name}"] = samples
      out[f"source tokens/{name}"] = tokens
    return out

  def label_counts(self) -> dict[str, int]:
    """The same, of understanding pictures by their STEM label."""
    return {
      f"labels/{label}": self.labels.get(code, 0)
      for code, label in STEM_LABELS.items()
    }


def means(counts: Mapping[str, int]) -> dict[str, Mean]:
  """For the log: fill of the rows, shares in samples drawn and in tokens."""
  drawn, tokens = counts["drawn"], counts["tokens"]
  out = {
    "data/fill": Mean(tokens, counts["slots"]),
    "data/bad": Mean(counts["bad"], drawn),
    "data/dropped": Mean(counts["dropped"], drawn),
    "data/truncated": Mean(counts["num_truncated"], drawn),
    "data/oversized": Mean(
      counts["num_oversized"], drawn + counts["num_oversized"]
    ),
  }
  if counts["num_targets"]:
    lost = counts["cropped_ppm"] / 1e6
    out["data/cropped"] = Mean(lost, counts["num_targets"])
  for task in TASKS:
    out[f"data/{task}"] = Mean(counts[f"samples/{task}"], drawn)
    out[f"data/tokens/{task}"] = Mean(counts[f"tokens/{task}"], tokens)
  return out


class ObservedMixture:
  """The mixture as it came, by source, since the stage began.

  >>> realised = ObservedMixture()
  >>> realised.add({"source samples/a": 1, "source tokens/a": 30,
  ...               "source samples/b": 3, "source tokens/b": 30, "drawn": 4})
  >>> realised.shares()  # doctest: +NORMALIZE_WHITESPACE
  {'realised/a': 0.25, 'realised/b': 0.75,
   'realised/tokens/a': 0.5, 'realised/tokens/b': 0.5}
  """

  _KINDS: ClassVar[Mapping[str, str]] = {
    "source samples/": "realised/",
    "source tokens/": "realised/tokens/",
  }

  def __init__(self):
    self._sums: dict[str, int] = {}

  def add(self, counts: Mapping[str, int]) -> None:
    """Takes the counts of a step, of all hosts; see BatchStats.counts."""
    for key, count in counts.items():
      if key.startswith(tuple(self._KINDS)):
        self._sums[key] = self._sums.get(key, 0) + count

  def shares(self) -> dict[str, float]:
    """For the log: of samples and of tokens; nothing for a single source."""
    out: dict[str, float] = {}
    for kind, name in self._KINDS.items():
      sums = {k: n for k, n in sorted(self._sums.items()) if k.startswith(kind)}
      total = max(sum(sums.values()), 1)
      if len(sums) > 1:
        out |= {name + k.removeprefix(kind): n / total for k, n in sums.items()}
    return out

  def state(self) -> dict[str, int]:
    """All counts, as JSON, for the checkpoint."""
    return dict(self._sums)

  def restore(self, state: Mapping[str, int]) -> None:
    """Undoes `state`, exactly."""
    self._sums = dict(state)


class TooManyBadRecords(RuntimeError):
  """The data is not what it should be; the message says where to look."""

  exit_code = Exit.DATA


class BadSampleLimit:
  """Counts unusable samples; `add` raises when too many of the recent ones are.

  >>> limit = BadSampleLimit(max_bad_share=0.5, min_samples=2)
  >>> try:
  ...   limit.see([Bad("a.jsonl:7", "no JSON")])
  ...   limit.add(drawn=4, bad=3)
  ... except TooManyBadRecords as e:
  ...   print(e)  # doctest: +NORMALIZE_WHITESPACE
  3 of the last 4 samples are unusable (max_bad_share=0.5; 3 of 4 in all).
  First: a.jsonl:7: no JSON
  """

  def __init__(self, max_bad_share: float, min_samples: int, shown: int = 5):
    self.max_bad_share = max_bad_share
    self.min_samples = max(min_samples, 1)
    self.seen = self.bad = 0  # over the whole run
    self._recent_seen = self._recent_bad = 0.0
    self._shown = shown
    self._first: list[str] = []

  def state(self) -> dict[str, Any]:
    """All counts, as JSON, for the checkpoint."""
    return {
      "seen": self.seen,
      "bad": self.bad,
      "recent": [self._recent_seen, self._recent_bad],
      "first": list(self._first),
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Undoes `state`, exactly."""
    self.seen, self.bad = state["seen"], state["bad"]
    self._recent_seen, self._recent_bad = state["recent"]
    self._first = list(state["first"])

  def see(self, bad: Sequence[Bad]) -> None:
    """Remembers the first few, for the message."""
    for b in bad:
      line = f"{b.where}: {b.reason}"
      if len(self._first) < self._shown and line not in self._first:
        self._first.append(line)

  def add(self, drawn: int, bad: int) -> None:
    """Counts samples of all hosts, so that all of them stop at once."""
    self.seen += drawn
    self.bad += bad
    self._recent_seen += drawn
    self._recent_bad += bad
    if self._recent_seen < self.min_samples:
      return
    if self._recent_bad > self.max_bad_share * self._recent_seen:
      raise TooManyBadRecords(
        f"{self._recent_bad:.0f} of the last {self._recent_seen:.0f} samples "
        f"are unusable (max_bad_share={self.max_bad_share:g}; {self.bad} of "
        f"{self.seen} in all). First: "
        + ("; ".join(self._first) or "see the other hosts")
      )
    if self._recent_seen >= 2 * self.min_samples:
      # Old samples fade, so that a long good past cannot hide a bad present.
      self._recent_seen /= 2
      self._recent_bad /= 2
