"""The predictions of a run, whole, for files that others score."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses

from emma_jax.benchmarks import asked, records, scored
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import BadRun, Prediction
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.benchmarks.stages import Run

_NAMED = 5  # ids in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
  """A set's predictions, those of its present settings.

  Args:
    settings: of the set.
    source: its items.
    place: of its files.
    predictions: by (id, repeat).
  """

  settings: SetSettings
  source: Source
  place: SetFolder
  predictions: Mapping[tuple[str, int], Prediction]

  def each(self) -> Iterator[tuple[Item, list[Prediction]]]:
    """Items of the whole split in its order, with all repeats of each.

    Raises:
      BadRun: the number of predictions that are missing, before the first.
    """
    wanted = [
      (item.id, repeat)
      for item in scored.chosen(self.source, 0)
      for repeat in range(self.settings.repeats)
    ]
    refuse_missing(
      self.settings.name,
      [f"{id}/{n}" for id, n in wanted if (id, n) not in self.predictions],
      len(wanted),
    )
    for i in range(len(self.source)):
      item = self.source[i]
      yield (
        item,
        [
          self.predictions[item.id, repeat]
          for repeat in range(self.settings.repeats)
        ],
      )

  def texts(self) -> Iterator[tuple[Item, str]]:
    """The answer to each item; "" of a failure, which has none.

    Raises:
      BadRun: predictions that are missing; several answers an item.
    """
    if self.settings.repeats != 1:
      raise BadRun(
        f"{self.settings.name} has {self.settings.repeats} answers to each "
        "question, and the file takes one; predict with "
        f"--config.sets.{self.settings.name}.repeats=1."
      )
    for item, (prediction,) in self.each():
      yield item, prediction.text

  def pictures(self) -> Iterator[tuple[Item, list[bytes]]]:
    """The files of what was drawn for each item.

    Raises:
      BadRun: predictions that are missing or failed, which a picture in their
        place would hide; a file that is gone, or changed.
    """
    failed = [
      f"{x.id}/{x.repeat} ({x.status})"
      for x in self.predictions.values()
      if x.status in records.FAILED
    ]
    refuse_missing(
      self.settings.name, failed, len(self.predictions), "have no picture"
    )
    for item, made in self.each():
      yield item, [self.place.picture(prediction) for prediction in made]

  @property
  def failures(self) -> int:
    """Predictions without a result."""
    return sum(x.status in records.FAILED for x in self.predictions.values())


def refuse_missing(
  name: str, missing: Sequence[str], total: int, what: str = "are missing"
) -> None:
  """Raises BadRun unless nothing is missing."""
  if missing:
    shown = ", ".join(missing[:_NAMED])
    more = ", ..." if len(missing) > _NAMED else ""
    raise BadRun(
      f"{name}: {len(missing):,} of {total:,} predictions {what}: {shown}"
      f"{more}. What is left out would not be scored; predict the whole split "
      "first, with no limit."
    )


def collect(run: Run, sources: Mapping[str, Source]) -> list[Predicted]:
  """Of all sets of a run.

  Raises:
    BadRun: see `SetFolder.predictions` and `asked.answered`.
  """
  found = []
  for one in run.sets:
    place = run.place(one)
    made, _ = place.predictions(one)
    if any(len(lines) > 1 for lines in made.values()):
      # The data was changed meanwhile, and tells which are of it.
      predictions, _ = asked.answered(sources[one.name], one, place)
    else:  # of any files with these ids: a toolkit's rows may be others
      predictions = {k: x for k, v in made.items() for x in v.values()}
    found.append(
      Predicted(
        settings=one,
        source=sources[one.name],
        place=place,
        predictions=predictions,
      )
    )
  return found
