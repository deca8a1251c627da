"""How a set is run: a section of the config, checked once.

What a section leaves open (None, 0, "") is the protocol's, or, of sampling, the
checkpoint's own.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from emma_jax import ranges
from emma_jax.benchmarks import suite
from emma_jax.benchmarks.data import folder, sets
from emma_jax.benchmarks.suite import Benchmark


class BadSettings(ValueError):
  """A config that cannot be run; names the key, the value and the remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetSettings:
  """Of one set.

  Args:
    name: of the set; two sections may name one, with other splits.
    title: as papers call it.
    benchmark: its protocol.
    split: of the data.
    impl: the headline's implementation; all others are computed too.
    prompt: name of a template of the protocol.
    max_tokens, temperature: of answers.
    repeats: predictions of an item.
    size: (height, width) of drawings; None: as trained.
    steps, shift, text_guidance, image_guidance: of pictures; None: the
      checkpoint's.
    seed: of noise, and of answers above temperature 0.
    judge: name of a judge in the config; "" for none.
    guess: an answer that nobody can read is a random option, by the seed.
    quirks: the original's defects are reproduced.
    limit: items at most, whole groups of them; 0: all.
    data: folder of the data.
  """

  name: str
  title: str
  benchmark: Benchmark
  split: str
  impl: str
  prompt: str
  max_tokens: int
  temperature: float
  repeats: int
  size: tuple[int, int] | None
  steps: int | None
  shift: float | None
  text_guidance: float | None
  image_guidance: float | None
  seed: int
  judge: str
  guess: bool
  quirks: bool
  limit: int
  data: str

  @property
  def impls(self) -> tuple[str, ...]:
    """All implementations, the headline's first."""
    rest = (x for x in self.benchmark.impls if x != self.impl)
    return (self.impl, *rest)

  def asked(self) -> dict[str, Any]:
    """JSON of what decides predictions, as the config says it."""
    keys = (
      *("split", "prompt", "max_tokens", "temperature", "repeats", "size"),
      *("steps", "shift", "text_guidance", "image_guidance", "seed"),
    )
    content: dict[str, Any] = {key: getattr(self, key) for key in keys}
    content["set"] = self.benchmark.name
    content["stop"] = list(self.benchmark.stop)
    content["size"] = list(self.size) if self.size else None
    return content


_FALLBACKS = ("wrong", "seeded_random")
# Of a config, and what each may be.
KEYS: Mapping[str, Any] = {
  "name": str,
  "data": str,
  "max_failed": float,
  "seed": int,
  "rows": int,
  "concurrency": int,
  "sets": dict,
  "judges": dict,
}
_SAMPLING: Mapping[str, Any] = {
  "steps": int | None,
  "shift": float | None,
  "text_guidance": float | None,
  "image_guidance": float | None,
  "seed": int,
}
_SET: Mapping[str, Any] = {
  "enabled": bool,
  "split": str,
  "impl": str,
  "prompt": str,
  "max_tokens": int,
  "temperature": float,
  "repeats": int,
  "size": tuple | list,
  "sampling": dict,
  "judge": str,
  "fallback": str,
  "official_quirks": bool,
  "limit": int,
  "data": str,
}


def _check(where: str, section: Any, kinds: Mapping[str, Any]) -> None:
  """Raises BadSettings for a section without exactly these keys and kinds."""
  if not isinstance(section, Mapping):
    raise BadSettings(f"{where}={section!r:.60} is no section of the config.")
  if unknown := sorted(set(section) - set(kinds)):
    raise BadSettings(
      f"{where} has no {', '.join(unknown)}; there are {', '.join(kinds)}."
    )
  if missing := [key for key in kinds if key not in section]:
    raise BadSettings(
      f"{where} lacks {', '.join(missing)}; configs/benchmarks/defaults.py has "
      "all of them."
    )
  for key, kind in kinds.items():
    value = section[key]
    if kind is not bool and isinstance(value, bool):
      fits = False
    elif kind in (float, float | None) and isinstance(value, int):
      fits = True
    else:
      fits = isinstance(value, kind)
    if not fits:
      told = getattr(kind, "__name__", kind)
      raise BadSettings(f"{where}.{key}={value!r:.60} has to be {told}.")


