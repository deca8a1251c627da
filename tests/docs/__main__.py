"""Runs the commands that pages mark; see the package."""

import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from tests.docs import pages

LIMIT = 1200  # seconds for one block


def main(names: list[str]) -> int:
  """The number of pages of which a block failed, at most 1 as exit code."""
  failed = 0
  for page in pages.pages():
    blocks = pages.marked(page.read_text("utf-8"))
    if blocks and (not names or page.stem in names):
      failed += not run(page, blocks)
  print(f"{failed} pages failed" if failed else "all marked commands end well")
  return 1 if failed else 0


def run(page: Path, blocks: list[str]) -> bool:
  """Whether all blocks of a page end with 0; says each, and what failed."""
  environment = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
  }
  with tempfile.TemporaryDirectory() as folder:
    for name in ("configs", "launch", "tests"):
      (Path(folder) / name).symlink_to(pages.REPO / name)
    for block in blocks:
      start = time.monotonic()
      done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
      )
      first = block.strip().splitlines()[0][:90]
      took = time.monotonic() - start
      print(f"{page.stem}: {first} ... {done.returncode}, {took:.0f} s")
      if done.returncode:
        print(block, done.stdout[-3000:], done.stderr[-3000:], sep="\n")
        return False
  return True


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
