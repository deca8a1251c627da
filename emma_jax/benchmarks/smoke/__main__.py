"""Makes the rehearsal's files: `python -m emma_jax.benchmarks.smoke [FOLDER]`.

Without a folder, those of the package. The same are made each time, but for
what other versions of Pillow change in the files of pictures.
"""

import os
import shutil
import sys

from emma_jax.benchmarks.data import folder as data
from emma_jax.benchmarks.smoke import (
  choices,
  drawings,
  edits,
  questions,
  replies,
  writing,
)

FILES = "package:smoke/files"
_ABOUT = "Made up for a rehearsal: scores of these items mean nothing."


def make(folder: str) -> None:
  """Makes all files, in place of those of an earlier time.

  Raises:
    ValueError: the folder holds something else.
  """
  if os.path.isdir(folder) and os.listdir(folder):
    if not data.is_rehearsal(folder):
      raise ValueError(
        f"{folder} holds other files than a rehearsal's; name a new folder."
      )
    shutil.rmtree(folder)
  for place in (folder, os.path.join(folder, "cn")):
    writing.whole(os.path.join(place, data.REHEARSAL), {"about": _ABOUT})
  for part in (questions, choices, drawings, edits, replies):
    part.make(folder)


if __name__ == "__main__":
  make(sys.argv[1] if sys.argv[1:] else data.located(FILES))
