"""From a trained model and a user's records to the config that fine-tunes it.

The model's own config says what the model is, how it sees pictures and what its
stage 3 froze; `configs/finetune/emma.py` says the rest. Rows, samples of a step
and steps follow from the lengths of the records.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

import numpy as np

from emma_jax import batches, rules, sharding
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build.sections import ConfigError, plain
from emma_jax.checkpoints import locate
from emma_jax.data.batching import row_shapes
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.loading import dataset
from emma_jax.data.records.source import RecordsSource

STAGE = "finetune"
# The model's stage that is taken up again, and what is taken of it.
_STAGE = "3_quality"
_OF_STAGE = (
  *("policy", "schedule", "final_ratio", "lr_multipliers", "route"),
  *("text_weight", "velocity_weight", "task_weights", "time_mean"),
  *("time_std", "shift", "draws", "time_bins"),
)
# How the model saw pictures and texts: other values would be another model.
_OF_DATA = (
  *("tokenizer", "height", "width", "buckets", "min_tokens", "max_tokens"),
  *("max_turns", "codec", "max_pixels", "text_dropout", "reference_dropout"),
)
# Und tokens of a row: those of the model's own stage, more where a record needs
# it, up to so many times; of a model that says none, up to so many.
_LEAST_TOKENS, _MOST, _MOST_TOKENS = 128, 4, 8192


class _Enough(Exception):
  """Carries metadata out of a reading that is to go no further."""

  def __init__(self, meta: Mapping[str, Any]):
    super().__init__()
    self.meta = meta


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnData:
  """Folders of records by task: trained on, and held out."""

  train: Mapping[str, str]
  held_out: Mapping[str, str]


def described(name: str) -> Mapping[str, Any]:
  """The metadata of weights, see `locate.read`; no weight is read.

  Raises:
    CheckpointError: nothing is there, or it has no config.
  """

  def stop(meta: Mapping[str, Any]) -> bool:
    raise _Enough(meta)

  try:
    locate.read(name, stop)
  except _Enough as found:
    if "config" in found.meta:
      return found.meta
  raise locate.NoWeights(
    f"{name} does not say of which config its weights are; export it again "
    "from a training."
  )


def config(
  base: Mapping[str, Any], model_name: str, model: Mapping[str, Any]
) -> dict[str, Any]:
  """The config of a fine-tuning, before its data are known.

  Args:
    base: what configs/finetune/emma.py gives.
    model_name: of the weights that the stage starts from.
    model: the config that they were trained by.

  Raises:
    ConfigError: weights of an autoencoder alone.
  """
  if model["model"]["kind"] != "emma":
    raise ConfigError(
      f"{model_name} is an autoencoder; emma-train finetune is for an EMMA "
      "(configs/files_autoencoder.py trains autoencoders)."
    )
  out, model = plain(base), plain(model)
  out["model"] = model["model"]
  out["data"] |= {k: v for k, v in model["data"].items() if k in _OF_DATA}
  if model["data"]["fit"] == "pad":
    out["data"]["fit"] = "pad"
  for section in ("sample", "optimizer"):
    out[section] |= {
      k: v for k, v in model.get(section, {}).items() if k in out[section]
    }
  evaluate = model.get("evaluate", {})
  out["evaluate"]["steps"] = evaluate.get("steps", out["evaluate"]["steps"])
  section = out["stages"][STAGE]
  section["load"] = [[".*", f"weights:{model_name}"]]
  trained = model.get("stages", {}).get(_STAGE)
  if trained:
    section |= {key: trained[key] for key in _OF_STAGE}
    # Of the recipe's batch: Adam's rate for another is said in the stage.
    rate = trained["learning_rate"] / trained["rate_factor"]
    section["learning_rate"] = rate
    section |= {key: trained[key] for key in CAPACITIES if trained[key]}
  section["und_patches"] = 0
  section["policy"] = _live(section["policy"], out["model"])
  return out


def with_data(config: Mapping[str, Any], data: OwnData) -> dict[str, Any]:
  """The config with its sources, rows, steps and looks.

  Raises:
    ConfigError: records that no row of the model can hold.
  """
  out = plain(config)
  out["data"]["sources"] = {t: f"records:{p}" for t, p in data.train.items()}
  held_out = {t: f"records:{p}" for t, p in data.held_out.items()}
  out["evaluate"]["sources"] = held_out
  out["train"]["validate_sources"] = {}
  section = out["stages"][STAGE]
  section["mixture"] = [[0.0, dict.fromkeys(data.train, 1.0)]]
  row, section["row_samples"] = _row(out)
  section |= row
  count = sum(len(RecordsSource(path)) for path in data.train.values())
  section |= _length(out, count)
  out["train"] |= _looks(section["steps"])
  return out


def decoder(
  base: Mapping[str, Any],
  model_name: str,
  model: Mapping[str, Any],
  data: OwnData,
) -> dict[str, Any]:
  """The config that teaches the model's decoder to show the pictures.

  Args:
    base: what configs/finetune/decoder.py gives.
    model_name, model: as in `config`.
    data: its drawings are shown.

  Raises:
    ConfigError: there are no drawings.
  """
  if "drawing" not in data.train:
    raise ConfigError(
      "--decoder learns of pictures with captions, and the data have none."
    )
  out, model = plain(base), plain(model)
  out["model"] = {
    "kind": "autoencoder",
    "dtype": model["model"]["dtype"],
    "autoencoder": model["model"]["autoencoder"],
  }
  sizes = ("height", "width", "tokenizer", "max_pixels")
  out["data"] |= {key: model["data"][key] for key in sizes}
  out["data"]["sources"] = {"pictures": f"records:{data.train['drawing']}"}
  section = out["stages"]["autoencoder"]
  section["load"] = [[".*", f"weights:{model_name}"]]
  # A caption stands before its picture, and must find room.
  section["und_tokens"] = max(
    int(RecordsSource(data.train["drawing"]).lengths.text_tokens().max()), 32
  )
  return out


def lines(config: Mapping[str, Any], data: OwnData) -> list[str]:
  """What was chosen, for people."""
  section = config["stages"][STAGE]
  counts = [
    f"{len(RecordsSource(path))} of {task}" for task, path in data.train.items()
  ]
  held = [
    f"{len(RecordsSource(path))} of {task}"
    for task, path in data.held_out.items()
  ]
  samples = section["rows"] * section["row_samples"]
  frozen = [regex for regex, done in section["policy"] if done == "frozen"]
  return [
    f"Trained on: {', '.join(counts)}; held out: {', '.join(held) or 'none'}.",
    f"{section['steps']:,} steps of {samples:.1f} samples "
    f"({section['rows']} row{'s' * (section['rows'] > 1)} of "
    f"{section['row_samples']:.1f}), at a rate of "
    f"{section['learning_rate']:.3g}; frozen: {', '.join(frozen)}.",
  ]


def _live(
  policy: Sequence[Sequence[str]], model: Mapping[str, Any]
) -> list[list[str]]:
  """The table without lines about weights that this model lacks."""
  paths = list(rules.flatten(build_model.model(model).shapes))
  return [
    list(line)
    for line in policy
    if any(re.fullmatch(line[0], path) for path in paths)
  ]


def _rows(
  config: Mapping[str, Any], row: Mapping[str, int]
) -> dataset.BatchDataset:
  """The stage's data in rows of these capacities, one on each device."""
  shards = sharding.row_shards(build_data.mesh_of(config))
  section = config["stages"][STAGE] | row | {"rows": shards, "steps": 1}
  trial = {**config, "stages": {STAGE: section}}
  try:
    return build_data.batches(trial, STAGE)
  except ConfigError:
    raise
  except ValueError as error:
    raise ConfigError(f"config.stages.{STAGE}: {error}") from error


