"""Killed anywhere: at events of files, at any time, after SIGTERM.

In particular while old checkpoints are pruned and between stages."""

from collections.abc import Iterator
import os
import pathlib
import random
import re
import signal
import time

from tests.faults import runs

NAME = "kills"
ALL, SHORT = 50, 3


def cases(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, short: bool
) -> Iterator[runs.Row]:
  """Most kills are at events of a calm run's files, a fifth at any time."""
  events = recorded(root)
  number = SHORT if short else ALL
  timed = max(1, number // 10)
  chosen = points(events, number - 2 * timed, chance)
  for i, (at, kind) in enumerate(chosen):
    run = runs.Run(root / f"kill_{i}")
    code = run.finish(before=runs.kill_at(at))
    what = f"{kind}: before {events[at - 1].name} {events[at - 1].path}"
    first = "killed" if code == -signal.SIGKILL else f"exit {code} before it"
    yield runs.resumed(run, calm, what, first)
  for i in range(timed):
    yield at_any_time(root, calm, chance, i, polite=False)
    yield at_any_time(root, calm, chance, i, polite=True)


def recorded(root: pathlib.Path) -> list[runs.Event]:
  """What a run does to its files, in order."""
  found = root / "events.txt"

  def act(count: int, event: runs.Event) -> None:
    del count
    os.write(out, f"{event.name} {event.path}\n".encode())

  out = os.open(found, os.O_CREAT | os.O_WRONLY)
  run = runs.Run(root / "recorded")
  assert run.finish(before=runs.on_events(act)) == 0, run.said()
  os.close(out)
  lines = found.read_text().splitlines()
  return [runs.Event(*line.split(" ", 1)) for line in lines]


def points(
  events: list[runs.Event], number: int, chance: random.Random
) -> list[tuple[int, str]]:
  """Numbers of events to be killed before, a quarter each while pruning and
  between the stages, the others anywhere."""
  pruning = [
    i
    for i, e in enumerate(events, 1)
    if re.match(r"checkpoints/\d+(/|$)", e.path)
    and e.name in ("os.remove", "os.rmdir", "shutil.rmtree")
  ]
  # The first stage's last save is waited for; what follows is the second's.
  last = [i for i, e in enumerate(events, 1) if "checkpoints/5" in e.path]
  between = list(range(max(last) - 4, min(max(last) + 8, len(events))))
  anywhere = list(range(1, len(events) + 1))
  out = []
  for pool, kind in ((pruning, "pruning"), (between, "between stages")):
    take = min(len(pool), max(1, number // 4)) if number > 2 else 0
    out += [(i, kind) for i in chance.sample(pool, take)]
  rest = number - len(out)
  return out + [(i, "anywhere") for i in chance.sample(anywhere, rest)]


def at_any_time(
  root: pathlib.Path,
  calm: runs.Run,
  chance: random.Random,
  i: int,
  polite: bool,
) -> runs.Row:
  """SIGKILL, if `polite` a moment after SIGTERM, once a save has begun."""
  run = runs.Run(root / f"{'term' if polite else 'time'}_{i}")
  pid = run.start(pause=0.05)
  end = time.monotonic() + runs.PATIENCE
  while not run.steps() and time.monotonic() < end:
    time.sleep(0.01)
  time.sleep(chance.uniform(0, 0.5))
  if polite:
    os.kill(pid, signal.SIGTERM)
    time.sleep(chance.uniform(0, 0.2))
  os.kill(pid, signal.SIGKILL)
  code = runs.wait(pid)
  case = "between SIGTERM and SIGKILL" if polite else "SIGKILL at any time"
  return runs.resumed(run, calm, case, f"ended with {code}")
