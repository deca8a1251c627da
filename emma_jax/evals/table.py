"""Scores as a table for the terminal."""

from collections.abc import Mapping
import sys
import time

import rich.box
import rich.console
import rich.table
import rich.text

from emma_jax import terminal
from emma_jax.evals.outcomes import Scores
from emma_jax.pages.formats import score
from emma_jax.structs import TASKS

NAMES = {
  "understanding": "Understanding",
  "drawing": "Text to image",
  "editing": "Editing",
  "understanding_pairs": "Unseen pairs, understanding",
  "drawing_pairs": "Unseen pairs, text to image",
  "editing_pairs": "Unseen pairs, editing",
  "drawing_zh": "Chinese prompts, text to image",
  "editing_zh": "Chinese instructions, editing",
  "editing_multi": "Two edits at once",
  "autoencoder": "Autoencoder",
}


# What has a place of its own in scores, in this order.
MAIN = (*TASKS, "autoencoder")


def plain_kind(kind: str) -> str:
  """single_object -> single object; a question stays as it is."""
  return kind.replace("_", " ")


def bounds(scores: Scores, task: str) -> Mapping[str, Scores]:
  """What stands beside a task's scores: reference and ceiling, or {}."""
  return {
    name: scores.get(name, {}).get(task, {})
    for name in ("reference", "ceiling")
  }


def table(scores: Scores) -> rich.table.Table:
  """Every score with n, baseline, autoencoder's ceiling and the reference's."""
  referenced = bool(scores.get("reference"))
  grid = rich.table.Table(
    title=terminal.text(
      f"{scores['checkpoint']}, step {scores['step']}", "table.title"
    ),
    title_justify="left",
    box=rich.box.SIMPLE_HEAD,
    pad_edge=False,
  )
  grid.add_column("", no_wrap=True, max_width=40)
  for name in ("score", "n", "baseline", "ceiling"):
    grid.add_column(name, justify="right")
  if referenced:
    grid.add_column("reference", justify="right", style="cyan")
  for task in (t for t in MAIN if t in scores):
    beside = bounds(scores, task)
    rows = [(NAMES[task], "bold", scores[task], beside)]
    for kind, entry in scores[task]["kinds"].items():
      of_kind = {k: v.get("kinds", {}).get(kind, {}) for k, v in beside.items()}
      rows.append((f"  {plain_kind(kind)}", "", entry, of_kind))
    for name, style, entry, others in rows:
      _row(grid, name, style, entry, others, referenced)
    if scores[task]["score"] is None:
      grid.add_row("  no exact score for real pictures", style="dim")
    grid.add_section()
  for name, entry in scores.get("held_out", {}).items():
    _row(
      grid, NAMES[name], "", entry, {"reference": {}, "ceiling": {}}, referenced
    )
  return grid


def _row(
  grid: rich.table.Table,
  name: str,
  style: str,
  entry: Scores,
  others: Mapping[str, Scores],
  referenced: bool,
):
  cells: list[rich.text.Text | str] = [
    terminal.text(name),
    score(entry["score"]),
    str(entry["n"]),
    score(entry.get("baseline")),
    score(others["ceiling"].get("score")),
  ]
  if referenced:
    cells.append(score(others["reference"].get("score")))
  grid.add_row(*cells, style=style)


def measures(scores: Scores) -> rich.table.Table | None:
  """What is measured of files, where no exact score exists; None of the world.

  Every line has a value and of how many, or else why it has none.
  """
  if not any("measures" in scores.get(task, {}) for task in MAIN):
    return None
  grid = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
  grid.add_column("own data", max_width=28)
  grid.add_column("value", justify="right")
  grid.add_column("n", justify="right")
  grid.add_column("", overflow="fold")
  for task in (t for t in MAIN if "measures" in scores.get(t, {})):
    entries = dict(scores[task]["measures"])
    grid.add_row(NAMES[task], "", "", entries.pop("why"), style="bold")
    for name, entry in entries.items():
      about = _ABOUT.get(name, "")
      if name == _NEAREST and "value" in entry:
        about = nearest_words(entry)
      elif "why" in entry:
        about = f"not measured: {entry['why']}"
      value = f"{entry['value']:.4g}" if "value" in entry else ""
      grid.add_row(f"  {name}", value, str(entry.get("n", "")), about)
    grid.add_section()
  return grid


_NEAREST = "nearest training picture"
# What a measure says.
_ABOUT = {
  "token accuracy": "of answers' tokens, each after the true ones before it",
  "token loss": "nats per token",
  "velocity": "squared error; then by bin of time, 0 the picture, 1 noise",
  "autoencoder's ceiling": "dB PSNR: no drawing can come closer",
}