def of(name: str, section: Mapping[str, Any], data: str) -> SetSettings:
  """A section `sets.NAME`; NAME is a set's, or SET:anything.

  Args:
    name: of the section.
    section: its keys.
    data: folder of the data where the section names none.

  Raises:
    BadSettings: a key or value that cannot be.
  """
  try:
    benchmark = suite.find(name.partition(":")[0])
    found, split = sets.find(benchmark.name, section["split"])
  except ValueError as error:
    raise BadSettings(f"sets.{name}: {error}") from error
  sampling = section["sampling"]
  chosen = SetSettings(
    name=name,
    title=found.title,
    benchmark=benchmark,
    split=split,
    impl=_one_of(name, section, "impl", benchmark.impls),
    prompt=_one_of(name, section, "prompt", tuple(benchmark.prompts)),
    max_tokens=section["max_tokens"] or benchmark.max_tokens,
    temperature=section["temperature"],
    repeats=section["repeats"] or benchmark.repeats,
    size=_size(name, section["size"]),
    steps=sampling["steps"],
    shift=sampling["shift"],
    text_guidance=sampling["text_guidance"],
    image_guidance=sampling["image_guidance"],
    seed=sampling["seed"],
    judge=section["judge"] if benchmark.judge else "",
    guess=_one_of(name, section, "fallback", _FALLBACKS) == _FALLBACKS[1],
    quirks=section["official_quirks"],
    limit=section["limit"],
    data=folder.located(section["data"] or data),
  )
  for key in ("max_tokens", "repeats", "limit", "temperature"):
    if getattr(chosen, key) not in ranges.NOT_NEGATIVE:
      raise BadSettings(
        f"sets.{name}.{key}={section[key]} must not be negative."
      )
  for key, allowed in _SAMPLED.items():
    value = getattr(chosen, key)
    if value is not None and value not in allowed:
      raise BadSettings(f"sets.{name}.sampling.{key}={value} is not {allowed}.")
  return chosen


# What `Session` takes, asked before the first set.
_SAMPLED = {
  "shift": ranges.SHIFT,
  "text_guidance": ranges.GUIDANCE,
  "image_guidance": ranges.GUIDANCE,
}


def _one_of(
  name: str, section: Mapping[str, Any], key: str, known: tuple[str, ...]
) -> str:
  value = section[key] or known[0]
  if value not in known:
    raise BadSettings(
      f"sets.{name}.{key}={value!r} is unknown; there are {', '.join(known)}."
    )
  return value


def _size(name: str, value: Any) -> tuple[int, int] | None:
  if not value:
    return None
  if len(value) != 2 or min(value) < 1:
    raise BadSettings(
      f"sets.{name}.size={tuple(value)} must be (height, width) in pixels, or "
      "() for the trained size."
    )
  return int(value[0]), int(value[1])


def chosen(
  config: Mapping[str, Any], only: str = "", data: str = ""
) -> list[SetSettings]:
  """The sets of a config that are run, in its order.

  Args:
    config: with `sets` and `data`.
    only: names with commas between; "" for all that are enabled.
    data: folder of the data, over the config's.

  Raises:
    BadSettings: see `of`; a name in `only` that no section has; no set at all.
  """
  _check("config", config, KEYS)
  if not 0 <= config["max_failed"] <= 1:
    raise BadSettings(
      f"max_failed={config['max_failed']} is a share, from 0 to 1."
    )
  for key in ("rows", "concurrency"):
    if config[key] < 1:
      raise BadSettings(f"{key}={config[key]} must be at least 1.")
  for name, section in config["sets"].items():
    _check(f"sets.{name}", section, _SET)
    _check(f"sets.{name}.sampling", section["sampling"], _SAMPLING)
  wanted = [x.strip() for x in only.split(",") if x.strip()]
  unknown = [x for x in wanted if x not in config["sets"]]
  if unknown:
    raise BadSettings(
      f"No section sets.{unknown[0]}; the config has "
      f"{', '.join(config['sets'])}."
    )
  found = [
    of(name, section, data or config["data"])
    for name, section in config["sets"].items()
    if (name in wanted if wanted else section["enabled"])
  ]
  if not found:
    raise BadSettings("No set is enabled; name some with --sets.")
  return found
