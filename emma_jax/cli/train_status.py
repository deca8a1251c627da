"""emma-train status: how a run is doing, from outside and at any time.

  emma-train status runs/tiny
  emma-train status runs/tiny --watch
  emma-train status runs/tiny --json | jq .seconds_left

Reads what the run writes into its folder; takes no lock and no accelerator.
Exit codes: 0 the run is done or does well; 75 it was stopped, and the same
command continues it; 1 its process is gone, or says nothing any more, before
the end; 76 a loss of the last log is not finite; 2 the folder holds no run;
and the run's own code where it ended with an error.
"""

import argparse
from collections.abc import Callable, Mapping
import dataclasses
import json
import sys
import time

from emma_jax import streams
from emma_jax.cli import common
from emma_jax.exits import Exit
from emma_jax.training import run_file, status

_SECONDS = 10.0  # between two looks of --watch


def _parser() -> argparse.ArgumentParser:
  """Of the verb."""
  made = argparse.ArgumentParser(
    prog="emma-train status",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument(
    "folder", type=common.path, metavar="FOLDER", help="the run's --workdir"
  )
  made.add_argument(
    "--watch",
    nargs="?",
    type=_seconds,
    const=_SECONDS,
    metavar="S",
    help=f"show it again every S seconds [{_SECONDS:g}], until the run ends",
  )
  made.add_argument(
    "--json", action="store_true", help="one line of JSON instead of a table"
  )
  made.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )
  return made


def main(argv: list[str] | None = None) -> int:
  """Runs the verb; returns its exit code."""
  return common.run(_main, argv, (status.NoRun,))


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  common.refuse_overrides("status", overrides)
  show = _json if args.json else _table
  while True:
    found = status.read(args.folder)
    show(found)
    ended = found.state != run_file.RUNNING or found.code
    sys.stdout.flush()
    unseen = not streams.has_reader(sys.stdout)
    if args.watch is None or ended or unseen:
      return Exit(found.code) if found.code in list(Exit) else found.code
    time.sleep(args.watch)


def _seconds(text: str) -> float:
  value = float(text)
  if not 0.1 <= value <= 86400:
    raise argparse.ArgumentTypeError(f"{text}: 0.1 to 86400 seconds.")
  return value


def _json(found: status.Status) -> None:
  print(json.dumps(dataclasses.asdict(found), ensure_ascii=False), flush=True)


def _table(found: status.Status) -> None:
  for name, text in _rows(found):
    print(f"{name:18}{text}")
  print(flush=True)


def _rows(found: status.Status) -> list[tuple[str, str]]:
  """(what, in words), of all that is known."""
  ago = status.duration(found.seconds_since)
  rows = [("run", f"{found.name}, in {found.folder}")]
  state = found.state
  if found.state == run_file.RUNNING:
    state += f" ({found.doing}), process {found.pid} on {found.host}"
  rows.append(("state", f"{state}; last word {ago} ago"))
  if found.reason:
    rows.append(("why", found.reason))
  done = found.step / max(found.total, 1)
  rows.append(("step", f"{found.step:,} of {found.total:,} ({done:.1%})"))
  if found.step_seconds:
    rate = f"{found.step_seconds:.3g} s a step"
    if found.tokens_per_second:
      rate += f", {found.tokens_per_second:,.0f} tokens/s"
    rows.append(("rate", rate))
  rows += [("  " + s.name, _of_stage(s)) for s in found.stages]
  rows.append(("time left", _left(found.seconds_left)))
  held_out = {k: v for k, v in found.validation.items() if "/loss/" in k}
  for name, values in (("losses", found.losses), ("held out", held_out)):
    if values:
      rows.append((name, _values(values)))
  counts = [
    f"{k.replace('_', ' ')} {_number(v)}" for k, v in found.counts.items()
  ]
  if counts:
    rows.append(("since the last log", ", ".join(counts)))
  rows.append(
    ("samples left out", f"{found.skipped_samples:,} of {found.samples:,}")
  )
  rows.append(("checkpoint", _checkpoint(found)))
  rows.append(("disk left", f"{found.disk_free / 2**30:,.1f} GiB"))
  if found.report:
    rows.append(("report", found.report))
  return rows


def _of_stage(stage: status.StageStatus) -> str:
  text = f"{stage.done:,} of {stage.steps:,} steps"
  if stage.done < stage.steps:
    text += f", {_left(stage.seconds_left)} left"
  return text


def _left(seconds: float | None) -> str:
  return "not known yet" if seconds is None else status.duration(seconds)


def _values(values: Mapping[str, float | str]) -> str:
  short: Callable[[str], str] = lambda key: (
    key.replace("validation_averaged/", "averaged ")
    .replace("validation/", "")
    .replace("loss/", "")
  )
  return ", ".join(f"{short(k)} {_number(v)}" for k, v in values.items())


def _number(value: float | str) -> str:
  return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _checkpoint(found: status.Status) -> str:
  if found.checkpoint is None:
    return "none yet"
  text = f"step {found.checkpoint:,}"
  if found.checkpoint_seconds is not None:
    text += f", {status.duration(found.checkpoint_seconds)} ago"
  return text


if __name__ == "__main__":
  sys.exit(main())
