"""The look of the report: light and dark, no file beside it."""

CSS = """\
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2126; --soft: #69717c;
  --line: #e4e2dd; --accent: #2f6fdb; --right: #1f9d57; --wrong: #d2453d;
  --k0: #2f6fdb; --k1: #e07a1f; --k2: #1f9d57; --k3: #b7479e; --k4: #0f9aa8;
  --k5: #8a6d1f; --k6: #6a5acd; --k7: #7a828d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1c2025; --ink: #e7e9ec; --soft: #969fab;
    --line: #2f353c; --accent: #74a5ff; --right: #47c583; --wrong: #f0736b;
    --k0: #74a5ff; --k1: #f5a25d; --k2: #47c583; --k3: #e08acb; --k4: #4fc9d6;
    --k5: #d1b25c; --k6: #a99cf2; --k7: #a3abb5;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1180px; padding: 40px 24px 80px;
  background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
    "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2 {
  font-size: 19px; margin: 44px 0 4px; padding-top: 16px;
  border-top: 1px solid var(--line);
}
h3 { font-size: 15px; margin: 20px 0 6px; }
.tables h3 { margin-top: 0; }
p, .soft { color: var(--soft); margin: 4px 0 14px; max-width: 78ch; }
small { display: block; color: var(--soft); font-weight: 400; font-size: 12px; }
.tiles, .charts, .tables {
  display: grid; gap: 16px; margin: 18px 0;
  grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr));
}
.tables, .charts {
  grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr));
}
.tables { align-items: start; }
.tile, .chart, .tables > div {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; margin: 0; min-width: 0;
}
.tile .value { font-size: 34px; font-weight: 650; line-height: 1.15; }
.tile .name { font-weight: 600; }
.tile .beside { color: var(--soft); font-size: 13px; }
.chart figcaption { font-weight: 600; margin-bottom: 4px; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
svg text { fill: var(--soft); font-size: 10.5px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .stage { stroke: var(--soft); stroke-width: .8; stroke-dasharray: 3 3; }
polyline { fill: none; stroke-width: 1.9; stroke-linejoin: round; }
polyline.faint { opacity: .25; stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12.5px; }
.legend i {
  display: inline-block; width: 14px; height: 3px; margin-right: 6px;
  vertical-align: middle; border-radius: 2px;
}
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { padding: 4px 7px; text-align: right; vertical-align: baseline; }
th { color: var(--soft); font-weight: 500;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr + tr td { border-top: 1px solid var(--line); }
tr.all td { font-weight: 650; }
td small { display: inline; margin-left: 6px; }
.scroll { overflow-x: auto; }
td.bar { width: 22%; min-width: 60px; }
td.bar div { position: relative; height: 8px; border-radius: 4px;
  background: var(--line); overflow: hidden; }
td.bar i { position: absolute; inset: 0 auto 0 0; background: var(--accent); }
td.bar b { position: absolute; top: 0; bottom: 0; width: 2px;
  background: var(--ink); }
.sheet {
  display: grid; gap: 14px; margin: 12px 0;
  grid-template-columns: repeat(auto-fill, minmax(140px, 1fr));
}
.sheet.pairs { grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
.sheet.wide { grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); }
.sheet figure {
  margin: 0; padding: 10px; background: var(--card); border-radius: 10px;
  border: 1px solid var(--line);
}
.sheet .row { display: flex; align-items: end; gap: 8px; }
.sheet .row b { align-self: center; color: var(--soft); }
.sheet img { width: 104px; flex: none; height: auto; border-radius: 4px;
  outline: 1px solid var(--line); }
.sheet img.small { width: 52px; }
.sheet img.right { outline: 3px solid var(--right); }
.sheet img.wrong { outline: 3px solid var(--wrong); }
.sheet figcaption { margin-top: 8px; font-size: 12.5px; line-height: 1.35;
  overflow-wrap: anywhere; }
.asked { display: flex; gap: 14px; }
.asked dl { margin: 0; font-size: 13px; line-height: 1.35; min-width: 0;
  overflow-wrap: anywhere; }
.asked .row { align-items: start; flex: none; }
dt { color: var(--soft); }
dd { margin: 0 0 7px; font-weight: 600; }
dd.right span:first-child { color: var(--right); }
dd.wrong span:first-child { color: var(--wrong); }
dd.right span:first-child::before { content: "✓ "; }
dd.wrong span:first-child::before { content: "✗ "; }
dd .truth { font-weight: 400; color: var(--soft); }
dd .truth::before { content: "truth: "; }
details { margin: 10px 0; }
summary { cursor: pointer; font-weight: 600; }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px; overflow: auto; font-size: 12px; line-height: 1.45;
}
"""

# One colour per curve of a chart; see charts.chart.
CSS += "".join(
  f"""polyline.c{i}, circle.c{i} {{ stroke: var(--k{i}); }}
circle.c{i}, rect.c{i} {{ fill: var(--k{i}); }}
.legend i.c{i} {{ background: var(--k{i}); }}
"""
  for i in range(8)
)
