"""What a person sees of a training: a live line, or short lines in a log.

  1_pretraining 120/350 ━━━───── 1:12 loss 1.234 0.172 s/step 12.3K tok/s 1.2 GB

A fixed short set in a fixed order, which fits 80 columns: stage, step, bar,
time left of the stage, loss, seconds a step, tokens a second, memory at its
peak. All other numbers are in metrics.jsonl.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import sys

from emma_jax import terminal

Values = Mapping[str, float | int | str]
_BAR, _PLAIN_BAR = "━─", "#-"  # what is done, and the rest
_SHORTEST, _LONGEST = 3, 30  # columns of the bar
_NAME = 16  # columns of a stage's name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
  """A stage's state; None where nothing tells.

  seconds_left: of the stage; memory: bytes.
  """

  stage: str
  step: int
  steps: int
  seconds_left: float | None = None
  loss: float | None = None
  step_seconds: float | None = None
  tokens_per_second: float | None = None
  memory: float | None = None

  def figures(self) -> list[str]:
    """What stands behind the bar, in its order, without what is unknown."""
    out = []
    if self.loss is not None:
      out.append(f"loss {short(self.loss)}")
    if self.step_seconds is not None:
      out.append(f"{short(self.step_seconds, 3)} s/step")
    if self.tokens_per_second:
      out.append(f"{quantity(self.tokens_per_second)} tok/s")
    if self.memory:
      out.append(_bytes(self.memory))
    return out


def line(p: Progress, columns: int, bar: str = _BAR) -> str:
  """Of a terminal; what does not fit is left out from its end.

  >>> p = Progress(stage="a", step=5, steps=10, seconds_left=65, loss=0.51234)
  >>> line(p, 40, "#-")
  'a 5/10 ########-------- 1:05 loss 0.5123'
  >>> line(p, 16, "#-")
  'a 5/10 ##-- 1:05'
  """
  head = f"{_cut(p.stage)} {p.step}/{p.steps}"
  left = clock(p.seconds_left)
  figures = p.figures()
  text = lambda: " ".join([left, *figures])
  while figures and len(head) + _SHORTEST + 2 + len(text()) > columns:
    figures.pop()
  room = columns - len(head) - len(text()) - 2
  if room < _SHORTEST:
    return f"{head} {text()}"
  room = min(room, _LONGEST)
  done = round(min(p.step / max(p.steps, 1), 1.0) * room)
  return f"{head} {bar[0] * done}{bar[1] * (room - done)} {text()}"


def sentence(p: Progress) -> str:
  """Of a log.

  >>> p = Progress(stage="a", step=5, steps=10, seconds_left=65, loss=0.51234)
  >>> sentence(p)
  'a 5/10  1:05 left  loss 0.5123'
  """
  parts = [f"{p.stage} {p.step}/{p.steps}", f"{clock(p.seconds_left)} left"]
  return "  ".join([*parts, *p.figures()])


class Display:
  """Progress on stderr: the live line of a terminal, plain lines elsewhere.

  There `terminal.json_lines` makes objects of them, "event": "step".
  """

  def __init__(self, stages: Sequence[tuple[str, int]], active: bool = True):
    """`stages`: name and steps of each; `active`: False on all processes but
    the first, which say nothing."""
    self._stages, self._active = dict(stages), active
    self._now: Progress | None = None

  def begin(self, stage: str, step: int) -> None:
    """A stage begins, or goes on after this step of it."""
    self._now = Progress(stage=stage, step=step, steps=self._stages[stage])

  def step(self, step: int, step_seconds: float | None) -> None:
    """The stage's `step` is done; until something is logged, after so many
    seconds a step."""
    if self._now is None:
      return
    if self._now.loss is not None:
      step_seconds = self._now.step_seconds
    self._now = _after(self._now, step, step_seconds)
    if self._active and terminal.is_live():
      self._draw()

  def doing(self, what: str) -> None:
    """Says what takes its time now, where the bar stands; see `terminal`."""
    if self._active:
      terminal.doing(what)

  def show(self, step: int, values: Values, timing: Values | None = None):
    """What was logged after the run's `step`."""
    del step  # of the run; people think in those of a stage
    timing = timing or {}
    stage, own = str(values["stage"]), int(values["stage_step"])
    seconds = _number(timing.get("step_seconds"))
    if self._now is None or self._now.stage != stage:
      self.begin(stage, own)
    assert self._now is not None
    self._now = dataclasses.replace(
      _after(self._now, own, seconds),
      loss=_number(values.get("loss/total")),
      tokens_per_second=_number(timing.get("tokens_per_second")),
      memory=_number(
        timing.get("peak_memory_bytes", timing.get("host_memory_bytes"))
      ),
    )
    if terminal.is_live():
      self._draw()
    elif not terminal.event("step", **_finite(self._now)):
      self.note(sentence(self._now))

  def end(self) -> None:
    """The stage has ended: what the bar has shown last stays as a line."""
    if self._active and self._now is not None and terminal.is_live():
      self.note(sentence(self._now))
    self._now = None

  def note(self, text: str) -> None:
    """A line that stays, above the live one."""
    print(terminal.plain(text), file=sys.stderr, flush=True)

  def _draw(self) -> None:
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    now, bar = self._now, _BAR
    assert now is not None
    try:
      _BAR.encode(encoding)
    except (UnicodeError, LookupError):
      bar = _PLAIN_BAR
    terminal.show(lambda columns: line(now, columns, bar))