def _row(config: dict[str, Any]) -> tuple[dict[str, int], float]:
  """(capacities of the fullest rows for these records, samples of one)."""
  section = config["stages"][STAGE]
  own = int(section["und_tokens"])
  most = _MOST * own if own else _MOST_TOKENS
  wide = {"und_tokens": most, "und_pictures": 64, "references": 8, "targets": 8}
  tables = _rows(config, wide).plan.drawer.tables
  needs = [table.need[table.fits] for table in tables]
  largest = np.max([need.max(axis=0) for need in needs], axis=0)
  mean = np.mean([need.mean(axis=0) for need in needs], axis=0)
  least = dict(zip(CAPACITIES, largest.tolist()))
  per = dict(zip(CAPACITIES, mean.tolist()))
  und = max(least["und_tokens"], own, _LEAST_TOKENS)
  held = und / max(per["und_tokens"], 1.0)  # samples of a row
  row = {"und_tokens": und, "und_patches": 0} | {
    key: max(least[key], math.ceil(per[key] * held))
    for key in ("und_pictures", "references", "targets")
  }
  best = row_shapes.best(_rows(config, row).plan.drawer, 0)
  return {key: best.row[key] for key in CAPACITIES}, best.row_samples


def _length(config: Mapping[str, Any], count: int) -> dict[str, Any]:
  """Rows of a step, steps, warm-up and average for so many records."""
  chosen, section = config["finetune"], config["stages"][STAGE]
  shards = sharding.row_shards(build_data.mesh_of(config))
  rows = max(1, round(chosen["batch"] / (section["row_samples"] * shards)))
  samples = rows * shards * section["row_samples"]
  steps = math.ceil(chosen["passes"] * count / samples)
  steps = min(max(steps, chosen["min_steps"]), chosen["max_steps"])
  return dict(
    rows=rows * shards,
    steps=steps,
    warmup_steps=steps // 20,
    # It forgets half in a tenth of the stage.
    ema_decay=batches.decay(1, max(1, steps / 10)),
  )


def _looks(steps: int) -> dict[str, int]:
  """When a run of so many steps logs, measures what is held out, and saves."""
  return dict(
    log_every=max(1, min(20, steps // 10)),
    validate_every=max(1, steps // 5),
    save_every=max(1, min(500, steps // 2)),
  )
