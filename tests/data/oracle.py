"""Packing by brute force: token after token, into dictionaries.

Written from the words of structs.py and packing.py, not from their code, and
without the properties of `Layout`: slow, and easy to check by hand.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.structs import Batch, Latents, Patches, TokenIds

CELL, PATCH = 32, 16  # pixels


@dataclasses.dataclass
class Token:
  """One token in reading order, with all that is known of it."""

  id: int = 0
  learned: bool = False
  text: bool = True
  role: str = ""
  gen: bool = False
  picture: int = 0  # among the row's pictures of its role
  first: int = 0  # cells of the row's understanding pictures before this one
  copy: int = 0  # 0 semantic, 1 latent (token fusion)
  cell: int = 0  # of its picture
  cells: int = 0  # that its picture has
  sample: int = 0
  position: int = 0
  last_of: int = 0  # place in the sample of its picture's last token


def cells_of(part: Picture) -> int:
  """Counted one by one."""
  return len(places_of(part))


def places_of(part: Picture) -> list[int]:
  """Of a picture's cells in its frame; a target's padding has none."""
  y, x, _ = part.pixels_YXC.shape
  height, width = y, x
  if part.role == "target" and part.content is not None:
    height, width = part.content
  return [
    row // CELL * (x // CELL) + column // CELL
    for row in range(0, height, CELL)
    for column in range(0, width, CELL)
  ]


def tokens_of(sample: Sample, layout: Layout) -> list[Token]:
  """Of a sample alone."""
  out: list[Token] = []
  seen = {"und": 0, "ref": 0, "target": 0}
  first = 0
  for part in sample.parts:
    if isinstance(part, Text):
      out += [Token(id=i, learned=part.loss) for i in part.tokens]
      continue
    cells = cells_of(part)
    copies = 2 if layout.fusion == "token" and part.role != "target" else 1
    gen = part.role == "target" or (
      part.role == "ref" and layout.reference_branch == "gen"
    )
    last = len(out) + copies * cells - 1
    for copy in range(copies):
      for cell in places_of(part):
        out.append(
          Token(
            text=False,
            role=part.role,
            gen=gen,
            picture=seen[part.role],
            first=first,
            copy=copy,
            cell=cell,
            cells=cells,
            last_of=last,
          )
        )
    seen[part.role] += 1
    first += cells if part.role == "und" else 0
  for position, token in enumerate(out):
    token.position = position
  return out


def need(sample: Sample, layout: Layout) -> dict[str, int]:
  """What a sample takes of a row, by counting its tokens."""
  tokens = tokens_of(sample, layout)
  roles = [p.role for p in sample.parts if isinstance(p, Picture)]
  und = [p for p in sample.parts if isinstance(p, Picture) and p.role == "und"]
  return {
    "und_tokens": len([t for t in tokens if not t.gen]),
    "und_pictures": roles.count("und"),
    "references": roles.count("ref"),
    "targets": roles.count("target"),
    "und_patches": sum(4 * cells_of(p) for p in und)
    if layout.und_patches
    else 0,
  }


def fits(used: dict[str, int], layout: Layout) -> bool:
  return all(n <= getattr(layout, name) for name, n in used.items())


def possible(sample: Sample, layout: Layout) -> bool:
  """Whether some row could hold it."""
  for part in sample.parts:
    if isinstance(part, Text):
      continue
    native = layout.und_patches > 0 and part.role == "und"
    size = part.pixels_YXC.shape
    if not native and size != (layout.height, layout.width, 3):
      return False
  return fits(need(sample, layout), layout)


def first_fit(
  samples: Sequence[Sample | None], layout: Layout
) -> tuple[list[list[int]], dict[int, bool]]:
  """(samples of each row, those left out -> whether for ever)."""
  rows: list[list[int]] = [[] for _ in range(layout.rows)]
  dropped = {}
  for i, sample in enumerate(samples):
    if sample is None:
      continue
    if not possible(sample, layout):
      dropped[i] = True
      continue
    for row in rows:
      used = dict.fromkeys(need(sample, layout), 0)
      for other in [*row, i]:
        for name, n in need(samples[other], layout).items():
          used[name] += n
      if fits(used, layout):
        row.append(i)
        break
    else:
      dropped[i] = False
  return rows, dropped


def row_tokens(samples: Sequence[Sample], layout: Layout) -> list[Token]:
  """Of a row: samples one after the other, pictures counted over all."""
  out: list[Token] = []
  seen = {"und": 0, "ref": 0, "target": 0}
  first = 0
  for number, sample in enumerate(samples, start=1):
    mine = tokens_of(sample, layout)
    for token in mine:
      token.sample = number
      token.first += first
      if token.role:
        token.picture += seen[token.role]
    out += mine
    for part in sample.parts:
      if isinstance(part, Picture):
        seen[part.role] += 1
        first += cells_of(part) if part.role == "und" else 0
  return out


def visual_index(token: Token, layout: Layout) -> int:
  """Among the row's visual tokens: understanding pictures, then references.

  Of native pictures the semantic tokens of all, then the latent ones of all.
  """
  per_frame = (layout.height // CELL) * (layout.width // CELL)
  copies = 2 if layout.fusion == "token" else 1
  native_cells = layout.und_patches // 4
  if token.role == "ref":
    before = (
      native_cells * copies
      if layout.und_patches
      else layout.und_pictures * per_frame * copies
    )
    return (
      before + (token.picture * copies + token.copy) * per_frame + (token.cell)
    )
  if layout.und_patches:
    return token.copy * native_cells + token.first + token.cell
  return (token.picture * copies + token.copy) * per_frame + token.cell


def gen_place(token: Token, layout: Layout) -> int:
  """In the Gen buffer: all references, then all targets."""
  per_frame = (layout.height // CELL) * (layout.width // CELL)
  copies = 2 if layout.fusion == "token" else 1
  of_references = per_frame * copies
  if token.role == "ref":
    return token.picture * of_references + token.copy * per_frame + token.cell
  before = (
    layout.references * of_references if layout.reference_branch == "gen" else 0
  )
  return before + token.picture * per_frame + token.cell


def pack(
  samples: Sequence[Sample | None],
  layout: Layout,
  rows: Sequence[Sequence[int]],
) -> Batch:
  """The batch whose rows hold these samples."""
  per_frame = (layout.height // CELL) * (layout.width // CELL)
  copies = 2 if layout.fusion == "token" else 1
  gen_size = layout.targets * per_frame
  if layout.reference_branch == "gen":
    gen_size += layout.references * per_frame * copies
  slots = layout.und_tokens + gen_size
  B, U = layout.rows, layout.und_tokens
  whole = lambda size, value=0: np.full((B, size), value, np.int32)
  ids = {
    name: TokenIds(
      segment=whole(size),
      order=whole(size, slots),
      last_visible=whole(size),
      noise_group=whole(size),
      position=whole(size),
    )
    for name, size in (("und", U), ("gen", gen_size))
  }
  tokens, targets, visual = whole(U), whole(U), whole(U, -1)
  weights = np.zeros((B, U), np.float32)
  for b, row in enumerate(rows):
    flat = row_tokens([samples[i] for i in row], layout)
    place = 0
    for slot, token in enumerate(flat):
      follower = flat[slot + 1] if slot + 1 < len(flat) else None
      start = slot - token.position
      both_ways = token.role in ("ref", "target")
      at = gen_place(token, layout) if token.gen else place
      of = ids["gen" if token.gen else "und"]
      of.segment[b, at] = token.sample
      of.order[b, at] = slot
      of.last_visible[b, at] = start + token.last_of if both_ways else slot
      of.noise_group[b, at] = token.picture + 1 if token.role == "target" else 0
      of.position[b, at] = token.position
      if token.gen:
        continue
      tokens[b, at] = token.id
      if not token.text:
        visual[b, at] = visual_index(token, layout)
      if follower and follower.sample == token.sample and follower.text:
        targets[b, at] = follower.id
        weights[b, at] = 1.0 if follower.learned else 0.0
      place += 1
  return Batch(
    tokens_BU=tokens,
    visual_BU=visual,
    targets_BU=targets,
    weights_BU=weights,
    und_ids=ids["und"],
    gen_ids=ids["gen"],
    **_pictures(samples, layout, rows),
  )


def _pictures(samples, layout: Layout, rows) -> dict:
  B, N, R, M = (
    layout.rows,
    layout.und_pictures,
    layout.references,
    layout.targets,
  )
  native = layout.und_patches > 0
  frame = (layout.height, layout.width, 3)
  per_frame = (layout.height // CELL) * (layout.width // CELL)
  out = dict(
    und_pixels_BNYXC=np.zeros((B, 0 if native else N, *frame), np.uint8),
    und_valid_BN=np.zeros((B, N), bool),
    stem_BN=np.full((B, N), -1, np.int32),
    ref_pixels_BRYXC=np.zeros((B, R, *frame), np.uint8),
    ref_valid_BR=np.zeros((B, R), bool),
    gen_pixels_BMYXC=np.zeros((B, M, *frame), np.uint8),
    gen_task_BM=np.zeros((B, M), np.int32),
    patches=None,
    latents=None,
  )
  W, C = layout.und_patches, layout.latent_channels
  if native:
    out["patches"] = Patches(
      values_BWC=np.zeros((B, W, PATCH * PATCH * 3), np.uint8),
      picture_BW=np.zeros((B, W), np.int32),
      cell_BW2=np.zeros((B, W, 2), np.int32),
      grid_BN2=np.zeros((B, N, 2), np.int32),
    )
  if C:
    room = lambda n: np.zeros((B, n, per_frame, C), np.float32) if n else None
    out["latents"] = Latents(
      und_BNTC=None if native else room(N),
      ref_BRTC=room(R),
      gen_BMTC=room(M),
      native_BJC=np.zeros((B, W // 4, C), np.float32) if native else None,
    )
  names = {
    "und": "und_pixels_BNYXC",
    "ref": "ref_pixels_BRYXC",
    "target": "gen_pixels_BMYXC",
  }
  latents = {"und": "und_BNTC", "ref": "ref_BRTC", "target": "gen_BMTC"}
  for b, row in enumerate(rows):
    seen, patch = {"und": 0, "ref": 0, "target": 0}, 0
    for i in row:
      for part in samples[i].parts:
        if isinstance(part, Text):
          continue
        at = b, seen[part.role]
        seen[part.role] += 1
        if part.role == "und":
          out["und_valid_BN"][at] = True
          out["stem_BN"][at] = part.stem
        elif part.role == "ref":
          out["ref_valid_BR"][at] = True
        else:
          out["gen_task_BM"][at] = {"drawing": 1, "editing": 2}[samples[i].task]
        if native and part.role == "und":
          if C:
            first = patch // 4
            for t, values in enumerate(part.latent_TC):
              out["latents"].native_BJC[b, first + t] = values
          patch = _patches(out["patches"], part.pixels_YXC, *at, patch)
          continue
        out[names[part.role]][at] = part.pixels_YXC
        if C:
          getattr(out["latents"], latents[part.role])[at] = part.latent_TC
  return out


def _patches(out: Patches, pixels_YXC, b: int, n: int, patch: int) -> int:
  """Cell by cell, in a cell row by row; returns the place of the next."""
  Y, X, _ = pixels_YXC.shape
  out.grid_BN2[b, n] = Y // PATCH, X // PATCH
  for y in range(0, Y, CELL):
    for x in range(0, X, CELL):
      for dy in (0, PATCH):
        for dx in (0, PATCH):
          top, left = y + dy, x + dx
          block = pixels_YXC[top : top + PATCH, left : left + PATCH]
          out.values_BWC[b, patch] = block.ravel()
          out.picture_BW[b, patch] = n + 1
          out.cell_BW2[b, patch] = top // PATCH, left // PATCH
          patch += 1
  return patch