def _after(p: Progress, step: int, step_seconds: float | None) -> Progress:
  """The same at another step, with its time left."""
  if step_seconds is None or not step_seconds > 0:
    return dataclasses.replace(p, step=step, seconds_left=None)
  left = max(p.steps - step, 0) * step_seconds
  return dataclasses.replace(
    p, step=step, step_seconds=step_seconds, seconds_left=left
  )


def short(number: float, digits: int = 4) -> str:
  """So many digits that count, at most seven columns.

  >>> [short(x, 3) for x in (0.17234, 12.345, 123456.0, float("nan"))]
  ['0.172', '12.3', '1.23e+05', 'nan']
  """
  return f"{number:.{digits}g}"


def quantity(number: float) -> str:
  """Three digits.

  >>> [quantity(x) for x in (7.0, 12_345, 1_640_000)]
  ['7', '12.3K', '1.64M']
  """
  for unit, factor in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
    if number >= factor:
      return f"{number / factor:.3g}{unit}"
  return f"{number:.0f}"


def clock(seconds: float | None) -> str:
  """As a clock shows it.

  >>> [clock(s) for s in (None, 65, 3700, 600_000)]
  ['-:--', '1:05', '1:01:40', '6d22h']
  """
  if seconds is None or not math.isfinite(seconds):
    return "-:--"
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours >= 24:
    return f"{hours // 24}d{hours % 24}h"
  if hours:
    return f"{hours}:{minutes:02}:{rest:02}"
  return f"{minutes}:{rest:02}"


def cost(steps: int, step_seconds: float, chips: int) -> str:
  """What a stage takes.

  >>> cost(244_140, 2.49, 256)
  '244,140 steps x 2.49 s = 7.0 days, 43,229 chip-hours'
  >>> cost(350, 0.17234, 1)
  '350 steps x 0.172 s = 1 min'
  """
  total = steps * step_seconds
  out = f"{steps:,} steps x {short(step_seconds, 3)} s = {in_words(total)}"
  if chips > 1 or total >= 3600:
    out += f", {total * chips / 3600:,.0f} chip-hours"
  return out


def in_words(seconds: float) -> str:
  """For people, one unit.

  >>> [in_words(s) for s in (9, 130, 5400, 604_800)]
  ['9 s', '2 min', '1.5 hours', '7.0 days']
  """
  for name, size, from_ in (("days", 86400, 172800), ("hours", 3600, 5400)):
    if seconds >= from_:
      return f"{seconds / size:.1f} {name}"
  return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _bytes(number: float) -> str:
  """Two digits: a peak that is told to the megabyte says no more."""
  for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
    if number >= factor:
      value = number / factor
      return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
  return f"{number / 1e3:.0f} KB"


def _cut(name: str) -> str:
  return name if len(name) <= _NAME else f"{name[: _NAME - 1]}~"


def _number(value: float | int | str | None) -> float | None:
  return None if value is None else float(value)


def _finite(p: Progress) -> dict[str, float | int | str | None]:
  """As JSON, which has no NaN."""
  out = dataclasses.asdict(p)
  return {
    k: str(v) if isinstance(v, float) and not math.isfinite(v) else v
    for k, v in out.items()
  }
