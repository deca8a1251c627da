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
_SIDE = fields.whole(1, 1 << 16)
_TOKENS = fields.whole(0, 1 << 31)
_DTYPES = ("float32", "bfloat16", "float16")
_AGAIN = "export it anew"
# What is read of a run's config before its sections become objects, which
# check what they are made of.
_KEYS: dict[str, tuple[Field, ...]] = {
  "model": (
    Field("kind", fields.only("emma", remedy="give a whole EMMA's folder")),
    Field("dtype", fields.only(*_DTYPES, remedy=_AGAIN)),
    *(
      Field(key, fields.section)
      for key in ("llm", "vision", "autoencoder", "fusion")
    ),
  ),
  "data": (
    Field("tokenizer", fields.word),
    Field("height", _SIDE),
    Field("width", _SIDE),
    Field("native", fields.flag),
    Field("min_tokens", _TOKENS),
    Field("max_tokens", _TOKENS),
    Field("codec", fields.word),
    Field("fit", fields.word),
    Field("max_crop", fields.finite),
    Field("buckets", fields.each(fields.each(_SIDE, 2, 2), 0, 4096)),
  ),
  "sample": (
    Field("steps", fields.whole(1, 1 << 20)),
    Field("shift", fields.number(0, 1e6)),
    Field("text_guidance", fields.finite),
    Field("edit_text_guidance", fields.finite),
    Field("edit_image_guidance", fields.finite),
    Field("max_tokens", fields.whole(1, 1 << 31)),
    Field("max_context", fields.whole(1, 1 << 31)),
    Field("averaged", fields.flag),
  ),
}
_SECTIONS = tuple(Field(key, fields.section) for key in _KEYS)


def read(about: Mapping[str, Any], where: str) -> dict[str, Any]:
  """step, route and config, the latter by today's keys.

  Args:
    about: the JSON object.
    where: the file, for errors.

  Raises:
    FolderError: a file that the export did not write.
    ConfigError: what is missing, of a wrong type or out of range.
  """
  found = about.get("format")
  if found not in _READABLE:
    raise FolderError(
      f"{where} has format {found!r:.60}, not {FORMAT!r}; give a folder"
      " that the export of a whole EMMA wrote. (Of Qwen3, SigLIP2 and DC-AE"
      " `emma-convert init` makes first weights.)"
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
  config = current(out["config"] | parts)
  for key, table in _KEYS.items():
    fields.read(table, config[key], f"{where}, config.{key}")
  return out | {"config": config}


def _extra(about: Mapping[str, Any]) -> list[str]:
  """The model's `extra_experts`; none where the file is not as it should be."""
  found: Any = about
  for key in ("config", "model", "vision", "extra_experts"):
    found = found.get(key) if isinstance(found, Mapping) else None
  return [*found] if isinstance(found, (list, tuple)) else []
