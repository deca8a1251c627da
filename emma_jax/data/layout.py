"""The static shapes of a packed batch."""

import dataclasses
from typing import Literal

from emma_jax.data.images import GRID
from emma_jax.data.transforms import Picture, Sample, Text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """Static capacities of a batch; counts are per row.

  `und_tokens` are all slots of the Und buffer: text, understanding pictures,
  and the references where `reference_branch` is "und". Pictures are (height,
  width) pixels.

  >>> layout = Layout(rows=2, und_tokens=64, und_pictures=1, references=1,
  ...                 targets=2, height=96, width=96)
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
  # "token": a clean picture is its semantic tokens, then its latent tokens.
  fusion: Literal["channel", "token"] = "channel"
  reference_branch: Literal["gen", "und"] = "gen"

  def __post_init__(self):
    for name in ("rows", "und_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be positive.")
    for name in ("und_pictures", "references", "targets"):
      if getattr(self, name) < 0:
        raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
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
  def clean_cost(self) -> int:
    """Tokens of a clean picture: understanding pictures and references."""
    return self.tokens_per_picture * (2 if self.fusion == "token" else 1)

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

  def need(self, sample: Sample) -> dict[str, int]:
    """What the sample takes of a row, by the name of the capacity."""
    need = dict(und_tokens=0, und_pictures=0, references=0, targets=0)
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
        need["und_tokens"] += self.clean_cost
    return need

  def length(self, sample: Sample) -> int:
    """Tokens of the sample, in both buffers."""
    total = 0
    for part in sample.parts:
      if isinstance(part, Text):
        total += len(part.tokens)
      else:
        target = part.role == "target"
        total += self.tokens_per_picture if target else self.clean_cost
    return total

  def misfit(self, sample: Sample) -> str:
    """Why no row could ever hold the sample; empty where one can."""
    for name, count in self.need(sample).items():
      if count > getattr(self, name):
        return (
            f"needs {name}={count} of a row but the layout has "
            f"{getattr(self, name)}; raise layout.{name}"
        )
    for part in sample.parts:
      if isinstance(part, Picture):
        y, x, c = part.pixels_YXC.shape
        if (y, x, c) != (self.height, self.width, 3):
          return (
              f"a picture of {y}x{x} pixels in a layout of "
              f"{self.height}x{self.width}; make both one size (native off)"
          )
    return ""
