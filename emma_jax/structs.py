"""What travels between modules: records, batches, caches, means.

Names of arrays end in their axes, one letter each: `x_BLD`, a shape (B, L, D).
`AXIS_LETTERS` says what the letters mean, everywhere in the package.
"""

import dataclasses
from typing import Any, ClassVar

from flax import struct
import jax
import numpy as np

Array = jax.Array | np.ndarray

# A digit is an axis of that length, as the 2 of a cell's (row, column), and a
# letter that comes twice stands for two axes of one length.
AXIS_LETTERS = {
  "A": "contexts of a guided velocity",
  "B": "rows: of a packed batch, of a table",
  "C": "channels of a pixel, a patch or a token",
  "D": "model width",
  "E": "head width",
  "F": "width inside an MLP",
  "G": "Gen slots of a row",
  "H": "heads; query heads where keys and values have fewer",
  "I": "the arrays of a TokenIds",
  "J": "tokens of a row's native Und pictures (four patches each)",
  "K": "key/value heads",
  "L": "places of any sequence, mostly tokens",
  "M": "targets of a row",
  "N": "Und pictures of a row",
  "P": "pictures",
  "Q": "query heads of a key/value head (H = K * Q)",
  "R": "references of a row",
  "S": "keys of an attention",
  "T": "tokens of a picture",
  "U": "Und slots of a row",
  "V": "words of the vocabulary",
  "W": "patches of a row's native Und pictures",
  "X": "pixel columns",
  "Y": "pixel rows",
  "Z": "layers",
  "c": "keys of a tile (columns of scores)",
  "e": "experts of the understanding tower",
  "h": "rows of a picture's grid of tokens or patches",
  "n": "pieces of an axis that are worked on one after another",
  "r": "queries of a tile (rows of scores); of a pass over tokens, tokens",
  "w": "columns of a picture's grid of tokens or patches",
}

# Codes of `Batch.gen_task_BM`; 0 is an empty slot.
DRAWING, EDITING = 1, 2
# Of the tasks that end in a picture.
GEN_TASKS = {"drawing": DRAWING, "editing": EDITING}
# Codes of `Understanding.stem` and `Batch.stem_BN`.
STEM_UNKNOWN, STEM_GENERAL, STEM_SCIENCE = -1, 0, 1
STEM_LABELS = {
  STEM_UNKNOWN: "unlabelled",
  STEM_GENERAL: "general",
  STEM_SCIENCE: "stem",
}


# ---------------------------------------------------------------- records


# A picture before preprocessing: a decoded RGB array (Y, X, 3) uint8, or the
# path of an encoded file, or its bytes.
PlainPicture = np.ndarray | str | bytes


@dataclasses.dataclass(frozen=True, eq=False)
class WithLatent:
  """A picture, and its normalised latents at the size the model sees it in."""

  picture: PlainPicture
  latent_hwC: np.ndarray


# The same, perhaps with its latents.
RawPicture = PlainPicture | WithLatent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Understanding:
  """Pictures and turns of (question, answer); loss on the answers only."""

  task: ClassVar[str] = "understanding"
  pictures: tuple[RawPicture, ...]
  turns: tuple[tuple[str, str], ...]
  stem: int = STEM_UNKNOWN
  kinds: tuple[str, ...] = ()  # one name per turn, for scoring
  id: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
  """A prompt and the picture it describes (None when only sampling)."""

  task: ClassVar[str] = "drawing"
  prompt: str
  picture: RawPicture | None = None
  kind: str = ""
  id: str = ""
  truth: Any = None  # what a scorer needs; opaque to the pipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Editing:
  """Source pictures, an instruction, and the result (None when sampling).

  One source or more, in the order in which the instruction counts them; the
  result has the size of the first.
  """

  task: ClassVar[str] = "editing"
  sources: tuple[RawPicture, ...]
  instruction: str
  target: RawPicture | None = None
  kind: str = ""
  id: str = ""
  truth: Any = None

  def __post_init__(self):
    if not isinstance(self.sources, tuple):
      raise TypeError(
        f"sources is a {type(self.sources).__name__}; make it a tuple of "
        "pictures, of one where there is one."
      )
    if not self.sources:
      raise ValueError(
        f"The edit {self.id!r} has no source; give it one or more, or make it "
        "a Drawing."
      )

  @property
  def source(self) -> RawPicture:
    """The first one, whose size the result has."""
    return self.sources[0]


