"""A packed batch drawn: its rows in reading order, its attention, its account.

Everything is read back from the arrays that training gets (structs.Batch), not
from the samples they were made of: what is wrong there is seen here.
"""

from collections.abc import Iterable, Sequence
import dataclasses

import jax
import numpy as np
from PIL import Image

from emma_jax.data.batching import patches
from emma_jax.data.batching.row_layout import PATCHES_PER_CELL, Layout
from emma_jax.data.loading import dataset
from emma_jax.data.loading.batch_stats import BatchStats
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.evals import crops, sheets
from emma_jax.models import masks
from emma_jax.pages.pictures import Picture, embedded
from emma_jax.pages.render import render
from emma_jax.structs import Batch

# A drawing of the attention has at most so many pixels a side.
_SIDE = 768
# RGB of a segment's allowed pairs: text, clean pictures, noisy pictures.
_COLOURS = np.array(
  [
    [[47, 111, 219], [120, 165, 240], [20, 60, 150]],
    [[224, 122, 31], [245, 180, 110], [160, 75, 5]],
    [[31, 157, 87], [120, 205, 160], [10, 95, 45]],
    [[183, 71, 158], [220, 145, 205], [120, 25, 100]],
  ],
  np.uint8,
)


@dataclasses.dataclass(frozen=True)
class Slots:
  """One row in reading order; arrays (S,) over its used slots."""

  segment: np.ndarray
  slot: np.ndarray
  token: np.ndarray  # -1 where a picture's
  picture: np.ndarray  # index into `pictures`, -1 for text
  noisy: np.ndarray
  learned: np.ndarray  # bool
  allowed: np.ndarray  # (S, S) bool: may the row's slot see the column's
  pictures: list[tuple[str, np.ndarray]]  # role, pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A token as text, or a picture with its caption."""

  text: str
  learned: bool
  mark: bool = False  # of the layout
  picture: Picture | None = None


