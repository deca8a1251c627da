"""Patterns of a config's dotted keys."""


def matches(pattern: str, path: tuple[str, ...]) -> bool:
  """Whether a key's path is one of a pattern.

  >>> matches("stages.*.mixture.**", ("stages", "a", "mixture", "0", "x"))
  True
  """
  parts = pattern.split(".")
  if parts[-1] == "**":
    parts, path = parts[:-1], path[: len(parts) - 1]
  return len(parts) == len(path) and all(
    p in ("*", name) for p, name in zip(parts, path, strict=True)
  )
