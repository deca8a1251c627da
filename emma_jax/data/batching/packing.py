"""Samples to one static batch: first fit into rows, then ids as flat arrays.

A row of two samples, a drawing (prompt p, target T) and an edit (reference R,
instruction i, target S), pictures of two tokens, references in the Gen buffer:

  reading order   p p p T T | R' R R i i S S | . .      R': <|vision_start|>
  segment         1 1 1 1 1 | 2  2 2 2 2 2 2 | 0 0
  order           0 1 2 3 4 | 5  6 7 8 9 . . | S S      S: slots of a row
  position        0 1 2 3 4 | 0  1 2 3 4 5 6 | 0 0
  last_visible    0 1 2 4 4 | 5  7 7 8 9 e e | 0 0      e: order of the last S
  noise_group     0 0 0 1 1 | 0  0 0 0 0 2 2 | 0 0
  Und buffer      p p p       R'     i i       . .
  Gen buffer      R R | . . . . | T T | S S             references, targets
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.batching import patches, row_assignment
from emma_jax.data.batching.pack_info import PackInfo
from emma_jax.data.batching.row_layout import PATCHES_PER_CELL, Layout
from emma_jax.data.pictures.images import GRID
from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.structs import GEN_TASKS, STEM_UNKNOWN, Batch, TokenIds


def pack(
  samples: Sequence[Sample | None],
  layout: Layout,
  planned: Sequence[Sequence[int]] | None = None,
) -> tuple[Batch, PackInfo]:
  """First fit in order; None is a hole: it takes no place and shifts nothing.

  `planned`: the samples of each row, where that is decided already. Returns a
  Batch of numpy arrays (structs.Batch tells their meaning). Text
  learned directly after a picture of the Gen buffer has no Und token that could
  predict it: ValueError.
  """
  if planned is None:
    rows, dropped = row_assignment.first_fit(samples, layout)
  else:
    rows, dropped = row_assignment.as_planned(samples, layout, planned)
  parts = _place(samples, rows, layout)
  flat = _flatten(parts, layout.width // GRID)
  batch = _fill(flat, parts, layout)
  tasks: dict[str, int] = {}
  tokens: dict[str, int] = {}
  for i in (i for row in rows for i in row):
    sample = samples[i]
    assert sample is not None  # a hole is in no row
    task, length = sample.task, layout.length(sample)
    tasks[task] = tasks.get(task, 0) + 1
    tokens[task] = tokens.get(task, 0) + length
  gen = int(flat.gen.sum())
  used = flat.order.size
  info = PackInfo(
    placed=tuple(map(tuple, rows)),
    dropped=tuple(dropped),
    samples_per_task=tasks,
    tokens_per_task=tokens,
    und_tokens=used - gen,
    gen_tokens=gen,
    fill=used / (layout.rows * layout.slots),
  )
  return batch, info


@dataclasses.dataclass(frozen=True)
class _Placed:
  """A part and where it goes; the fields become columns of flat arrays."""

  part: Text | Picture
  task: str
  row: int
  segment: int
  length: int
  position: int  # of its first token in the sample
  order: int  # of its first token in the row
  gen: bool  # in the Gen buffer
  offset: int  # of its first token in its buffer
  visual: int  # index of its first visual token in the row; -1 for text
  noise_group: int
  both_ways: bool
  picture: int  # place among the row's pictures of its role
  cell: int  # of an understanding picture: its first cell among the row's
  columns: int  # of a target: tokens of a line, without padding; 0: no target


def _place(
  samples: Sequence[Sample | None],
  rows: Sequence[Sequence[int]],
  layout: Layout,
) -> list[_Placed]:
  T, cost = layout.tokens_per_picture, layout.clean_cost
  out = []
  for r, row in enumerate(rows):
    slot = und = cell = 0
    count = dict(und=0, ref=0, target=0)
    for segment, i in enumerate(row, start=1):
      start, sample = slot, samples[i]
      assert sample is not None  # a hole is in no row
      for part in sample.parts:
        noisy, gen, picture, columns = 0, False, 0, 0
        if isinstance(part, Text):
          role, length = "", len(part.tokens)
        else:
          role, length = part.role, layout.cost(part)
          picture, count[role] = count[role], count[role] + 1
        pieces = [(length, -1)]  # lengths, and where their visual tokens are
        if role == "target":
          gen, noisy = True, picture + 1
          assert isinstance(part, Picture)
          columns = (part.content or (0, layout.width))[1] // GRID
          offset = layout.gen_references * cost + picture * T
        elif role == "ref" and layout.reference_branch == "gen":
          gen, offset = True, picture * cost
        else:
          offset, und = und, und + length
          # Understanding pictures first, then references.
          if isinstance(part, Picture):
            pieces = _visual(part, picture, cell, layout)
        for length, visual in pieces:
          out.append(
            _Placed(
              part,
              sample.task,
              r,
              segment,
              length,
              slot - start,
              slot,
              gen,
              offset,
              visual,
              noisy,
              role in ("ref", "target"),
              picture,
              cell,
              columns,
            )
          )
          slot, offset = slot + length, offset + length
        if isinstance(part, Picture) and role == "und":
          cell += layout.num_grid_cells(part)
  return out


def _visual(
  part: Picture, picture: int, cell: int, layout: Layout
) -> list[tuple[int, int]]:
  """(tokens, index of the first) of each run of a picture's visual tokens."""
  if part.role == "ref":
    start = layout.und_visual + picture * layout.clean_cost
  elif not layout.und_patches:
    start = picture * layout.clean_cost
  else:
    # Packed: the semantic tokens of all pictures, then the latent ones of all.
    step = layout.und_patches // PATCHES_PER_CELL
    return [
      (layout.num_grid_cells(part), cell + i * step)
      for i in range(layout.per_cell)
    ]
  return [(layout.cost(part), start)]