@dataclasses.dataclass(frozen=True)
class Segment:
  """A sample in its row, with the colour of its square."""

  name: str
  colour: str
  parts: Sequence[Part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnRow:
  """A row; `attention` is an address of its square, "" where it is empty."""

  number: int
  used: int
  slots: int
  segments: Sequence[Segment]
  attention: str


@dataclasses.dataclass(frozen=True)
class DrawnBatch:
  """A batch's account, why samples are not in it, and its rows."""

  step: int
  stats: BatchStats
  notes: Sequence[str]
  rows: Sequence[DrawnRow]
  crops: Sequence[crops.Crop]


@dataclasses.dataclass(frozen=True)
class Page:
  """Draws batches of a source."""

  source: dataset.BatchDataset
  tokenizer: Tokenizer

  def html(self, steps: Iterable[int], rows: int, title: str) -> str:
    """The page as text: of each step its account and first `rows` rows."""
    batches = [self._batch(step, rows) for step in steps]
    return render("data_sheet.html.j2", about=title, batches=batches)

  def _batch(self, step: int, rows: int) -> DrawnBatch:
    host = self.source[step]
    notes = [f"{b.where}: {b.reason}" for b in host.info.bad]
    notes += [f"{d.id}: {d.reason}" for d in host.info.packed.dropped]
    most = min(rows, host.batch.tokens_BU.shape[0])
    drawn = [self._row(host, step, row) for row in range(most)]
    placed = [i for row in host.info.packed.placed[:most] for i in row]
    lost = crops.of_draws(self.source, step, placed)
    return DrawnBatch(step, host.info, notes, drawn, lost)

  def _row(self, host: dataset.HostBatch, step: int, row: int) -> DrawnRow:
    layout = self.source.layout(step)
    slots = read_row(host.batch, row, layout)
    placed = host.info.packed.placed[row]
    names = self.source.names(step)
    return DrawnRow(
      number=row,
      used=slots.slot.size,
      slots=layout.slots,
      segments=[
        self._segment(slots, number, names[index])
        for number, index in enumerate(placed, start=1)
      ],
      attention=attention(slots),
    )

  def _segment(self, slots: Slots, number: int, name: str) -> Segment:
    colour = "rgb({},{},{})".format(*_COLOURS[(number - 1) % 4, 0])
    parts, at = [], np.flatnonzero(slots.segment == number)
    while at.size:
      picture, learned = slots.picture[at[0]], bool(slots.learned[at[0]])
      if picture < 0:
        parts.append(self._token(int(slots.token[at[0]]), learned))
        at = at[1:]
        continue
      same = int((slots.picture[at] == picture).sum())
      role, pixels = slots.pictures[picture]
      y, x, _ = pixels.shape
      text = f"{role}, {x}x{y}, {same} tokens"
      shown = sheets.picture(pixels, f"{role} of {name}")
      parts.append(Part(text=text, learned=learned, picture=shown))
      at = at[same:]
    return Segment(name, colour, parts)

  def _token(self, token: int, learned: bool) -> Part:
    names = {i: name for name, i in self.tokenizer.special.items()}
    text = names.get(token) or self.tokenizer.decode([token])
    text = text.replace("\n", "⏎\n")
    return Part(text=text, learned=learned, mark=token in names)


def read_row(batch: Batch, row: int, layout: Layout) -> Slots:
  """A row of the two buffers, put back into reading order."""
  one = jax.tree.map(lambda x: np.asarray(x)[row : row + 1], batch)
  und, gen = one.und_ids, one.gen_ids
  ids = jax.tree.map(np.asarray, masks.join(und, gen))
  used = np.flatnonzero(ids.segment[0])
  order = used[np.argsort(ids.order[0, used])]
  pick = lambda x: x[0, order]
  size = und.segment.shape[1]
  visual = np.concatenate([one.visual_BU[0], np.full(gen.order.shape[1], -1)])
  number, pictures = _pictures(one, layout)
  picture = np.where(
    order < size,
    number["und"][visual[order]] * (visual[order] >= 0) - (visual[order] < 0),
    number["gen"][np.maximum(order - size, 0)],
  )
  token = np.concatenate([one.tokens_BU[0], np.zeros(gen.order.shape[1], int)])
  weight = np.concatenate([one.weights_BU[0], np.zeros(gen.order.shape[1])])
  # The weight stands where the next token is predicted.
  follows = np.concatenate([[False], pick(weight[None])[:-1] > 0])
  seen = pick(ids.noise_group)
  return Slots(
    segment=pick(ids.segment),
    slot=pick(ids.order),
    token=np.where(picture < 0, token[order], -1),
    picture=picture,
    noisy=seen,
    learned=follows | (seen > 0),
    allowed=np.asarray(masks.allow(ids, ids))[0][np.ix_(order, order)],
    pictures=pictures,
  )


def _pictures(
  one: Batch, layout: Layout
) -> tuple[dict[str, np.ndarray], list[tuple[str, np.ndarray]]]:
  """Which picture each visual token of the buffers belongs to, and all."""
  cost, T = layout.clean_cost, layout.tokens_per_picture
  native = one.patches  # None: all pictures have one size
  asked = (
    one.und_pixels_BNYXC[0] if native is None else patches.pictures(native, 0)
  )
  pictures = [("question", p) for p in asked]
  pictures += [("reference", p) for p in one.ref_pixels_BRYXC[0]]
  pictures += [("target", p) for p in one.gen_pixels_BMYXC[0]]
  first_ref = layout.und_pictures
  first_target = first_ref + layout.references
  und = np.repeat(np.arange(first_ref), cost)
  if native is not None:  # a number for every patch, four of which are a token
    of_token = native.picture_BW[0, ::PATCHES_PER_CELL] - 1
    und = np.tile(of_token, layout.per_cell)
  und = np.concatenate(
    [und, np.repeat(np.arange(first_ref, first_target), cost)]
  )
  gen = np.concatenate(
    [
      np.repeat(first_ref + np.arange(layout.gen_references), cost),
      np.repeat(first_target + np.arange(layout.targets), T),
    ]
  )
  # One more, so that an index of "no picture" is no error.
  pad = lambda x: np.concatenate([x, [0]]).astype(np.int64)
  return {"und": pad(und), "gen": pad(gen)}, pictures


def attention(slots: Slots) -> str:
  """The address of the square of allowed pairs; large ones are shrunk."""
  L = slots.slot.size
  if not L:
    return ""
  kind = np.where(slots.noisy > 0, 2, np.where(slots.picture >= 0, 1, 0))
  colour = _COLOURS[(slots.segment - 1) % 4, kind]
  drawn = np.full((L, L, 3), 255, np.uint8)
  key = np.broadcast_to(colour[None], drawn.shape)
  drawn[slots.allowed] = key[slots.allowed]
  image = Image.fromarray(drawn)
  if L > _SIDE:
    image = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
  return embedded(np.asarray(image))
