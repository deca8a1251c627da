"""What a result was made by: command, commit, versions, hosts.

FOLDER/starts.jsonl has a line of it for every process that began or went on
with the work: a run that was continued by another commit, on other machines,
shows all of them.
"""

from collections.abc import Mapping, Sequence
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import socket
import subprocess
import sys
import time
from typing import Any

from emma_jax import __version__, files

NAME = "starts.jsonl"
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")


def about(
  config: Mapping[str, Any],
  *,
  step: int,
  devices: str,
  hosts: Sequence[str] = (),
) -> dict[str, Any]:
  """A line of the file, as JSON.

  Args:
    config: the whole one, nested dicts.
    step: of the run where this process began.
    devices: in words, such as "4 x TPU v5e".
    hosts: names of all machines; (): this one.
  """
  return {
    "time": time.time(),
    "step": step,
    "command": command(),
    "commit": commit(),
    "versions": versions(),
    "hosts": list(hosts) or [socket.gethostname()],
    "devices": devices,
    "config": config,
  }


def append(folder: str | os.PathLike, start: Mapping[str, Any]) -> None:
  """Adds a line; raises OSError."""
  path = pathlib.Path(folder) / NAME
  lines = [
    json.dumps(one, default=str) + "\n" for one in (*read(folder), start)
  ]
  files.write_text(path, "".join(lines))


def read(folder: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of a folder's file, oldest first; [] without one."""
  try:
    found = files.lines(pathlib.Path(folder) / NAME)
  except OSError:
    return []
  starts = []
  for line in found:
    try:
      starts.append(json.loads(line))
    except ValueError:
      continue  # not a line of ours
  return [one for one in starts if isinstance(one, dict) and "command" in one]


def command() -> str:
  """This process's command line, as it can be pasted."""
  interpreter, *words = sys.orig_argv or ["python"]
  name = pathlib.Path(interpreter).name
  if words and words[0] == sys.argv[0] and not words[0].endswith(".py"):
    name, words = pathlib.Path(words[0]).name, words[1:]  # a console script
  return shlex.join([name, *words])


def versions() -> dict[str, str]:
  """Name -> version, of this package first."""
  return {
    "emma_jax": __version__,
    "python": platform.python_version(),
    **{name: importlib.metadata.version(name) for name in _PACKAGES},
  }


@functools.cache
def commit() -> str:
  """Of the checkout this runs from, "+" where it was changed; "" without."""
  root = pathlib.Path(__file__).resolve().parent.parent

  def git(*words: str) -> str:
    return subprocess.run(
      ["git", "-C", str(root), *words],
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  try:
    if pathlib.Path(git("rev-parse", "--show-toplevel")) != root:
      return ""  # installed within another repository
    return git("rev-parse", "HEAD") + (
      "+" if git("status", "-s", "-uno") else ""
    )
  except (OSError, subprocess.CalledProcessError):
    return ""
