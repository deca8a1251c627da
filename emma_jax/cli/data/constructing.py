"""Flags that name back ends: who scores, judges, reads, labels.

NAME=scores.jsonl   a file that was computed before: {"id": "7", "score": 6.1}
NAME=noted          what an earlier construction noted in the provenance
NAME=ask            a model behind --url

Commands that ask also say beforehand what it would cost (--dry-run), and
afterwards what it has cost; both need --price.
"""

import argparse
import json
import os
from typing import Any

from emma_jax.cli import common


def add_back_ends(parser: argparse.ArgumentParser) -> None:
  """The client's flags, and what becomes of records without an answer."""
  add = parser.add_argument
  add(
    "--missing",
    default="error",
    choices=("error", "drop", "keep"),
    help="what becomes of records without an answer (default: the run ends)",
  )
  add(
    "--url",
    default="",
    help="of an OpenAI-compatible server, such as http://localhost:8000/v1",
  )
  add("--model", default="", help="its name on the server")
  add(
    "--key-env",
    default="OPENAI_API_KEY",
    metavar="VARIABLE",
    help="environment variable that holds the key (default: %(default)s)",
  )
  add(
    "--prompt",
    action="append",
    default=[],
    metavar="NAME=FILE",
    help="asks with the file's text; {instruction}, {prompt}, {text} stand "
    "for the record's",
  )
  add_calls(parser)


def add_calls(parser: argparse.ArgumentParser) -> None:
  """Flags of all that is asked of a server."""
  add = parser.add_argument
  add(
    "--cache",
    metavar="DIR",
    help="of replies (default: replies in the user's cache)",
  )
  add(
    "--timeout",
    type=float,
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


def back_end(args: argparse.Namespace, kind: str, name: str, value: str) -> Any:
  """answers.Answers of a flag's value; `kind`: of prompts.PROMPTS."""
  from emma_jax.data.curation import answers

  if value == "noted":
    return answers.Noted(name)
  if value == "ask":
    return _client(args, kind, name)
  if not os.path.isfile(value):
    raise common.UserError(
      f"{name}={value}: no such file; or write {name}=noted, {name}=ask."
    )
  return answers.Precomputed(path=os.path.abspath(value))


def optional(args: argparse.Namespace, kind: str, value: str | None) -> Any:
  """The same for a flag with one fixed name, which may be absent."""
  return value and back_end(args, kind, kind, value)


def score(
  args: argparse.Namespace,
  kind: str,
  text: str,
  minimum: float | None = None,
  maximum: float | None = None,
) -> Any:
  """filters.ScoreRule of NAME=BACK_END."""
  from emma_jax.data.curation import filters

  name, equals, value = text.partition("=")
  if not (name and equals and value):
    raise common.UserError(f"{text}: expected NAME=FILE, =noted or =ask.")
  return filters.ScoreRule(
    name=name,
    answers=back_end(args, kind, name, value),
    minimum=minimum,
    maximum=maximum,
  )


def numbers(flag: str, values: list[str]) -> dict[str, float]:
  """{"aesthetic": 5.5} of ["aesthetic=5.5"]."""
  out = {}
  for value in values:
    name, _, number = value.partition("=")
    try:
      out[name] = float(number)
    except ValueError as error:
      raise common.UserError(
        f"{flag} {value}: expected NAME=NUMBER."
      ) from error
  return out


def _client(args: argparse.Namespace, kind: str, name: str) -> Any:
  from emma_jax.data.curation import client, prompts, stem_labels

  if kind == "stem":
    prompt = stem_labels.READINGS[args.reading].prompt
  else:
    prompt = prompts.PROMPTS[kind]
  for pair in args.prompt:
    key, _, path = pair.partition("=")
    if key == name:
      try:
        with open(path, encoding="utf-8") as file:
          prompt = file.read()
      except (OSError, UnicodeDecodeError) as error:
        raise common.UserError(f"--prompt {pair}: {error}") from error
  return remote(
    args,
    name,
    client.Client,
    prompt=prompt,
    answer_tokens=prompts.ANSWER_TOKENS[kind],
  )


def painter(args: argparse.Namespace, kind: str) -> Any:
  """painter.Painter of the flags."""
  from emma_jax.data.curation import painter as painter_lib

  return remote(args, kind, painter_lib.Painter)


def remote(args: argparse.Namespace, name: str, cls: Any, **more: Any) -> Any:
  """A back end of the flags; UserError where they are wrong."""
  from emma_jax.data.ingest import job

  cache = args.cache or str(common.cache_directory() / "replies")
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
  """replies.Price of IN,OUT or PICTURE."""
  from emma_jax.data.curation.replies import Price

  if not text:
    return Price()
  try:
    numbers = [float(part) for part in text.split(",")]
    if len(numbers) == 1:
      return Price(picture=numbers[0])
    read, written = numbers
  except ValueError as error:
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
