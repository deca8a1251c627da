"""One picture: the same prompts, drawn by several checkpoints.

  emma-sample sheet --workdir runs/demo --prompt "a red star" \\
      --prompt "two triangles" --out stages.png
  emma-sample sheet --checkpoint "before=reference" \\
      --checkpoint "after=runs/mine" --prompt "a bell" --out both.png

--workdir takes each stage of a training at its last step that is still there,
in the order of the training: weight files DIR/stages/NAME.safetensors, else
saved steps. A row for each prompt, a column for each checkpoint; noise is of
the seed and the row, so that what differs within a row is the weights'.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from emma_jax.cli import common, devices
from emma_jax.cli.sample import pictures, weights

_FRAME = 192  # the grey around a picture, most of which are white outside


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample sheet`."""
  parser = weights.add_parser(commands, "sheet", __doc__, one=False)
  parser.add_argument(
    "--checkpoint",
    action="append",
    default=[],
    metavar="[NAME=]SOURCE",
    help="a column: its name and weights; may be given several times",
  )
  parser.add_argument(
    "--workdir",
    type=common.path_name,
    metavar="DIR",
    help="of a training: a column for each of its stages, before those of "
    "--checkpoint",
  )
  parser.add_argument(
    "--prompt",
    action="append",
    required=True,
    help="a row; may be given several times",
  )
  parser.add_argument("--steps", type=int, help="evaluations of the model")
  parser.add_argument(
    "--out", required=True, type=common.path, metavar="FILE.png"
  )
  parser.add_argument(
    "--no_metadata",
    action="store_true",
    help="a PNG without text chunks of prompts, seed and checkpoints",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Draws and saves; 0, or UserError."""
  if args.out.suffix.lower() != ".png":
    raise common.UserError(f"--out {args.out}: a sheet is a PNG; name a .png.")
  pictures.check_place(args.out, args.out.parent)
  weights.check_words("--prompt", args.prompt)
  weights.check_length("--prompt", args.prompt)
  columns = [*_of_run(args.workdir), *map(_named, args.checkpoint)]
  if not columns:
    raise common.UserError("Name checkpoints: --workdir or --checkpoint.")
  cells = [_drawn(args, overrides, source) for _, source in columns]
  if devices.is_first():
    _save(args, columns, list(zip(*cells)))
  return 0


def _of_run(workdir: str | None) -> list[tuple[str, str]]:
  """(name, weights) of each stage of a training that left any."""
  if workdir is None:
    return []
  from emma_jax.checkpoints import locate

  return locate.stages(workdir)


def _named(text: str) -> tuple[str, str]:
  """ "a=runs/a" -> ("a", "runs/a"); without a name the source is one."""
  name, equals, source = text.partition("=")
  return (name, source) if equals else (text, text)


def _drawn(
  args: argparse.Namespace, overrides: Mapping[str, str], source: str
) -> list[Any]:
  """A column's pictures."""
  from emma_jax.sampling.canvases import drawings

  def check(requests: Any, defaults: Mapping[str, Any]) -> None:
    pictures.check_steps(args, defaults)
    drawings(requests, args.prompt, None, 1.0)

  own = argparse.Namespace(**vars(args) | {"checkpoint": source})
  found = weights.session(own, overrides, check)
  return found.draw(args.prompt, steps=args.steps, seed=args.seed)


def _save(
  args: argparse.Namespace,
  columns: Sequence[tuple[str, str]],
  rows: Sequence[Sequence[Any]],
) -> None:
  from PIL import Image

  from emma_jax.api.pictures import save_png
  from emma_jax.evals import contact_sheet

  large = [[_large(cell, contact_sheet.SIDE) for cell in row] for row in rows]
  made = contact_sheet.sheet(
    [contact_sheet.Row(p, (), row) for p, row in zip(args.prompt, large)],
    head=[name for name, _ in columns],
  )
  about = {
    "prompts": args.prompt,
    "seed": args.seed,
    "settings": {"command": "sheet", "columns": [list(c) for c in columns]},
  }
  try:
    save_png(args.out, Image.fromarray(made), {} if args.no_metadata else about)
  except OSError as error:
    raise common.UserError(f"--out {args.out}: {error}.") from error
  print(f"{args.out}  {len(args.prompt)} prompts, {len(columns)} checkpoints")


def _large(picture_YXC: Any, side: int) -> Any:
  """As many whole times as large as a cell of the sheet takes, and framed."""
  times = max(1, side // max(picture_YXC.shape[:2]))
  large_YXC = picture_YXC.repeat(times, axis=0).repeat(times, axis=1)
  large_YXC[[0, -1]] = large_YXC[:, [0, -1]] = _FRAME
  return large_YXC
