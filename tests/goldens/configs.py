"""Every key of every shipped config, as it was when it was last meant.

Whole: the defaults, the model sizes, the machines. By what they change: the
stages of the paper each against the one before, tiny and the 4B against both,
the 4B's stages by themselves against the 4B. Of all others, and of every size,
stage and machine, a digest: it names the config, `git diff` of configs/ the
key.
"""

import dataclasses
import importlib
import itertools
import json
from pathlib import Path
from typing import Any

from configs import defaults, full_size, models, stages, targets, variants
from emma_jax.build import sections
from emma_jax.checkpoints.integrity import _dotted
from tests.goldens import store

FOLDER = Path(full_size.__file__).parent
# What others are made of; each has a case of its own, or none is needed.
PARTS = (
  "batches",
  "defaults",
  "full_size",
  "models",
  "stages",
  "targets",
  "variants",
)
SIZES = ("emma_4b", "emma_1_7b", "emma_0_6b")
WORDS = ("", "stage0", "stage1", "stage2", "stage3", "stage4a", "stage4b")
NATIVE = ("stage2", "stage3", "stage4a", "stage4b")


def flat(config: Any) -> dict[str, str]:
  """Dotted key -> JSON text; the order of the stages is a key, too."""
  config = sections.plain(config)
  out = _dotted(config)
  if "stages" in config:
    out["stages"] = json.dumps(list(config["stages"]))
  return out


def changes(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
  """What is new or other in `new`, and what it lacks."""
  lost = {key: "gone" for key in old.keys() - new.keys()}
  return lost | {k: v for k, v in new.items() if old.get(k) != v}


def chained(config: Any) -> dict[str, str]:
  """Keys of a config, of each stage only what the one before has otherwise."""
  out = {k: v for k, v in flat(config).items() if not k.startswith("stages.")}
  before: dict[str, str] = {}
  for name, section in sections.plain(config)["stages"].items():
    now = _dotted(section)
    out |= {f"stages.{name}.{k}": v for k, v in changes(before, now).items()}
    before = now
  return out


def load(name: str, spec: str = "") -> Any:
  get = importlib.import_module(f"configs.{name}").get_config
  return get(spec) if spec else get()


def digest(*configs: Any) -> str:
  return store.digest(json.dumps([flat(c) for c in configs], sort_keys=True))


def names() -> list[str]:
  """As `--config` takes them: files, and the variants of tiny."""
  files = [p.stem for p in FOLDER.glob("*.py") if p.stem not in PARTS]
  words = (*variants.VARIANTS, "shapes", "sources")
  return sorted([*files, *(f"tiny:{name}" for name in words)])


def full(size: str) -> dict[str, str]:
  """Digests of a size: of each stage, and of each machine. Of the 4B over all
  of the other; what stage and machine change is no matter of the size."""
  every = size == "emma_4b"
  made = {
    (word, t): load(size, ",".join(filter(None, (word, t))))
    for word, t in itertools.product(WORDS, targets.TARGETS)
    if every or not word or t == targets.DEFAULT
  }
  of = lambda i, name: digest(*(c for key, c in made.items() if key[i] == name))
  out = {f"{size}:{word or 'all'}": of(0, word) for word in WORDS}
  out |= {f"{size}:{t}": of(1, t) for t in targets.TARGETS}
  return out | {
    f"{size}:{word},fixed": digest(load(size, f"{word},fixed"))
    for word in NATIVE
    if every or word == "stage2"
  }


def against(old: Any, config: Any) -> dict[str, str]:
  """What a config, but for its model, has otherwise than `old`'s keys."""
  now = flat(config)
  now = {k: v for k, v in now.items() if not k.startswith("model.")}
  known = {k: v for k, v in old.items() if k in now}
  return changes(known, now)


def cases() -> dict[str, dict]:
  base = flat(defaults.get_config())
  large = flat(models.emma_4b())
  paper = dict(stages={n: stages.stage(n) for n in stages.NAMES})
  recipe = base | flat(paper)
  whole = load("emma_4b")
  out = {
    "defaults": base,
    "emma_4b's model": large,
    "other models": {
      f"{name}.{k}": v
      for name in ("tiny", "emma_1_7b", "emma_0_6b")
      for k, v in changes(large, flat(getattr(models, name)())).items()
    },
    "machines": _dotted(
      {name: dataclasses.asdict(t) for name, t in targets.TARGETS.items()}
    ),
    "paper's stages": chained(paper),
    "tiny": against(recipe, load("tiny")),
    "emma_4b": against(recipe, whole),
  }
  for word in WORDS[1:]:
    out[f"emma_4b:{word}"] = against(flat(whole), load("emma_4b", word))
  out["digests"] = {name: digest(load(*name.split(":"))) for name in names()}
  for size in SIZES:
    out["digests"] |= full(size)
  return out
