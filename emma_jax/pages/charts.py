"""Charts for pages: where lines, ticks and bars lie in a drawing.

`charts.html.j2` draws them as SVG; colours and fonts are the style sheet's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import math
from typing import ClassVar

from emma_jax.pages import formats

# Of the drawing, in its own units; CSS scales it.
WIDTH, HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, WIDTH - 10, 20, HEIGHT - 26
# A bar's name stands left of it, its count right; from one bar to the next.
_NAMES, _COUNTS, _RISE = 100, 120, 18
# A polyline of more points than pixels only makes the file larger.
_MAX_POINTS = 480
# Longer curves are noisy: draw them thin, and their running mean above.
_SMOOTH_FROM = 60

Points = Sequence[tuple[float, float]]
Format = Callable[[float], str]


@dataclasses.dataclass(frozen=True)
class Series:
  """A named curve; points by rising x, and (x, low, high) of intervals."""

  name: str
  points: Points
  spans: Sequence[tuple[float, float, float]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stroke:
  """A drawn curve: a dot at (x, y), a span (x, y, y), or else a polyline."""

  classes: str
  dot: tuple[float, float] | None = None
  span: tuple[float, float, float] | None = None
  points: str = ""  # "x,y x,y"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """A curve in numbers, each with where it is: "0.4 at 300"."""

  name: str
  first: str
  lowest: str
  highest: str
  last: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lines:
  """A chart of curves; texts are plain, places in units of the drawing.

  description, numbers: what it shows, for who does not see it.
  """

  title: str
  note: str
  description: str
  numbers: Sequence[Summary]
  y_ticks: Sequence[tuple[float, str]]
  x_ticks: Sequence[tuple[float, str]]
  stages: Sequence[tuple[float, str]]  # "" where the name has no room
  curves: Sequence[Stroke]
  legend: Sequence[tuple[str, str]]  # (class, name), where curves are several

  width: ClassVar = WIDTH
  height: ClassVar = HEIGHT
  left: ClassVar = _LEFT
  right: ClassVar = _RIGHT
  top: ClassVar = _TOP
  bottom: ClassVar = _BOTTOM


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
  """A line of a chart of bars: `label` begins at `end`."""

  name: str
  label: str
  y: int
  width: float
  end: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bars:
  """A chart of a bar per name; texts are plain."""

  title: str
  note: str
  description: str
  height: int
  bars: Sequence[Bar]

  width: ClassVar = WIDTH
  left: ClassVar = _NAMES
  legend: ClassVar = ()
  numbers: ClassVar = ()


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
  """Round numbers within [low, high].

  >>> linear_ticks(0, 1)
  [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
  """
  rough = max(high - low, 1e-12) / most
  size = 10.0 ** math.floor(math.log10(rough))
  step = next(s * size for s in (1, 2, 5, 10) if s * size >= rough * 0.999)
  first = math.ceil(low / step - 1e-6)
  last = math.floor(high / step + 1e-6)
  return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """1, 2, 5 times powers of ten; powers alone where those are many, and evenly
  spaced numbers where they are few.

  >>> log_ticks(0.1, 2.5)
  [0.1, 0.2, 0.5, 1.0, 2.0]
  """
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  digits = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
  ticks = [float(f"{d}e{p}") for p in powers for d in digits]
  ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
  return ticks if len(ticks) > 2 else linear_ticks(low, high, 4)


def chart(
  title: str,
  series: Sequence[Series],
  *,
  stages: Sequence[tuple[float, str]] = (),
  log: bool = False,
  label: Format = formats.short,
  top: float | None = None,
  note: str = "",
  mean: bool = True,
  over: str = "steps",
) -> Lines | None:
  """A chart with axes, a legend where there are several curves, and stages.

  Args:
    title: above the chart.
    series: those without points are left out; None comes back if none is left.
    stages: (first x, label) of each, drawn as dashed lines.
    log: a logarithmic y axis, where all values are positive.
    label: how ticks of y are written.
    top: upper end of the y axis; the lower one is 0 then.
    note: small print under the title.
    mean: draws long curves thin, and their running mean above.
    over: what x counts.
  """
  series = [s for s in (_finite(s) for s in series) if s.points]
  if not series:
    return None
  frame = _Frame.around(series, log, top)
  ticks = log_ticks if frame.log else linear_ticks
  starts = [x for x, _ in stages] if mean else None
  numbers = [_summary(s) for s in series]
  return Lines(
    title=title,
    note=note,
    description=_described(numbers, frame, over),
    numbers=numbers,
    y_ticks=[(frame.y(v), label(v)) for v in ticks(frame.low, frame.high)],
    x_ticks=[
      (frame.x(v), formats.short(v))
      for v in linear_ticks(frame.left, frame.right)
    ],
    stages=_boundaries(frame, stages),
    curves=[
      stroke
      for i, curve in enumerate(series)
      for stroke in _strokes(frame, curve, _colour(i), starts)
    ],
    legend=[(_colour(i), s.name) for i, s in enumerate(series)]
    if len(series) > 1
    else [],
  )


def _summary(series: Series) -> Summary:
  at = lambda point: f"{point[1]:.4g} at {formats.short(point[0])}"
  points = series.points
  return Summary(
    name=series.name,
    first=at(points[0]),
    lowest=at(min(points, key=lambda p: p[1])),
    highest=at(max(points, key=lambda p: p[1])),
    last=at(points[-1]),
  )


def _described(numbers: Sequence[Summary], frame: "_Frame", over: str) -> str:
  """Of all curves what they begin and end with."""
  count = "A curve" if len(numbers) == 1 else f"{len(numbers)} curves"
  left, right = formats.short(frame.left), formats.short(frame.right)
  scale = ", on a logarithmic axis" if frame.log else ""
  each = "; ".join(
    f"{n.name or 'it'}: first {n.first}, last {n.last}" for n in numbers
  )
  return f"{count} over {over} {left} to {right}{scale}. {each}."


def bars(
  title: str,
  counts: Mapping[str, int],
  *,
  note: str = "",
  total: int | None = None,
) -> Bars | None:
  """A chart with a bar per name, its count and its share; None without any.

  total: what shares are of; None: of the sum.
  """
  total = total or sum(counts.values())
  if not any(counts.values()):
    return None
  most, drawn = max(counts.values()), []
  for i, (name, count) in enumerate(counts.items()):
    width = (WIDTH - _NAMES - _COUNTS) * count / most
    part = formats.percent(round(count / total, 4))
    drawn.append(
      Bar(
        name=name,
        label=f"{formats.thousands(count)} ({part})",
        y=_RISE * i,
        width=round(width, 1),
        end=round(_NAMES + width + 6, 1),
      )
    )
  each = "; ".join(f"{bar.name}: {bar.label}" for bar in drawn)
  return Bars(
    title=title,
    note=note,
    description=f"{len(drawn)} bars. {each}.",
    height=_RISE * len(drawn),
    bars=drawn,
  )


def _colour(index: int) -> str:
  return f"c{index % 8}"


def _finite(series: Series) -> Series:
  points = [
    (x, y)
    for x, y in series.points
    if isinstance(y, (int, float)) and math.isfinite(y)
  ]
  return Series(series.name, points, series.spans)


@dataclasses.dataclass(frozen=True)
class _Frame:
  """Data ranges, and where they lie in the drawing."""

  left: float
  right: float
  low: float
  high: float
  log: bool

  @classmethod
  def around(cls, series: Sequence[Series], log: bool, top: float | None):
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points]
    ys += [y for s in series for _, *ends in s.spans for y in ends]
    log = log and min(ys) > 0
    low, high = (0.0, top) if top is not None else (min(ys), max(ys))
    if log:
      low, high = low / 1.1, high * 1.1
    elif top is None:
      # From 0 where that costs less than half of the height.
      low = 0.0 if 0 <= low <= high / 2 else low
      margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
      low, high = (low - margin if low else low), high + margin
    return cls(min(xs), max(max(xs), min(xs) + 1), low, high, log)

  def x(self, value: float) -> float:
    share = (value - self.left) / (self.right - self.left)
    return round(_LEFT + share * (_RIGHT - _LEFT), 1)

  def y(self, value: float) -> float:
    scale = math.log if self.log else float
    low, high = scale(self.low), scale(self.high)
    share = (scale(value) - low) / (high - low)
    return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)


def _boundaries(
  frame: _Frame, stages: Sequence[tuple[float, str]]
) -> list[tuple[float, str]]:
  drawn, free = [], 0.0
  for start, name in stages:
    if not frame.left <= start <= frame.right:
      continue
    x = frame.x(start)
    # Short stages stand close together; their names must not overlap.
    drawn.append((x, name if x >= free else ""))
    if x >= free:
      free = x + 8 + 7 * len(name)
  return drawn


def _strokes(
  frame: _Frame, curve: Series, colour: str, starts: Sequence[float] | None
) -> Iterator[Stroke]:
  """Smoothed within the stages that begin at `starts`; None: as it is."""
  points = list(curve.points)
  for x, low, high in curve.spans:
    yield Stroke(
      classes=f"{colour} span", span=(frame.x(x), frame.y(low), frame.y(high))
    )
  if len(points) == 1:
    x, y = points[0]
    yield Stroke(classes=colour, dot=(frame.x(x), frame.y(y)))
    return
  if starts is not None and len(points) >= _SMOOTH_FROM:
    yield Stroke(classes=f"{colour} faint", points=_polyline(frame, points))
    points = smooth(points, starts)
  yield Stroke(classes=colour, points=_polyline(frame, points))


def _polyline(frame: _Frame, points: Points) -> str:
  stride = max(1, math.ceil(len(points) / _MAX_POINTS))
  kept = [*points[:-1:stride], points[-1]]
  return " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in kept)


def smooth(points: Points, starts: Sequence[float] = ()) -> list:
  """Centred mean over about a thirtieth of the points, within each stage.

  Towards the ends of a stage the window shrinks on both sides alike: a falling
  curve is not shown too high.
  """
  reach = max(1, len(points) // 60)
  out, begin = [], 0
  for end in range(1, len(points) + 1):
    last = end == len(points)
    before = points[begin][0]
    if last or any(before < s <= points[end][0] for s in starts):
      part = points[begin:end]
      for i, (x, _) in enumerate(part):
        near = min(reach, i, len(part) - 1 - i)
        window = [y for _, y in part[i - near : i + near + 1]]
        out.append((x, math.fsum(window) / len(window)))
      begin = end
  return out
