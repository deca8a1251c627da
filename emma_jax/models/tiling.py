"""Large pictures in overlapping tiles, so that memory stops growing with them.

The tiles, their order and the blending are those of
`diffusers.AutoencoderDC.tiled_encode` and `.tiled_decode`:

    +-------+-+-----+-+----+   Tiles begin every `stride` and are `size` long
    |       |/|     |/|    |   or end with the picture. Where two overlap the
    |       |/|     |/|    |   later fades in over the earlier, from the tile
    +-------+-+-----+-+----+   above first, then from the tile on the left.
    |///////|/|/////|/|////|
    +-------+-+-----+-+----+   Each tile is coded alone: it sees zeros, not its
    |       |/|     |/|    |   neighbours, beyond its edges, and attention ends
    +-------+-+-----+-+----+   there. So a tiled result is not the whole's.

Axes: P pictures, Y and X rows and columns, C channels; T tiles of one shape.
"""

from collections.abc import Callable, Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

Run = Callable[[jax.Array], jax.Array]
Pair = tuple[int, int]  # (rows, columns)
Grid = list[list[jax.Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiling:
  """Sizes and distances of tiles in pixels; the defaults are diffusers'.

  A picture no larger than a tile on either side is coded whole.
  """

  height: int = 512
  width: int = 512
  stride_height: int = 448
  stride_width: int = 448

  def __post_init__(self):
    for stride, size in zip(self.stride, self.size):
      if not 0 < stride <= size:
        raise ValueError(
          f"Tiles of {size} pixels every {stride} would leave gaps; choose a"
          " stride between 1 and the size."
        )

  @property
  def size(self) -> Pair:
    """A tile's (height, width) in pixels."""
    return self.height, self.width

  @property
  def stride(self) -> Pair:
    """Pixels from a tile to the one (below, right of) it."""
    return self.stride_height, self.stride_width

  def applies(self, height: int, width: int) -> bool:
    """Whether a picture of this many pixels is cut."""
    return height > self.height or width > self.width

  def latent(self, factor: int) -> "Tiling":
    """The same tiles counted in latents of `factor` pixels a side.

    Raises:
      ValueError: an edge between two latents.
    """
    sizes = dataclasses.asdict(self)
    odd = {name: value for name, value in sizes.items() if value % factor}
    if odd:
      raise ValueError(
        f"Tiles must be multiples of {factor} pixels, unlike {odd}."
      )
    return Tiling(**{name: value // factor for name, value in sizes.items()})


def encode_tiles(
  run: Run, pixels_PYXC: jax.Array, tiling: Tiling, factor: int
) -> jax.Array:
  """Latents (P, Y // factor, X // factor, C) of pictures, tile by tile.

  Args:
    run: the encoder: (P, y, x, C) -> (P, y / factor, x / factor, C).
    pixels_PYXC: pictures of any size; tiles that end between two latents are
      padded with zeros at the bottom and on the right, and what belongs to no
      whole latent is left out of the result.
    tiling: in pixels.
    factor: pixels per latent and side.
  """
  height, width = (n // factor for n in pixels_PYXC.shape[1:3])
  tiles = _cut(pixels_PYXC, tiling, multiple=factor)
  latents = _join(_run_each(run, tiles), tiling.latent(factor))
  return latents[:, :height, :width]


def decode_tiles(
  run: Run, latents_PhwC: jax.Array, tiling: Tiling, factor: int
) -> jax.Array:
  """Pictures (P, factor * h, factor * w, C) of latents, tile by tile.

  Args:
    run: the decoder: (P, h, w, C) -> (P, factor * h, factor * w, C).
    latents_PhwC: latents.
    tiling: in pixels.
    factor: pixels per latent and side.
  """
  tiles = _cut(latents_PhwC, tiling.latent(factor))
  return _join(_run_each(run, tiles), tiling)


def _cut(x_PYXC: jax.Array, tiling: Tiling, multiple: int = 1) -> Grid:
  """Rows of tiles, padded to multiples with zeros below and on the right."""
  height, width = x_PYXC.shape[1:3]
  rows = []
  for top in range(0, height, tiling.stride_height):
    row = []
    for left in range(0, width, tiling.stride_width):
      tile = x_PYXC[:, top : top + tiling.height, left : left + tiling.width]
      below, right = (-n % multiple for n in tile.shape[1:3])
      row.append(jnp.pad(tile, ((0, 0), (0, below), (0, right), (0, 0))))
    rows.append(row)
  return rows


def _run_each(run: Run, tiles: Grid) -> Grid:
  """Runs every tile alone, one after another; traces one run per shape."""
  places: dict[tuple[int, ...], list[Pair]] = {}
  for i, row in enumerate(tiles):
    for j, tile in enumerate(row):
      places.setdefault(tile.shape, []).append((i, j))
  results = [list(row) for row in tiles]
  last = None
  for where in places.values():
    x_nPYXC = jnp.stack([tiles[i][j] for i, j in where])
    if last is not None:
      # A false dependency: shapes must not run at once, nor hold memory so.
      x_nPYXC, last = jax.lax.optimization_barrier((x_nPYXC, last))
    last = jax.lax.map(run, x_nPYXC)
    for n, (i, j) in enumerate(where):
      results[i][j] = last[n]
  return results


def _join(tiles: Grid, tiling: Tiling) -> jax.Array:
  """One picture of overlapping tiles.

  A tile fades in over neighbours that are blended already, outside of what
  they contribute to the picture too: three tiles meet in a corner.
  """
  overlap_y, overlap_x = (n - s for n, s in zip(tiling.size, tiling.stride))
  above: Sequence[jax.Array] = ()
  strips = []
  for row in tiles:
    blended: list[jax.Array] = []
    for j, tile in enumerate(row):
      if above:
        tile = _fade(above[j], tile, overlap_y, axis=1)
      if blended:
        tile = _fade(blended[-1], tile, overlap_x, axis=2)
      blended.append(tile)
    kept = [
      t[:, : tiling.stride_height, : tiling.stride_width] for t in blended
    ]
    strips.append(jnp.concatenate(kept, axis=2))
    above = blended
  return jnp.concatenate(strips, axis=1)


def _fade(a: jax.Array, b: jax.Array, overlap: int, axis: int) -> jax.Array:
  """b, whose first `overlap` rows go over from a's last rows linearly.

  In float32, rounded once. Row y has y / overlap of b: the first none.
  """
  overlap = min(a.shape[axis], b.shape[axis], overlap)
  if not overlap:
    return b
  old = jax.lax.slice_in_dim(a, a.shape[axis] - overlap, None, axis=axis)
  new, rest = jnp.split(b, [overlap], axis=axis)
  row = np.arange(overlap).reshape([-1 if n == axis else 1 for n in range(4)])
  share = row / overlap
  mixed = old.astype(jnp.float32) * (1 - share).astype(np.float32) + new.astype(
    jnp.float32
  ) * share.astype(np.float32)
  return jnp.concatenate([mixed.astype(b.dtype), rest], axis=axis)
