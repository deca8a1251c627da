"""Texts of judges and of answer extraction, as their authors wrote them.

They are files in `emma_jax/benchmarks/prompts`; NOTICE.md there says whose.
"""

import functools
from importlib import resources


@functools.cache
def read(name: str) -> str:
  """The text of `prompts/NAME.txt`, newlines as they stand.

  Args:
    name: such as "mmvet_judge".

  Raises:
    FileNotFoundError: there is none of that name.
  """
  return file(f"{name}.txt")


def file(name: str) -> str:
  """A file of that folder, such as "imgedit.json", newlines as they stand.

  Raises:
    FileNotFoundError: there is none of that name.
  """
  folder = resources.files("emma_jax.benchmarks") / "prompts"
  return (folder / name).read_bytes().decode()
