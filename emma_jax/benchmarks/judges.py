"""From a section of a config to a judge: a server, a file, or a scorer."""

from collections.abc import Mapping
import os
from typing import Any

from emma_jax.benchmarks.data.folder import located
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.judge import anchors
from emma_jax.judge import make as remote
from emma_jax.judge.anchors import Anchor
from emma_jax.judge.base import Judge
from emma_jax.judge.cached import Cached
from emma_jax.scorers import make as local
from emma_jax.scorers.packages import ScorerError


def anchors_of(config: Mapping[str, Any], name: str) -> list[Anchor]:
  """Those of a section `judges.NAME`; none where it names no file.

  Raises:
    BadSettings: the file is not there, or damaged.
  """
  path = config["judges"][name].get("anchors", "")
  # Of a scorer, pictures that it checks itself.
  if not path or config["judges"][name].get("kind") in local.KEYS:
    return []
  try:
    return anchors.load(path)
  except (OSError, ValueError) as error:
    raise BadSettings(f"judges.{name}.anchors: {error}") from error


def judge_of(
  config: Mapping[str, Any], name: str, out: str, *, asked: bool = True
) -> Judge:
  """The judge of a section `judges.NAME`.

  Args:
    config: plain dictionaries.
    name: of the section.
    out: folder of the run, in whose folder judge/ replies are kept; "" keeps
      none. A section's key `cache` names another, which runs may share.
    asked: False where only its identity is wanted: a detector then does not
      look at its anchors.

  Raises:
    BadSettings: no such judge, a key or a value that cannot be, a package or a
      file that is not there, a detector that misses its anchors.
  """
  if name not in config["judges"]:
    known = ", ".join(config["judges"]) or "none"
    raise BadSettings(f"The config has no judges.{name}; there are {known}.")
  section = dict(config["judges"][name] or {})
  shared = section.pop("cache", "")
  try:
    if "path" in section:
      section["path"] = located(section["path"])
    folder = (shared or os.path.join(out, "judge")) if out else ""
    if section.get("kind") not in local.KEYS:
      section.pop("anchors", None)  # `calibration` asks them
      return remote.make(section, folder)
    if not asked:
      section.pop("anchors", None)
    judge = local.make(section)
  except (ScorerError, ValueError, TypeError, AttributeError, OSError) as error:
    raise BadSettings(f"judges.{name}: {error}") from error
  return Cached(judge, folder) if folder else judge
