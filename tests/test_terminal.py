"""No character ends an output, and none of others' characters commands."""

import argparse
import doctest
import io
import logging
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rich.console
import rich.table

from emma_jax import files, terminal
from emma_jax.cli import common
from emma_jax.cli.sample import pictures

# Markup, emoji, a colour, a title, a bell, half a character, a name that is no
# UTF-8, another direction of writing, a line separator.
NASTY = (
  "a[/b] [red]x :tada: \x1b[31m\x1b]0;t\x07 \ud83d \udcff \u202e \u2028 红é"
)
SEEN = (
  "a[/b] [red]x :tada: \\x1b[31m\\x1b]0;t\\x07 \\ud83d \\udcff \\u202e \\u2028"
)


def _stream(encoding: str) -> io.TextIOWrapper:
  return io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", newline="\n")


def _bytes(stream: io.TextIOWrapper) -> bytes:
  stream.flush()
  return stream.buffer.getvalue()


def test_docstrings():
  assert doctest.testmod(terminal).failed == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_every_character_is_written(encoding: str):
  stream = _stream(encoding)
  guarded = terminal.Guarded(stream)
  print(NASTY, "\tb", file=guarded)
  print("again", end="\r", file=guarded)
  written = _bytes(stream).decode(encoding)
  last = {"utf-8": "红é", "ascii": "\\u7ea2\\xe9"}.get(encoding, "\\u7ea2é")
  assert written == f"{SEEN} {last} \tb\nagain\r"
  assert guarded.encoding == encoding and not guarded.isatty()


def test_a_stream_that_cannot_be_told():
  class Stubborn(io.StringIO):
    encoding = "ascii"

    def write(self, text: str) -> int:
      text.encode("ascii")
      return super().write(text)

  stream = Stubborn()
  print("红", file=terminal.Guarded(stream))
  assert stream.getvalue() == "\\u7ea2\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_consoles_show_what_is_not_ours_as_it_is(encoding, monkeypatch):
  stream = _stream(encoding)
  monkeypatch.setattr(sys, "stdout", stream)
  with terminal.guarded():
    console = terminal.console(width=200)
    table = rich.table.Table(title=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    console.print(table)
    console.print(NASTY)
    print(NASTY)
  written = _bytes(stream).decode(encoding)
  assert written.count(SEEN) == 5 and "\x1b" not in written
  assert sys.stdout is stream


def test_colours_of_ours_stay(monkeypatch):
  stream = _stream("utf-8")
  monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
  monkeypatch.setattr(sys, "stderr", stream)
  monkeypatch.setenv("TERM", "xterm-256color")
  with terminal.guarded():
    terminal.console(stderr=True).print(terminal.text("[b]\x1b", "red"))
  assert _bytes(stream).decode() == "\x1b[31m[b]\\x1b\x1b[0m\n"


def test_texts_of_others_in_a_console_of_anyone():
  out = io.StringIO()
  console = rich.console.Console(file=out, width=200)
  console.print(terminal.text(NASTY))
  assert SEEN in out.getvalue()


@pytest.mark.smoke
def test_commands_are_guarded(monkeypatch):
  stream = _stream("ascii")
  monkeypatch.setattr(sys, "stderr", stream)

  def main(argv):
    raise common.UserError(NASTY)

  assert common.run(main, []) == 2
  assert SEEN in _bytes(stream).decode("ascii")
  assert sys.stderr is stream


def test_all_pictures_are_saved_whatever_the_terminal(tmp_path, monkeypatch):
  stream = _stream("ascii")
  monkeypatch.setattr(sys, "stdout", stream)
  made = [np.zeros((4, 4, 3), np.uint8)] * 3
  args = argparse.Namespace(
    out=tmp_path / "[b]红", scale=1, grid=False, no_metadata=False
  )
  paths, texts = pictures.files(args, 3), [NASTY, "红", "a"]
  about = [{"prompt": text} for text in texts]
  main = lambda argv: pictures.save(args, paths, made, texts, about)
  assert common.run(main, []) == 0
  assert all(path.is_file() for path in paths)
  assert len(_bytes(stream).splitlines()) == 3


def test_a_command_on_a_terminal_that_is_not_utf_8(tmp_path):
  """Names that are no UTF-8 in errors of a whole command."""
  name = os.fsdecode(
    str(tmp_path).encode() + "/红\x1b".encode() + b"\xff.jsonl"
  )
  environ = os.environ | {"PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-m", "emma_jax.cli.data", "validate", name],
    env=environ,
    capture_output=True,
  )
  out = (done.stdout + done.stderr).decode("ascii")
  assert "\\u7ea2\\x1b\\udcff" in out and "Traceback" not in out