@dataclasses.dataclass(frozen=True)
class _Flat:
  """Every token of the batch, row after row in reading order; 1-D arrays."""

  row: np.ndarray
  segment: np.ndarray
  order: np.ndarray
  last_visible: np.ndarray
  noise_group: np.ndarray
  position: np.ndarray
  gen: np.ndarray
  place: np.ndarray  # in its buffer
  visual: np.ndarray
  token: np.ndarray
  target: np.ndarray
  weight: np.ndarray


def _flatten(parts: Sequence[_Placed], stride: int) -> _Flat:
  """`stride`: tokens of a line of a picture in the buffer, padding included."""
  table = np.array(
    [
      (
        p.row,
        p.segment,
        p.length,
        p.position,
        p.order,
        p.gen,
        p.offset,
        p.visual,
        p.noise_group,
        p.both_ways,
        isinstance(p.part, Text) and p.part.loss,
        p.columns,
      )
      for p in parts
    ],
    np.int32,
  ).reshape(-1, 12)
  length = table[:, 2]
  within = np.arange(length.sum(), dtype=np.int32)
  within -= np.repeat(np.cumsum(length, dtype=np.int32) - length, length)
  (
    row,
    segment,
    length,
    position,
    first,
    gen,
    offset,
    visual,
    noise_group,
    both,
    loss,
    columns,
  ) = np.repeat(table, length, axis=0).T
  token = np.zeros(within.size, np.int32)
  is_text = (visual < 0) & (gen == 0)
  token[is_text] = [
    i for p in parts if isinstance(p.part, Text) for i in p.part.tokens
  ]
  # The next token in reading order, where it is text of the same sample.
  follows = (row[1:] == row[:-1]) & (segment[1:] == segment[:-1]) & is_text[1:]
  target, weight = np.zeros_like(token), np.zeros(token.size, np.float32)
  target[:-1] = np.where(follows, token[1:], 0)
  weight[:-1] = follows & (loss[1:] != 0)
  if (weight * gen).any():
    raise ValueError(
      "Learned text directly follows a picture of the Gen buffer, where no "
      "next token is predicted; put text without loss between them."
    )
  return _Flat(
    row=row,
    segment=segment,
    order=first + within,
    last_visible=first + np.where(both, length - 1, within),
    noise_group=noise_group,
    position=position + within,
    gen=gen != 0,
    # A target's tokens stand in lines; behind each may be padding.
    place=offset
    + within
    + within // np.maximum(columns, 1) * (columns > 0) * (stride - columns),
    visual=np.where(visual < 0, -1, visual + within),
    token=token,
    target=target,
    weight=weight,
  )


def _fill(flat: _Flat, parts: Sequence[_Placed], layout: Layout) -> Batch:
  """Scatters the tokens into the buffers; copies the pictures."""
  B = layout.rows

  def spread(values, where, size: int, empty: int = 0, dtype=np.int32):
    out = np.full((B, size), empty, dtype)
    out[flat.row[where], flat.place[where]] = values[where]
    return out

  def ids(where, size: int) -> TokenIds:
    return TokenIds(
      segment=spread(flat.segment, where, size),
      order=spread(flat.order, where, size, empty=layout.slots),
      last_visible=spread(flat.last_visible, where, size),
      noise_group=spread(flat.noise_group, where, size),
      position=spread(flat.position, where, size),
    )

  und, gen, size = ~flat.gen, flat.gen, layout.und_tokens
  return Batch(
    tokens_BU=spread(flat.token, und, size),
    visual_BU=spread(flat.visual, und, size, empty=-1),
    targets_BU=spread(flat.target, und, size),
    weights_BU=spread(flat.weight, und, size, dtype=np.float32),
    und_ids=ids(und, size),
    gen_ids=ids(gen, layout.gen_tokens),
    **_pictures(parts, layout),
  )


def _pictures(parts: Sequence[_Placed], layout: Layout) -> dict[str, Any]:
  """The fields of a Batch that hold pictures."""
  B, N, R, M = (
    layout.rows,
    layout.und_pictures,
    layout.references,
    layout.targets,
  )
  native = layout.und_patches > 0

  def pixels(count: int):
    return np.zeros((B, count, layout.height, layout.width, 3), np.uint8)

  arrays: dict[str, Any] = dict(
    und_pixels_BNYXC=pixels(0 if native else N),
    und_valid_BN=np.zeros((B, N), bool),
    stem_BN=np.full((B, N), STEM_UNKNOWN, np.int32),
    ref_pixels_BRYXC=pixels(R),
    ref_valid_BR=np.zeros((B, R), bool),
    gen_pixels_BMYXC=pixels(M),
    gen_task_BM=np.zeros((B, M), np.int32),
    patches=patches.empty(B, N, layout.und_patches) if native else None,
    latents=patches.no_latents(layout),
  )
  for p in parts:
    if isinstance(p.part, Text):
      continue
    at = p.row, p.picture
    if p.part.role == "und":
      arrays["und_valid_BN"][at] = True
      arrays["stem_BN"][at] = p.part.stem
      if native:
        patches.put(arrays["patches"], p.part.pixels_YXC, *at, p.cell)
      else:
        arrays["und_pixels_BNYXC"][at] = p.part.pixels_YXC
    elif p.part.role == "ref":
      arrays["ref_pixels_BRYXC"][at] = p.part.pixels_YXC
      arrays["ref_valid_BR"][at] = True
    else:
      arrays["gen_pixels_BMYXC"][at] = p.part.pixels_YXC
      arrays["gen_task_BM"][at] = GEN_TASKS[p.task]
    if arrays["latents"] is not None:
      patches.put_latent(arrays["latents"], p.part, *at, p.cell)
  return arrays
