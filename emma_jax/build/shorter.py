"""Less of a config: some of its stages, fewer steps of each."""

from collections.abc import Mapping, Sequence
import difflib
from typing import Any

from emma_jax.build.sections import ConfigError

# Of a stage whose batch is planned: samples, which its steps follow from.
_IN_SAMPLES = ("stage_samples", "warmup_samples", "half_life")


def steps(config: Any, most: int) -> None:
  """At most so many steps a stage, in place; `--max_steps`.

  Warm-up and average keep their shares of the stage, and so do the phases of
  its mixture, which are shares already: a stage of 10 of 1,000 steps warms up
  in 1 instead of 100, and its average forgets in a hundredth of the steps.

  Raises:
    ConfigError: a number below 1.
  """
  if most < 1:
    raise ConfigError(f"--max_steps {most}: a stage has at least 1 step.")
  for section in config["stages"].values():
    if section["steps"] <= most:
      continue
    share = most / section["steps"]
    section["steps"] = most
    for key, value in _shrunk(section, share, most).items():
      section[key] = value


def _shrunk(
  section: Mapping[str, Any], share: float, steps: int
) -> dict[str, Any]:
  warmup = section["warmup_steps"]
  out: dict[str, Any] = {
    "warmup_steps": min(steps, max(1, round(warmup * share))) if warmup else 0,
    # As many of the shorter steps until half is forgotten.
    "ema_decay": section["ema_decay"] ** (1 / share),
  }
  if section.get("measure_rows"):
    batch = section["rows"] * section["row_samples"]
    out |= {k: max(1, round(section[k] * share)) for k in _IN_SAMPLES}
    out["stage_samples"] = round(steps * batch)
  return out


def stages(config: Any, names: Sequence[str]) -> None:
  """Only these stages, in the config's order, in place; `--stages`.

  Raises:
    ConfigError: a name that is no stage's; or the first one would start from
      the weights of one that is left out.
  """
  every = list(config["stages"])
  for name in names:
    if name not in every:
      close = difflib.get_close_matches(name, every, 1, cutoff=0.3)
      hint = f" Did you mean {close[0]}?" if close else ""
      raise ConfigError(
        f"--stages: there is no stage {name!r}.{hint} The config has "
        f"{', '.join(every)}."
      )
  if not names:
    raise ConfigError(f"--stages: name some of {', '.join(every)}.")
  kept = [name for name in every if name in names]
  first = kept[0]
  if first != every[0] and _needs_earlier(config["stages"][first]):
    before = every[every.index(first) - 1]
    raise ConfigError(
      f"--stages: {first} goes on from the weights of {before}. Begin with "
      f"{every[0]}; or say where its weights are, "
      f"""--config.stages.{first}.load="((".*", "weights:FOLDER"),)"."""
    )
  with config.unlocked():
    for name in every:
      if name not in kept:
        del config["stages"][name]


def _needs_earlier(section: Mapping[str, Any]) -> bool:
  return any(source == "keep" for _, source in section["load"])
