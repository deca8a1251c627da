"""What lmms-eval's requests say: names, pictures, and how to answer.

Interface: EvolvingLMMs-Lab/lmms-eval, lmms_eval/api/task.py
(`ConfigurableTask.construct_requests`).
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
import os
import re
from typing import Any

import numpy as np

from emma_jax.benchmarks import suite

# The harness's own, which is in no task: qwen2_5_vl.py leaves it out as well.
_NO_STOP = "\n\n"
# Of gen_kwargs: what must be 1 or absent, and what cannot be done at all.
_ONE = ("num_beams", "num_return_sequences")
_INTERLEAVED = ("bagel_interleaved", "interleaved_config")
_TAGGED = re.compile(
  r"\[GEN_PROMPT\](.*?)\[/GEN_PROMPT\].*?\[QUESTION\](.*?)\[/QUESTION\]",
  re.DOTALL,
)


def names(requests: Sequence[Any]) -> Iterator[str]:
  """task/split/document/repeat: the same whatever else is asked."""
  seen: collections.Counter[str] = collections.Counter()
  for request in requests:
    doc_id, task, split = request.args[3:]
    name = f"{task}/{split}/{doc_id}"
    yield f"{name}/{seen[name]}"
    seen[name] += 1


def marked(context: str, pictures: Sequence[Any]) -> suite.Request:
  """A prompt with IMAGE_MARK where it says <image 1>, <image 2>, ...

  >>> marked("Is <image 1> red?", ["a"]).text
  'Is <image> red?'
  """
  if re.search(r"<image \d+>", context):
    return suite.interleaved(context, pictures)
  return suite.Request(text=context, pictures=tuple(pictures))


def picture(visual: Any) -> Any:
  """What a session takes: RGB of Pillow's picture, or a file's content.

  Raises:
    TypeError: video, sound or anything else.
    OSError: a path that cannot be read.
  """
  if isinstance(visual, (str, os.PathLike)):
    with open(visual, "rb") as file:
      return file.read()
  if not hasattr(visual, "convert"):
    raise TypeError(
      f"A task shows {type(visual).__name__}; EMMA takes pictures alone, no "
      "video and no sound."
    )
  return np.asarray(visual.convert("RGB"))


def check(options: Mapping[str, Any]) -> None:
  """Raises NotImplementedError for gen_kwargs that ask for beams, for several
  answers, or for pictures between texts."""
  wrong = [k for k in _ONE if int(options.get(k) or 1) != 1]
  wrong += [k for k in _INTERLEAVED if options.get(k)]
  if wrong:
    raise NotImplementedError(
      f"generation_kwargs of the task: {wrong[0]}={options[wrong[0]]!r:.60} is "
      "not done here; give another by --gen_kwargs, or leave the task out."
    )


def temperature(options: Mapping[str, Any]) -> float:
  """Of gen_kwargs; 0 where nothing is drawn.

  >>> temperature({"temperature": 0.7, "do_sample": False})
  0.0
  >>> temperature({"do_sample": True}), temperature({})
  (1.0, 0.0)
  """
  if "do_sample" in options and not options["do_sample"]:
    return 0.0
  given = options.get("temperature")
  if given is None:
    return 1.0 if options.get("do_sample") else 0.0
  return float(given)


def stops(options: Mapping[str, Any]) -> tuple[str, ...]:
  """Of gen_kwargs, without the harness's empty line.

  >>> stops({"until": ["\\n\\n", "ASSISTANT:"]}), stops({"until": "x"})
  (('ASSISTANT:',), ('x',))
  """
  until = options.get("until") or ()
  until = (until,) if isinstance(until, str) else until
  return tuple(text for text in until if text and text != _NO_STOP)


def drawing_and_question(context: str) -> tuple[str, str]:
  """(what to draw, what to ask then) of a task of visual thoughts.

  Raises:
    ValueError: the prompt does not say so.
  """
  found = _TAGGED.search(context)
  if not found:
    raise ValueError(
      f"{context!r:.80}: a task of visual thoughts says what to draw between "
      "[GEN_PROMPT] and [/GEN_PROMPT], and then what to ask between [QUESTION] "
      "and [/QUESTION]."
    )
  return found[1].strip(), found[2].strip()
