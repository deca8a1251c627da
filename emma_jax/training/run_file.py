"""WORKDIR/run.json: what a run is doing, for whoever looks from outside.

Written by the first process at every log and at the run's end; no jax here.
"""

from collections.abc import Mapping, Sequence
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import time
from typing import Any

from emma_jax import files, leases, provenance

NAME = "run.json"
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped", "failed"


class RunFile:
  """The file of a run that this process is at work in."""

  def __init__(
    self,
    workdir: str | os.PathLike,
    active: bool = True,
    about: Mapping[str, Any] | None = None,
  ):
    """Nothing is written yet.

    Args:
      workdir: of the run.
      active: False on all processes but the first, which do nothing.
      about: what this process is, see `provenance`; kept once it begins.
    """
    self.path = pathlib.Path(workdir) / NAME
    self._active, self._about = active, about
    self._content: dict[str, Any] = {}

  def begin(
    self,
    name: str,
    stages: Sequence[tuple[str, int, int]],
    done: int,
    log_every: int,
  ):
    """The run begins, or goes on.

    Args:
      name: of the run.
      stages: (name, steps, tokens of a step) of each.
      done: steps of the run that are done already.
      log_every: steps between two calls of `progress`.
    """
    before = read(self.path.parent) or {}
    known = {stage for stage, _, _ in stages}
    self._content = {
      "name": name,
      "state": RUNNING,
      "pid": os.getpid(),
      "process_started": leases.start_of(os.getpid()) or None,
      "host": socket.gethostname(),
      "started": time.time(),
      "stages": [
        {"name": stage, "steps": steps, "tokens": tokens}
        for stage, steps, tokens in stages
      ],
      "log_every": log_every,
      "doing": "starting",
      "step": done,
      "step_seconds": {
        stage: seconds
        for stage, seconds in before.get("step_seconds", {}).items()
        if stage in known
      },
    }
    self._write()
    if self._about is not None and self._active:
      provenance.append(self.path.parent, {**self._about, "step": done})
      self._about = None  # a run that goes back is no other process

  def progress(
    self,
    step: int,
    stage: str,
    stage_step: int,
    timing: Mapping[str, Any],
    samples: tuple[int, int],
  ):
    """The run has logged `step`, the stage's `stage_step`; `samples` of the
    stage so far: (drawn, of them left out)."""
    if not self._content:
      return
    seconds = timing["step_seconds"]
    self._content["step_seconds"][stage] = seconds
    self._content |= {
      "doing": "training",
      "samples": list(samples),
      "step": step,
      "stage": stage,
      "stage_step": stage_step,
      "tokens_per_second": timing["tokens_per_second"],
    }
    self._try_write()

  def doing(self, what: str):
    """What the run does now, which may take long without a log."""
    if not self._content:
      return
    self._content["doing"] = what
    self._try_write()

  def end(self, state: str, code: int, error: str = "", **more: Any):
    """The process ends with this exit code; does nothing before `begin`.

    Raises:
      OSError: all is done, but cannot be written down.
    """
    if not self._content:
      return
    self._content |= {"state": state, "exit": int(code), "error": error, **more}
    if state == DONE:
      self._write()
    else:
      self._try_write()

  @property
  def begun(self) -> bool:
    """Whether `begin` was called."""
    return bool(self._content)

  def _try_write(self) -> None:
    """A look at a run is worth no run: on a full disk the next one is written.

    What does not fit the log says so.
    """
    with contextlib.suppress(OSError):
      self._write()

  def _write(self) -> None:
    if not self._active:
      return
    self._content["updated"] = time.time()
    text = json.dumps(self._content, indent=1, allow_nan=False)
    files.write_text(self.path, text + "\n")


def read(workdir: str | os.PathLike) -> dict[str, Any] | None:
  """The content of a folder's file; None without one that can be read."""
  try:
    text = (pathlib.Path(workdir) / NAME).read_text(encoding="utf-8")
    content = json.loads(text)
  except (OSError, ValueError):
    return None
  return content if isinstance(content, dict) else None


def newest_step(workdir: str | os.PathLike) -> int | None:
  """The newest checkpoint's step of the run; None without any."""
  folder = pathlib.Path(workdir) / "checkpoints"
  try:
    steps = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()]
  except OSError:
    return None
  return max(steps, default=None)


# ------------------------------------------------------------------- finished


def digest(config: Mapping[str, Any]) -> str:
  """Of a config as the command was given it; JSON, nested dicts."""
  text = json.dumps(config, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()


def results(workdir: str | os.PathLike) -> list[str]:
  """Names of what a finished run leaves beside its checkpoints."""
  folder, out = pathlib.Path(workdir), []
  for name in ("metrics.jsonl", "report.html", "scores.json"):
    try:
      if (folder / name).stat().st_size:
        out.append(name)
    except OSError:
      continue
  return out


def finished(workdir: str | os.PathLike, config: str) -> dict[str, Any] | None:
  """The file of a run that the config of this digest has nothing left to do in,
  whose last checkpoint and results are all there; else None."""
  content = read(workdir)
  if not content or content.get("state") != DONE:
    return None
  if content.get("config") != config:
    return None
  if newest_step(workdir) != content.get("step"):
    return None
  there = set(results(workdir))
  return content if there.issuperset(content["results"]) else None
