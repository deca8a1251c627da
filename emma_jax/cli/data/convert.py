"""emma-data convert: public formats to a folder of records.

Inputs are files (.jsonl, .json, .parquet, .tar), tfds:NAME:SPLIT or
python:MODULE:FUNCTION; their format is found out by the columns. The same
command again goes on after an interruption, whatever kind it was.
"""

import argparse
import glob
import os
import time
from typing import Any

from emma_jax.cli import common
from emma_jax.structs import STEM_GENERAL, STEM_SCIENCE, STEM_UNKNOWN

_STEM = {"unknown": STEM_UNKNOWN, "general": STEM_GENERAL,
         "stem": STEM_SCIENCE}
# Seconds between two lines where nobody watches.
_QUIET = 10.0


def add(commands: Any) -> None:
  from emma_jax.data.formats import rows

  parser = commands.add_parser(
      "convert", help="public formats to a folder of records",
      description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("inputs", nargs="+", metavar="INPUT",
                      help="files of one format; patterns with * in quotes")
  parser.add_argument("--out", required=True, metavar="DIR",
                      help="new folder for the data set")
  parser.add_argument("--format", default="", choices=["", *rows.FORMATS],
                      help="of the rows; default: what their columns tell")
  parser.add_argument("--images", metavar="DIR", help="where relative paths of "
                      "pictures begin (default: beside each file)")
  parser.add_argument("--columns", default="", metavar="OURS=THEIRS,...",
                      help="columns with other names: caption=blip_text")
  parser.add_argument("--keep", default="", metavar="COLUMN,...",
                      help="further columns to keep as provenance")
  parser.add_argument("--name", default="", help="of the data set")
  parser.add_argument("--licence", default="", help="noted in the card")
  parser.add_argument("--stem", default="unknown", choices=_STEM,
                      help="label of understanding rows without one")
  parser.add_argument("--weight", type=float, default=1.0,
                      help="of rows without one: times shown in an epoch")
  parser.add_argument("--tokenizer", default="tiny", metavar="NAME",
                      help="counts the text tokens: tiny or qwen3:PATH")
  parser.add_argument("--check", default="decode",
                      choices=("decode", "header"), help="decode every picture "
                      "(default), or trust what follows its header")
  parser.add_argument("--rows-per-shard", type=int, default=4096)
  parser.add_argument("--workers", type=int, default=os.cpu_count() or 1,
                      help="processes (default: %(default)s); 0: this one")
  parser.add_argument("--max-rejected", type=float, default=0.2,
                      help="share of rows that may be unusable")
  parser.add_argument("--data-dir", metavar="DIR", help="of TFDS")
  parser.add_argument("--debug", action="store_true",
                      help="show stack traces of errors")
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  from emma_jax import build
  from emma_jax.data.formats import job as job_lib
  from emma_jax.data.formats import part, pool, tables

  if overrides:
    raise common.UserError("convert takes no --config keys.")
  try:
    tokenizer = build.tokenizer({"tokenizer": args.tokenizer})
    recipe = part.Recipe(
        form=args.format, tokenizer=tokenizer, columns=_columns(args.columns),
        images_dir=args.images and os.path.abspath(args.images),
        dataset=args.name, stem=_STEM[args.stem], weight=args.weight,
        keep=tuple(filter(None, args.keep.split(","))), check=args.check,
        options=tables.Options(data_dir=args.data_dir))
    job = job_lib.Job(
        inputs=_files(args.inputs), out=args.out, recipe=recipe,
        rows_per_shard=args.rows_per_shard, workers=args.workers,
        max_rejected=args.max_rejected,
        provenance={"licence": args.licence or "not stated"})
    with _Progress() as progress:
      card = job_lib.run(job, progress)
  except (build.ConfigError, job_lib.ConversionError,
          pool.WorkerDied) as error:
    raise common.UserError(str(error)) from error
  tasks = ", ".join(f"{n} {task}" for task, n in card.tasks.items())
  print(f"Wrote {args.out}: {card.records} records ({tasks}) in "
        f"{len(card.shards)} shards; {card.rejected} rows rejected"
        + (f", see {args.out}/rejected.jsonl." if card.rejected else "."))
  return 0


def _columns(text: str) -> dict[str, str]:
  out = {}
  for pair in filter(None, text.split(",")):
    ours, equals, theirs = pair.partition("=")
    if not (ours and equals and theirs):
      raise common.UserError(f"--columns {pair}: expected OURS=THEIRS.")
    out[ours] = theirs
  return out


def _files(patterns: list[str]) -> list[str]:
  """Absolute names, so that the provenance means something elsewhere."""
  out = []
  for pattern in patterns:
    if pattern.partition(":")[0] in ("tfds", "python"):
      out.append(pattern)
      continue
    found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
    missing = [name for name in found if not os.path.isfile(name)]
    if missing or not found:
      raise common.UserError(f"No such file: {(missing or [pattern])[0]}")
    out += map(os.path.abspath, found)
  return out


class _Progress:
  """A bar where a person watches, a line now and then where not."""

  def __enter__(self) -> "_Progress":
    import rich.console
    import rich.progress

    self._console = rich.console.Console(stderr=True)
    self._start = self._told = time.monotonic()
    self._first: int | None = None
    self._bar = self._task = None
    if self._console.is_terminal:
      self._bar = rich.progress.Progress(
          "{task.description}", rich.progress.BarColumn(),
          rich.progress.TimeRemainingColumn(), console=self._console)
      self._bar.start()
      self._task = self._bar.add_task("converting", total=None)
    return self

  def __exit__(self, *unused) -> None:
    if self._bar:
      self._bar.stop()

  def __call__(self, state: Any) -> None:
    now = time.monotonic()
    if self._first is None:
      self._first = state.rows  # what an earlier run has done costs no time
    rate = (state.rows - self._first) / max(now - self._start, 1e-3)
    text = (f"{state.parts_done}/{state.parts} parts, {state.rows} rows, "
            f"{state.rejected} rejected, {state.bytes / 1e6:.0f} MB, "
            f"{rate:.0f} rows/s")
    if self._bar:
      known = state.rows_known
      self._bar.update(
          self._task, description=text, total=known or state.parts,
          completed=state.rows if known else state.parts_done)
    elif now - self._told >= _QUIET:
      self._told = now
      self._console.print(text)
