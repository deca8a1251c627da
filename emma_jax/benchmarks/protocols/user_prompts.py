"""Texts of judges that may not be shipped, from whoever has them.

Some benchmarks' repositories name no licence, so that their judges' prompts
cannot be part of this package, while the published numbers are of no others. A
user who has a copy names a folder in EMMA_BENCHMARK_PROMPTS, with a folder per
set in it:

  DIR/rise/utils.py            the original's file, for the texts it gives names
                               to; it is read, never run
  DIR/rise/prompt_consist.txt  or a file per text, which goes first
"""

import ast
import functools
import glob
import os

from emma_jax.benchmarks.suite import NoReply

VARIABLE = "EMMA_BENCHMARK_PROMPTS"


def text(name: str, origin: str) -> str:
  """A text by its set and its name there, newlines as they stand.

  Args:
    name: such as "rise/prompt_consist".
    origin: where it is from, for the message.

  Raises:
    NoReply: absent, as nobody can be asked without it; says what to give.
    ValueError: the folder is none, or a file in it cannot be read.
  """
  root = os.environ.get(VARIABLE, "")
  if root and not os.path.isdir(root):
    raise ValueError(f"{VARIABLE} is {root!r}, which is no folder.")
  group, _, key = name.rpartition("/")
  place = os.path.join(root, group)
  found = _read(place, key) if root else None
  if found is None:
    wanted = place if root else f"a folder {group} in ${VARIABLE}"
    raise NoReply(
      "absent",
      f"the judge's text {key} is in {origin}, which may not be shipped: put "
      f"that file into {wanted}, or take the implementation `own`",
    )
  return found


def _read(place: str, key: str) -> str | None:
  file = os.path.join(place, f"{key}.txt")
  if os.path.isfile(file):
    with open(file, "rb") as opened:
      return opened.read().decode("utf-8")
  for path in sorted(glob.glob(os.path.join(glob.escape(place), "*.py"))):
    found = _constants(path, os.stat(path).st_mtime_ns)
    if key in found:
      return found[key]
  return None


@functools.lru_cache(maxsize=16)
def _constants(path: str, changed: int) -> dict[str, str]:
  """Texts that a Python file gives names to."""
  del changed  # of the file: part of the cache's key
  with open(path, "rb") as file:
    source = file.read()
  try:
    body = ast.parse(source).body
  except (SyntaxError, ValueError) as error:
    raise ValueError(
      f"{path} is no Python file ({error}). Copy the original's again."
    ) from error
  return {
    target.id: node.value.value
    for node in body
    if isinstance(node, ast.Assign)
    for target in node.targets
    if isinstance(target, ast.Name)
    and isinstance(node.value, ast.Constant)
    and isinstance(node.value.value, str)
  }
