"""Files of prompts, rewritten by a model: GenEval's second row.

A line of the new file is the old one with the new "prompt", and the old one as
"original_prompt". Beside it lies the ledger of what was asked,
see judge/ledger.py.
"""

from collections.abc import Mapping, Sequence
from concurrent import futures
import json
import os
from typing import Any

from emma_jax import files
from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation.answers import Missing, NoAnswer
from emma_jax.data.curation.client import Client
from emma_jax.data.ingest.job import ConversionError
from emma_jax.judge import ledger

PROMPT, ORIGINAL = "prompt", "original_prompt"


def read(path: str) -> list[dict[str, Any]]:
  """Rows with a text "prompt": of JSON lines, or of a prompt per line.

  Raises ConversionError for a line that has none, or a file without lines.
  """
  try:
    with open(path, encoding="utf-8-sig", newline="\n") as file:
      lines = list(file)  # a newline ends a prompt, and nothing else
  except (OSError, UnicodeDecodeError) as error:
    raise ConversionError(f"{path}: {error}") from error
  rows: list[dict[str, Any]] = []
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      continue
    row: Any = {PROMPT: line.strip()}
    if line.lstrip().startswith("{"):
      try:
        row = json.loads(line)
      except ValueError as error:
        raise ConversionError(f"{path}:{number}: no JSON: {error}") from error
    prompt = row.get(PROMPT)
    if not isinstance(prompt, str) or not prompt.strip():
      raise ConversionError(
        f'{path}:{number} has no text "prompt", only {sorted(row)}.'
      )
    rows.append(row)
  if not rows:
    raise ConversionError(f"{path} has no prompts.")
  return rows


def ledger_of(out: str) -> str:
  """Where the calls of a file of rewritten prompts are counted."""
  return f"{out}.{ledger.LEDGER}"


def rewrite(
  rows: Sequence[Mapping[str, Any]],
  client: Client,
  out: str,
  missing: Missing,
  requests: int,
) -> int:
  """Writes the rows with their new prompts; how many kept the old one.

  Args:
    rows: with "prompt"; see `read`.
    client: its prompt holds {prompt}; the answer is {"prompt": ...}.
    out: file, there when all is done; replies are kept at once.
    missing: "keep" leaves a prompt that is not rewritten as it is, "error" ends
      the run.
    requests: at a time.

  Raises:
    ConversionError: of the server, or of a prompt that is not rewritten.
  """
  os.makedirs(client.cache, exist_ok=True)
  client = client.billed(ledger_of(out))
  kept = 0
  with futures.ThreadPoolExecutor(requests) as pool:
    asked = [
      pool.submit(_rewritten, client, row[PROMPT], f"{out}:{n}", missing)
      for n, row in enumerate(rows, start=1)
    ]
    try:
      found = [future.result() for future in asked]
    finally:
      for future in asked:
        future.cancel()
  with files.atomic_write(out, "w") as file:
    for row, new in zip(rows, found):
      kept += new is None
      line = {**row, PROMPT: new or row[PROMPT], ORIGINAL: row[PROMPT]}
      file.write(json.dumps(line, ensure_ascii=False) + "\n")
  return kept


def _rewritten(
  client: Client, prompt: str, where: str, missing: Missing
) -> str | None:
  try:
    answer = client.ask({PROMPT: prompt}, (), where)
    new = answers_lib.text(answer, PROMPT, where)
  except NoAnswer as error:
    if missing == "keep":
      return None
    raise ConversionError(
      f"{error}. --missing keep leaves such a prompt as it is."
    ) from error
  return new and new.strip()
