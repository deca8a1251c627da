"""emma-data lengths: counts text tokens again, with another tokenizer.

Packing is planned by the side files of lengths; they belong to one tokenizer.
Records are read, pictures are not decoded; each side file changes as a whole.
"""

import argparse
import dataclasses
import os
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-data lengths`."""
  parser = commands.add_parser(
    "lengths",
    help="count text tokens with another tokenizer",
    description=__doc__,
  )
  parser.add_argument("data", metavar="DIR", help="folder of records")
  parser.add_argument(
    "--tokenizer", required=True, metavar="NAME", help="tiny or qwen3:PATH"
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Replaces the side files of lengths in place; 0, or UserError."""
  from emma_jax.build import data as build_data
  from emma_jax.data.pictures.images import BadRecord
  from emma_jax.data.records.source import RecordsSource

  common.refuse_overrides("lengths", overrides)
  try:
    tokenizer = build_data.tokenizer({"tokenizer": args.tokenizer})
    source = RecordsSource(args.data)
    card = recount(source, tokenizer)
  except (OSError, ValueError, BadRecord) as error:
    raise common.UserError(str(error)) from error
  tokens = sum(shard.text_tokens for shard in card.shards)
  print(f"{args.data}: {tokens} text tokens in {card.records} records.")
  return 0


def recount(source: Any, tokenizer: Any) -> Any:
  """Writes new side files and the card that belongs to them; returns it."""
  from emma_jax.data.records import card as card_lib
  from emma_jax.data.records.lengths import Lengths, Measure

  measure, shards, first = Measure.of(tokenizer), [], 0
  for shard in source.card.shards:
    path = os.path.join(source.folder, shard.lengths)
    old = Lengths.load(path)
    lengths = Lengths.of(
      [
        measure(source.stored_row(first + i), old[i].sizes)
        for i in range(shard.records)
      ],
      tokenizer.fingerprint(),
    )
    first += shard.records
    lengths.save(path)
    shards.append(
      dataclasses.replace(
        shard,
        lengths_sha256=card_lib.sha256(path),
        text_tokens=int(lengths.text_tokens().sum()),
      )
    )
  card = dataclasses.replace(
    source.card, shards=tuple(shards), tokenizer=tokenizer.fingerprint()
  )
  card.save(source.folder)
  return card
