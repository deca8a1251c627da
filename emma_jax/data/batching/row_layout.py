"""The static shapes of a packed batch."""

from collections.abc import Mapping
import dataclasses
from typing import Any, Literal

from emma_jax.data.pictures.images import GRID
from emma_jax.data.transforms import Picture, Sample, Text

# The vision encoder's patches are half as wide and high as a cell.
PATCHES_PER_CELL = 4
# What a row has room for, by the names of `Layout`'s fields.
CAPACITIES = (
  "und_tokens",
  "und_pictures",
  "references",
  "targets",
  "und_patches",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """Static capacities of a batch; counts are per row.

  `und_tokens` are all slots of the Und buffer: text, understanding pictures,
  and the references where `reference_branch` is "und". Pictures are (height,
  width) pixels; with `und_patches`, understanding pictures have sizes of their
  own, and share that many patches of 16x16 pixels, four to a token.
  `latent_channels` are those of latents made beforehand, which samples then
  bring along; 0: the step makes them.

  >>> layout = Layout(rows=2, und_tokens=64, und_pictures=1, references=1,
  ...                 targets=2, height=96, width=96, und_patches=0,
  ...                 latent_channels=0, fusion="channel",
  ...                 reference_branch="gen")
  >>> layout.tokens_per_picture, layout.gen_tokens, layout.slots
  (9, 27, 91)
  """

  rows: int
  und_tokens: int
  und_pictures: int
  references: int
  targets: int
  height: int
  width: int
  und_patches: int
  latent_channels: int
  # "token": a clean picture is its semantic tokens, then its latent tokens.
  fusion: Literal["channel", "token"]
  reference_branch: Literal["gen", "und"]

  def __post_init__(self):
    for name in ("rows", "und_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be positive.")
    for name in (
      "und_pictures",
      "references",
      "targets",
      "und_patches",
      "latent_channels",
    ):
      if getattr(self, name) < 0:
        raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
    if self.und_patches % PATCHES_PER_CELL:
      raise ValueError(
        f"{self.und_patches=} is not a multiple of {PATCHES_PER_CELL}, the "
        "patches of a token."
      )
    if self.und_patches and not self.und_pictures:
      raise ValueError(
        f"{self.und_patches=} without und_pictures; say how many pictures "
        "may share them."
      )
    for name in ("height", "width"):
      size = getattr(self, name)
      if size <= 0 or size % GRID:
        raise ValueError(f"{name}={size} is not a positive multiple of {GRID}.")
    if self.fusion not in ("channel", "token"):
      raise ValueError(f"{self.fusion=} is unknown; use 'channel' or 'token'.")
    if self.reference_branch not in ("gen", "und"):
      raise ValueError(
        f"{self.reference_branch=} is unknown; use 'gen' or 'und'."
      )

  @property
  def tokens_per_picture(self) -> int:
    """T: tokens of a target."""
    return (self.height // GRID) * (self.width // GRID)

  @property
  def per_cell(self) -> int:
    """Tokens of a clean picture's cell of 32x32 pixels."""
    return 2 if self.fusion == "token" else 1

  @property
  def clean_cost(self) -> int:
    """Tokens of a clean picture of the layout's size."""
    return self.tokens_per_picture * self.per_cell

  @property
  def und_visual(self) -> int:
    """Visual tokens that a row's understanding pictures have room for."""
    if self.und_patches:
      return self.und_patches // PATCHES_PER_CELL * self.per_cell
    return self.und_pictures * self.clean_cost

  @property
  def gen_references(self) -> int:
    """References that have room in the Gen buffer of a row."""
    return self.references if self.reference_branch == "gen" else 0

  @property
  def gen_tokens(self) -> int:
    """G: slots of the Gen buffer."""
    targets = self.targets * self.tokens_per_picture
    return self.gen_references * self.clean_cost + targets

  @property
  def slots(self) -> int:
    """Slots of a row in reading order; also the slot of padding."""
    return self.und_tokens + self.gen_tokens

  def with_row(self, row: Mapping[str, int]) -> "Layout":
    """With other capacities, by name."""
    changes: dict[str, Any] = dict(row)
    return dataclasses.replace(self, **changes)

  def num_grid_cells(self, picture: Picture) -> int:
    """Cells of 32x32 pixels of a picture; a target's padding has none."""
    if self.und_patches and picture.role == "und":
      y, x, _ = picture.pixels_YXC.shape
      return (y // GRID) * (x // GRID)
    if picture.role == "target" and picture.content is not None:
      y, x = picture.content
      return (y // GRID) * (x // GRID)
    return self.tokens_per_picture

  def cost(self, picture: Picture) -> int:
    """Tokens of a picture."""
    clean = picture.role != "target"
    return self.num_grid_cells(picture) * (self.per_cell if clean else 1)

  def row_cost(self, sample: Sample) -> dict[str, int]:
    """What the sample takes of a row, by the name of the capacity."""
    need = dict.fromkeys(CAPACITIES, 0)
    for part in sample.parts:
      if isinstance(part, Text):
        need["und_tokens"] += len(part.tokens)
      elif part.role == "target":
        need["targets"] += 1
      elif part.role == "ref":
        need["references"] += 1
        if self.reference_branch == "und":
          need["und_tokens"] += self.clean_cost
      else:
        need["und_pictures"] += 1
        need["und_tokens"] += self.cost(part)
        if self.und_patches:
          need["und_patches"] += PATCHES_PER_CELL * self.num_grid_cells(part)
    return need

  def length(self, sample: Sample) -> int:
    """Tokens of the sample, in both buffers."""
    total = 0
    for part in sample.parts:
      if isinstance(part, Text):
        total += len(part.tokens)
      else:
        total += self.cost(part)
    return total

  def too_large_reason(self, sample: Sample) -> str:
    """Why no row could ever hold the sample; empty where one can."""
    for name, count in self.row_cost(sample).items():
      if count > getattr(self, name):
        return (
          f"needs {name}={count} of a row but the layout has "
          f"{getattr(self, name)}; raise layout.{name}"
        )
    for part in sample.parts:
      if isinstance(part, Picture):
        why = self._too_large(part)
        if why:
          return why
    return ""

  def _too_large(self, picture: Picture) -> str:
    y, x, c = picture.pixels_YXC.shape
    if self.und_patches and picture.role == "und":
      if y % GRID or x % GRID or c != 3:
        return (
          f"a picture of {y}x{x}x{c} whose sides are no multiples of {GRID}; "
          "preprocess it (native)"
        )
    elif (y, x, c) != (self.height, self.width, 3):
      return (
        f"a picture of {y}x{x} pixels in a layout of "
        f"{self.height}x{self.width}; make both one size (native off)"
      )
    if not self.latent_channels:
      return ""
    if picture.latent_TC is None:
      return (
        "has a picture without latents; make them with `emma-data "
        "encode-latents`, or set data.latents=step"
      )
    want = ((y // GRID) * (x // GRID), self.latent_channels)
    if picture.latent_TC.shape != want:
      return (
        f"a picture of {y}x{x} pixels with latents {picture.latent_TC.shape} "
        f"instead of {want}; make them again with `emma-data encode-latents`"
      )
    return ""
