"""A forked process has none of JAX's threads: it would wait for ever."""

import os

from emma_jax.sampling.context import SampleError

_AT_WORK: set[int] = set()  # the process in which JAX began, once it has


def check() -> None:
  """Raises SampleError in a fork of a process that has had a model."""
  if not _AT_WORK:
    _AT_WORK.add(os.getpid())
  elif os.getpid() not in _AT_WORK:
    raise SampleError(
      "This process was forked from one that has loaded a model, where it "
      "would wait for ever: start it by multiprocessing.get_context('spawn') "
      "(DataLoader: multiprocessing_context='spawn'), or use threads."
    )
