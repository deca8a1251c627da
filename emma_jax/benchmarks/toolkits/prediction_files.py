"""VLMEvalKit's prediction files: its own table, and a column of answers.

  emma-benchmark export OUT --to vlmevalkit --dest DIR
  PRED_FORMAT=tsv python run.py --data ChartQA_TEST --model emma \\
      --work-dir DIR --mode eval --reuse

Layout and reading: open-compass/VLMEvalKit, vlmeval/smp/file.py
(`get_pred_file_path`, `select_reuse_run`, `is_prediction_complete`, `dump`) and
vlmeval/inference.py (`infer_data_job`): DIR/<model>/T<date>-<time>/<model>_
<dataset>.tsv, with all columns of the dataset but the pictures.
"""

from collections.abc import Callable, Mapping, Sequence
import csv
import datetime
import io
import os
import re
from typing import Any, Literal

from emma_jax import files
from emma_jax.benchmarks.data.tables import Tsv
from emma_jax.benchmarks.data.tsv_rows import TsvRows
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.scoring.missing import NA_TEXTS
from emma_jax.benchmarks.toolkits.asking import error_text
from emma_jax.benchmarks.toolkits.predicted import Predicted, refuse_missing

Format = Literal["tsv", "xlsx"]
CELL = 32_767  # characters that a cell of xlsx holds
_LEFT_OUT = ("image",)  # as `infer_data_job` leaves it out


def write(
  sets: Sequence[Predicted],
  dest: str,
  *,
  model: str,
  kind: Format,
  now: datetime.datetime,
) -> list[str]:
  """One file for each table that the sets are splits of.

  Args:
    sets: with VLMEvalKit's own tables as data.
    dest: its --work-dir.
    model: its --model.
    kind: its PRED_FORMAT.
    now: names the folder; it reuses the newest.

  Returns:
    Paths.

  Raises:
    BadRun: data of another shape; predictions that are missing, of splits that
      are not among the sets as well; what xlsx cannot hold.
  """
  by_table: dict[str, list[Predicted]] = {}
  for one in sets:
    if not isinstance(one.source.items, TsvRows):
      raise BadRun(
        f"{one.settings.name} was read from {one.source.format} "
        f"({', '.join(one.source.files[:1])}), whose rows VLMEvalKit does not "
        "know. Predict with its own TSV file of the set in --data."
      )
    by_table.setdefault(one.source.files[0], []).append(one)
  folder = os.path.join(dest, model, f"T{now:%Y%m%d-%H%M%S}")
  out = []
  for table_path, members in by_table.items():
    dataset = os.path.splitext(os.path.basename(table_path))[0]
    path = os.path.join(folder, f"{model}_{dataset}.{kind}")
    columns, rows = _rows(members, dataset)
    (_write_tsv if kind == "tsv" else _write_xlsx)(path, columns, rows)
    out.append(path)
  return out


def _rows(
  members: Sequence[Predicted], dataset: str
) -> tuple[list[str], list[list[str]]]:
  """Columns, and rows of a table in its order."""
  answers: dict[str, str] = {}
  for one in members:
    if one.settings.repeats != 1:
      raise BadRun(
        f"{one.settings.name} has {one.settings.repeats} answers to each "
        "question; VLMEvalKit's file takes one."
      )
    for (index, _), prediction in one.predictions.items():
      unusable = prediction.status in ("unreadable", "crashed")
      answers[index] = (
        error_text(prediction.status) if unusable else prediction.text
      )
  items: Any = members[0].source.items
  table: Tsv = items.table
  indexes = table.column("index")
  refuse_missing(
    f"{dataset}.tsv", [x for x in indexes if x not in answers], len(indexes)
  )
  columns = [
    name for name in table.columns if name not in (*_LEFT_OUT, "prediction")
  ]
  rows = []
  for n, index in enumerate(indexes):
    row = table[n]
    rows.append([*(row[name] for name in columns), answers[index]])
  return [*columns, "prediction"], rows


def _write_tsv(
  path: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
  """As pandas writes it for VLMEvalKit: every field quoted."""
  out = io.StringIO(newline="")
  writer = csv.writer(
    out, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n"
  )
  writer.writerow(columns)
  writer.writerows(rows)
  with files.atomic_write(path) as file:  # bytes: "\r" stays what it is
    file.write(out.getvalue().encode())


def _write_xlsx(
  path: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
  """The same as a workbook, numbers as pandas takes them from the TSV.

  Raises:
    ImportError: openpyxl is not there.
    BadRun: a text that is too long for a cell, or has characters that the
      format does not have; nothing is cut.
  """
  try:
    import openpyxl
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
  except ImportError as error:
    raise ImportError(
      "Files of xlsx need the package openpyxl; pip install openpyxl, or write "
      "tsv and set PRED_FORMAT=tsv."
    ) from error
  for n, row in enumerate(rows):
    for name, text in zip(columns, row):
      where = f"{os.path.basename(path)}, row {n}: {name}"
      if len(text) > CELL:
        raise BadRun(
          f"{where} has {len(text):,} characters, a cell of xlsx holds "
          f"{CELL:,}. Write tsv."
        )
      # A carriage return comes back as a line feed.
      if "\r" in text or ILLEGAL_CHARACTERS_RE.search(text):
        raise BadRun(
          f"{where} has a character that xlsx does not have: {text!r:.80}. "
          "Write tsv."
        )
  book = openpyxl.Workbook(write_only=True)
  sheet = book.create_sheet("Sheet1")
  sheet.append(list(columns))
  # Answers stay texts, as VLMEvalKit writes them.
  numbers = [_number([row[i] for row in rows]) for i in range(len(columns) - 1)]
  for row in rows:
    cells = []
    for text, number in zip(row, [*numbers, None]):
      if number:
        found = None if text in NA_TEXTS else number(text)
        cells.append(WriteOnlyCell(sheet, value=found))
        continue
      cells.append(WriteOnlyCell(sheet, value=text or None))
      if text:
        cells[-1].data_type = "s"  # "=1" is a text, and no formula
    sheet.append(cells)
  with files.atomic_write(path) as file:
    book.save(file)


_NUMBERS: Sequence[tuple[str, Callable[[str], int | float]]] = (
  (r"[+-]?\d+", int),
  (r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", float),
)


def _number(texts: Sequence[str]) -> Callable[[str], int | float] | None:
  """int or float if all texts of a column are such, as pandas has it."""
  given = [text for text in texts if text not in NA_TEXTS]
  for pattern, number in _NUMBERS:
    if given and all(re.fullmatch(pattern, text) for text in given):
      return number
  return None


def command(dest: str, model: str, kind: str, paths: Sequence[str]) -> str:
  """What scores the files, for people."""
  names: Mapping[str, None] = dict.fromkeys(
    os.path.splitext(os.path.basename(p))[0].removeprefix(f"{model}_")
    for p in paths
  )
  return (
    f"PRED_FORMAT={kind} python run.py --data {' '.join(names)} --model "
    f"{model} --work-dir {dest} --mode eval --reuse"
  )
