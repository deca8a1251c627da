"""What people see: no character ends a command, none commands their terminal.

Names, prompts, answers and errors come from others. A terminal that has no sign
for a character gets its escape (\\u7ea2), and so does everyone for characters
that move cursors, colour, ring, or turn the direction of writing. Square
brackets and colons are no markup: rich reads some of its own in plain strings.
"""

from collections.abc import Iterator
import contextlib
import re
import sys
from typing import Any, TextIO

import rich.console
import rich.text

# Control characters but tab and newline, line and paragraph separators, what
# turns the direction of writing, and halves of characters.
_UNSAFE = re.compile(
  "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
  "\ud800-\udfff]"
)


def plain(text: str) -> str:
  """The text with escapes for what a terminal would obey.

  >>> print(plain("a\\x1b[31mred\\rb\\u202e"))
  a\\x1b[31mred\\x0db\\u202e
  """
  return _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
  code = ord(found[0])
  return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def text(value: Any, style: str = "") -> rich.text.Text:
  """What is not ours, for rich: as it is, with neither markup nor emoji."""
  return rich.text.Text(plain(str(value)), style)


class Console(rich.console.Console):
  """rich's, for which strings are plain; styles of ours come as Text."""

  def render_str(self, text: str, **options: Any) -> rich.text.Text:
    """A string as it is, with escapes for what a terminal would obey."""
    return super().render_str(plain(text), **options)


def console(stderr: bool = False, width: int | None = None) -> Console:
  """The one way in which consoles are made; on stdout, or on stderr."""
  stream = sys.stderr if stderr else sys.stdout
  return Console(
    file=getattr(stream, "unguarded", stream),
    width=width,
    markup=False,
    emoji=False,
    highlight=False,
  )


class Guarded:
  """A stream that neither fails on a character nor passes on commands.

  unguarded: the stream itself, for a console that colours.
  """

  def __init__(self, stream: TextIO):
    self.unguarded = stream
    forgive(stream)

  def write(self, text: str) -> int:
    """Writes the text; a carriage return alone begins a line again."""
    safe = text if text == "\r" else plain(text)
    try:
      self.unguarded.write(safe)
    except UnicodeEncodeError:  # a stream that would not be told otherwise
      encoding = getattr(self.unguarded, "encoding", None) or "ascii"
      data = safe.encode(encoding, "backslashreplace")
      self.unguarded.write(data.decode(encoding))
    return len(text)

  def writelines(self, lines: Any) -> None:
    """Writes each."""
    for line in lines:
      self.write(line)

  def __getattr__(self, name: str) -> Any:
    return getattr(self.unguarded, name)


def forgive(stream: Any) -> None:
  """Lets a stream write escapes of what its encoding lacks."""
  with contextlib.suppress(AttributeError, ValueError, OSError):
    stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
  """stdout and stderr are `Guarded`, for the time of a command."""
  before = sys.stdout, sys.stderr
  if not isinstance(sys.stdout, Guarded):
    sys.stdout = Guarded(sys.stdout)
  if not isinstance(sys.stderr, Guarded):
    sys.stderr = Guarded(sys.stderr)
  try:
    yield
  finally:
    sys.stdout, sys.stderr = before
