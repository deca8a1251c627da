"""What to evaluate on: the section `evaluate` of a config."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from emma_jax.build import sections
from emma_jax.data.loading.sources import SourceSpec
from emma_jax.structs import TASKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalSettings:
  """The section `evaluate` of a config. All counts are of samples."""

  samples: int  # per task
  stage_samples: int  # the same after a stage that is not the last
  held_out_samples: int  # per held-out set
  batch: int
  seed: int
  steps: int  # Euler steps; 0: what the model's config says
  split: str  # of the world: "test" or "val"
  tasks: tuple[str, ...] = TASKS
  held_out: bool = True  # the world's held-out sets
  ceiling: bool = True  # of the autoencoder
  reference: bool = False  # the shipped model on the same samples beside it
  # task -> "jsonl:PATH" or "world:TASK:SPLIT"; without: the world's tasks.
  sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    for name in ("samples", "stage_samples", "held_out_samples", "batch"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
    if self.steps < 0:
      raise ValueError(f"steps={self.steps} must be 0 (the model's) or more.")
    if self.split not in ("test", "val"):
      raise ValueError(f"split={self.split!r}: choose test or val.")
    for name in ("tasks", "sources"):
      unknown = sorted(set(getattr(self, name)) - set(TASKS))
      if unknown:
        raise ValueError(f"{name}: {unknown} unknown; choose among {TASKS}.")
    for spec in self.sources.values():
      SourceSpec.parse(spec)  # complains

  @classmethod
  def of(cls, config: Mapping[str, Any], **changes: Any) -> "EvalSettings":
    """Of a config's section `evaluate`; raises sections.ConfigError.

    Its `router` is for `build.data.held_out_pictures`, its `benchmarks` for
    `benchmarks.during`.
    """
    section = sections.plain(config["evaluate"]) | changes
    for others in ("router", "benchmarks"):
      section.pop(others, None)
    return sections.make(cls, section, "evaluate")

  def spec(self, task: str) -> SourceSpec:
    """Where a task's samples come from."""
    if self.sources:
      return SourceSpec.parse(self.sources[task])
    return SourceSpec.parse(f"world:{task}:{self.split}")

  @property
  def chosen(self) -> tuple[str, ...]:
    """The tasks to evaluate: where sources are named, those with one."""
    named = [t for t in TASKS if t in self.tasks]
    return tuple(t for t in named if not self.sources or t in self.sources)

  def options(self) -> dict[str, Any]:
    """What decides the scores, as JSON."""
    fields = dataclasses.asdict(self)
    del fields["stage_samples"], fields["reference"]
    return sections.plain(fields)


def knows_world(config: Mapping[str, Any]) -> bool:
  """Whether anything a run trains on comes from the world."""
  return any(s.startswith("world:") for s in config["data"]["sources"].values())
