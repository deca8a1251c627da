"""EMMA (arXiv 2512.04810) in JAX: one model that understands, draws, edits.

  >>> import emma_jax
  >>> model = emma_jax.load("reference")   # doctest: +SKIP
  >>> model.draw("a red star")             # doctest: +SKIP

`python -m emma_jax` lists the commands. Importing the package loads neither JAX
nor anything else; `load` does.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from emma_jax.api.model import Model, UnlikeTraining

__version__ = "0.1.0"
__all__ = ("UnlikeTraining", "__version__", "load")


def load(name: str | os.PathLike = "reference", **options: Any) -> "Model":
  """A model that draws, edits, answers and chats.

  Args:
    name: "reference" (shipped), the working folder of a training, a weight
      file, or a folder that `emma-convert export emma` wrote.
    options: dtype="bfloat16" (half the memory), batch=32 (computed at once),
      cache=True (compiled programs stay in the user's cache folder),
      mesh={} (split over all devices; None: on the first).

  Raises:
    checkpoints.integrity.CheckpointError: nothing is there, or it is damaged.
    sampling.context.SampleError: an option that cannot be.
  """
  # Here: importing the package costs nothing.
  from emma_jax import xla_flags

  xla_flags.calm_libtpu()  # before JAX is there
  from emma_jax.api import model

  return model.load(name, **options)


def __getattr__(name: str) -> Any:
  if name == "UnlikeTraining":
    from emma_jax.api.model import UnlikeTraining

    return UnlikeTraining
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
