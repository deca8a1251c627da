"""What may be skipped where every extra is installed; a pytest plugin.

`launch/test.sh --all` sets EMMA_TESTS=all: a skip that is not listed here then
fails the run.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import os
import re

import pytest

EVERYTHING = "EMMA_TESTS"


@dataclasses.dataclass(frozen=True)
class Allowed:
  """Tests whose id and whose reason for the skip match both expressions."""

  test: str
  reason: str
  because: str


# Each skip depends on the machine, so a run without it is no surprise.
ALLOWED: tuple[Allowed, ...] = (
  Allowed(
    r".*",
    r"needs a GPU",
    "the tests' machines have none; launch/bench_gpu.sh runs there",
  ),
  Allowed(
    r".*",
    r"shared.* is not there",
    "example pictures that lie beside some checkouts, not in them",
  ),
  Allowed(
    r"pages/test_browser\.py",
    r"needs chromium, node and EMMA_AXE",
    "a browser and packages of npm's, which pip cannot bring",
  ),
  Allowed(
    r"(test_text_pictures|test_construction)\.py",
    r"no fonts",
    "fonts are packages of the system, which pip cannot bring",
  ),
  Allowed(
    r"scorers/test_centernet\.py",
    r"centernet\.bin is not there",
    "the detector's files are in a package of npm's, which pip cannot bring",
  ),
  Allowed(
    r"scorers/test_packages\.py",
    r"object_names\.txt is not there",
    "a benchmark's file that lies beside some checkouts, not in them",
  ),
  Allowed(
    r"toolkits/",
    r"needs (lmms-eval|VLMEvalKit), in an environment of its own",
    "of some gigabytes each, which hold packages of ours back",
  ),
  Allowed(
    r"toolkits/test_prediction_files\.py",
    r"needs (openpyxl|pandas)",
    "VLMEvalKit's, where its files are read; ours are written without pandas",
  ),
)


def unlisted(
  skips: Iterable[tuple[str, str]], allowed: Sequence[Allowed] = ALLOWED
) -> list[tuple[str, str]]:
  """(test id, reason) of the skips that no line allows."""
  return [
    (test, reason)
    for test, reason in skips
    if not any(
      re.search(line.test, test) and re.search(line.reason, reason)
      for line in allowed
    )
  ]


def _skipped(reporter) -> list[tuple[str, str]]:
  """(test id, reason) of every skip of the run, xfail left out."""
  found = []
  for report in reporter.stats.get("skipped", []):
    text = report.longrepr
    reason = text[2] if isinstance(text, tuple) else str(text)
    found.append((report.nodeid, reason.removeprefix("Skipped: ")))
  return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
  config = session.config
  reporter = config.pluginmanager.get_plugin("terminalreporter")
  if (
    os.environ.get(EVERYTHING) != "all"
    or reporter is None
    or hasattr(config, "workerinput")
  ):
    return
  left = unlisted(_skipped(reporter))
  if left:
    config.stash[_LEFT] = left
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


_LEFT: pytest.StashKey[list[tuple[str, str]]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
  for test, reason in config.stash.get(_LEFT, []):
    terminalreporter.write_line(
      f"skipped, but not on the list in tests/skips.py: {test} ({reason})",
      red=True,
    )
