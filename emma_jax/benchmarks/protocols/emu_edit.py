"""Emu Edit's test set: distances to source and captions, by encoders.

The set comes without code, so each implementation here is one number, named by
what it is, which encoder it is of, and what the edited picture is compared
with. There is no true edit in the set, so that nothing is compared with one.

clip_dir:b32          cosine of the change of picture and that of captions
clip_out:b32:caption  cosine of edited picture and output caption
clip_img:b32:input    cosine of edited picture and source ("CLIP-I")
... :l14              the same of CLIP ViT-L/14 in place of ViT-B/32
dino:input            cosine of edited picture and source by DINO
minus_l1:input        less the mean absolute difference to the source, of pixels
                      in 0..1, so that more is better here too

A model that gives back its source has the best clip_img, dino and L1: they say
nothing without clip_dir or clip_out beside them.

Cosines are InstructPix2Pix's, L1 and the sizes it is taken at are MagicBrush's
(`scoring.pixels`). Failures count -1, the lowest of all of these.
"""

from collections.abc import Sequence
import json
from typing import Any

import numpy as np

from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.protocols import edits
from emma_jax.benchmarks.scoring import pixels
from emma_jax.benchmarks.suite import (
  Benchmark,
  Case,
  Made,
  NoReply,
  Score,
  by_category,
  each,
)

# Names of values -> those of `pixels.clip_similarities`.
_CLIP = {
  "clip_dir": "clip_dir",
  "clip_out": "clip_out_sim_1",
  "clip_img": "clip_img",
  "clip_in": "sim_0",
}
_LOWEST = -1.0
_DINO, _L1 = "dino:input", "minus_l1:input"
IMPLS = (
  "clip_dir:b32",
  "clip_out:b32:caption",
  "clip_img:b32:input",
  "clip_dir:l14",
  "clip_out:l14:caption",
  "clip_img:l14:input",
  _DINO,
  _L1,
)


def _score(case: Case) -> list[Score]:
  return each(case, _one, lowest=_LOWEST)


def _one(case: Case, made: Made) -> Score:
  if case.impl == _L1:
    source, edited = (
      np.asarray(edits.decode(*picture)) for picture in edits.both(case, made)
    )
    distance = pixels.l1([(edited, source)])
    return Score(value=0.0 - distance, parts={"l1": distance})
  if case.impl == _DINO:
    (source, edited), _ = _features(case, made, "dino", ())
    return Score(value=pixels.clip_i([(edited, source)]))
  name, encoder = case.impl.split(":")[:2]
  pictures, texts = _features(
    case, made, f"clip-{encoder}", _captions(case.item)
  )
  found = pixels.clip_similarities(*pictures, *texts)
  parts = {part: found[key] for part, key in _CLIP.items()}
  return Score(value=parts[name], parts=parts)


def _captions(item: Item) -> tuple[str, str]:
  """Of the picture before and after."""
  before, after = (
    item.meta.get(name) for name in ("input_caption", "output_caption")
  )
  for caption in (before, after):
    if not isinstance(caption, str) or not caption.strip():
      raise BadItem(
        f"Edit {item.id!r} has the captions {before!r} and {after!r}; CLIP's "
        "scores need its input_caption and output_caption. Give both, or score "
        f"by {_DINO} and {_L1} alone, which need none."
      )
  return str(before), str(after)


def _features(
  case: Case, made: Made, encoder: str, texts: Sequence[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Features of both pictures and of texts, float32 (width,), of length one.

  Args:
    case, made: the edit.
    encoder: the call's name: "clip-b32", "clip-l14" or "dino".
    texts: what to encode beside them.

  Raises:
    NoReply: no encoder, or a reply that is not {"images": two lists of numbers,
      "texts": one for each text}, all of one width.
  """
  reply = edits.ask(
    case,
    made,
    encoder,
    json.dumps(list(texts), ensure_ascii=False),
    [edits.upright(*picture) for picture in edits.both(case, made)],
  )
  try:
    said = json.loads(reply)
    rows = [
      *_rows(said["images"], 2),
      *_rows(said["texts"] if texts else [], len(texts)),
    ]
    if len({len(row) for row in rows}) != 1:
      raise ValueError(f"widths {[len(row) for row in rows]}")
  except (ValueError, TypeError, LookupError, RecursionError) as error:
    detail = f"no features of {encoder} ({error}) in {reply!r:.80}"
    raise NoReply("unparsable", detail) from error
  return rows[:2], rows[2:]


def _rows(lists: Any, count: int) -> list[np.ndarray]:
  if len(lists) != count:
    raise ValueError(f"{len(lists)} features instead of {count}")
  rows = [np.asarray(row, np.float64) for row in lists]
  out = []
  for row in rows:
    length = float(np.linalg.norm(row))
    # Also NaN, and what overflows.
    if row.ndim != 1 or not 0 < length < np.inf:
      raise ValueError(f"a feature of shape {row.shape}, length {length}")
    out.append((row / length).astype(np.float32))
  return out


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="emu_edit",
    kind="editing",
    task="edit",
    impls=IMPLS,
    prompts={"plain": edits.plain},
    score=_score,
    lowest=_LOWEST,
    scale=1.0,
    unit="",
    categories=by_category,
    judge="encoder",
    protocol=(
      "No judge, but encoders: Emu Edit's paper prints CLIP-dir, CLIP-img, "
      "CLIP-out, L1 and DINO without code; later rows are of CLIP ViT-B/32 and "
      "DINO ViT-S/16 as in MagicBrush or of CLIP ViT-L/14 as in UltraEdit, and "
      "compare with the input, with a true edit or with Emu Edit's own output "
      "under one name: a row counts only with its encoder and its reference."
    ),
  ),
)
