"""What scorers need and may not be there: packages, and the files in them."""

import importlib
import importlib.metadata
import importlib.util
import pathlib
from typing import Any

EXTRA = 'pip install "emma-jax[scorers]"'


class ScorerError(Exception):
  """A scorer cannot work: what is missing or wrong, and what helps."""


class BadPicture(ScorerError):
  """A picture cannot be read."""


def load(module: str, package: str) -> Any:
  """An optional package's module.

  Raises:
    ScorerError: it cannot be imported.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise _lacking(package, str(error)) from error


def folder(module: str, package: str) -> pathlib.Path:
  """Where a package's files lie; none of its code is run.

  Raises:
    ScorerError: it is not installed.
  """
  found = importlib.util.find_spec(module)
  if found is None or not found.submodule_search_locations:
    raise _lacking(package, f"no module {module}")
  return pathlib.Path(found.submodule_search_locations[0])


def _lacking(package: str, reason: str) -> ScorerError:
  return ScorerError(
    f"This needs the package {package} ({reason}): {EXTRA}, or "
    f"pip install {package}."
  )


def version(module: str, package: str) -> str:
  """Of an optional package, under whichever name it was installed.

  Raises:
    ScorerError: it cannot be imported.
  """
  own = getattr(load(module, package), "__version__", None)
  return own or importlib.metadata.version(package)
