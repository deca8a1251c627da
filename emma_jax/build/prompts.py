"""What a training's texts are like: its sources, read for their texts alone."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
from typing import Any

from emma_jax import files
from emma_jax.build import data as build_data
from emma_jax.build.sections import ConfigError
from emma_jax.checkpoints import locate
from emma_jax.data.pictures.images import BadRecord
from emma_jax.sampling import prompt_statistics
from emma_jax.sampling.prompt_statistics import PromptStatistics
from emma_jax.structs import TASKS, Drawing, Editing, Record, Understanding

# One of so many texts sets the limit, all others are counted.
_HELD_OUT = 4


def statistics_of(name: str) -> PromptStatistics | None:
  """Those beside weights; None where there are none, or none that are read.

  `name`: see `checkpoints.locate`.
  """
  file = locate.prompts_file(name)
  if file is None:
    return None
  try:
    return PromptStatistics.from_json(file.read_text("utf-8"))
  except (OSError, ValueError):
    return None  # what they would say is a note, and no reason to end


def texts_of(record: Record) -> tuple[str, tuple[str, ...]]:
  """(task, what a user would have to say for it)."""
  if isinstance(record, Drawing):
    return "drawing", (record.prompt,)
  if isinstance(record, Editing):
    return "editing", (record.instruction,)
  assert isinstance(record, Understanding)
  return "understanding", tuple(question for question, _ in record.turns)


def records(config: Mapping[str, Any], most: int) -> Iterator[Record]:
  """Up to `most` records of each source of a training, over all of its length.

  A broken one is passed over.

  Raises:
    ConfigError: a source that cannot be opened.
  """
  from emma_jax.data.loading.sources import WORLD_LENGTH, open_source

  for name, spec in config["data"]["sources"].items():
    try:
      source = open_source(spec)
    except (OSError, ValueError) as error:
      raise ConfigError(f"config.data.sources.{name}: {error}") from error
    length = len(source)
    stride = 1 if length >= WORLD_LENGTH else max(1, length // most)
    for i in range(min(most, length)):
      try:
        yield source[i * stride]
      except BadRecord:
        continue


def continue_from(
  before: str, after: str, config: Mapping[str, Any], samples: int
) -> None:
  """Leaves beside weights what the ones they come from know, and their own.

  Nothing where nothing is known of those: prompts that they were trained on
  would be called unlike the few of the fine-tuning.

  Args:
    before, after: weights, see `checkpoints.locate`.
    config: of the training that began with `before` and made `after`.
    samples: records read of each of its sources.
  """
  known, file = statistics_of(before), locate.prompts_file(after)
  if known is None or file is None:
    return
  with contextlib.suppress(ConfigError):  # data without texts adds none
    known = dataclasses.replace(measure(config, samples), earlier=known)
  files.write_text(file, known.to_json())


def measure(
  config: Mapping[str, Any],
  samples: int,
  on_progress: Callable[[int], object] = lambda done: None,
) -> PromptStatistics:
  """Statistics of the texts that a config trains on.

  Args:
    config: of the training, all sections.
    samples: records read of each source.
    on_progress: told how many records are read.

  Raises:
    ConfigError: a source that cannot be opened, or no texts at all.
  """
  tokenizer = build_data.tokenizer(config["data"])
  found: dict[str, list[list[int]]] = {}
  for i, record in enumerate(records(config, samples)):
    task, texts = texts_of(record)
    found.setdefault(task, []).extend(
      tokenizer.encode(text) for text in texts if text.strip()
    )
    on_progress(i + 1)
  tasks = {
    task: prompt_statistics.count(
      [x for i, x in enumerate(found[task]) if i % _HELD_OUT],
      found[task][::_HELD_OUT],
      tokenizer.vocab_size,
    )
    for task in TASKS
    if len(found.get(task, ())) > 1
  }
  if not tasks:
    raise ConfigError(
      "The sources of config.data.sources have no texts to measure."
    )
  return PromptStatistics(
    tokenizer=tokenizer.fingerprint(), tasks=tasks, earlier=None
  )
