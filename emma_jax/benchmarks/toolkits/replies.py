"""Answers that were made before, in files that lmms-eval can score again.

DIR/<task>.jsonl has a line for each document of the task's split:

  {"doc_id": 0, "question": "How many bars?", "response": "4"}

`doc_id` is lmms-eval's own number, the row in its table; the question says
whether it is the row that was answered.
"""

from collections.abc import Iterable, Mapping
import glob
import json
import os
import re

from emma_jax import files
from emma_jax.benchmarks.data.rows import rows_of
from emma_jax.benchmarks.records import BadRun

# (set, split) -> lmms-eval 0.7.3's task that reads the same table.
TASKS: Mapping[tuple[str, str], str] = {
  ("chartqa", "test"): "chartqa",
  ("docvqa", "val"): "docvqa_val",
  ("docvqa", "test"): "docvqa_test",
  ("infovqa", "val"): "infovqa_val",
  ("infovqa", "test"): "infovqa_test",
  ("textvqa", "val"): "textvqa_val",
  ("ocrbench", "test"): "ocrbench",
  ("mmbench", "dev_en"): "mmbench_en_dev",
  ("mmbench", "dev_cn"): "mmbench_cn_dev",
  ("mmbench", "test_en"): "mmbench_en_test",
  ("mmbench", "test_cn"): "mmbench_cn_test",
  ("mmmu", "val"): "mmmu_val",
  ("mathvista", "testmini"): "mathvista_testmini_format",
  ("ai2d", "test"): "ai2d",
  ("mmstar", "val"): "mmstar",
  ("mmvet", "test"): "mmvet",
}

_MARK = re.compile(r"<image( \d+)?>|\s+")


def same_question(question: str, context: str) -> bool:
  """Whether a prompt asks a question, whatever its template put around it.

  Tasks capitalise questions, and move or drop marks of pictures.

  >>> same_question("What is <image 1>?", "what is  ?\\nAnswer briefly.")
  True
  """
  plain = [_MARK.sub("", text).casefold() for text in (question, context)]
  return plain[0] in plain[1]


def write(folder: str, task: str, rows: Iterable[tuple[str, str]]) -> str:
  """The file of a task.

  Args:
    folder: of all tasks.
    task: lmms-eval's name of it.
    rows: (question, response) in the order of the task's table.

  Returns:
    Its path.
  """
  path = os.path.join(folder, f"{task}.jsonl")
  lines = (
    json.dumps(
      {"doc_id": n, "question": question, "response": response},
      ensure_ascii=False,
    )
    for n, (question, response) in enumerate(rows)
  )
  files.write_text(path, "".join(f"{line}\n" for line in lines))
  return path


class Replies:
  """The answers of a folder."""

  def __init__(self, folder: str):
    """Raises BadRun where there is no file in it."""
    self._folder = folder
    self._read: dict[str, dict[str, tuple[str, str]]] = {}
    if not self._names():
      raise BadRun(
        f"{folder} has no file TASK.jsonl; make them by "
        "`emma-benchmark export OUT --to lmms --dest DIR`."
      )

  def _names(self) -> list[str]:
    found = glob.glob(os.path.join(glob.escape(self._folder), "*.jsonl"))
    return sorted(os.path.basename(path) for path in found)

  def _of(self, task: str) -> dict[str, tuple[str, str]]:
    if task not in self._read:
      path = os.path.join(self._folder, f"{task}.jsonl")
      if not os.path.exists(path):
        raise BadRun(
          f"{self._folder} has no {task}.jsonl, only "
          f"{', '.join(self._names())}. Name a file as the task is."
        )
      self._read[task] = {
        str(row["doc_id"]): (row["question"], row["response"])
        for row, _ in rows_of(path)
      }
    return self._read[task]

  def find(self, task: str, doc_id: int | str, context: str) -> str:
    """The answer to a document of a task.

    Raises:
      BadRun: there is none, or it is to another question than `context` asks.
    """
    lines = self._of(task)
    if str(doc_id) not in lines:
      raise BadRun(
        f"{task}.jsonl has no answer to document {doc_id}; it has {len(lines)}."
      )
    question, response = lines[str(doc_id)]
    if not same_question(question, context):
      raise BadRun(
        f"{task}.jsonl, document {doc_id}: answers {question!r:.80}, but the "
        f"task asks {context!r:.80}. The tables are of different revisions, or "
        "in different order."
      )
    return response
