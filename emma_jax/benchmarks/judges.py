"""From a section of a config to a judge: a server, a file, or a scorer."""

from collections.abc import Mapping
import os
from typing import Any

from emma_jax.benchmarks.data.folder import located
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.judge import make as remote
from emma_jax.judge.base import Judge
from emma_jax.judge.cached import Cached
from emma_jax.scorers import make as local
from emma_jax.scorers.packages import ScorerError


def judge_of(config: Mapping[str, Any], name: str, out: str) -> Judge:
  """The judge of a section `judges.NAME`.

  Args:
    config: plain dictionaries.
    name: of the section.
    out: folder of the run, in whose folder judge/ replies are kept; "" keeps
      none. A section's key `cache` names another, which runs may share.

  Raises:
    BadSettings: a key or a value that cannot be, a package or a file that is
      not there.
  """
  section = dict(config["judges"][name])
  shared = section.pop("cache", "")
  section.pop("anchors", None)  # see `calibration`
  if "path" in section:
    section["path"] = located(section["path"])
  folder = (shared or os.path.join(out, "judge")) if out else ""
  try:
    if section.get("kind") not in local.KEYS:
      return remote.make(section, folder)
    judge = local.make(section)
  except (ScorerError, ValueError, OSError) as error:
    raise BadSettings(f"judges.{name}: {error}") from error
  return Cached(judge, folder) if folder else judge
