"""What people see: no character ends a command, none commands their terminal.

Names, prompts, answers and errors come from others. A terminal that has no sign
for a character gets its escape (\\u7ea2), and so does everyone for characters
that move cursors, colour, ring, or turn the direction of writing. Square
brackets and colons are no markup: rich reads some of its own in plain strings.

What is under way stands on the last line of a terminal: `live`, `doing`. With
`json_lines` every line of stdout and stderr is an object, for programs.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import datetime
import json
import logging
import os
import re
import shutil
import sys
import threading
import time
from typing import Any, TextIO

import rich.cells
import rich.console
import rich.text

from emma_jax import streams

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
  above: Any = _Above(getattr(stream, "unguarded", stream))
  return Console(
    file=stream if _JSON else above,
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
    self._begun = ""  # of a line that is to be an object
    forgive(stream)

  def write(self, text: str) -> int:
    """Writes the text; a carriage return alone begins a line again."""
    if _JSON:
      *lines, self._begun = (self._begun + text).split("\n")
      for line in filter(str.strip, lines):
        self._write(_object({"level": _level(line), "text": line}))
    else:
      with _above(self.unguarded, text):
        self._write(text if text == "\r" else plain(text))
    return len(text)

  def flush(self) -> None:
    """What it still holds is written."""
    with streams.writing(self.unguarded):
      self.unguarded.flush()

  def _write(self, safe: str) -> None:
    with streams.writing(self.unguarded):
      try:
        self.unguarded.write(safe)
      except UnicodeEncodeError:  # a stream that would not be told otherwise
        encoding = getattr(self.unguarded, "encoding", None) or "ascii"
        data = safe.encode(encoding, "backslashreplace")
        self.unguarded.write(data.decode(encoding))

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
  streams.open_closed()
  before = sys.stdout, sys.stderr
  if not isinstance(sys.stdout, Guarded):
    sys.stdout = Guarded(sys.stdout)
  if not isinstance(sys.stderr, Guarded):
    sys.stderr = Guarded(sys.stderr)
  try:
    yield
  finally:
    for stream in (sys.stdout, sys.stderr):
      streams.flush(stream)
    sys.stdout, sys.stderr = before


# --------------------------------------------------------------- the last line


class LiveLine:
  """The last line of a terminal: what is under way, drawn again and again.

  There is one of a process (see `live`), so that no bar stands in another.
  What is printed meanwhile, by `Guarded` streams and consoles, stands above.
  A thread draws it, so that it tells time while a compiler is at work.
  """

  def __init__(self, stream: TextIO, every: float = 0.5):
    """`every`: seconds between two drawings."""
    self._stream, self._every = stream, every
    self._lock = threading.RLock()
    self._render: Callable[[int], str] | None = None
    self._drawn, self._whole = False, True
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def show(self, render: Callable[[int], str] | None) -> None:
    """From now on what this returns for a number of columns; None: nothing."""
    with self._lock:
      self._render = render
      self._draw()

  @contextlib.contextmanager
  def above(self, whole: bool) -> Iterator[None]:
    """Around writing to the terminal; `whole`: it ends a line."""
    with self._lock:
      self._erase()
      self._whole = whole
      yield
      self._draw()

  def close(self) -> None:
    """Leaves an empty line; does nothing the second time."""
    self._ended.set()
    with self._lock:
      self._erase()
      self._render = None
    if threading.current_thread() is not self._thread:
      self._thread.join()

  def _run(self) -> None:
    while not self._ended.wait(self._every):
      with self._lock:
        self._draw()

  def _draw(self) -> None:
    if self._render is None or not self._whole or self._ended.is_set():
      return
    # A full line would wrap, and then be erased in part only.
    columns = max(shutil.get_terminal_size().columns - 1, 1)
    text = plain(self._render(columns)).replace("\n", " ").replace("\t", " ")
    if rich.cells.cell_len(text) > columns:
      text = rich.cells.set_cell_size(text, columns)
    self._write(f"\r\x1b[2K{text}")
    self._drawn = True

  def _erase(self) -> None:
    if self._drawn:
      self._write("\r\x1b[2K")
      self._drawn = False

  def _write(self, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # it is gone
      self._stream.write(text)
      self._stream.flush()


_LINE: list[LiveLine] = []  # that of the process, or none
_JSON: list[bool] = []  # not empty: lines are objects
_TOLD: list[str] = []  # what `doing` said last where there is no live line


@contextlib.contextmanager
def live() -> Iterator[None]:
  """A live line meanwhile, where stderr is a terminal; inside another: that.

  CI keeps every frame of what is drawn again, so it gets none.
  """
  stream = getattr(sys.stderr, "unguarded", sys.stderr)
  shown = console(stderr=True)
  draws = shown.is_terminal and not shown.is_dumb_terminal
  if _LINE or _JSON or not draws or os.environ.get("CI"):
    yield
    return
  forgive(stream)
  line = LiveLine(stream)
  _LINE.append(line)
  try:
    with guarded():  # or others' lines would not stand above
      yield
  finally:
    _LINE.clear()
    line.close()


def is_live() -> bool:
  """Whether `show` is seen."""
  return bool(_LINE)


def show(render: Callable[[int], str]) -> None:
  """What the live line shows from now on, by its columns; without one nothing
  is shown."""
  if _LINE:
    _LINE[0].show(render)


def doing(what: str) -> None:
  """Says what is done now and may take a while, with its seconds so far; where
  there is no live line, in a line of its own."""
  if _LINE:
    start = time.monotonic()
    show(lambda _: f"{what} ... {time.monotonic() - start:.0f} s")
  elif [what] != _TOLD:
    _TOLD[:] = [what]
    if not event("doing", what=what):
      print(f"{what[:1].upper()}{what[1:]} ...", file=sys.stderr, flush=True)


class _Above:
  """A stream for consoles: what they write stands above the live line."""

  def __init__(self, stream: Any):
    self._stream = stream

  def write(self, text: str) -> int:
    with _above(self._stream, text), streams.writing(self._stream):
      return self._stream.write(text)
    return len(text)

  def flush(self) -> None:
    with streams.writing(self._stream):
      self._stream.flush()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


@contextlib.contextmanager
def _above(stream: Any, text: str) -> Iterator[None]:
  if not _LINE or not text:
    yield
    return
  with _LINE[0].above(text.endswith("\n")):
    yield
    streams.flush(stream)  # before the line is drawn again, of another stream


# --------------------------------------------------------- lines for programs


@contextlib.contextmanager
def json_lines(active: bool = True) -> Iterator[None]:
  """Meanwhile every line that a `Guarded` stream gets is a JSON object, with
  "time" (UTC), "event" ("line", or see `event`) and what belongs to it."""
  before = list(_JSON)
  _JSON[:] = [True] if active else before
  try:
    yield
  finally:
    _JSON[:] = before


def is_json() -> bool:
  """Whether lines are objects."""
  return bool(_JSON)


def event(kind: str, **values: Any) -> bool:
  """Writes an object to stderr, where lines are objects; else returns False."""
  if _JSON:
    stream = getattr(sys.stderr, "unguarded", sys.stderr)
    with streams.writing(stream):
      stream.write(_object(values, kind))
      stream.flush()
  return bool(_JSON)


def _object(values: dict[str, Any], kind: str = "line") -> str:
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
  return json.dumps({"time": now, "event": kind} | values) + "\n"


def _level(line: str) -> str:
  for level in ("error", "warning"):
    if line.lower().startswith(level):
      return level
  return "info"


# ------------------------------------------------------------- logs of others


class Folded(logging.Handler):
  """What libraries warn of, in our form: a line each, and each once."""

  def __init__(self):
    super().__init__(logging.WARNING)
    self._seen: set[str] = set()

  def emit(self, record: logging.LogRecord) -> None:
    """Prints `WARNING: orbax: text`."""
    try:
      message = record.getMessage()
    except Exception:  # a mistake of who logs
      message = str(record.msg)
    if (
      record.name == "py.warnings"
    ):  # FILE:LINE: CATEGORY: text, and its source
      found = re.match(r".*?:\d+: (\w+): (.*)", message)
      message = f"{found[1]}: {found[2]}" if found else message
      name = ""
    else:
      name = f"{record.name.split('.')[0]}: "
    message = " ".join(message.split("\n")[0].split())
    if message and message not in self._seen:
      self._seen.add(message)
      print(f"WARNING: {name}{message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def folded_logs(active: bool = True) -> Iterator[None]:
  """Meanwhile warnings of absl, Orbax, JAX and Python are `Folded`, in place of
  what `logging.basicConfig` has set up: some import calls it."""
  root = logging.getLogger()
  if not active or any(isinstance(h, Folded) for h in root.handlers):
    yield
    return
  basic = [h for h in root.handlers if type(h) is logging.StreamHandler]
  ours = [Folded()]
  _exchange(root, basic, ours)
  logging.captureWarnings(True)
  try:
    yield
  finally:
    logging.captureWarnings(False)
    _exchange(root, ours, basic)


def _exchange(
  logger: logging.Logger,
  old: Sequence[logging.Handler],
  new: Sequence[logging.Handler],
) -> None:
  for handler in old:
    logger.removeHandler(handler)
  for handler in new:
    logger.addHandler(handler)
