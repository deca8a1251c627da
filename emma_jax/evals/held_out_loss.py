"""Losses of weights on records with no exact score: comparable and smooth.

As a run validates itself (`training.validation`): every picture brings its own
noise and times along, so that between two measures nothing differs but the
weights.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax

from emma_jax import flow
from emma_jax.build import data as build_data
from emma_jax.data.batching.row_layout import CAPACITIES, Layout
from emma_jax.data.loading.held_out_batches import HeldOutBatches
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.transforms import Sample, ToSample
from emma_jax.sampling.session import Session
from emma_jax.structs import Mean, Record
from emma_jax.training.objectives import EmmaObjective, TaskWeights

# Noises and times of each picture; bins of time that losses are told by.
DRAWS, BINS = 4, 4
# Tokens of a row are multiples of it, so that sets of like texts share a
# program.
_MULTIPLE = 32
_CHUNK = 4096  # train.loss_chunk of weights whose config says none


def measure(
  session: Session, records: Sequence[Record], task: str, batch: int
) -> dict[str, dict[str, float]]:
  """Name -> {"value", "n"}, means over the records.

  "velocity": squared error per latent value, over `n` pictures with DRAWS
  noises each, and "velocity 0.00-0.25" of each bin of flow time, of which 0
  is the picture and 1 noise; of questions "token accuracy" and "token loss"
  (nats), over `n` answer tokens.

  Args:
    session: its weights are measured.
    records: that can be asked, pictures decoded.
    task: of all of them.
    batch: rows that are computed at once, at most.
  """
  to_sample = _to_sample(session.config)
  layout = _layout(session, records, to_sample, batch)
  if layout is None:
    return {}
  held_out = HeldOutBatches(
    sources={task: records},
    samples=len(records),
    to_sample=to_sample,
    layout=layout,
    rows=range(layout.rows),
  )
  objective = _objective(session)
  place = session.runner.place
  held_out_of = jax.jit(objective.held_out)
  sums: dict[str, tuple[float, float]] = {}
  for held in held_out.batches():
    with place.program():
      found: Mapping[str, Mean] = held_out_of(session.params, place.rows(held))
    for name, mean in found.items():
      total, count = sums.get(name, (0.0, 0.0))
      sums[name] = (
        total + float(place.host(mean.total)),
        count + float(place.host(mean.count)),
      )
  return _named(sums, task)


def _named(
  sums: Mapping[str, tuple[float, float]], task: str
) -> dict[str, dict[str, float]]:
  """By the names of `measure`; of what nothing was counted, nothing."""
  names = {"accuracy/tokens": "token accuracy"}
  names["loss/understanding"] = "token loss"
  draws = dict.fromkeys(names, 1)
  if task != "understanding":
    names = {f"loss/{task}": "velocity"}
    start = f"loss_by_time/{task}_time_"
    for name in sorted(n for n in sums if n.startswith(start)):
      low, high = name.removeprefix(start).split("_")
      names[name] = f"velocity {low}-{high}"
    draws = dict.fromkeys(names, 1) | {f"loss/{task}": DRAWS}
  return {
    name: {"value": total / count, "n": round(count / draws[key])}
    for key, name in names.items()
    for total, count in [sums.get(key, (0.0, 0.0))]
    if count
  }


def _to_sample(config: Mapping[str, Any]) -> ToSample:
  """As in training, of one size: native ones need latents made before."""
  data = config["data"]
  made = dataclasses.replace(
    build_data.to_sample(data, training=False),
    framing=build_data.framing(data, native=False),
  )
  if data["buckets"]:
    made = made.sized(data["height"], data["width"])
  return made


def _layout(
  session: Session, records: Sequence[Record], to_sample: ToSample, batch: int
) -> Layout | None:
  """Rows that hold any one of the records; None where none can be read."""
  samples: list[Sample] = []
  for record in records:
    try:
      samples.append(to_sample(record))
    except BadRecord:
      continue  # left out of the measure, too
  if not samples:
    return None
  none = dict.fromkeys(CAPACITIES, 0) | {"und_tokens": 1, "rows": 1}
  one = build_data.layout(session.config, none, "evaluate", latent_channels=0)
  needs = [one.row_cost(sample) for sample in samples]
  row: dict[str, Any] = {
    key: max(need[key] for need in needs) for key in CAPACITIES
  }
  row["und_tokens"] = -(-row["und_tokens"] // _MULTIPLE) * _MULTIPLE
  rows = session.runner.place.whole_rows(min(batch, len(samples)))
  return dataclasses.replace(one, rows=rows, **row)


def _objective(session: Session) -> EmmaObjective:
  """With the times of the model's last stage that draws, or plain ones."""
  stages = session.config.get("stages", {}).values()
  trained = [s for s in stages if s.get("objective") == "emma" and s["targets"]]
  last: Mapping[str, Any] = trained[-1] if trained else {}
  times = {"time_mean": 0.0, "time_std": 1.0, "shift": 1.0}
  train = session.config.get("train", {})
  return EmmaObjective(
    model=session.emma,
    flow=flow.FlowConfig(**{k: last.get(k, v) for k, v in times.items()}),
    route="versatile",
    text_weight=1.0,
    velocity_weight=1.0,
    task_weights=TaskWeights(understanding=1.0, drawing=1.0, editing=1.0),
    time_bins=BINS,
    draws=DRAWS,
    loss_chunk=train.get("loss_chunk", _CHUNK),
  )
