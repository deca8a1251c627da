"""What a run or an evaluation left in its folder, to be put beside others."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

from emma_jax import provenance
from emma_jax.evals import predictions, runner
from emma_jax.evals.outcomes import Scores
from emma_jax.training.metrics import read_metrics


class NoRun(ValueError):
  """A folder that no run or evaluation has written to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """A folder's content; what is not there is empty.

  name: what tells it from the others. scores: of the last evaluation.
  predictions: folder of that evaluation's; None without.
  """

  name: str
  folder: pathlib.Path
  scores: Scores
  history: Sequence[Scores]
  metrics: Sequence[Mapping[str, Any]]
  starts: Sequence[Mapping[str, Any]]
  predictions: pathlib.Path | None

  @property
  def config(self) -> Mapping[str, Any]:
    """Of the last start; {} where none was recorded."""
    return self.starts[-1]["config"] if self.starts else {}


def read(folders: Sequence[str | os.PathLike]) -> list[Run]:
  """Several folders, with names that differ.

  Raises:
    NoRun: one of them holds neither metrics nor scores, or comes twice.
  """
  paths = [pathlib.Path(folder) for folder in folders]
  whole = [path.resolve() for path in paths]
  if len(set(whole)) < len(whole):
    raise NoRun(f"A folder is named twice: {', '.join(map(str, folders))}.")
  return [_run(path, name) for path, name in zip(paths, names(whole))]


def names(paths: Sequence[pathlib.Path]) -> list[str]:
  """As many of the last parts of the paths as tell them apart.

  >>> names([pathlib.Path("/runs/a/evaluation"), pathlib.Path("/runs/b")])
  ['evaluation', 'b']
  >>> names([pathlib.Path("/runs/a/eval"), pathlib.Path("/runs/b/eval")])
  ['a/eval', 'b/eval']
  """
  for count in range(1, max(len(path.parts) for path in paths) + 1):
    found = ["/".join(path.parts[-count:]) for path in paths]
    if len(set(found)) == len(found):
      return found
  return [str(path) for path in paths]


def _run(folder: pathlib.Path, name: str) -> Run:
  history = runner.read_history(folder / "scores.jsonl")
  metrics = read_metrics(folder)
  scores = _json(folder / "scores.json")
  if not (scores or history or metrics):
    raise NoRun(
      f"{folder} holds neither metrics.jsonl nor scores.json: name the working "
      "directory of a training, or the --out of an evaluation."
    )
  if history and history[-1]["step"] != scores.get("step"):
    scores = history[-1]  # the run has gone on since its end
  places = [folder]
  if scores:
    places.append(folder / predictions.folder_of(scores["step"]))
  there = [p for p in places if (p / predictions.LINES).is_file()]
  return Run(
    name=name,
    folder=folder,
    scores=scores,
    history=history,
    metrics=metrics,
    starts=provenance.read(folder),
    predictions=there[-1] if there else None,
  )


def _json(path: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
  """Key with dots -> value as text.

  >>> flat({"a": {"b": 1, "c": [2]}, "d": None})
  {'a.b': '1', 'a.c': '[2]', 'd': 'null'}
  """
  out: dict[str, str] = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      out |= flat(value, f"{prefix}{key}.")
    else:
      out[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False, default=str)
  return out


def differences(
  configs: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[str]]]:
  """(key, its value in each; "" where it is absent) of keys that differ."""
  found = [flat(config) for config in configs]
  keys = dict.fromkeys(key for one in found for key in one)
  rows = [(key, [one.get(key, "") for one in found]) for key in keys]
  return [(key, values) for key, values in rows if len(set(values)) > 1]
