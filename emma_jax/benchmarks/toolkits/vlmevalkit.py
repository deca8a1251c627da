"""EMMA as a model of VLMEvalKit, which finds models in a table of its own.

  cd VLMEvalKit
  python -m emma_jax.benchmarks.toolkits.vlmevalkit --checkpoint runs/x \\
      -- --data MMStar --model emma --mode all

adds the model `emma` and runs VLMEvalKit's run.py with what follows the "--".
Answers that `emma-benchmark` made are scored without this: see
`prediction_files`.

Interface: open-compass/VLMEvalKit, vlmeval/vlm/base.py (`BaseModel`),
vlmeval/config.py (`supported_VLM`), run.py.
"""

import argparse
from collections.abc import Mapping, Sequence
import functools
import importlib.util
import os
import runpy
import sys
from typing import Any

from emma_jax.benchmarks.toolkits.asking import Asked, Asker, error_text
from emma_jax.data.text.chat import IMAGE_MARK


class EmmaJax:
  """What a model of VLMEvalKit does itself; `model_class` adds its base.

  Args:
    checkpoint: shipped weights, a weight file, a training's or an exported
      folder.
    rows: of every program, a power of two; requests come one by one.
    max_new_tokens: of an answer; 0: the checkpoint's.
    session: a loaded session, in place of a checkpoint.
  """

  INTERLEAVE = True
  is_api = False

  def __init__(
    self,
    checkpoint: str = "",
    rows: int = 1,
    max_new_tokens: int = 0,
    session: Any = None,
  ):
    super().__init__()
    self._limit = max_new_tokens or None
    self._asker = (
      Asker.load(checkpoint, rows=rows) if session is None else Asker(session)
    )

  def generate_inner(
    self, message: Sequence[Mapping[str, str]], dataset: str | None = None
  ) -> str:
    """The answer at temperature 0; `error_text` of what fails.

    Args:
      message: {"type": "image", "value": path} and {"type": "text", "value":
        text} in reading order.
      dataset: its name.

    Raises:
      ValueError: a part of another type.
    """
    text, pictures = text_and_pictures(message)
    (given,) = self._asker.answers(
      [
        Asked(
          name=f"{dataset}/{text}",
          text=text,
          pictures=pictures,
          max_tokens=self._limit,
        )
      ]
    )
    return error_text(given.status) if given.failed else given.text


def text_and_pictures(
  message: Sequence[Mapping[str, str]],
) -> tuple[str, list[bytes]]:
  """(text with IMAGE_MARK where pictures stand, their files).

  Raises:
    ValueError: a part that is neither text nor picture.
    OSError: a file that cannot be read.
  """
  text, pictures = "", []
  for part in message:
    kind, value = part["type"], part["value"]
    if kind == "text":
      text += value
    elif kind == "image":
      text += IMAGE_MARK
      with open(value, "rb") as file:
        pictures.append(file.read())
    else:
      raise ValueError(
        f"A message has a part of the type {kind!r}; EMMA takes text and "
        "pictures alone."
      )
  return text, pictures


def model_class() -> type:
  """`EmmaJax` with VLMEvalKit's own base, which checks messages.

  Raises:
    ImportError: VLMEvalKit is not there.
  """
  from vlmeval.vlm.base import BaseModel

  return type("EmmaJax", (EmmaJax, BaseModel), {})


def register(name: str, **options: Any) -> None:
  """Adds a model to VLMEvalKit's table; `options` are those of `EmmaJax`."""
  from vlmeval.config import supported_VLM

  supported_VLM[name] = functools.partial(model_class(), **options)


def find_run(given: str) -> str:
  """VLMEvalKit's run.py: named, here, or beside the installed package.

  Raises:
    FileNotFoundError: it is nowhere.
  """
  places = [given] if given else ["run.py"]
  if not given:
    package = importlib.util.find_spec("vlmeval")
    for folder in (package and package.submodule_search_locations) or ():
      places.append(os.path.join(os.path.dirname(folder), "run.py"))
  for path in places:
    if os.path.isfile(path):
      return os.path.abspath(path)
  raise FileNotFoundError(
    f"VLMEvalKit's run.py is not at {' or '.join(places)}; start in its "
    "checkout, or name the file with --run."
  )


def main(argv: Sequence[str] | None = None) -> None:
  """Registers the model and runs run.py as the main program."""
  parser = argparse.ArgumentParser(
    prog="python -m emma_jax.benchmarks.toolkits.vlmevalkit",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--checkpoint", required=True, metavar="NAME")
  parser.add_argument("--rows", type=int, default=1, metavar="N")
  parser.add_argument(
    "--max-new-tokens",
    type=int,
    default=0,
    metavar="N",
    help="of an answer [the checkpoint's]",
  )
  parser.add_argument("--name", default="emma", help="of the model [emma]")
  parser.add_argument("--run", default="", metavar="FILE", help="its run.py")
  parser.add_argument("rest", nargs="*", metavar="-- ARGUMENTS of run.py")
  args = parser.parse_args(argv)
  path = find_run(args.run)
  # As `python run.py` has it: the checkout's own vlmeval goes first.
  sys.path.insert(0, os.path.dirname(path))
  register(
    args.name,
    checkpoint=args.checkpoint,
    rows=args.rows,
    max_new_tokens=args.max_new_tokens,
  )
  sys.argv = [path, *args.rest]
  runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
  main()
