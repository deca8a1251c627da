"""A packed batch drawn: its rows in reading order, its attention, its account.

Everything is read back from the arrays that training gets (structs.Batch), not
from the samples they were made of: what is wrong there is seen here.
"""

import base64
from collections.abc import Iterable
import dataclasses
import html
import io

import jax
import numpy as np
from PIL import Image

from emma_jax.data.batching import patches
from emma_jax.data.batching.row_layout import PATCHES_PER_CELL, Layout
from emma_jax.data.loading import dataset
from emma_jax.data.text.tokenizer import Tokenizer
from emma_jax.evals import sheets, style
from emma_jax.models import masks
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
_CSS = """
.flow { line-height: 1.9; overflow-wrap: anywhere; font-size: 13.5px; }
.flow .segment { border-left: 4px solid; padding: 2px 0 6px 10px;
  margin: 8px 0; }
.flow .t { white-space: pre-wrap; }
.flow .m { color: var(--soft); font-size: 11px; }
.flow .l { background: color-mix(in srgb, var(--right) 28%, transparent);
  border-radius: 3px; }
.flow figure { display: inline-block; margin: 2px 6px; text-align: center;
  vertical-align: middle; font-size: 11px; line-height: 1.3; }
.flow img { height: 96px; display: block; image-rendering: pixelated;
  outline: 1px solid var(--line); }
.flow figcaption { margin-top: 5px; }
.flow .learned img { outline: 3px solid var(--right); }
.mask { display: flex; gap: 22px; flex-wrap: wrap; align-items: start; }
.mask .flow { flex: 1 1 420px; }
.mask > img { width: min(420px, 100%); image-rendering: pixelated;
  border: 1px solid var(--line); background: #fff; }
"""


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


@dataclasses.dataclass(frozen=True)
class Page:
  """Draws batches of a source."""

  source: dataset.BatchDataset
  tokenizer: Tokenizer

  def html(self, steps: Iterable[int], rows: int, title: str) -> str:
    """The page as text: of each step its account and first `rows` rows."""
    parts = []
    for step in steps:
      host = self.source[step]
      parts.append(self._account(host, step))
      for row in range(min(rows, host.batch.tokens_BU.shape[0])):
        parts.append(self._row(host, step, row))
    return (
      '<!doctype html><html lang="en"><meta charset="utf-8">'
      f"<title>What the model sees</title><style>{style.CSS}{_CSS}</style>"
      f"<h1>What the model sees</h1><p>{html.escape(title)}. In a row: text "
      "as it is split into tokens, marks of the layout in grey, "
      '<span class="flow"><span class="l">learned tokens</span></span> and '
      "learned pictures in green. In the square: each line is a token, and "
      "what is coloured it may attend to; text, clean and noisy pictures in "
      f"three shades, a sample in one colour.</p>{''.join(parts)}</html>\n"
    )

  def _account(self, host: dataset.HostBatch, step: int) -> str:
    info = host.info
    notes = [f"{b.where}: {b.reason}" for b in info.bad]
    notes += [f"{d.id}: {d.reason}" for d in info.packed.dropped]
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
      f"<h2>Batch {step}</h2><p>{info.drawn} samples drawn, "
      f"{info.drawn - len(notes)} placed, {len(info.bad)} bad, "
      f"{len(info.packed.dropped)} without room; "
      f"{100 * info.packed.fill:.1f}% of {info.slots} slots used.</p>"
      + (
        f"<details><summary>Not placed</summary><ul>{listed}</ul></details>"
        if notes
        else ""
      )
    )

  def _row(self, host: dataset.HostBatch, step: int, row: int) -> str:
    layout = self.source.layout(step)
    slots = read_row(host.batch, row, layout)
    placed = host.info.packed.placed[row]
    names = self.source.names(step)
    segments = [
      self._segment(slots, number, names[index])
      for number, index in enumerate(placed, start=1)
    ]
    return (
      f"<h3>Row {row}: {slots.slot.size} of {layout.slots} slots</h3>"
      f'<div class="mask"><div class="flow">{"".join(segments)}</div>'
      f"{attention(slots)}</div>"
    )

  def _segment(self, slots: Slots, number: int, name: str) -> str:
    colour = "rgb({},{},{})".format(*_COLOURS[(number - 1) % 4, 0])
    parts, at = [], np.flatnonzero(slots.segment == number)
    while at.size:
      picture = slots.picture[at[0]]
      if picture < 0:
        parts.append(self._token(int(slots.token[at[0]]), slots.learned[at[0]]))
        at = at[1:]
        continue
      same = int((slots.picture[at] == picture).sum())
      role, pixels = slots.pictures[picture]
      y, x, _ = pixels.shape
      learned = ' class="learned"' if slots.learned[at[0]] else ""
      parts.append(
        f"<figure{learned}>{sheets.picture(pixels, role)}<figcaption>{role}, "
        f"{x}x{y}, {same} tokens</figcaption></figure>"
      )
      at = at[same:]
    return (
      f'<div class="segment" style="border-color:{colour}">'
      f"<small>{html.escape(name)}</small>{''.join(parts)}</div>"
    )

  def _token(self, token: int, learned: bool) -> str:
    names = {i: name for name, i in self.tokenizer.special.items()}
    text = names.get(token) or self.tokenizer.decode([token])
    text = html.escape(text.replace("\n", "⏎\n"))
    classes = "t" + (" m" if token in names else "") + (" l" if learned else "")
    return f'<span class="{classes}">{text}</span>'


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
  """The square of allowed pairs as an <img>; large ones are shrunk."""
  S = slots.slot.size
  if not S:
    return ""
  kind = np.where(slots.noisy > 0, 2, np.where(slots.picture >= 0, 1, 0))
  colour = _COLOURS[(slots.segment - 1) % 4, kind]
  drawn = np.full((S, S, 3), 255, np.uint8)
  key = np.broadcast_to(colour[None], drawn.shape)
  drawn[slots.allowed] = key[slots.allowed]
  image = Image.fromarray(drawn)
  if S > _SIDE:
    image = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
  buffer = io.BytesIO()
  image.save(buffer, "PNG", optimize=True)
  data = base64.b64encode(buffer.getvalue()).decode()
  return f'<img alt="attention" src="data:image/png;base64,{data}">'