def nearest_words(entry: Scores) -> str:
  """Whether what was drawn is known by heart."""
  return (
    f"RMS of 255; the held-out pictures themselves: {entry['own']:.4g}; "
    f"{entry['copies']} of {entry['n']} drawn are copies of one of "
    f"{entry['compared']} training pictures"
  )


def notes(scores: Scores, measured: bool = True) -> list[str]:
  """What the table cannot hold: distances of pictures, broken records; and
  what `measures` says, unless that is shown beside."""
  lines = []
  distances = [
    f"{entry['psnr']:.1f} dB PSNR on {NAMES[task].lower()} targets"
    for task, entry in scores.get("ceiling", {}).items()
  ]
  if distances:
    lines.append(f"Autoencoder: {', '.join(distances)}.")
  for task in (t for t in MAIN if t in scores):
    entry = scores[task]
    if "copy" in entry:
      lines.append(
        f"Edits to their targets: {entry['psnr']:.1f} dB PSNR, L1 "
        f"{entry['l1']:.1f} of 255; the untouched sources: "
        f"{entry['copy']['psnr']:.1f} dB, {entry['copy']['l1']:.1f}. No "
        "exact score exists for real pictures."
      )
    elif task == "autoencoder":
      lines.append(
        f"Autoencoder on {entry['samples']} pictures: {entry['psnr']:.1f} dB "
        f"PSNR, L1 {entry['l1']:.1f} of 255."
      )
    elif entry["score"] is None:
      lines.append(
        f"{NAMES[task]}: {entry['n']} pictures to look at; no exact score "
        "exists for real pictures."
      )
    lines += _measured(task, entry) if measured else []
    if entry.get("seen", {}).get("note"):
      lines.append(f"{NAMES[task]}: {entry['seen']['note']}")
    lines += [f"Left out: {bad}" for bad in entry.get("bad_records", [])[:5]]
    more = len(entry.get("bad_records", [])) - 5
    if more > 0:
      lines.append(f"... and {more} more broken records.")
  return lines


def _measured(task: str, entry: Scores) -> list[str]:
  """Lines of `measures`, for a page."""
  lines = []
  for name, found in entry.get("measures", {}).items():
    if name == "why":
      continue
    if "why" in found:
      text = f"not measured, {found['why']}"
    elif name == _NEAREST:
      text = f"{found['value']:.4g} {nearest_words(found)}"
    else:
      text = f"{found['value']:.4g} (n = {found['n']})"
    lines.append(f"{NAMES[task]}, {name}: {text}.")
  return lines


def samples_word(scores: Scores) -> str:
  """ "unseen samples" only where none of them was trained on."""
  entries = [scores[task] for task in MAIN if task in scores]
  known = all(e.get("seen", {"unseen": True})["unseen"] for e in entries)
  return "unseen samples" if known else "samples"


def show(scores: Scores, console: rich.console.Console | None = None):
  """Prints the table and its notes."""
  console = console or terminal.console()
  console.print(table(scores))
  found = measures(scores)
  if found is not None:
    console.print(found)
  for line in notes(scores, measured=found is None):
    console.print(terminal.text(line), highlight=False, soft_wrap=True)


def summary(scores: Scores) -> str:
  """One line: "understanding 0.71 (120), text to image 0.16 (48), ..."."""
  return ", ".join(
    f"{NAMES[t].lower()} {score(scores[t]['score']) or 'unscored'} "
    f"({scores[t]['n']})"
    for t in MAIN
    if t in scores
  )


def numbers(scores: Scores) -> dict[str, float]:
  """Scores by name, "scores/drawing", "scores/drawing/counting",
  "scores/held_out/drawing_zh", where there are any."""
  found = {
    f"scores/{task}": scores[task]["score"] for task in MAIN if task in scores
  }
  for task in (t for t in MAIN if t in scores):
    for kind, entry in scores[task]["kinds"].items():
      found[f"scores/{task}/{kind}"] = entry["score"]
  for name, entry in scores.get("held_out", {}).items():
    found[f"scores/held_out/{name}"] = entry["score"]
  return {name: float(x) for name, x in found.items() if x is not None}


class Lines:
  """A Progress on stderr: on the live line of a terminal where there is one,
  else a line when something takes its time.
  """

  def __init__(self, every: float = 10.0, clock=time.monotonic):
    self._every, self._clock = every, clock
    self._last = clock()

  def __call__(self, what: str, done: int, total: int):
    """Says how far `what` is; in a line, if the last one is long enough ago."""
    if terminal.is_live():
      terminal.doing(f"evaluating {NAMES.get(what, what)}, {done} of {total}")
      return
    now = self._clock()
    if done < total and now - self._last >= self._every:
      self._last = now
      print(
        f"  evaluating {NAMES.get(what, what)}: {done}/{total}",
        file=sys.stderr,
        flush=True,
      )
