"""Line charts as inline SVG; colours and fonts come from the page's CSS."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import html
import math

# Of the drawing, in its own units; CSS scales it.
WIDTH, HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 20, 26
# A polyline of more points than pixels only makes the file larger.
_MAX_POINTS = 480
# Longer curves are noisy: draw them thin, and their running mean above.
_SMOOTH_FROM = 60

Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Series:
  """A named curve; points by rising x."""

  name: str
  points: Points


def short(value: float) -> str:
  """A number for an axis.

  >>> [short(v) for v in (0, 0.05, 1.5, 20, 12000, 3e6)]
  ['0', '0.05', '1.5', '20', '12k', '3M']
  >>> short(999_999)
  '1M'
  """
  value = float(f"{value:.4g}")  # what is rounded up may need another letter
  for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
    if abs(value) >= size:
      return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
  return f"{value:.4g}"


def percent(value: float) -> str:
  """A share in percent, to four digits: 0.5 -> "50%"."""
  return f"{100 * value:.4g}%"


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
  label: Callable[[float], str] = short,
  top: float | None = None,
  note: str = "",
  mean: bool = True,
) -> str:
  """A figure with axes, a legend where there are several curves, and stages.

  Args:
    title: plain text, as every text here; it is escaped.
    series: those without points are left out; "" comes back if none is left.
    stages: (first x, label) of each, drawn as dashed lines.
    log: a logarithmic y axis, where all values are positive.
    label: how ticks of y are written.
    top: upper end of the y axis; the lower one is 0 then.
    note: small print under the title.
    mean: draws long curves thin, and their running mean above.
  """
  series = [s for s in (_finite(s) for s in series) if s.points]
  if not series:
    return ""
  frame = _Frame.around(series, log, top)
  parts = [_axes(frame, label), _boundaries(frame, stages)]
  starts = [x for x, _ in stages] if mean else None
  for i, curve in enumerate(series):
    parts.append(_curve(frame, curve, i, starts))
  legend = ""
  if len(series) > 1:
    keys = "".join(
      f'<span><i class="c{i % 8}"></i>{html.escape(s.name)}</span>'
      for i, s in enumerate(series)
    )
    legend = f'<div class="legend">{keys}</div>'
  small = f"<small>{html.escape(note)}</small>" if note else ""
  return (
    f'<figure class="chart"><figcaption>{html.escape(title)}{small}'
    f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    f"{legend}</figure>"
  )


def bars(title: str, counts: Mapping[str, int], *, note: str = "") -> str:
  """A figure with a bar per name, its count and its share; "" without any."""
  total = sum(counts.values())
  if not total:
    return ""
  most, parts, rise = max(counts.values()), [], 18
  for i, (name, count) in enumerate(counts.items()):
    y, width = rise * i, (WIDTH - 220) * count / most
    text = f"{count:,} ({percent(round(count / total, 4))})"
    parts.append(
      f'<text x="92" y="{y + 12}" text-anchor="end">{html.escape(name)}'
      f'</text><rect class="c0" x="100" y="{y + 3}" height="12" '
      f'width="{width:.1f}"/><text x="{106 + width:.1f}" y="{y + 12}">'
      f"{text}</text>"
    )
  small = f"<small>{html.escape(note)}</small>" if note else ""
  return (
    f'<figure class="chart"><figcaption>{html.escape(title)}{small}'
    f'</figcaption><svg viewBox="0 0 {WIDTH} {rise * len(counts)}" '
    f'role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    "</figure>"
  )


def _finite(series: Series) -> Series:
  points = [
    (x, y)
    for x, y in series.points
    if isinstance(y, (int, float)) and math.isfinite(y)
  ]
  return Series(series.name, points)


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
    return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

  def y(self, value: float) -> float:
    scale = math.log if self.log else float
    low, high = scale(self.low), scale(self.high)
    share = (scale(value) - low) / (high - low)
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _axes(frame: _Frame, label: Callable[[float], str]) -> str:
  ticks = log_ticks if frame.log else linear_ticks
  parts = []
  for value in ticks(frame.low, frame.high):
    y = frame.y(value)
    parts.append(
      f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" '
      f'y2="{y}"/><text x="{_LEFT - 6}" y="{y + 3.5}" '
      f'text-anchor="end">{label(value)}</text>'
    )
  bottom = HEIGHT - _BOTTOM
  for value in linear_ticks(frame.left, frame.right):
    parts.append(
      f'<text x="{frame.x(value)}" y="{bottom + 15}" '
      f'text-anchor="middle">{short(value)}</text>'
    )
  parts.append(
    f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" '
    f'y2="{bottom}"/>'
  )
  return "".join(parts)


def _boundaries(frame: _Frame, stages: Sequence[tuple[float, str]]) -> str:
  parts, free = [], 0.0
  for start, name in stages:
    if not frame.left <= start <= frame.right:
      continue
    x = frame.x(start)
    line = (
      f'<line class="stage" x1="{x}" x2="{x}" y1="{_TOP - 6}" '
      f'y2="{HEIGHT - _BOTTOM}"/>'
    )
    # Short stages stand close together; their names must not overlap.
    text = ""
    if x >= free:
      text = f'<text x="{x + 3}" y="{_TOP - 6}">{html.escape(name)}</text>'
      free = x + 8 + 7 * len(name)
    parts.append(line + text)
  return "".join(parts)


def _curve(
  frame: _Frame, curve: Series, index: int, starts: Sequence[float] | None
) -> str:
  """Smoothed within the stages that begin at `starts`; None: as it is."""
  points = list(curve.points)
  colour = f"c{index % 8}"
  if len(points) == 1:
    x, y = points[0]
    at = f'cx="{frame.x(x)}" cy="{frame.y(y)}"'
    return f'<circle class="{colour}" {at} r="3"/>'
  faint = ""
  if starts is not None and len(points) >= _SMOOTH_FROM:
    faint = _polyline(frame, points, f"{colour} faint")
    points = smooth(points, starts)
  return faint + _polyline(frame, points, colour, curve.name)


def _polyline(
  frame: _Frame, points: Points, classes: str, name: str = ""
) -> str:
  stride = max(1, math.ceil(len(points) / _MAX_POINTS))
  kept = [*points[:-1:stride], points[-1]]
  text = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in kept)
  last = points[-1][1]
  title = f"<title>{html.escape(name)}: {last:.4g}</title>" if name else ""
  return f'<polyline class="{classes}" points="{text}">{title}</polyline>'


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
