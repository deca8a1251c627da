"""What the model is asked of an item, and which predictions answer that.

A prediction is of a prompt and of pictures as they were. Where the data was
changed since, it answers another question, and must not be scored as this one.
"""

from collections.abc import Sequence
import dataclasses
import hashlib

from emma_jax.benchmarks import records, scored
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.records import BadRun, Prediction
from emma_jax.benchmarks.settings import SetSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """A request with its pictures read.

  Args:
    text: the prompt.
    pictures: their files.
    error: why they cannot be read, "" where they can.
  """

  text: str
  pictures: Sequence[bytes]
  error: str

  def key(self, settings: str, id_: str, repeat: int) -> str:
    """Of a prediction: a digest of all that decides it.

    Args:
      settings: digest of the weights and settings.
      id_: of the item.
      repeat: of the prediction.
    """
    seen = [hashlib.sha256(p).hexdigest() for p in self.pictures]
    return records.digest([settings, self.text, seen, self.error, id_, repeat])


def of(item: Item, settings: SetSettings) -> Asked:
  """What a set's template makes of an item."""
  request = settings.benchmark.prompts[settings.prompt](item)
  try:
    pictures = tuple(p.bytes() for p in request.pictures)
  except BadItem as bad:
    return Asked(text=request.text, pictures=(), error=str(bad))
  return Asked(text=request.text, pictures=pictures, error="")


def answered(
  source: Source, settings: SetSettings, place: SetFolder
) -> tuple[dict[tuple[str, int], Prediction], int]:
  """Predictions of a set by (id, repeat), and how many are of something else:
  other weights, settings, prompts or pictures.

  Raises:
    BadRun: an item was predicted, but as the data was before; and as
      `SetFolder.predictions`.
  """
  found, stale = place.predictions(settings)
  made_with = place.noted()["settings"]
  current: dict[tuple[str, int], Prediction] = {}
  for item in scored.chosen(source, settings.limit):
    names = [(item.id, repeat) for repeat in range(settings.repeats)]
    if not any(name in found for name in names):
      continue
    asked = of(item, settings)
    for name in names:
      lines = found.get(name, {})
      key = asked.key(made_with, *name)
      if key in lines:
        current[name] = lines[key]
        stale += len(lines) - 1
      elif lines:
        raise BadRun(
          f"The prediction of {item.id} in {place.path} is of another prompt "
          f"or other pictures than {', '.join(source.files) or source.name} "
          "has now. Run `emma-benchmark predict` again, which makes those "
          "that changed; or name the data they were made with by --data."
        )
  return current, stale
