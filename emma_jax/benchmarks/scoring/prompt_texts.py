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
  folder = resources.files("emma_jax.benchmarks") / "prompts"
  return (folder / f"{name}.txt").read_bytes().decode()
