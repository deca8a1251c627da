"""Predictions of small sets, and their scores."""

import base64
from collections.abc import Mapping, Sequence
import functools
import hashlib
import os
from typing import Any

from configs.benchmarks import defaults
from emma_jax.benchmarks import scored, settings
from emma_jax.benchmarks.data import folder
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.records import Outcome, Prediction
from emma_jax.benchmarks.toolkits.predicted import Predicted
from emma_jax.judge.base import Call, Reply
from tests.benchmarks import toy
from tests.benchmarks.data.test_tables import write

PNG = base64.b64encode(toy.png(0)).decode()


def tsv(
  root: Any, dataset: str, name: str, head: Sequence[str], *rows
) -> Source:
  """A table of VLMEvalKit's, with a picture in each row."""
  write(
    root / f"{dataset}.tsv", [("image", *head), *((PNG, *row) for row in rows)]
  )
  return folder.open_set(str(root), name)


def lines(name: str, *items: Item, kind: str = "lines") -> Source:
  """A set in memory, as if it were of a `kind` of file."""
  return Source(name=name, split="", format=kind, files=(), items=list(items))


def item(id: str, question: str = "How many?", *answers: str, **fields) -> Item:
  picture = Picture(f"row {id}", functools.partial(toy.png, 0))
  given = dict(
    id=id, group=id, question=question, pictures=(picture,), answers=answers
  )
  return Item(**(given | fields))


def predicted(
  root: Any,
  name: str,
  source: Source,
  made: Mapping[str, str | Sequence[bytes] | Prediction],
  **section: Any,
) -> Predicted:
  """A set whose items have these answers, pictures or predictions."""
  asked = settings.of(name, defaults.a_set(**section).to_dict(), str(root))
  place = SetFolder(str(root / "run"), name)
  found = {}
  for id, result in made.items():
    if isinstance(result, Prediction):
      found[id, 0] = result
    elif isinstance(result, str):
      status = "ok" if result.strip() else "empty"
      found[id, 0] = prediction(id, text=result, status=status)
    else:
      for repeat, data in enumerate(result):
        found[id, repeat] = _drawn(place, id, repeat, data)
  return Predicted(
    settings=asked, source=source, place=place, predictions=found
  )


def prediction(id: str, **fields: Any) -> Prediction:
  given = dict(id=id, repeat=0, key="k", settings="s", prompt="p")
  return Prediction(**(given | fields))


def _drawn(place: SetFolder, id: str, repeat: int, data: bytes) -> Prediction:
  name = f"pictures/{id}-{repeat}.png"
  path = os.path.join(place.path, name)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, "wb") as file:
    file.write(data)
  sha256 = hashlib.sha256(data).hexdigest()
  return prediction(id, repeat=repeat, picture=name, sha256=sha256)


def nobody(call: Call) -> Reply:
  return Reply(status="absent")


def outcomes(one: Predicted, ask=nobody) -> dict[str, list[Outcome]]:
  """By implementation."""
  return {
    impl: [
      outcome
      for i in range(len(one.source))
      for outcome in scored.of_item(
        one.source[i], one.predictions, one.settings, impl, one.place, ask
      )
    ]
    for impl in one.settings.impls
  }


def scores(one: Predicted, ask=nobody) -> dict[str, list[float]]:
  return {
    impl: [outcome.score for outcome in found]
    for impl, found in outcomes(one, ask).items()
  }
