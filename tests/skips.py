"""What may be skipped where every extra is installed; a pytest plugin.

`launch/test.sh --all` sets EMMA_TESTS=all: a skip that is not listed here then
fails the run, and so does a line that no skip needed in a run of all tests.
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


ALLOWED: tuple[Allowed, ...] = (
    Allowed(r".*", r"needs a GPU",
            "no machine of the tests has one; launch/bench_gpu.sh runs there"),
)
# Needed on some machines only, so not missed on others.
OPTIONAL = (ALLOWED[0],)


def unlisted(
    skips: Iterable[tuple[str, str]], allowed: Sequence[Allowed] = ALLOWED
) -> tuple[list[tuple[str, str]], list[Allowed]]:
  """(test id, reason) of skips that no line allows; lines that none needed."""
  left, unused = [], set(range(len(allowed)))
  for test, reason in skips:
    found = [i for i, line in enumerate(allowed)
             if re.search(line.test, test) and re.search(line.reason, reason)]
    unused -= set(found)
    if not found:
      left.append((test, reason))
  return left, [allowed[i] for i in sorted(unused)]


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
  if (os.environ.get(EVERYTHING) != "all" or reporter is None
      or hasattr(config, "workerinput")):
    return
  left, unused = unlisted(_skipped(reporter))
  # Of a part of the tests nobody knows what the others would have skipped.
  part = config.args != config.getini("testpaths") or config.option.markexpr
  unused = [] if part else [x for x in unused if x not in OPTIONAL]
  if left or unused:
    config.stash[_LINES] = [
        *(f"skipped, but not on the list in tests/skips.py: {test} ({reason})"
          for test, reason in left),
        *(f"on the list in tests/skips.py, but never skipped: {x}"
          for x in unused)]
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


_LINES: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
  for line in config.stash.get(_LINES, []):
    terminalreporter.write_line(line, red=True)
