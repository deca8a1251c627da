"""STEM labels of the pictures that a router is trained on: counted, demanded.

Without both classes the router has nothing to tell apart: its loss falls, or is
zero with its gradient, and nothing says so.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.loading.sources import Source
from emma_jax.data.pictures.images import BadRecord
from emma_jax.structs import STEM_LABELS, Understanding

# Records of a source without side files that are asked for their label.
PROBES = 1000
REMEDY = (
  "Label them: `emma-data label-stem INPUT --out DIR --rules RULES.json` (or "
  "--answers), then set config.data.sources.NAME=records:DIR for each class"
)


class NoLabels(ValueError):
  """A router cannot be trained: pictures of a class, or labels, are lacking."""


@dataclasses.dataclass(frozen=True)
class LabelCounts:
  """Pictures by label.

  >>> LabelCounts.of([1, 0, 0, -1])
  LabelCounts(stem=1, general=2, unlabelled=1)
  """

  stem: int = 0
  general: int = 0
  unlabelled: int = 0  # the last; the others are classes

  @classmethod
  def of(cls, labels: Iterable[int]) -> "LabelCounts":
    """Of codes as in `structs`; ValueError for any other."""
    codes, counts = np.unique(np.fromiter(labels, int), return_counts=True)
    found = dict(zip(codes.tolist(), counts.tolist()))
    other = sorted(set(found) - set(STEM_LABELS))
    if other:
      raise ValueError(f"STEM labels {other} are none of {STEM_LABELS}.")
    return cls(
      **{name: found.get(code, 0) for code, name in STEM_LABELS.items()}
    )

  def __add__(self, other: "LabelCounts") -> "LabelCounts":
    fields = (f.name for f in dataclasses.fields(self))
    return LabelCounts(*(getattr(self, n) + getattr(other, n) for n in fields))

  @property
  def labelled(self) -> int:
    """Pictures of any class."""
    return sum(self._classes().values())

  @property
  def pictures(self) -> int:
    """All of them."""
    return self.labelled + self.unlabelled

  @property
  def both(self) -> bool:
    """Whether there is something to tell apart."""
    return sum(n > 0 for n in self._classes().values()) > 1

  def _classes(self) -> dict[str, int]:
    out = dataclasses.asdict(self)
    del out["unlabelled"]
    return out

  def __str__(self) -> str:
    named = ((n, k.replace("stem", "STEM")) for k, n in self._classes().items())
    classes = ", ".join(f"{n} {name}" for n, name in named)
    return f"{classes} and {self.unlabelled} unlabelled pictures"


def count(sources: Mapping[str, Source]) -> dict[str, LabelCounts]:
  """Label counts of each source, of as little of it as shows both classes.

  Folders of records are counted whole, from their side files. Of others at most
  `PROBES` records are read, evenly spread, from all sources in turn, until both
  classes were seen.

  Raises:
    ValueError: a label that is none.
  """
  found = dict.fromkeys(sources, LabelCounts())
  probed = []
  for name, source in sources.items():
    if hasattr(source, "stem_labels"):
      found[name] = LabelCounts.of(source.stem_labels())
    else:
      probed.append(name)
  for i in range(PROBES):
    for name in probed:
      tried = min(PROBES, len(sources[name]))
      if i < tried and not _all(found).both:
        index = i * len(sources[name]) // tried
        found[name] += _of_record(sources[name], index)
  return found


def _of_record(source: Source, index: int) -> LabelCounts:
  try:
    record = source[index]
  except BadRecord:
    return LabelCounts()  # counted when it is trained on
  if not isinstance(record, Understanding):
    return LabelCounts()
  return LabelCounts.of([record.stem] * len(record.pictures))


def _all(found: Mapping[str, LabelCounts]) -> LabelCounts:
  return sum(found.values(), LabelCounts())


def check(sources: Mapping[str, Source], specs: Mapping[str, str], what: str):
  """Raises NoLabels unless the sources of `what` have both classes.

  `specs`: what the sources were opened by, for the message.
  """
  try:
    found = count(sources)
  except ValueError as error:
    raise NoLabels(
      f"{what}: {error} Count the side files again with `emma-data lengths`."
    ) from error
  if not _all(found).both:
    each = "; ".join(f"{n} ({specs[n]}): {c}" for n, c in found.items())
    raise NoLabels(
      f"{what} has nothing to tell STEM pictures from general ones by: "
      f"{_all(found)}, of sources {each}. {REMEDY}."
    )


class LabelBalance:
  """Labels as they came, since the stage of a router began.

  >>> balance = LabelBalance("4b", at_least=4)
  >>> balance.add({"labels/stem": 1, "labels/general": 3,
  ...              "labels/unlabelled": 4})
  >>> balance.shares()
  {'labels/stem': 0.25, 'labels/labelled': 0.5, 'labels/pictures': 8}
  """

  def __init__(self, stage: str, at_least: int):
    self._stage, self._at_least = stage, at_least
    self.counts = LabelCounts()

  def add(self, counts: Mapping[str, int]) -> None:
    """Takes the counts of a step, of all hosts; see BatchStats.label_counts.

    Raises:
      NoLabels: so many pictures came, and none of one of the classes.
    """
    self.counts += LabelCounts(
      **{name: counts[f"labels/{name}"] for name in STEM_LABELS.values()}
    )
    if self.counts.pictures >= self._at_least:
      self.check()

  def check(self) -> None:
    """Raises NoLabels unless both classes came."""
    if not self.counts.both:
      raise NoLabels(
        f"Stage {self._stage} has seen {self.counts}: the router learns "
        f"nothing from one class. {REMEDY}."
      )

  def shares(self) -> dict[str, float]:
    """For the log: STEM among the labelled, the labelled among all."""
    c = self.counts
    return {
      "labels/stem": c.stem / max(c.labelled, 1),
      "labels/labelled": c.labelled / max(c.pictures, 1),
      "labels/pictures": c.pictures,
    }

  def state(self) -> dict[str, int]:
    """All counts, as JSON, for the checkpoint."""
    return dataclasses.asdict(self.counts)

  def restore(self, state: Mapping[str, int]) -> None:
    """Undoes `state`, exactly."""
    self.counts = LabelCounts(**state)


def codes_of(sample: Any) -> list[int]:
  """The label of each understanding picture of a `transforms.Sample`."""
  return [p.stem for p in sample.parts if getattr(p, "role", None) == "und"]
