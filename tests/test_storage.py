"""What disks refuse, in words: errors of the system and of TensorStore."""

import doctest
import errno
import logging
import os
import pathlib
import sys
import types

import pytest

from emma_jax import files, storage
from emma_jax.cli import common
from emma_jax.exits import Exit

# As TensorStore 0.1.86 said it, on a full disk.
FULL = (
  'RESOURCE_EXHAUSTED: Error writing "frozen.w/0" in OCDBT database at local '
  'file "/runs/x/6.orbax-checkpoint-tmp/state/ocdbt.process_0/": Failed '
  'writing: "/runs/x/6.orbax-checkpoint-tmp/state/ocdbt.process_0/d/ec": '
  "Failed to write 390973 bytes to file 8: No space left on device "
  "[os_error_code='28'] [source locations='tensorstore/internal/pybind11_"
  "detail_function_record.cc:123']"
)


def test_docstrings():
  assert doctest.testmod(storage).failed == 0


@pytest.mark.smoke
def test_texts_of_tensorstore_become_a_file_and_words():
  found = storage.cause(ValueError(FULL))
  assert found.words == "no space is left on the disk" and not found.passing
  assert found.path.endswith("ocdbt.process_0/d/ec")
  assert "pybind11" not in storage.in_words(ValueError(FULL))


@pytest.mark.parametrize(
  "text, words, passing",
  [
    ("UNAVAILABLE: HTTP response code: 503", "not available (HTTP 503)", True),
    ("PERMISSION_DENIED: HTTP response code: 403", "denied) (HTTP 403)", False),
    ("INTERNAL: x [os_error_code='5']", "input/output error", True),
    ("UNKNOWN: x [OS error 116: ESTALE Stale file handle]", "stale", True),
    ("DEADLINE_EXCEEDED: barrier", "in time", True),
    ("RESOURCE_EXHAUSTED: HTTP response code: 429", "(HTTP 429)", True),
  ],
)
def test_what_may_pass_is_told_from_what_stays(text, words, passing):
  found = storage.cause(ValueError(text))
  assert words in found.words and found.passing is passing


def test_the_cause_is_found_behind_other_errors():
  inner = OSError(errno.EIO, "Input/output error", "/a")
  group = ExceptionGroup("two failed", [ValueError("x"), inner])
  try:
    raise RuntimeError("no words") from group
  except RuntimeError as error:
    found = storage.cause(error)
  assert found.path == "/a" and found.passing


def test_a_bug_has_no_cause():
  assert storage.cause(KeyError("params")) is None
  assert storage.cause(OSError("no number")) is None
  memory = "RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes"
  assert storage.cause(RuntimeError(memory)) is None
  assert storage.cause(RuntimeError("INTERNAL: ptxas failed")) is None


def test_free_space_is_of_the_disk_where_a_folder_would_be(tmp_path):
  space = os.statvfs(tmp_path)
  found = storage.free_bytes(tmp_path / "not" / "there")
  assert abs(found - space.f_bavail * space.f_frsize) < 1e9


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_every_command_says_a_failing_disk_in_a_line(tmp_path, capsys, number):
  """Also where only a write failed, which does not know its file."""

  def main(argv):
    with files.atomic_write(tmp_path / "out.json"):
      raise OSError(number, os.strerror(number))

  assert common.run(main, []) == Exit.STORAGE
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and str(tmp_path / "out.json") in said
  assert "Traceback" not in said and list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_no_failing_disk(capsys):
  def main(argv):
    pathlib.Path("/no/such").read_text()

  with pytest.raises(FileNotFoundError):
    common.run(main, [])
  assert common.run(main, [], (FileNotFoundError,)) == Exit.MISTAKE
  assert "/no/such" in capsys.readouterr().err


def test_stacks_of_failing_storage_are_left_out_and_those_of_bugs_are_not(
  monkeypatch, caplog
):
  """A log with an error of storage, and the writes that end after it."""
  shown: list[str] = []
  storage.quiet_logs(False)
  monkeypatch.setattr(
    sys, "unraisablehook", lambda raised: shown.append(str(raised.exc_value))
  )

  def say():
    shown.clear()
    for error in (OSError(28, "full"), KeyError("params")):
      logging.getLogger("absl").error("save", exc_info=error)
    for text in ("Event loop is closed", "a bug"):
      error = RuntimeError(text)
      raised = types.SimpleNamespace(exc_value=error)
      sys.unraisablehook(raised)
    logged = [str(r.exc_info[1]) for r in caplog.records]
    caplog.clear()
    return logged, list(shown)

  storage.quiet_logs()
  logged, printed = say()
  assert logged == ["'params'"]
  assert printed == ["a bug"]
  storage.quiet_logs(False)  # --debug
  logged, printed = say()
  assert len(logged) == 2 and len(printed) == 2
