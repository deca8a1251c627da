"""Programs that run in a process of their own, as on several devices."""

import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

REPO = Path(__file__).resolve().parent.parent
EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def printed(script: str, *arguments: str, **environment: str) -> Any:
  """What a Python program's last line says in JSON; it has to end well."""
  done = subprocess.run(
      [sys.executable, "-c", script, *arguments], cwd=REPO,
      capture_output=True, text=True, check=False,
      env=os.environ | {"PYTHONPATH": str(REPO)} | environment)
  assert not done.returncode, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])
