"""emma-data apply-edits: an editing model carries instructions out.

  emma-data apply-edits data/proposed --out data/edited \\
      --url http://localhost:8001/v1 --model Qwen/Qwen-Image-Edit-2509

Input: drawings with an instruction noted, as propose-edits writes them. Asked
is /images/edits; results are kept on disk as replies are. Output: records of
editing, for edit-pairs to check and to turn around.
"""

import argparse
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import calls, constructing, reading, writing


def add(commands: Any) -> None:
  """Adds the parser of `emma-data apply-edits`."""
  parser = commands.add_parser(
    "apply-edits",
    help="carry noted instructions out by an editing model",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  reading.add_inputs(parser)
  writing.add_output(parser)
  parser.add_argument(
    "--max-stretch",
    type=ranges.Range(1, 100).number,
    default=1.05,
    help="of the aspect ratio, beyond which a result shows something else "
    "(default: %(default)s)",
  )
  constructing.add_back_ends(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the edits; 0, or UserError."""
  from emma_jax.data.curation import proposals
  from emma_jax.data.ingest import job

  common.refuse_overrides("apply-edits", overrides)
  try:
    maker = proposals.ApplyEdits(
      base=writing.recipe(args),
      painter=calls.painter(args, "edit"),
      max_stretch=args.max_stretch,
      missing=args.missing,
    )
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error
  writing.write(args, maker, reading.files(args.inputs))
  return 0
