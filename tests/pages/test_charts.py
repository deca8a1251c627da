"""Charts: what training gives is drawn, whatever it is."""

import doctest

import pytest

from emma_jax.pages import charts, formats, render

from . import reading

EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize("module", [charts, formats])
def test_docstrings(module):
  result = doctest.testmod(module)
  assert result.attempted and not result.failed


def svg(chart: charts.Lines | charts.Bars) -> str:
  macros = render.environment().get_template("charts.html.j2").module
  draw = macros.lines if isinstance(chart, charts.Lines) else macros.bars
  page = str(draw(chart))
  reading.check(page)
  return page


def curve(*points, **options) -> str:
  return svg(charts.chart("t", [charts.Series("a", points)], **options))


def test_charts_bear_what_training_gives():
  assert charts.chart("t", [charts.Series("a", [])]) is None
  assert charts.chart("t", [charts.Series("a", [(1, "nan")])]) is None
  assert "<circle" in curve((5, 1.0))
  assert "<polyline" in curve((0, 2.0), (9, 2.0))
  assert "<polyline" in curve((0, -1.0), (9, 5.0), log=True)
  assert "<polyline" in curve((0, 0.0), (9, 0.0))
  long = curve(*((i, i / 9) for i in range(5000)))
  assert len(long) < 30_000 and "faint" in long


def test_larger_values_lie_higher_and_later_ones_further_right():
  points = [(0, 1.0), (5, 4.0), (9, 2.0)]
  for log in (False, True):
    chart = charts.chart("t", [charts.Series("a", points)], log=log)
    places = [
      tuple(map(float, p.split(","))) for p in chart.curves[0].points.split()
    ]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert chart.left == x0 < x1 < x2 == chart.right
    assert chart.top <= y1 < y2 < y0 <= chart.bottom
    heights = [y for y, _ in chart.y_ticks]
    assert heights == sorted(heights, reverse=True)


def test_running_means_keep_to_their_stage():
  points = [(x, 0.0 if x < 50 else 8.0) for x in range(100)]
  assert charts.smooth(points, [0, 50]) == points
  assert charts.smooth(points)[50][1] < 8.0
  line = [(x, 3.0 * x) for x in range(200)]  # no lag
  gaps = [b - a for (_, a), (_, b) in zip(charts.smooth(line, [40]), line)]
  assert max(map(abs, gaps)) < 1e-9


def test_every_curve_has_its_colour_and_its_name():
  series = [charts.Series(f"n{i}", [(0, i), (1, i)]) for i in range(9)]
  chart = charts.chart("t", series)
  assert [c.classes for c in chart.curves] == [
    *(f"c{i}" for i in range(8)),
    "c0",
  ]
  assert chart.legend[8] == ("c0", "n8")
  assert charts.chart("t", series[:1]).legend == []
  style = (render.TEMPLATES / "style.css").read_text()
  assert all(f".c{i} {{" in style for i in range(8))


def test_names_of_close_stages_do_not_overlap():
  series = [charts.Series("a", [(x, 1.0) for x in range(101)])]
  stages = [(0, "one"), (1, "two"), (50, "three"), (200, "beyond")]
  drawn = charts.chart("t", series, stages=stages).stages
  assert [name for _, name in drawn] == ["one", "", "three"]


def test_bars_hold_counts_and_shares():
  assert charts.bars("t", {"a": 0}) is None
  chart = charts.bars("t", {"a": 3000, "b": 1000})
  assert [b.label for b in chart.bars] == ["3,000 (75%)", "1,000 (25%)"]
  assert [b.width for b in chart.bars] == [260.0, 86.7]
  # The longest leaves its label room.
  assert chart.bars[0].end < chart.width - 100
  assert chart.height > chart.bars[-1].y


def test_texts_are_escaped():
  series = [charts.Series(EVIL, [(0, 1.0), (9, 2.0)]) for _ in range(2)]
  page = svg(charts.chart(EVIL, series, note=EVIL, stages=[(0, EVIL)]))
  # Title twice, note, stage; of each curve its name, its legend and its place
  # in the description.
  assert page.count("&lt;script&gt;") == 10
  assert svg(charts.bars(EVIL, {EVIL: 1}, note=EVIL)).count("&lt;script") == 5


def test_a_chart_says_what_it_shows_without_being_seen():
  points = [(0, 4.0), (5, 1.0), (10, 2.0)]
  series = [charts.Series("a", points), charts.Series("b", [(3, 1.5)])]
  chart = charts.chart("t", series, log=True)
  assert chart.description == (
    "2 curves over steps 0 to 10, on a logarithmic axis. a: first 4 at 0, last "
    "2 at 10; b: first 1.5 at 3, last 1.5 at 3."
  )
  (a, _) = chart.numbers
  assert (a.lowest, a.highest) == ("1 at 5", "4 at 0")
  page = svg(chart)
  assert "<title>t</title>" in page and f"<desc>{chart.description}" in page
  assert "<summary>" in page and "1 at 5" in page
  bars = charts.bars("t", {"x": 3, "y": 1})
  assert bars.description == "2 bars. x: 3 (75%); y: 1 (25%)."


def test_intervals_are_drawn_and_have_room():
  series = [charts.Series("a", [(0, 0.5), (9, 0.6)], [(0, 0.1, 0.9)])]
  chart = charts.chart("t", series)
  (span,) = [c.span for c in chart.curves if c.span]
  assert span[0] == chart.left
  assert chart.top <= span[2] < span[1] <= chart.bottom
  assert svg(chart).count('class="c0 span"') == 1


def test_shares_may_be_of_more_than_is_counted():
  (bar,) = charts.bars("t", {"a": 1}, total=4).bars
  assert bar.label == "1 (25%)"
