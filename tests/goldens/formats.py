"""Bytes on disk: records, side files, latents, plans, the card."""

import dataclasses
from pathlib import Path
import tempfile
from typing import Any
import zipfile

import numpy as np

from emma_jax.data.records import card, latents, schema
from emma_jax.data.records.lengths import Lengths, Measure
from emma_jax.structs import (
  STEM_GENERAL,
  STEM_SCIENCE,
  Drawing,
  Editing,
  Understanding,
)
from tests.data import kept, made

KEPT = 6


def records() -> dict[str, schema.Stored]:
  """Pictures are any bytes here: Pillow's would change with its version."""
  a, b = b"\x89PNG one", b"\xff\xd8 another"
  return {
    "understanding": schema.Stored(
      record=Understanding(
        pictures=(a, b),
        turns=(("<image>q\n<image>", "nö 红"), ("r", "s")),
        stem=STEM_SCIENCE,
        id="u",
      ),
      weight=0.5,
      provenance={"dataset": "d", "row": "a:1", "score": 0.25},
    ),
    "general": schema.Stored(
      record=Understanding(
        pictures=(a,), turns=(("q", "a"),), stem=STEM_GENERAL, id="g"
      )
    ),
    "text": schema.Stored(
      record=Understanding(pictures=(), turns=(("q", "a"),), id="t"), weight=3
    ),
    "drawing": schema.Stored(record=Drawing(prompt="red", picture=a, id="d")),
    "editing": schema.Stored(
      record=Editing(sources=(a,), instruction="do", target=b, id="e")
    ),
  }


def arrays_of(path: Path) -> dict[str, Any]:
  """Names, types and values of an .npz, in the order of the file."""
  with np.load(path, allow_pickle=False) as file:
    arrays = {name: file[name] for name in file.files}
  with zipfile.ZipFile(path) as file:
    members = [f"{m.filename}:{m.compress_type}" for m in file.infolist()]
  return {
    name: str(x)
    if x.dtype.kind == "U" and not x.ndim
    else ("/".join(x.tolist()) if x.dtype.kind == "U" else x)
    for name, x in arrays.items()
  } | {"names": " ".join(members)}


def _shard(name: str, **more: Any) -> card.Shard:
  return card.Shard(
    **dict(
      file=f"{name}.array_record",
      records=3,
      bytes=1234,
      sha256="ab" * 32,
      lengths=f"{name}.npz",
      lengths_sha256="cd" * 32,
      tasks={"drawing": 2, "text": 1},
      text_tokens=1000,
      pictures=2,
    )
    | more
  )


def _card(folder: Path) -> dict[str, bytes]:
  card.Card(
    name="a set",
    shards=(_shard("part-00000"), _shard("part-00001")),
    tokenizer="ef" * 32,
    weighted=True,
    rejected=1234,
    provenance={"inputs": ["a", "b"], "licence": "none"},
  ).save(folder)
  return {
    name: (folder / name).read_bytes() for name in ("dataset.json", "README.md")
  }


def cases() -> dict[str, Any]:
  measure = Measure.of(made.TOKENIZER)
  sizes = {
    "understanding": [(20, 30), (8, 9)],
    "general": [(5, 6)],
    "text": [],
    "drawing": [(7, 7)],
    "editing": [(1, 2), (3, 4)],
  }
  out = {f"record {k}": {"": schema.encode(v)} for k, v in records().items()}
  for dtype in latents.DTYPES:
    out[f"latents {dtype}"] = {
      "": latents.encode(kept.numbers(6, "float32"), dtype)
    }
  with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    Lengths.of(
      [measure(v, sizes[k]) for k, v in records().items()],
      made.TOKENIZER.fingerprint(),
    ).save(folder / "a.npz")
    out["lengths"] = arrays_of(folder / "a.npz")
    kept.segment().save(folder / "b.npz", kept.PLAN_KEY)
    out["segment"] = arrays_of(folder / "b.npz")
    out["card"] = _card(folder)
    part = latents.write_part(
      folder,
      _shard("part-00000"),
      [b"x"],
      pictures=3,
      missing=1,
      weights="w",
      dtype="float16",
    )
    part = dataclasses.replace(part, sha256="", bytes=0)  # ArrayRecord's
    out["latents part"] = dataclasses.asdict(part) | {
      "file": " ".join(sorted(p.name for p in folder.glob("part-*")))
    }
  card_ = card.Card(
    name="", shards=(), tokenizer="", weighted=False, rejected=0, provenance={}
  )
  wanted = kept.SETTINGS.of(
    dataclasses.replace(
      card_, shards=(_shard("a", tasks={"understanding": 1, "drawing": 1}),)
    )
  )
  out["latents folder"] = wanted | {"": latents.folder_of("d", wanted)}
  return out
