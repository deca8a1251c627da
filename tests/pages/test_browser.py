"""Pages in a real browser: axe finds nothing, and nothing leaves the screen.

Needs chromium, node, and EMMA_AXE: a folder in which `npm install axe-core
puppeteer-core` was run.
"""

import json
import os
import pathlib
import shutil
import subprocess

import markupsafe
import pytest

from emma_jax.pages import render

from . import test_render

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FOLDER = os.environ.get("EMMA_AXE", "")


def test_pages_are_accessible_at_any_width(tmp_path):
  if not (FOLDER and CHROMIUM and shutil.which("node")):
    pytest.skip("needs chromium, node and EMMA_AXE")
  paths = []
  for name, values in test_render.VALUES.items():
    paths.append(tmp_path / name.removesuffix(".j2"))
    # Words as people write them: where they wrap is looked at.
    page = render.render(name, **values)
    evil = str(markupsafe.escape(test_render.EVIL))
    paths[-1].write_text(page.replace(evil, "a few words"))
  script = pathlib.Path(__file__).with_name("accessible.mjs")
  done = subprocess.run(
    ["node", script, os.path.abspath(FOLDER), *paths],
    env=os.environ | {"CHROMIUM": CHROMIUM},
    stdout=subprocess.PIPE,
    check=True,
  )
  found = json.loads(done.stdout)
  assert len(found) == 4 * len(paths)
  for look in found:
    assert look["violations"] == [], look
    assert not look["wide"], look
    assert look["asked"] == 1, look  # the page itself
