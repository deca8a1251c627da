"""Records to token sequences, in the chat layout of data/text/chat.py.

A sequence ends with its last learned part: nothing after it would be trained
or read. Training and sampling call the same code; a record without answer or
target gives the prefix that ends right before what is to be generated.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.pictures import images
from emma_jax.data.pictures.framing import Framing, Role
from emma_jax.data.text import chat
from emma_jax.data.text import tokenizer as tokens_lib
from emma_jax.structs import (
  STEM_LABELS,
  STEM_UNKNOWN,
  Drawing,
  Editing,
  RawPicture,
  Record,
  Understanding,
  WithLatent,
)


@dataclasses.dataclass(frozen=True)
class Text:
  """Token ids; `loss`: they are learned."""

  tokens: tuple[int, ...]
  loss: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
  """A preprocessed picture, uint8; a target is learned, the others are not.

  latent_TC: its normalised latents, row-major, where they were made before.
  content: (y, x) of its pixels that are no padding; None: all. A target's other
    cells are no tokens.
  cropped: share of the picture's area that framing left out.
  """

  pixels_YXC: np.ndarray
  role: Role
  stem: int = STEM_UNKNOWN
  latent_TC: np.ndarray | None = None
  content: tuple[int, int] | None = None
  cropped: float = 0.0


Part = Text | Picture


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
  """One sequence, in reading order."""

  task: str  # one of structs.TASKS
  parts: tuple[Part, ...]
  id: str = ""
  truncated: bool = False  # a conversation that lost turns

  @property
  def cropped(self) -> list[float]:
    """Of each picture to draw, the share of its area that framing left out."""
    pictures = (part for part in self.parts if isinstance(part, Picture))
    return [p.cropped for p in pictures if p.role == "target"]

  def show(self, tokenizer: tokens_lib.Tokenizer) -> str:
    """One line for people: learned text in braces, pictures by role."""
    names: dict[int | None, str] = {
      i: name for name, i in tokenizer.special.items()
    }
    words = []
    for part in self.parts:
      if isinstance(part, Picture):
        words.append(f"[{part.role}]")
        continue
      # A run of ordinary tokens is decoded at once: a character may need many.
      out, run = "", []
      for token in (*part.tokens, None):
        if token is not None and token not in names:
          run.append(token)
          continue
        out += tokenizer.decode(run) + names.get(token, "")
        run = []
      words.append("{" + out + "}" if part.loss else out)
    return "".join(words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToSample:
  """Record -> Sample. Raises images.BadRecord where the record is broken.

  >>> from emma_jax.data.pictures.preprocess import Preprocess
  >>> t = tokens_lib.TinyTokenizer(["red"])
  >>> p = Preprocess(height=32, width=32, native=False, min_tokens=1,
  ...                max_tokens=64, codec="pillow", fit="pad", max_crop=0.0)
  >>> framing = Framing(understanding=p, generation=p, buckets=())
  >>> to_sample = ToSample(tokenizer=t, framing=framing,
  ...     text_dropout=0.0, reference_dropout=0.0, max_turns=None,
  ...     max_pixels=10**6)
  >>> picture = np.zeros((32, 32, 3), np.uint8)
  >>> def show(record, **kw):
  ...   print(to_sample(record, **kw).show(t))

  Drawing: the target is the last part, with or without it.

  >>> show(Drawing(prompt="red", picture=picture))
  <|im_start|>user
  red<|im_end|>
  <|im_start|>assistant
  <|vision_start|>[target]
  >>> show(Drawing(prompt="red"), drop_text=True)
  <|im_start|>user
  <|im_end|>
  <|im_start|>assistant
  <|vision_start|>

  Editing: each source is a reference, in their order; dropped ones leave all at
  once and with their marks (conditions are dropped in training by chance, when
  sampling to guide).

  >>> edit = Editing(sources=(picture,), instruction="do", target=picture)
  >>> show(edit)
  <|im_start|>user
  <|vision_start|>[ref]<|vision_end|>do<|im_end|>
  <|im_start|>assistant
  <|vision_start|>[target]
  >>> two = to_sample(dataclasses.replace(edit, sources=(picture, picture)))
  >>> print(two.show(t).replace("|><|", "|>\\n<|"))
  <|im_start|>user
  <|vision_start|>[ref]<|vision_end|>
  <|vision_start|>[ref]<|vision_end|>do<|im_end|>
  <|im_start|>assistant
  <|vision_start|>[target]
  >>> show(edit, drop_reference=True)
  <|im_start|>user
  do<|im_end|>
  <|im_start|>assistant
  <|vision_start|>[target]

  Understanding: answers are learned (braces), with the <|im_end|> that ends
  them. Pictures stand where <image> stands, else before the first question. An
  answer None ends the sequence.

  >>> show(Understanding(pictures=(picture,), turns=(("q", "a"), ("r", "b"))))
  <|im_start|>user
  <|vision_start|>[und]<|vision_end|>q<|im_end|>
  <|im_start|>assistant
  {a<|im_end|>}
  <|im_start|>user
  r<|im_end|>
  <|im_start|>assistant
  {b<|im_end|>}
  >>> show(Understanding(pictures=(picture,), turns=(("q\\n<image>", None),)))
  <|im_start|>user
  q<|vision_start|>[und]<|vision_end|><|im_end|>
  <|im_start|>assistant
  <BLANKLINE>
  """

  tokenizer: tokens_lib.Tokenizer
  framing: Framing
  text_dropout: float
  reference_dropout: float
  max_turns: int | None
  max_pixels: int

  def __post_init__(self):
    for name in ("text_dropout", "reference_dropout"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f"{name}={getattr(self, name)} is no probability in [0, 1)."
        )
    if self.max_turns is not None and self.max_turns < 1:
      raise ValueError(
        f"max_turns={self.max_turns} must be positive, or None for all turns."
      )

  def __call__(
    self,
    record: Record,
    rng: np.random.Generator | None = None,
    *,
    drop_text: bool = False,
    drop_reference: bool = False,
  ) -> Sample:
    """Without `rng` nothing is dropped by chance."""
    if rng is not None:
      # Two numbers whatever the record is, so that streams never shift.
      text, reference = rng.random(2)
      drop_text = drop_text or text < self.text_dropout
      drop_reference = drop_reference or reference < self.reference_dropout
    if isinstance(record, Understanding):
      parts = self._understanding(record)
    elif isinstance(record, Drawing):
      prompt = "" if drop_text else record.prompt
      head = [*self._user([prompt]), *self._special(tokens_lib.VISION_START)]
      parts = head + self._target(record.picture, record.id)
    elif isinstance(record, Editing):
      pictures = []
      if not drop_reference:
        pictures = [self._picture(s, "ref", record.id) for s in record.sources]
      instruction = "" if drop_text else record.instruction
      head = self._user([*pictures, instruction])
      head += self._special(tokens_lib.VISION_START)
      parts = head + self._target(record.target, record.id)
    else:
      raise TypeError(f"No layout for a record of type {type(record)}.")
    truncated = self.max_turns is not None and (
      isinstance(record, Understanding) and len(record.turns) > self.max_turns
    )
    return Sample(record.task, _join(parts), record.id, truncated)

  def _understanding(self, record: Understanding) -> list[Part]:
    turns = record.turns[: self.max_turns]
    if not turns:
      raise images.BadRecord(record.id, "an understanding record has no turns")
    if record.stem not in STEM_LABELS:
      raise images.BadRecord(
        record.id,
        f"its STEM label is {record.stem}, none of {sorted(STEM_LABELS)} (see "
        "structs.STEM_LABELS)",
      )
    questions = _place_pictures(record)
    pictures = iter(record.pictures)
    parts: list[Part] = []
    for i, ((_, answer), pieces) in enumerate(zip(turns, questions)):
      parts += self._user(
        [
          self._picture(next(pictures), "und", record.id, record.stem)
          if piece is None
          else piece
          for piece in pieces
        ],
        first=i == 0,
      )
      if answer is None:
        if i + 1 < len(turns):
          raise images.BadRecord(record.id, f"turn {i} of many has no answer")
        break
      reply = (*self.tokenizer.encode(answer), self.tokenizer.eos)
      parts.append(Text(reply, loss=True))
    return parts

  def _user(
    self, content: Sequence[Picture | str], first: bool = True
  ) -> list[Part]:
    """A user's turn up to and with "<|im_start|>assistant\\n"."""
    pieces = chat.to_ids(self.tokenizer, chat.question(content, first))
    return [Text(p) if isinstance(p, tuple) else p for p in pieces]

  def _special(self, name: str) -> list[Part]:
    return [Text((self.tokenizer.special[name],))]

  def _target(self, raw: RawPicture | None, where: str) -> list[Part]:
    return [] if raw is None else [self._picture(raw, "target", where)]

  def _picture(
    self, raw: RawPicture, role: Role, where: str, stem: int = STEM_UNKNOWN
  ) -> Picture:
    latent_hwC = None
    if isinstance(raw, WithLatent):
      latent_hwC, raw = raw.latent_hwC, raw.picture
    fit = self.framing.of(role)
    fitted = fit.read(raw, where, self.max_pixels)
    # By the other rules padding is no whole cells, and a part of the picture.
    whole = fitted.whole or fit.fit != "pad_cells"
    pixels_YXC = fitted.pixels_YXC
    made = Picture(
      pixels_YXC,
      role,
      stem,
      content=None if whole else fitted.content_size,
      cropped=fitted.cropped,
    )
    if latent_hwC is None:
      return made
    y, x, _ = pixels_YXC.shape
    h, w, channels = latent_hwC.shape
    if (h * images.GRID, w * images.GRID) != (y, x):
      raise images.BadRecord(
        where, f"latents of {h}x{w} cells for a picture of {y}x{x} pixels"
      )
    return dataclasses.replace(made, latent_TC=latent_hwC.reshape(-1, channels))

  def sized(self, height: int, width: int) -> "ToSample":
    """The same for pictures of one size; native ones keep theirs."""
    return dataclasses.replace(self, framing=self.framing.sized(height, width))


