"""The command line: python -m emma_torch, in the folder of the weights."""

import argparse
import io
from pathlib import Path
import sys

from .model import Emma
from .primitives import NotFinite

MISTAKE, NOT_FINITE = 2, 76  # exit codes


def main() -> int:
  """The command line, see `emma_torch`; the exit code."""
  args = _arguments()
  try:
    _run(args)
  except NotFinite as error:
    print(f"error: {error}", file=sys.stderr)
    return NOT_FINITE
  except (ImportError, OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return MISTAKE
  return 0


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m emma_torch", description="Answers, draws and edits."
  )
  parser.add_argument("task", choices=("ask", "draw", "edit"))
  parser.add_argument("text", help="question, prompt or instruction")
  parser.add_argument("--image", action="append", default=[], type=Path)
  parser.add_argument("--out", default="out.png", type=Path)
  parser.add_argument("--seed", default=0, type=int)
  args = parser.parse_args()
  if args.task != "ask" and bool(args.image) != (args.task == "edit"):
    parser.error("edit takes an --image, or several, and draw takes none.")
  return args


def _run(args: argparse.Namespace):
  model = Emma.load(Path(__file__).parent.parent)
  if args.task == "ask":
    # A terminal need not know the answer's characters.
    if isinstance(sys.stdout, io.TextIOWrapper):
      sys.stdout.reconfigure(errors="backslashreplace")
    print(model.ask(args.image, args.text))
    return
  if args.task == "edit":
    made = model.edit(args.image, args.text, seed=args.seed)
  else:
    made = model.draw(args.text, seed=args.seed)
  model.to_image(made).save(args.out)


if __name__ == "__main__":
  sys.exit(main())
