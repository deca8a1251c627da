"""Flags that name back ends: who scores, judges, reads, labels.

NAME=scores.jsonl   a file that was computed before: {"id": "7", "score": 6.1}
NAME=noted          what an earlier construction noted in the provenance
NAME=ask            a model behind --url
NAME=local          texts and faces by models of the extra `scorers`
"""

import argparse
import os
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.data import calls


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
  calls.add_flags(parser)


def back_end(args: argparse.Namespace, kind: str, name: str, value: str) -> Any:
  """answers.Answers of a flag's value; `kind`: of prompts.PROMPTS."""
  from emma_jax.data.curation import answers

  if value == "noted":
    return answers.Noted(name)
  if value == "local":
    return _local(kind)
  if value == "ask":
    return _client(args, kind, name)
  if not os.path.isfile(value):
    raise common.UserError(
      f"{name}={value}: no such file; or write noted, ask or local."
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
      out[name] = ranges.FINITE.number(number)
    except argparse.ArgumentTypeError as error:
      raise common.UserError(
        f"{flag} {value}: expected NAME=NUMBER; {error}."
      ) from error
  return out


def _local(kind: str) -> Any:
  from emma_jax.data.curation import local
  from emma_jax.data.ingest import job

  try:
    return local.Local(kind)
  except job.ConversionError as error:
    raise common.UserError(str(error)) from error


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
  return calls.remote(
    args,
    name,
    client.Client,
    prompt=prompt,
    answer_tokens=prompts.ANSWER_TOKENS[kind],
  )
