"""The first batches of streams, and in which order samples come.

Pictures have the size of their frame, so that no library resizes them.
"""

import json
from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from configs import tiny as tiny_config
from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.cli.data.hash import _digest
from emma_jax.data.batching import mixture
from emma_jax.data.batching.mixture import Phase
from emma_jax.data.loading import dataset
from emma_jax.data.records import schema
from emma_jax.data.records.lengths import Measure
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.structs import Drawing, Editing, Understanding
from tests import neutral
from tests.data import made

KEPT = 8
SIZES = ((32, 64), (64, 32))
STEPS = (0, 1, 5)
TOKENIZER = TinyTokenizer(["red", "blue"])


def _picture(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
  return made.encoded(rng.integers(0, 256, (*size, 3), np.uint8))


def folders(root: Path) -> dict[str, str]:
  """Records of three tasks, and the drawings as JSON lines, too."""
  rng, sources, rows = np.random.default_rng(11), {}, []
  stored: dict[str, list] = {"ask": [], "draw": [], "edit": []}
  for i in range(9):
    size = SIZES[i % 2]
    stored["ask"].append(
      Understanding(
        pictures=(_picture(rng, size),) * (i % 3 > 0),
        turns=(("red?", "blue " * (i + 1)),) * (1 + i % 2),
        stem=i % 2,
        id=f"a{i}",
      )
    )
    picture = _picture(rng, size)
    stored["draw"].append(
      Drawing(prompt="red " * (i + 1), picture=picture, id=f"d{i}")
    )
    stored["edit"].append(
      Editing(
        sources=(_picture(rng, size),),
        instruction=f"do {i}",
        target=picture,
        id=f"e{i}",
      )
    )
    wide = _picture(rng, SIZES[0])
    (root / f"{i}.png").write_bytes(wide)
    rows.append({"image": f"{i}.png", "caption": "blue " * (i + 1)})
  for name, records in stored.items():
    made.dataset(
      root / name,
      [
        schema.Stored(record=r, weight=2 if r.id == "d3" else 1)
        for r in records
      ],
      2,
      Measure.of(TOKENIZER),
    )
    sources[name] = f"records:{root / name}"
  made.jsonl(root / "rows.jsonl", *rows)
  return sources | {"rows": f"jsonl:{root / 'rows.jsonl'}"}


def planned(sources: dict[str, str], **more: Any) -> dataset.DataConfig:
  """Two buckets and two phases, of three sources."""
  weights = {"ask": 1, "draw": 2, "edit": 1}
  return neutral.data_config(
    **dict(
      seed=3,
      sources=sources,
      plan_segment=2,
      samples_per_batch=0,
      phases=(
        neutral.phase({"ask": 1, "draw": 1}, steps=1),
        neutral.phase(weights, unit="tokens", even_buckets=True),
      ),
      layout=neutral.layout(
        rows=2,
        und_tokens=60,
        und_pictures=3,
        references=1,
        targets=2,
        height=32,
        width=64,
      ),
      framing=neutral.framing(SIZES, height=32, width=64),
    )
    | more
  )


def drawn(sources: dict[str, str], **more: Any) -> dataset.DataConfig:
  """A file and the world, so many samples a step, without a plan."""
  return planned(
    sources | {"world": "world:understanding:train"},
    **dict(
      samples_per_batch=6,
      framing=neutral.framing(height=32, width=64),
      text_dropout=0.5,
      phases=(neutral.phase({"rows": 2, "world": 1}),),
    )
    | more,
  )


def batches(config: dataset.DataConfig, hosts: int = 1) -> dict[str, str]:
  """Digest of each batch, of as many hosts."""
  parts = [
    dataset.open_pipeline(config, TOKENIZER, shard_index=i, shard_count=hosts)
    for i in range(hosts)
  ]
  return {str(step): _digest([p[step] for p in parts])[0] for step in STEPS}


def _order(seed: int, *phases: Phase) -> str:
  m = mixture.Mixture(
    phases=phases,
    lengths={"a": 7, "b": 100, "c": 3},
    shuffled=frozenset("ab"),
    samples_per_batch=6,
    seed=seed,
  )
  return " ".join(
    f"{d.name}{d.epoch}.{d.index}"
    for step in range(5)
    for d in m.batch_plan(step)
  )


def _plan(config: dataset.DataConfig) -> dict[str, Any]:
  """Rows of the first batches by name, epoch and element, and their account."""
  source = dataset.open_pipeline(config, TOKENIZER)
  out: dict[str, Any] = {}
  for step in range(4):
    info = source[step].info
    out[f"rows {step}"] = " | ".join(" ".join(row) for row in info.ids)
    out[f"counts {step}"] = json.dumps(info.counts(), sort_keys=True)
  return out


def _tiny(stage: str) -> dict[str, str]:
  """As configs/tiny.py trains."""
  config = sections.plain(tiny_config.get_config())
  source = build_data.batches(config, stage)
  return {str(step): _digest([source[step]])[0] for step in (0, 1)}


def cases() -> dict[str, Any]:
  out: dict[str, Any] = {
    f"tiny {stage}": _tiny(stage)
    for stage in ("1_pretraining", "3_quality", "4a_expert")
  }
  out["mixture"] = {
    "one": _order(0, neutral.phase({"a": 0.7, "b": 0.2, "c": 0.1})),
    "seed": _order(5, neutral.phase({"a": 0.7, "b": 0.2, "c": 0.1})),
    "phases": _order(
      1,
      neutral.phase({"a": 1, "c": 1}, steps=2),
      neutral.phase({"a": 1, "b": 3}),
    ),
  }
  out["epoch"] = {
    name: mixture.epoch_order(2, name, 1, 40) for name in ("a", "é")
  }
  with tempfile.TemporaryDirectory() as temporary:
    sources = folders(Path(temporary))
    out["planned"] = batches(planned(sources))
    out["drawn"] = batches(drawn(sources))
    out["parts"] = batches(drawn(sources, packing_groups=2))
    out["plan"] = _plan(planned(sources))
  return out
