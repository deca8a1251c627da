"""emma-benchmark export: predictions as other toolkits and servers take them.

  vlmevalkit  DEST/<model>/T.../<model>_<dataset>.tsv, which VLMEvalKit scores
  lmms        DEST/<task>.jsonl, which lmms-eval scores
  rrc         answers for the server of DocVQA and InfographicVQA
  mmmu        answers for EvalAI, or MMMU's main_eval_only.py
  mmvet       answers for MM-Vet's mm-vet_evaluator.py
  geneval, dpg, gedit, imgedit
              folders of pictures for the benchmarks' own scripts

Each set must be predicted as a whole: what is missing is an error that says how
much. Needs no accelerator.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags

TARGETS = (
  *("vlmevalkit", "lmms", "rrc", "mmmu", "mmvet"),
  *("geneval", "dpg", "gedit", "imgedit"),
)


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark export`."""
  parser = common.add_subcommand(
    commands,
    "export",
    "predictions as other toolkits and servers take them",
    __doc__,
    run,
  )
  parser.add_argument("out", metavar="OUT", help="folder of the results")
  parser.add_argument("--to", required=True, choices=TARGETS, help="see above")
  parser.add_argument(
    "--dest",
    type=common.path_name,
    required=True,
    metavar="DIR",
    help="folder of the files",
  )
  parser.add_argument(
    "--sets",
    default="",
    metavar="A,B",
    help="of the config [all that the target takes]",
  )
  parser.add_argument(
    "--data",
    metavar="DIR",
    default="",
    help="folder of the test sets [the config's]",
  )
  parser.add_argument(
    "--model",
    default="emma",
    metavar="NAME",
    help="what VLMEvalKit calls it [emma]",
  )
  parser.add_argument(
    "--format",
    default="tsv",
    choices=("tsv", "xlsx"),
    help="of VLMEvalKit's files, its PRED_FORMAT [tsv]",
  )
  flags.add_saved_config(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Writes the files, and prints their names."""
  from emma_jax.benchmarks import runs
  from emma_jax.benchmarks.toolkits import export, predicted

  found = flags.begun(args, overrides)
  found = export.restricted(found, args.to, named=bool(args.sets))
  sets = predicted.collect(found, runs.open_sources(found, partial=True))
  try:
    written = export.write(
      sets, args.to, args.dest, model=args.model, kind=args.format
    )
  except ImportError as error:
    raise common.UserError(str(error)) from error
  for path in written.paths:
    print(path)
  for name, count in written.failures.items():
    print(f"{name}: {count:,} without an answer; they are there, and wrong")
  if written.command:
    print(f"score by: {written.command}")
  return 0