def further_turn(
  tokenizer: tokens_lib.Tokenizer, question: str
) -> tuple[int, ...]:
  """Ids that follow an answer's <|im_end|> and lead to the next answer.

  >>> t = tokens_lib.TinyTokenizer(["red"])
  >>> ids = further_turn(t, "red")
  >>> Sample("", (Text(ids),)).show(t)
  '\\n<|im_start|>user\\nred<|im_end|>\\n<|im_start|>assistant\\n'
  """
  (ids,) = chat.to_ids(tokenizer, chat.question([question], first=False))
  return ids


def _place_pictures(record: Understanding) -> Sequence[Sequence[str | None]]:
  """Each question as text pieces and None where a picture stands."""
  questions = [question for question, _ in record.turns]
  marks = sum(question.count(chat.IMAGE_MARK) for question in questions)
  if marks == 0:
    head = [None] * len(record.pictures)
    return [[*head, questions[0]], *([q] for q in questions[1:])]
  if marks != len(record.pictures):
    raise images.BadRecord(
      record.id,
      f"{marks} {chat.IMAGE_MARK} marks for {len(record.pictures)} pictures",
    )
  out: list[Sequence[str | None]] = []
  for question in questions:
    first, *others = question.split(chat.IMAGE_MARK)
    if not others:
      out.append([question])
      continue
    # The line break around a mark belongs to the file format, not the text.
    pieces: list[str | None] = [first.strip("\n")]
    for text in others:
      pieces += [None, text.strip("\n")]
    out.append(pieces)
  return out


def _join(parts: Sequence[Part]) -> tuple[Part, ...]:
  """Neighbouring texts of one kind become one part."""
  out: list[Part] = []
  for part in parts:
    last = out[-1] if out else None
    if (
      isinstance(part, Text)
      and isinstance(last, Text)
      and part.loss == last.loss
    ):
      out[-1] = Text(last.tokens + part.tokens, part.loss)
    else:
      out.append(part)
  return tuple(out)