Record = Understanding | Drawing | Editing
# By task; a task that reads as another does is a subclass of its record.
RECORDS: dict[str, type[Record]] = {
  record.task: record for record in (Understanding, Drawing, Editing)
}
TASKS = tuple(RECORDS)


# ---------------------------------------------------------------- batches


@struct.dataclass
class TokenIds:
  """What the attention mask is made of; see `models.masks.allow`.

  All int32, shape (B, L), as the buffer holds them (in any order: `order` tells
  where a token stands when read).
  """

  segment: Array  # sample in the row, 1, 2, ...; 0 is padding
  order: Array  # place in reading order within the row
  last_visible: Array  # the greatest order this token may see
  noise_group: Array  # its noisy picture in the row, 1, 2, ...; 0 where clean
  position: Array  # RoPE position: place within the sample


@struct.dataclass
class Patches:
  """Understanding pictures of native sizes, cut and laid end to end.

  A token's four patches stand together, so that the 2x2 pixel shuffle is a
  reshape: tokens of a picture row-major, in a token (0, 0) (0, 1) (1, 0)
  (1, 1), and in a patch (row, column, channel). Padding is at the end.
  """

  values_BWC: Array  # uint8 values of a patch
  picture_BW: Array  # int32 its picture in the row, 1, 2, ...; 0 is padding
  cell_BW2: Array  # int32 (row, column) in its picture, in patches
  grid_BN2: Array  # int32 (rows, columns) of each picture; (0, 0): none


@struct.dataclass
class Latents:
  """Normalised clean latents of a batch's pictures; None where none are.

  Understanding pictures are in `und_BNTC` where all have one size, in
  `native_BJC`, in the order of `Patches`, where each has its own.
  """

  und_BNTC: Array | None
  ref_BRTC: Array | None
  gen_BMTC: Array | None
  native_BJC: Array | None = None


@struct.dataclass
class Batch:
  """A packed batch of static shape. Row-local indices, so rows shard freely.

  Und buffer: text, understanding pictures (and references, where
  `reference_branch` is "und"). Gen buffer: the tokens of the references (where
  `reference_branch` is "gen"), then those of the targets, slot after slot, each
  picture's tokens row-major; tokens of empty slots are padding.
  """

  tokens_BU: Array  # int32 token id (0 where visual or padding)
  visual_BU: Array  # int32 index into the row's Und visual tokens, -1: text
  targets_BU: Array  # int32 token to predict here
  weights_BU: Array  # float32 1 where the target counts
  und_ids: TokenIds  # (B, U)
  gen_ids: TokenIds  # (B, G)
  und_pixels_BNYXC: Array  # uint8 understanding pictures
  und_valid_BN: Array  # bool
  stem_BN: Array  # int32 STEM label per understanding picture
  ref_pixels_BRYXC: Array  # uint8 editing references
  ref_valid_BR: Array  # bool
  gen_pixels_BMYXC: Array  # uint8 clean targets
  gen_task_BM: Array  # int32 0 empty, DRAWING or EDITING
  # Understanding pictures of native sizes; `und_pixels_BNYXC` is then empty.
  patches: Patches | None = None
  # Made beforehand; None: the step makes them from the pixels.
  latents: Latents | None = None


@struct.dataclass
class KvCache:
  """Keys (after q/k norm and RoPE), values, and the ids of what they hold.

  Empty places have `ids.segment == 0` and are therefore never attended to.
  """

  key_ZBSKE: Array  # shallow layers, then deep
  value_ZBSKE: Array
  ids: TokenIds  # (B, S)


# ---------------------------------------------------------------- means


@struct.dataclass
class Mean:
  """A sum and a count, so that a mean of parts is the mean of the whole.

  >>> float((Mean(6.0, 3.0) + Mean(1.0, 1.0)).value)
  1.75
  """

  total: Any
  count: Any

  def __add__(self, other: "Mean") -> "Mean":
    return Mean(self.total + other.total, self.count + other.count)

  @property
  def value(self):
    """The mean; 0 where nothing was counted."""
    return self.total / jax.numpy.maximum(self.count, 1e-9)
