"""Pictures with rendered words, and prompts that quote them.

A picture is a function of (seed, index) and of the fonts: as many as are asked
for, in any number of processes. Every text's box is in the record's provenance:

  "texts": [{"text": "OPEN", "box": [left, top, right, bottom], "font": ...}]

in pixels, right and bottom outside; all of the text's ink is in its box.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import io
import itertools
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from emma_jax.data.curation import fonts as fonts_lib
from emma_jax.data.curation import words as words_lib
from emma_jax.data.curation.base import Construction, plain
from emma_jax.data.ingest.job import ConversionError, file_state
from emma_jax.data.ingest.part import Converted, FirstPass, Skipped
from emma_jax.data.records import schema
from emma_jax.structs import Drawing

# Luminances (0 to 255) of text and ground differ by so much at least.
_CONTRAST = 90
# A text is at least so many pixels high, however long it is.
_SMALLEST = 14
_MARGIN = 0.06  # of the shorter side


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPictures(Construction):
  """Draws pictures for rows {"index": i}.

  Args:
    seed: of all choices.
    sizes: (height, width) in pixels, drawn evenly.
    languages: keys of fonts.LANGUAGES, drawn evenly. The paper draws English
      alone: pictures from Chinese prompts are to be what nobody trained.
    phrases: language -> texts; a language without takes words.PHRASES.
    folders: of fonts; without any, the system's.
    max_texts: in a picture.
    found: language -> font files, by `ready`.
  """

  seed: int = 0
  sizes: tuple[tuple[int, int], ...] = ((1024, 1024),)
  languages: tuple[str, ...] = ("en",)
  phrases: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  folders: tuple[str, ...] = ()
  max_texts: int = 3
  found: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict, repr=False
  )

  def __post_init__(self):
    unknown = set(self.languages) - set(fonts_lib.LANGUAGES)
    if unknown or not self.languages:
      raise ConversionError(
        f"Languages are {sorted(fonts_lib.LANGUAGES)}, not {sorted(unknown)}."
      )
    if not self.sizes or min(min(s) for s in self.sizes) < 128:
      raise ConversionError(
        f"{self.sizes}: sizes are HEIGHTxWIDTH of at least 128 pixels."
      )
    if self.max_texts < 1:
      raise ConversionError(f"{self.max_texts=} must be positive.")

  def describe(self) -> dict[str, Any]:
    """For the card: settings, languages of the phrases, font files."""
    return {
      "construction": "TextPictures",
      "settings": self._settings() | {"phrases": sorted(self.phrases)},
      "fonts": plain(self.found),
    }

  def identity(self) -> Any:
    """Fonts decide the pixels, too."""
    found = self.found or self._find()
    files = [file_state(f) for key in sorted(found) for f in found[key]]
    return [super().identity(), files]

  def ready(self, first: FirstPass) -> "TextPictures":
    """Itself with the font files of each language."""
    return dataclasses.replace(self, found=self._find())

  def _find(self) -> dict[str, tuple[str, ...]]:
    return {key: fonts_lib.find(key, self.folders) for key in self.languages}

  def make(
    self, row: Mapping[str, Any], where: str, path: str
  ) -> Iterator[Converted | Skipped]:
    """Whatever the input is called: only the index counts."""
    index = row["index"]
    picture, texts, prompt = self.draw(index)
    out = io.BytesIO()
    picture.save(out, "PNG")
    record = Drawing(
      prompt=prompt, picture=out.getvalue(), id=f"text-{self.seed}-{index}"
    )
    provenance = {
      "row": where,
      "seed": self.seed,
      "index": index,
      "texts": texts,
    }
    if self.base.dataset:
      provenance["dataset"] = self.base.dataset
    stored = schema.Stored(
      record=record, weight=self.base.weight, provenance=provenance
    )
    schema.check(stored, where)
    yield Converted(stored, [picture.size[::-1]])

  def draw(self, index: int) -> tuple[Image.Image, list[dict[str, Any]], str]:
    """(picture, texts with boxes, prompt) of an index."""
    rng = np.random.default_rng([self.seed, index])
    height, width = self.sizes[rng.integers(len(self.sizes))]
    language = self.languages[rng.integers(len(self.languages))]
    phrases = self.phrases.get(language) or words_lib.PHRASES[language]
    count = int(rng.integers(1, self.max_texts + 1))
    chosen = [phrases[i] for i in rng.permutation(len(phrases))[:count]]
    ground, ink = _colours(rng)
    picture, look = _ground(rng, height, width, ground)
    bands = _bands(rng, height, width, len(chosen))
    texts = []
    for phrase, band in zip(chosen, bands):
      font = self._font(rng, language, phrase)
      box = _write(rng, picture, phrase, font, band, ink.rgb)
      texts.append({"text": phrase, "box": box, "font": font[1]})
    order = np.argsort([t["box"][1] for t in texts], kind="stable")
    texts = [texts[i] for i in order]
    quoted = " and ".join(f'"{t["text"]}"' for t in texts)
    prompt = _pick(rng, _PROMPTS).format(
      look=look, ink=ink.name, ground=ground.name, quoted=quoted
    )
    return picture, texts, prompt

  def _font(
    self, rng: np.random.Generator, language: str, phrase: str
  ) -> tuple[str, str]:
    """(file, its name) of a font that has all glyphs."""
    files = [f for f in self.found[language] if fonts_lib.covers(f, phrase)]
    if not files:
      raise ConversionError(
        f"No font of {len(self.found[language])} has all characters of "
        f"{phrase!r}; install another (--fonts DIR), or leave it out."
      )
    path = _pick(rng, files)
    names = fonts_lib.load(path, 32).getname()
    return path, " ".join(name for name in names if name is not None)


@dataclasses.dataclass(frozen=True)
class Colour:
  """A colour and its name in prompts."""

  name: str
  rgb: tuple[int, int, int]

  @property
  def luminance(self) -> float:
    """0 (black) to 255 (white), by the weights of Rec. 601."""
    return float(np.dot(self.rgb, (0.299, 0.587, 0.114)))


COLOURS = tuple(
  Colour(*c)
  for c in [
    ("white", (250, 250, 248)),
    ("black", (16, 16, 18)),
    ("red", (200, 30, 36)),
    ("dark blue", (20, 38, 110)),
    ("light blue", (150, 200, 240)),
    ("yellow", (250, 210, 40)),
    ("green", (24, 120, 60)),
    ("orange", (240, 130, 30)),
    ("purple", (96, 40, 130)),
    ("pink", (250, 180, 200)),
    ("grey", (128, 128, 132)),
    ("cream", (245, 232, 204)),
    ("brown", (100, 62, 36)),
    ("turquoise", (40, 180, 176)),
  ]
)
_PROMPTS = (
  "A {look} in {ground} with the words {quoted} in {ink} letters.",
  "{quoted} written in {ink} on a {ground} {look}.",
  "A {ground} {look} that says {quoted} in {ink}.",
)


def _pick(rng: np.random.Generator, values: Sequence[Any]) -> Any:
  return values[int(rng.integers(len(values)))]


def _colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
  ground = _pick(rng, COLOURS)
  far = [c for c in COLOURS if abs(c.luminance - ground.luminance) >= _CONTRAST]
  return ground, _pick(rng, far)


def _ground(
  rng: np.random.Generator, height: int, width: int, colour: Colour
) -> tuple[Image.Image, str]:
  """(picture, what it is called). Shades stay near the colour."""
  base = np.array(colour.rgb, np.float64)
  look = _pick(rng, ("poster", "sign", "gradient background", "striped card"))
  y, x = np.mgrid[:height, :width]
  shade = np.zeros((height, width))
  if look == "gradient background":
    shade = 24 * (y / height - 0.5) + 16 * (x / width - 0.5)
  elif look == "striped card":
    wide = int(rng.integers(24, 96))
    shade = np.where((x + y) // wide % 2, 9.0, -9.0)
  pixels_YXC = np.clip(base + shade[..., None], 0, 255).astype(np.uint8)
  picture = Image.fromarray(pixels_YXC)
  if look == "sign":
    edge = max(2, min(height, width) // 50)
    rim = tuple(int(v) for v in np.clip(base * 0.75, 0, 255))
    ImageDraw.Draw(picture).rounded_rectangle(
      (edge, edge, width - edge, height - edge),
      radius=4 * edge,
      outline=rim,
      width=edge,
    )
  return picture, look


def _bands(
  rng: np.random.Generator, height: int, width: int, count: int
) -> list[tuple[int, int, int, int]]:
  """Places that do not overlap: below each other, of varied heights."""
  margin = int(_MARGIN * min(height, width))
  shares = rng.uniform(1.0, 2.0, count)
  edges = np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])
  tops = margin + edges * (height - 2 * margin)
  gap = 0.04 * height
  return [
    (margin, int(top + gap / 2), width - margin, int(bottom - gap / 2))
    for top, bottom in itertools.pairwise(tops)
  ]


def _write(
  rng: np.random.Generator,
  picture: Image.Image,
  text: str,
  font: tuple[str, str],
  band: tuple[int, int, int, int],
  colour: tuple[int, int, int],
) -> list[int]:
  """Draws a text somewhere in a band; returns the box of its ink."""
  left, top, right, bottom = band
  size = int(rng.uniform(0.35, 0.9) * (bottom - top))
  while True:
    face = fonts_lib.load(font[0], max(size, _SMALLEST))
    a, b, c, d = fonts_lib.ink(face, text)
    if c - a <= right - left and d - b <= bottom - top:
      break
    if size <= _SMALLEST:
      raise ConversionError(
        f"{text!r} has no room in {right - left}x{bottom - top} pixels; ask "
        "for larger pictures, shorter texts or fewer of them (--max-texts)."
      )
    size = int(size * 0.9)
  x = left + int(rng.integers(right - left - (c - a) + 1))
  y = top + int(rng.integers(bottom - top - (d - b) + 1))
  ImageDraw.Draw(picture).text((x - a, y - b), text, fill=colour, font=face)
  return [x, y, x + c - a, y + d - b]