def test_no_console_is_made_elsewhere():
  """Each has to be one of ours, or markup is read in what is not ours."""
  root = os.path.dirname(terminal.__file__)
  for folder, _, names in os.walk(root):
    for name in names:
      path = os.path.join(folder, name)
      if name.endswith(".py") and path != terminal.__file__:
        with open(path, encoding="utf-8") as file:
          text = file.read()
        assert "Console(" not in text, path
        assert "from_markup" not in text, path


def test_files_hold_halves_of_characters(tmp_path):
  files.write_text(tmp_path / "a", "\udcff 红")
  assert (tmp_path / "a").read_bytes() == "\\udcff 红".encode()


def test_only_a_newline_ends_a_line(tmp_path):
  (tmp_path / "a").write_bytes("a\u2028b\x85c\r\x0b\nd".encode())
  assert files.lines(tmp_path / "a") == ["a\u2028b\x85c\r\x0b\n".encode(), b"d"]


# ------------------------------------------------------------- the last line


def _screen(written: str) -> list[str]:
  """What a terminal shows of it: lines, each as it was last drawn."""
  lines = [""]
  for part in re.split("(\r\x1b\\[2K|\n)", written):
    if part == "\n":
      lines.append("")
    elif part.startswith("\r"):
      lines[-1] = ""
    else:
      lines[-1] += part
  return lines


@pytest.fixture
def terminal_40(monkeypatch):
  """Makes stdout and stderr a terminal of 40 columns; gives its lines."""
  stream = io.StringIO()
  monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "40")
  for name in ("CI", "NO_COLOR", "TTY_COMPATIBLE"):
    monkeypatch.delenv(name, raising=False)

  def make():
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    return lambda: _screen(stream.getvalue())

  return make


def test_lines_stand_above_the_live_one_and_nothing_is_left_of_it(terminal_40):
  screen = terminal_40()
  with terminal.guarded(), terminal.live():
    terminal.show(lambda columns: "#" * (columns + 9))
    assert screen() == ["#" * 39]
    print("to", "stdout")
    print("half", end="", file=sys.stderr)
    assert screen() == ["to stdout", "half"]  # it waits for the line's end
    print(" a line", file=sys.stderr)
    terminal.console().print("a table")
    with terminal.live():  # inside another: the same one
      terminal.doing("compiling\x1b")
    assert screen()[:3] == ["to stdout", "half a line", "a table"]
    assert screen()[3] == "compiling\\x1b ... 0 s"
  assert screen() == ["to stdout", "half a line", "a table", ""]
  assert not terminal.is_live()


def test_in_a_log_what_is_done_is_a_line_said_once(capsys):
  terminal._TOLD.clear()
  with terminal.live():
    for what in ("loading", "loading", "compiling"):
      terminal.doing(what)
  assert capsys.readouterr().err == "Loading ...\nCompiling ...\n"


def test_warnings_of_libraries_are_folded(capsys):
  """And in no other form: an import may have called basicConfig."""
  basic, root = logging.StreamHandler(sys.stderr), logging.getLogger()
  root.addHandler(basic)
  with terminal.guarded(), terminal.folded_logs(), warnings.catch_warnings():
    warnings.simplefilter("always")
    for _ in range(2):
      logging.getLogger("absl").warning("odd %s\nand more", "thing")
    logging.getLogger("orbax.checkpoint").error("gone")
    logging.getLogger("jax._src").info("hello")
    warnings.warn("slow", UserWarning, stacklevel=1)
  assert basic in root.handlers  # as it was
  root.removeHandler(basic)
  assert capsys.readouterr().err.splitlines() == [
    "WARNING: absl: odd thing",
    "WARNING: orbax: gone",
    "WARNING: UserWarning: slow",
  ]
