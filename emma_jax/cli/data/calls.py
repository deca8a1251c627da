"""Flags of what is asked of a server: where, how much at a time, its price.

Commands that ask also say beforehand what it would cost (--dry-run), and
afterwards what it has cost; both need --price.
"""

import argparse
import json
import os
from typing import Any

from emma_jax import programs, ranges
from emma_jax.cli import common


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Flags of all that is asked of a server."""
  add = parser.add_argument
  add(
    "--cache",
    metavar="DIR",
    help="of replies (default: replies in the user's cache)",
  )
  add(
    "--timeout",
    type=ranges.SECONDS.number,
    default=120.0,
    metavar="S",
    help="seconds for one reply (default: %(default)s)",
  )
  add(
    "--requests",
    type=int,
    default=0,
    metavar="N",
    help="at a time (default: as many as --workers)",
  )
  add(
    "--price",
    default="",
    metavar="IN,OUT|PICTURE",
    help="of a million tokens in and out, or of a picture, in your currency",
  )
  add(
    "--known-as",
    default="",
    metavar="NAME",
    help="keeps replies under this name, not the server's address, so that it "
    "may move",
  )
  add(
    "--option",
    action="append",
    default=[],
    metavar="KEY=JSON",
    help='further key of the requests: --option size="1024x1024", or null to '
    "leave one out",
  )
  add(
    "--dry-run",
    action="store_true",
    help="say what would be asked and cost; ask and write nothing",
  )


def painter(args: argparse.Namespace, kind: str) -> Any:
  """painter.Painter of the flags."""
  from emma_jax.data.curation import painter as painter_lib

  return remote(args, kind, painter_lib.Painter)


def remote(args: argparse.Namespace, name: str, cls: Any, **more: Any) -> Any:
  """A back end of the flags; UserError where they are wrong."""
  from emma_jax.data.ingest import job

  cache = args.cache or str(programs.directory() / "replies")
  try:
    return cls(
      url=args.url,
      model=args.model,
      cache=os.path.abspath(cache),
      known_as=args.known_as,
      name=name,
      key_env=args.key_env,
      timeout=args.timeout,
      price=price(args.price),
      options=options(args.option),
      **more,
    )
  except job.ConversionError as error:
    raise common.UserError(f"{name}=ask: {error}") from error


def price(text: str) -> Any:
  """ledger.Price of IN,OUT or PICTURE."""
  from emma_jax.judge.ledger import Price

  if not text:
    return Price()
  try:
    numbers = [ranges.NOT_NEGATIVE.number(part) for part in text.split(",")]
    if len(numbers) == 1:
      return Price(picture=numbers[0])
    read, written = numbers
  except (ValueError, argparse.ArgumentTypeError) as error:
    raise common.UserError(
      f"--price {text}: expected two numbers for a million tokens in and out, "
      "or one for a picture."
    ) from error
  return Price(read, written)


def options(pairs: list[str]) -> dict[str, Any]:
  """{"size": "1024x1024"} of ["size=1024x1024"]; values are JSON, or texts."""
  out = {}
  for pair in pairs:
    key, equals, text = pair.partition("=")
    if not (key and equals):
      raise common.UserError(f"--option {pair}: expected KEY=JSON.")
    try:
      out[key] = json.loads(text)
    except ValueError:
      out[key] = text
  return out
