"""How a run is doing, from the files in its folder alone: no jax here.

What a run writes of itself (`run_file`), the end of its log, its checkpoints
and the disk below it.
"""

from collections.abc import Mapping
import dataclasses
import json
import math
import os
import pathlib
import shutil
import socket
import time
from typing import Any

from emma_jax import leases, locks
from emma_jax.exits import Exit
from emma_jax.training import run_file

# A run that logs so many times more seldom than it did counts as stuck, but
# never before so many seconds; the second is for evaluations.
_LATE, _PATIENCE = 20, 1800.0
_EVALUATION = 6 * 3600.0
# Read from the end of the log, bytes.
_TAIL = 2**18
# Keys of the log that count what went wrong, and what they are called here.
_COUNTS = {"loss_spikes": "spikes", "skipped_steps": "skipped_steps"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageStatus:
  """A stage: steps, those done, and seconds left; None: nothing tells."""

  name: str
  steps: int
  done: int
  seconds_left: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
  """All that is shown, as JSON by `dataclasses.asdict`.

  state: running, done, stopped, failed; "stuck" where a living process has not
    logged for long, "dead" where a run that has not ended has no process.
  doing: starting, training, or what else.
  seconds_since: since the process last wrote of itself.
  losses, validation, counts: of the last lines of the log that have them.
  samples, skipped_samples: drawn in the stage so far, and of them left out.
  """

  folder: str
  name: str
  state: str
  doing: str
  code: int
  reason: str
  host: str
  pid: int
  stage: str
  stage_step: int
  step: int
  total: int
  step_seconds: float | None
  tokens_per_second: float | None
  seconds_since: float
  seconds_left: float | None
  stages: tuple[StageStatus, ...]
  losses: Mapping[str, float | str]
  validation: Mapping[str, float | str]
  counts: Mapping[str, float | str]
  samples: int
  skipped_samples: int
  checkpoint: int | None
  checkpoint_seconds: float | None
  disk_free: int
  report: str


class NoRun(ValueError):
  """A folder that no run has told anything of itself in."""


def read(folder: str | os.PathLike, now: float | None = None) -> Status:
  """The status of the run in a folder.

  `now`: the time to compare with; None: the clock's.

  Raises:
    NoRun: there is none, or it was begun by an older version.
  """
  workdir = pathlib.Path(folder)
  now = time.time() if now is None else now
  content = run_file.read(workdir)
  if content is None:
    what = "no such folder" if not workdir.is_dir() else "no run.json"
    raise NoRun(
      f"{folder}: {what}; name the --workdir of a run that has logged."
    )
  try:
    return _of(workdir, content, now)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise NoRun(
      f"{folder}: run.json is not as this version writes it "
      f"({type(error).__name__}: {error}); the run's next start writes it anew."
    ) from error


def _of(workdir: pathlib.Path, content: dict[str, Any], now: float) -> Status:
  lines = _tail(workdir / "metrics.jsonl")
  losses = _last(lines, "loss/")
  since = max(0.0, now - content["updated"])
  state, reason = _state(workdir, content, since)
  code = _code(content, state)
  broken = [name for name, value in losses.items() if not _finite(value)]
  if broken and state not in (run_file.DONE, run_file.FAILED):
    code = Exit.NOT_FINITE
    reason = f"{', '.join(broken)} of the last log is not finite"
  stages = _stages(content)
  left = [s.seconds_left for s in stages]
  samples = content.get("samples", (0, 0))
  newest = run_file.newest_step(workdir)
  of_stage = content.get("step_seconds", {}).get(content.get("stage"))
  return Status(
    folder=str(workdir),
    name=content["name"],
    state=state,
    doing=content["doing"],
    code=int(code),
    reason=reason,
    host=content["host"],
    pid=content["pid"],
    stage=content.get("stage", ""),
    stage_step=content.get("stage_step", 0),
    step=content["step"],
    total=sum(s.steps for s in stages),
    step_seconds=of_stage,
    tokens_per_second=content.get("tokens_per_second"),
    seconds_since=since,
    seconds_left=_total(left),
    stages=stages,
    losses=losses,
    validation=_last(lines, "validation"),
    counts={
      said: value
      for key, said in _COUNTS.items()
      for value in _last(lines, key).values()
    },
    samples=samples[0],
    skipped_samples=samples[1],
    checkpoint=newest,
    checkpoint_seconds=_age(workdir, newest, now),
    disk_free=shutil.disk_usage(workdir).free,
    report=str(workdir / "report.html")
    if (workdir / "report.html").exists()
    else "",
  )


# ---------------------------------------------------------------- who is there


def holder(workdir: pathlib.Path, content: Mapping[str, Any]) -> bool | None:
  """Whether the process that began the run is there; None: nothing tells."""
  found = locks.holder(workdir)
  if found is not None and found.sure:
    return True
  if content["host"] != socket.gethostname():
    return None
  if content.get("process_started") is not None:
    return leases.start_of(content["pid"]) == content["process_started"]
  try:
    os.kill(content["pid"], 0)
  except ProcessLookupError:
    return False
  except OSError:  # it is somebody else's
    return True
  return True


def _state(
  workdir: pathlib.Path, content: Mapping[str, Any], since: float
) -> tuple[str, str]:
  """(state, why it is no good one)."""
  state = content["state"]
  if state != run_file.RUNNING:
    return state, content.get("error", "")
  there = holder(workdir, content)
  if there is False:
    return "dead", "its process ended without a word, as a kill would end it"
  seconds = content.get("step_seconds", {}).get(content.get("stage"), 0.0)
  patience = max(_PATIENCE, _LATE * seconds * content["log_every"])
  if content["doing"] not in ("starting", "training"):
    patience = max(patience, _EVALUATION)
  if since > patience:
    return "stuck", f"nothing logged for {duration(since)}"
  return state, ""


def _code(content: Mapping[str, Any], state: str) -> int:
  """What a script is told: 0 for a run that is done or does well."""
  if state in (run_file.RUNNING, run_file.DONE):
    return Exit.DONE
  if state == run_file.STOPPED:
    return Exit.STOPPED
  if state == run_file.FAILED:
    return content.get("exit") or Exit.FAULT
  return Exit.FAULT


# ------------------------------------------------------------------ time, log


def _stages(content: Mapping[str, Any]) -> tuple[StageStatus, ...]:
  """Time left by the stage's own rate; of those that have none yet, by that of
  a token in the stages that do."""
  seconds = content.get("step_seconds", {})
  tokens = {s["name"]: s["tokens"] for s in content["stages"]}
  rates = [seconds[n] / tokens[n] for n in tokens if n in seconds and tokens[n]]
  rate = sum(rates) / len(rates) if rates else None
  out, done = [], content["step"]
  for stage in content["stages"]:
    name, steps = stage["name"], stage["steps"]
    own = min(done, steps)
    done -= own
    each = seconds.get(name)
    if each is None and rate is not None:
      each = rate * tokens[name]
    left = None if each is None else each * (steps - own)
    if own == steps:
      left = 0.0
    out.append(StageStatus(name=name, steps=steps, done=own, seconds_left=left))
  return tuple(out)


def _total(parts: list[float | None]) -> float | None:
  known = [x for x in parts if x is not None]
  return sum(known) if len(known) == len(parts) else None


def _tail(path: pathlib.Path) -> list[dict[str, Any]]:
  """The last whole lines of the log, newest first."""
  try:
    with open(path, "rb") as file:
      file.seek(0, os.SEEK_END)
      start = max(0, file.tell() - _TAIL)
      file.seek(start)
      lines = file.read().split(b"\n")
  except OSError:
    return []
  out = []
  for line in reversed(lines[1:] if start else lines):
    try:
      entry = json.loads(line)
    except ValueError:
      continue
    if isinstance(entry, dict) and "step" in entry:
      out.append(entry)
  return out


def _last(lines: list[dict[str, Any]], start: str) -> dict[str, Any]:
  """What begins so in the newest line that has any of it."""
  for entry in lines:
    found = {k: v for k, v in entry.items() if k.startswith(start)}
    if found:
      return found
  return {}


def _finite(value: float | str) -> bool:
  return isinstance(value, (int, float)) and math.isfinite(value)


def _age(workdir: pathlib.Path, step: int | None, now: float) -> float | None:
  if step is None:
    return None
  try:
    written = (workdir / "checkpoints" / str(step)).stat().st_mtime
  except OSError:
    return None
  return max(0.0, now - written)


def duration(seconds: float) -> str:
  """For people, two units at most.

  >>> [duration(s) for s in (5, 65, 3700, 200000)]
  ['5 s', '1 min 5 s', '1 h 1 min', '2 d 7 h']
  """
  units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
  parts: list[str] = []
  left = int(seconds)
  for name, size in units:
    count, left = divmod(left, size)
    if count or (name == "s" and not parts):
      parts.append(f"{count} {name}")
  return " ".join(parts[:2])
