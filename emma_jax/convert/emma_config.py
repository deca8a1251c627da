"""config.json of an exported EMMA: the run's config, and where it stood."""

from collections.abc import Mapping
from typing import Any

from emma_jax.checkpoints.renamed_keys import current
from emma_jax.convert import fields
from emma_jax.convert.fields import Field
from emma_jax.convert.headers import FolderError

FORMAT = "emma-torch-2"  # emma_torch refuses any other
# 1: `emma_torch` of that time framed pictures by the section `data` alone.
_READABLE = ("emma-torch-1", FORMAT)
# The expert of understood pictures; further ones are `extra_experts`.
_ROUTES = ("versatile", "stem", "router")
_SECTIONS = tuple(
  Field(key, fields.section) for key in ("model", "data", "sample")
)


def read(about: Mapping[str, Any], where: str) -> dict[str, Any]:
  """step, route and config, the latter by today's keys.

  Args:
    about: the JSON object.
    where: the file, for errors.

  Raises:
    FolderError: a file that the export did not write.
    ConfigError: what is missing or of a wrong type.
  """
  found = about.get("format")
  if found not in _READABLE:
    raise FolderError(
      f"{where} has format {found!r:.60}, not {FORMAT!r}; give a folder"
      " that the export of a whole EMMA wrote."
    )
  routes = fields.only(*_ROUTES, *_extra(about), remedy="export it anew")
  out, _ = fields.read(
    (
      Field("step", fields.whole(0, 1 << 62)),
      Field("route", routes),
      Field("config", fields.section),
    ),
    about,
    where,
  )
  parts, _ = fields.read(_SECTIONS, out["config"], f"{where}, config")
  return out | {"config": current(out["config"] | parts)}


def _extra(about: Mapping[str, Any]) -> list[str]:
  """The model's `extra_experts`; none where the file is not as it should be."""
  found: Any = about
  for key in ("config", "model", "vision", "extra_experts"):
    found = found.get(key) if isinstance(found, Mapping) else None
  return [*found] if isinstance(found, (list, tuple)) else []
