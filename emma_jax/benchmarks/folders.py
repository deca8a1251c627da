"""Where the files of a run lie, and what is read of them.

OUT/run.json                          format, versions, weights, device
OUT/SET/set.json                      settings and data of the predictions
OUT/SET/predictions/part-SHARD.jsonl  lines of `records.Prediction`
OUT/SET/pictures/*.png                what was drawn
OUT/SET/judgements.jsonl              lines of `records.Judgement`
OUT/SET/outcomes.jsonl                lines of `records.Outcome`
OUT/judge/AB/KEY.json                 replies, for whoever asks the same
OUT/results.json, OUT/report.html
"""

from collections.abc import Iterator, Mapping
import dataclasses
import glob
import hashlib
import json
import os
import re
from typing import Any

from emma_jax import files
from emma_jax.benchmarks import records
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.records import BadRun, Prediction
from emma_jax.benchmarks.settings import SetSettings


@dataclasses.dataclass(frozen=True)
class SetFolder:
  """A set's part of a run's folder."""

  run: str
  name: str

  @property
  def path(self) -> str:
    """The folder."""
    return os.path.join(self.run, re.sub(r"[^A-Za-z0-9._-]", "-", self.name))

  @property
  def is_begun(self) -> bool:
    """Whether anything of the set was predicted."""
    return os.path.exists(os.path.join(self.path, "set.json"))

  def part(self, shard: int) -> str:
    """The predictions that a process writes."""
    return os.path.join(self.path, "predictions", f"part-{shard}.jsonl")

  @property
  def judgements(self) -> str:
    """The judge's replies."""
    return os.path.join(self.path, "judgements.jsonl")

  @property
  def outcomes(self) -> str:
    """Scores item by item."""
    return os.path.join(self.path, "outcomes.jsonl")

  def picture(self, prediction: Prediction) -> bytes:
    """The file of what was drawn.

    Raises:
      BadRun: it is gone, or changed.
    """
    path = os.path.join(self.path, prediction.picture)
    try:
      with open(path, "rb") as file:
        data = file.read()
    except OSError as error:
      raise BadRun(
        f"The picture of {prediction.id} cannot be read: {error}. Delete its "
        "line in predictions/ and predict again."
      ) from error
    if hashlib.sha256(data).hexdigest() != prediction.sha256:
      raise BadRun(
        f"{path} is not the picture that was drawn: its sha256 differs. Delete "
        "it and its line in predictions/, and predict again."
      )
    return data

  def lines(self) -> Iterator[tuple[str, Prediction]]:
    """(where, prediction) of all processes.

    Raises:
      BadRun: a damaged line.
    """
    pattern = os.path.join(
      glob.escape(self.path), "predictions", "part-*.jsonl"
    )
    for path in sorted(glob.glob(pattern)):
      for number, line in records.numbered(Prediction, path):
        yield f"{path}, line {number}", line

  def known(self) -> dict[tuple[str, int], dict[str, str]]:
    """(id, repeat) -> key -> where, of all predictions that are there."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for where, line in self.lines():
      found.setdefault((line.id, line.repeat), {})[line.key] = where
    return found

  def note(
    self, settings: SetSettings, decides: Mapping[str, Any], source: Source
  ) -> None:
    """Writes down what the predictions made from here on are of."""
    content = {
      "asked": settings.asked(),
      "decides": decides,
      "settings": records.digest(decides),
      "limit": settings.limit,
      "data": data_of(source, settings),
      # As it is now: a later command may name other weights.
      "run": check(self.run) if os.path.isfile(run_json(self.run)) else {},
    }
    write_json(os.path.join(self.path, "set.json"), content)

  def noted(self) -> dict[str, Any]:
    """What `note` wrote.

    Raises:
      BadRun: there is nothing, or it is damaged.
    """
    return read_json(
      os.path.join(self.path, "set.json"),
      f"no predictions of {self.name} have been made; run `emma-benchmark "
      "predict` first",
      *("asked", "decides", "settings", "data"),
    )

  def predictions(
    self, settings: SetSettings
  ) -> tuple[dict[tuple[str, int], dict[str, Prediction]], int]:
    """Those of the present settings, (id, repeat) -> key -> prediction, and how
    many are not; `asked.answered` finds the keys that the data has now.

    Raises:
      BadRun: made with other settings than the config has now; two different
        ones of a key; damaged lines.
    """
    noted = self.noted()
    differ = [
      f"{key}: {noted['asked'].get(key)!r}, now {value!r}"
      for key, value in _json(settings.asked()).items()
      if noted["asked"].get(key) != value
    ]
    if differ:
      raise BadRun(
        f"The predictions in {self.path} were made with other settings "
        f"({'; '.join(differ)}). Predict again, or name the config they were "
        "made with."
      )
    lines, stale = [], 0
    for where, line in self.lines():
      if line.settings == noted["settings"]:
        lines.append((where, line))
      else:
        stale += 1
    found: dict[tuple[str, int], dict[str, Prediction]] = {}
    for line in records.once(
      lines, lambda line: (line.id, line.repeat, line.key)
    ).values():
      found.setdefault((line.id, line.repeat), {})[line.key] = line
    return found, stale

  def add_timing(self, shard: int, timing: Mapping[str, float]) -> None:
    """Adds how long a process computed."""
    path = os.path.join(self.path, "predictions", f"timing-{shard}.jsonl")
    with open(path, "a", encoding="utf-8") as file:
      file.write(json.dumps(timing) + "\n")

  def timings(self) -> list[dict[str, float]]:
    """Of all processes, each time they ran."""
    pattern = os.path.join(
      glob.escape(self.path), "predictions", "timing-*.jsonl"
    )
    found = []
    for path in sorted(glob.glob(pattern)):
      with open(path, encoding="utf-8") as file:
        for line in file:
          try:
            found.append(json.loads(line))
          except ValueError:  # torn: timing is worth no error
            continue
    return found


def run_json(folder: str) -> str:
  """The file that makes a folder one of results."""
  return os.path.join(folder, "run.json")


def data_of(source: Source, settings: SetSettings) -> dict[str, Any]:
  """JSON of the files that a set is read from."""
  return {
    "format": source.format,
    "files": [
      {
        "name": os.path.basename(p),
        "size": os.path.getsize(p),
        "sha256": files.sha256(p),
      }
      for p in source.files
    ],
    "rows": len(source),
    "folder": os.path.abspath(settings.data) if settings.data else "",
  }


def _json(content: Any) -> Any:
  """As it comes back from a file."""
  return json.loads(json.dumps(content))


def write_json(path: str, content: Any) -> None:
  """A whole file or none; NaN is refused."""
  text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
  # Processes that begin a run together write the same file.
  with (
    records.writing(path),
    files.atomic_write(path, "w", shared=True) as file,
  ):
    file.write(text + "\n")


def read_json(path: str, missing: str, *keys: str) -> dict[str, Any]:
  """What `write_json` wrote.

  Args:
    path: of the file.
    missing: what to do where there is none.
    keys: that it has to have.

  Raises:
    BadRun: there is no such file, or it is damaged.
  """
  try:
    with open(path, encoding="utf-8") as file:
      content = json.load(file)
    if not isinstance(content, dict):
      raise ValueError("it is no JSON object")
    if lacking := [key for key in keys if key not in content]:
      raise ValueError(f"it lacks {', '.join(lacking)}")
    return content
  except FileNotFoundError as error:
    raise BadRun(f"{path} is not there: {missing}.") from error
  except ValueError as error:
    # Without its run.json a folder is none of ours.
    remedy = "delete it and run again"
    if os.path.basename(path) == "run.json":
      remedy = "name another --out"
    raise BadRun(f"{path} is damaged ({error}); {remedy}.") from error


def begin(folder: str, content: Mapping[str, Any]) -> None:
  """Begins a folder of results, or goes on with one.

  Args:
    folder: is made if missing.
    content: versions, weights and the like, kept beside the numbers.

  Raises:
    BadRun: results of another version of the layout, or other files.
  """
  check_free(folder)
  path = run_json(folder)
  write_json(path, {"format": records.FORMAT, **content})


def check_free(folder: str) -> None:
  """That results can be written into a folder: before anything is computed.

  Raises:
    BadRun: results of another version of the layout, other files, or no folder
      that can be written.
  """
  path = run_json(folder)
  if os.path.exists(path):
    check(folder)
  elif os.path.isdir(folder) and any(
    # A process that begins the same run may just be writing it.
    not name.startswith("run.json.")
    for name in os.listdir(folder)
  ):
    raise BadRun(
      f"{folder} holds other files and no run.json; name an empty or a new "
      "folder with --out."
    )
  try:
    os.makedirs(folder, exist_ok=True)
    writable = os.access(folder, os.W_OK | os.X_OK)
  except OSError as error:
    raise BadRun(
      f"--out {folder}: no folder can be made there ({error}). Name another."
    ) from error
  if not writable:
    raise BadRun(f"--out {folder} cannot be written. Name another folder.")


def check(folder: str) -> dict[str, Any]:
  """The content of a run's run.json.

  Raises:
    BadRun: it is none, or of another version.
  """
  found = read_json(
    run_json(folder), "no benchmark has been run into this folder"
  )
  if found.get("format") != records.FORMAT:
    raise BadRun(
      f"{folder} was written in format {found.get('format')}, this version "
      f"has {records.FORMAT}. Use the version that wrote it, or a new --out."
    )
  return found
