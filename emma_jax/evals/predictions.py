"""What an evaluation's scores were given for: every answer and picture.

  predictions.jsonl   a line per sample: what was asked, what came, its marks
  pictures/           what was drawn and edited, PNG, named by set and content

Both lie beside scores.json. A file of lines never names a picture that is not
there: pictures come first, the lines appear at once, and what they do not name
goes last. So a kill leaves the predictions of the evaluation before.
"""

from collections.abc import Mapping, Sequence
import concurrent.futures
import hashlib
import json
import pathlib
from typing import Any

from emma_jax import files
from emma_jax.data.pictures.encoded import png
from emma_jax.evals.outcomes import Outcome
from emma_jax.structs import Drawing, Editing, Understanding

LINES, PICTURES = "predictions.jsonl", "pictures"
_THREADS = 8


def folder_of(step: int) -> str:
  """Of an evaluation during a run, from its working directory."""
  return f"evaluations/step-{step}"


def write(
  folder: pathlib.Path, outcomes: Mapping[str, Sequence[Outcome]]
) -> pathlib.Path:
  """Writes the predictions of all sets; returns the file of lines.

  Raises:
    OSError: the folder cannot be written.
  """
  samples = [
    (name, i, outcome)
    for name, done in outcomes.items()
    for i, outcome in enumerate(done)
  ]
  # Mostly waiting until the disk has a picture, which threads do together.
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    lines = list(pool.map(lambda one: _line(folder, *one), samples))
  text = "".join(
    json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
    for line in lines
  )
  files.write_text(folder / LINES, text)
  named = {line.get("picture") for line in lines}
  for old in (folder / PICTURES).glob("*.png"):
    if f"{PICTURES}/{old.name}" not in named:
      old.unlink()
  return folder / LINES


def _line(
  folder: pathlib.Path, name: str, index: int, outcome: Outcome
) -> dict[str, Any]:
  """A sample's line, once its picture is there."""
  line = {"set": name, "index": index, **_asked(outcome), **_marks(outcome)}
  if outcome.picture is None:
    return line
  data = png(outcome.picture)
  digest = hashlib.sha256(data).hexdigest()
  path = f"{PICTURES}/{name}-{index:05d}-{digest[:12]}.png"
  if not (folder / path).is_file():
    with files.atomic_write(folder / path) as file:
      file.write(data)
  return line | {"picture": path, "sha256": digest}


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of a file that `write` made."""
  # Not splitlines: a text may hold other ends of lines.
  text = path.read_text(encoding="utf-8")
  return [json.loads(line) for line in text.split("\n") if line]


def _asked(outcome: Outcome) -> dict[str, Any]:
  """What the sample was, as JSON; pictures that it came with stay there."""
  record = outcome.record
  about: dict[str, Any] = {"id": record.id}
  if isinstance(record, Understanding):
    return about | {
      "turns": [
        {"question": question, "answer": answer, "truth": truth}
        for (question, truth), answer in zip(record.turns, outcome.answers)
      ]
    }
  if isinstance(record, Editing):
    return about | {
      "instruction": record.instruction,
      "sources": len(record.sources),
    }
  assert isinstance(record, Drawing)  # there is no other kind of record
  return about | {"prompt": record.prompt}


def _marks(outcome: Outcome) -> dict[str, Any]:
  """Kinds and whether they are right; None where nothing tells."""
  return {
    "marks": [
      {"kind": kind, "right": None if right is None else bool(right)}
      for kind, right in outcome.marks
    ]
  }
