"""Data sets in, and what is in them: one command per verb.

  emma-data convert --out data/llava llava_558k.json
  emma-data validate data/llava
  emma-data stats data/llava --out stats.html
  emma-data show data/llava --config configs/files.py --out show.html
  emma-data encode-latents data/llava --config C --weights runs/emma_4b_init
  emma-data plan --config configs/files_records.py --stage 2_finetuning
  emma-data hash --config configs/tiny.py --steps 20 --processes 4

The same as `python -m emma_jax.cli.data`. A data set is a folder that `convert`
wrote, or any source as in a config: records:DIR, jsonl:PATH, world:TASK:SPLIT.
"""

import argparse
from collections.abc import Sequence
import sys

from emma_jax.cli import common

# Each is a module of this package with `add(subparsers)`; the parser it adds
# has a default `run(args, overrides) -> int | None`.
COMMANDS = (
  "convert",
  "validate",
  "stats",
  "show",
  "lengths",
  "encode-latents",
  "plan",
  "hash",
  "filter",
  "dedup",
  "synth-text",
  "edit-pairs",
  "select",
  "label-stem",
  "recaption",
  "label-portrait",
  "propose-edits",
  "apply-edits",
  "generate-text",
  "check-text",
  "rewrite-prompts",
  "chain",
)


def _parser() -> argparse.ArgumentParser:
  return common.subcommands("emma-data", __doc__, __name__, COMMANDS)


def main(argv: Sequence[str]) -> int | None:
  """Runs the command that `argv` (without the program) names; its exit code."""
  args, overrides = common.parse_arguments(_parser(), argv)
  return args.run(args, overrides)


def entry() -> None:
  """The console script."""
  sys.exit(common.run(main))
