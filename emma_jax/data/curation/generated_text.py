"""Pictures with text by a generator, and whether the text can be read.

Beside text_pictures.py, whose fonts draw flat words exactly: a generator's
words stand in scenes, and some are wrong. CheckText keeps a drawing if OCR
reads all that its provenance says is written there:

  "texts": [{"text": "OPEN"}, ...]
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation import instructions, words
from emma_jax.data.curation.answers import Answers, Missing, NoAnswer
from emma_jax.data.curation.base import Construction, noted
from emma_jax.data.curation.painter import Painter
from emma_jax.data.curation.proposals import Texts, lost
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, Skipped
from emma_jax.data.records import schema
from emma_jax.structs import Drawing

# Where words stand: {texts} are all of them, quoted.
SCENES = (
  "A photo of a shop front whose sign reads {texts}.",
  "A wooden sign in a garden that says {texts}.",
  "A street at night with a neon sign that reads {texts}.",
  "A chalkboard in front of a café with {texts} written on it.",
  "A vintage poster with {texts} in large letters.",
  "A book cover, photographed on a table, with the words {texts}.",
  "A paper cup on a desk with {texts} printed on it.",
  "A person in a T-shirt that says {texts}, standing in a park.",
  "A station hall with a display board that reads {texts}.",
  "A birthday cake with {texts} written in icing.",
  "A billboard beside a road across the desert that says {texts}.",
  "A watercolour painting of a market stall with a banner reading {texts}.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateText(Construction):
  """Asks a generator for pictures with words, for rows {"index": i}.

  Args:
    painter: the generator.
    seed: of the choice of scenes and words.
    phrases: texts, of one language.
    scenes: prompts with {texts}.
    max_texts: in a picture.
    missing: what becomes of a prompt that is not drawn.
  """

  painter: Painter
  seed: int = 0
  phrases: tuple[str, ...] = words.PHRASES["en"]
  scenes: tuple[str, ...] = SCENES
  max_texts: int = 2
  missing: Missing = "error"

  def __post_init__(self):
    if self.missing == "keep":
      raise ConversionError("Without a picture there is nothing to keep.")
    if not 1 <= self.max_texts <= len(self.phrases):
      raise ConversionError(
        f"{self.max_texts=} must be 1 to {len(self.phrases)}, the phrases."
      )
    wrong = [s for s in self.scenes if "{texts}" not in s]
    if wrong or not self.scenes:
      raise ConversionError(f"Scenes must hold {{texts}}; not so: {wrong}")

  def make(
    self, row: Mapping[str, Any], where: str, path: str
  ) -> Iterator[Converted | Skipped]:
    """Whatever the input is called: only the index counts."""
    index = row["index"]
    prompt, chosen = self.prompt(index)
    try:
      picture, size = self.painter.draw(prompt, where)
    except NoAnswer as error:
      yield lost(error, self.missing, "picture")
      return
    provenance: dict[str, Any] = {
      "row": where,
      "seed": self.seed,
      "index": index,
      "texts": [{"text": text} for text in chosen],
      "drawn_by": self.painter.model,
    }
    if self.base.dataset:
      provenance["dataset"] = self.base.dataset
    record = Drawing(
      prompt=prompt, picture=picture, id=f"drawn-text-{self.seed}-{index}"
    )
    stored = schema.Stored(
      record=record, weight=self.base.weight, provenance=provenance
    )
    schema.check(stored, where)
    yield Converted(stored, [size])

  def prompt(self, index: int) -> tuple[str, list[str]]:
    """(prompt, the texts in it) of an index."""
    rng = np.random.default_rng([self.seed, index])
    scene = self.scenes[int(rng.integers(len(self.scenes)))]
    count = int(rng.integers(1, self.max_texts + 1))
    order = rng.permutation(len(self.phrases))[:count]
    chosen = [self.phrases[int(i)] for i in order]
    quoted = " and ".join(f'"{text}"' for text in chosen)
    return scene.replace("{texts}", quoted), chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckText(Construction):
  """Keeps drawings whose texts can be read in them.

  Args:
    answers: {"texts": [...]}, what is read in the picture.
    max_extra: words beside the wanted ones that may be there; None: any.
    missing: what becomes of a picture that nobody has read.
  """

  answers: Answers
  max_extra: int | None = None
  missing: Missing = "error"

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The drawing, or which of its texts cannot be read."""
    wanted = made.stored.provenance.get("texts")
    if not isinstance(made.stored.record, Drawing) or not wanted:
      yield Skipped("no texts", "its provenance names no texts")
      return
    found = answers_lib.wanted(
      Texts(self.answers), made.stored, where, self.missing, "text read"
    )
    if isinstance(found, Skipped):
      yield found
      return
    if found is None:
      yield made
      return
    read, names = found["texts"], [t["text"] for t in wanted]
    lacking = [t for t in names if not instructions.contains(read, t)]
    extra = instructions.count_words(read) - instructions.count_words(names)
    if lacking:
      yield Skipped("text misread", f"lacks {lacking}; read was {read}")
    elif self.max_extra is not None and extra > self.max_extra:
      yield Skipped("extra text", f"{extra} words more; read was {read}")
    else:
      yield made._replace(stored=noted(made.stored, text_read=True))
