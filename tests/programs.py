"""Programs that run in a process of their own, as on several devices."""

import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

REPO = Path(__file__).resolve().parent.parent

_DEVICES = "import chex; chex.set_n_cpu_devices({})\n"


def run(
  script: str, *arguments: str, devices: int = 1, **environment: str
) -> str:
  """What a Python program prints; it has to end well.

  devices: how many the program finds, all of them this CPU.
  """
  done = subprocess.run(
    [sys.executable, "-c", _DEVICES.format(devices) + script, *arguments],
    cwd=REPO,
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"PYTHONPATH": str(REPO)} | environment,
  )
  assert not done.returncode, done.stderr[-3000:]
  return done.stdout


def printed(script: str, *arguments: str, **options: Any) -> Any:
  """What a Python program's last line says in JSON; `options` are `run`'s."""
  return json.loads(run(script, *arguments, **options).splitlines()[-1])


def loaded(program: str, *arguments: str) -> set[str]:
  """Packages that a Python program has imported when it ends."""
  end = (
    "\nimport sys; print(); print(*{m.partition('.')[0] for m in sys.modules})"
  )
  done = subprocess.run(
    [sys.executable, "-c", program + end, *arguments],
    cwd=REPO,
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr[-3000:]
  return set(done.stdout.splitlines()[-1].split())
