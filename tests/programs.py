"""Programs that run in a process of their own, as on several devices."""

import json
import os
from pathlib import Path
import socket
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


def together(
  module: str, *arguments: str, count: int, **environment: str
) -> list[tuple[str, str]]:
  """(stdout, stderr) of the processes of one command; they have to end well.

  Gloo connects them where there are several.

  module: what `python -m` runs; in an argument "{i}" is the process's number.
  """
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"
  processes = []
  for i in range(count):
    env = os.environ | environment
    if count > 1:
      env |= {
        "EMMA_COORDINATOR": address,
        "EMMA_NUM_PROCESSES": str(count),
        "EMMA_PROCESS_ID": str(i),
      }
    processes.append(
      subprocess.Popen(
        [sys.executable, "-m", module]
        + [x.replace("{i}", str(i)) for x in arguments],
        cwd=REPO,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  outs = [p.communicate(timeout=600) for p in processes]
  assert [p.returncode for p in processes] == [0] * count, outs
  return [(_without_gloo(out), err) for out, err in outs]


def _without_gloo(out: str) -> str:
  """What a process printed; the CPU's collectives say that they connect."""
  lines = out.splitlines(keepends=True)
  return "".join(x for x in lines if not x.startswith("[Gloo]"))


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
