"""Text to token ids and back: a small built-in vocabulary, or Qwen3's file."""

from collections.abc import Iterable, Sequence
import functools
import hashlib
from typing import Any, Protocol

# Qwen3's names, so that the sequence layouts read the same for every tokenizer.
END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
SPECIALS = (
    END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD,
)  # fmt: skip

VOCAB_SIZE = 1024
# Room for specials to come, so that byte ids never move.
_RESERVED_SPECIALS = 8

# Open text (captions, chat), most useful first; each is a piece with a leading
# space. Append only: ids follow this order, after the world's words.
_OPEN_WORDS = """
user assistant emoji image picture the a an of in on at to and is are was it
this that with for from by as not no yes or be do does did what which how many
much where who when why there here its one two three four five six seven eight
nine ten style show shows category belong belongs skin tone face medium light
dark twemoji noto redraw draw make change replace remove add move put turn
objects object smileys emotion animals nature food drink activities travel
places symbols flags people body hand hands sign heart smiling eyes eye open
mouth pointing index white black cat dog ball finger fingers up down left right
closed raised middle facing tree card glass ice baby box monkey book man woman
person boy girl child flag file camera musical speaker hat head lock ring love
back nose stick hot cold computer money party bell balloon red green blue
yellow orange purple pink brown grey gray key flower cake bear pig pen ribbon
bird fish horse cow mouse rabbit sun moon star cloud rain snow water fire
mountain sea house car bus train bicycle plane boat clock phone apple banana
bread cheese pizza rice coffee tea beer wine square circle triangle line large
small big little old new young long short high low high full empty first last
next same other both all some every more most less than into over under between
above below behind front near side top bottom center corner background color
colour shape size number text word letter has have had will can could would
should may you your he she they we i me my his her their our be been being but
if then so because about after before also only just very good bad best great
day night time year world life work home city street people thing way place
part hair dress shirt shoe bag table chair door window wall road sky grass
photo drawing painting chart bar value answer question describe say tell write
read see look find give take get go come use like want need know think
""".split()
# Fragments without a space: what is left of a word that is not in the list.
_FRAGMENTS = """
th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha
as ou io le ve co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ca el
ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa
ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os
iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex ke fr oo
av ag if ap gr od bo sp rd do uc bu ei ov by rm ep tt oc fa ef cu rn sc gi da
yo cr cl du ga qu ue ff ba ey ls va um pp ua up lu go ht ru ug ds lt pi rc rr
eg au ck ew mu br bi pt ak pu ui rg ib tl ny ki rk ys ob mm fu ph og ms ye ud
mb ip ub oi rl gu dr hr cc tw ft wn nu af hu nn eo vo rv nf xp gn sm fl iz ok
nl my gl aw ju oa eq sy sl ps jo lf nv je nk kn gs dy hy ze ks xt bs ik dd pt
ing ion ent ter ati ers ess ate ver all tio est ist ous nce ment ness able ful
less ical ally ight ound ough tion self ward like time
""".split()


class Tokenizer(Protocol):
  """What the rest of the code needs of a tokenizer."""

  special: dict[str, int]  # holds at least SPECIALS

  @property
  def vocab_size(self) -> int: ...

  @property
  def eos(self) -> int:
    """The id of <|im_end|>, which ends every answer."""

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; never a special, whatever the text spells."""

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids`; specials are left out."""

  def fingerprint(self) -> str:
    """A hash of the vocabulary: equal means that ids mean the same."""


class TinyTokenizer:
  """1024 entries: specials, 256 bytes, the world's words, frequent English.

  Greedy longest match over the pieces, bytes where none fits, so any string
  survives: `decode(encode(s)) == s`. Ids: specials 0-7, bytes 8-263, then the
  sorted world words (so their order in the world's source has no meaning),
  then open text, then unused places.

  >>> t = TinyTokenizer()
  >>> t.decode(t.encode("a smiling face, naïve 表情 🙂"))
  'a smiling face, naïve 表情 🙂'
  >>> t.special["<|im_end|>"] in t.encode("<|im_end|>")
  False
  """

  def __init__(self, words: Iterable[str] | None = None):
    """`words`: the world's vocabulary unless given (tests)."""
    if words is None:
      from emma_jax.world import vocabulary  # not needed where words are given

      words = vocabulary.words()
    self.special = {name: i for i, name in enumerate(SPECIALS)}
    self._byte0 = _RESERVED_SPECIALS
    self._piece0 = self._byte0 + 256
    self._pieces = _pieces(words, VOCAB_SIZE - self._piece0)
    self._ids = {p: self._piece0 + i for i, p in enumerate(self._pieces)}
    # Per first character, the lengths to try, longest first: a dictionary look
    # up per length beats a regular expression of 700 branches.
    lengths: dict[str, set[int]] = {}
    for piece in self._pieces:
      lengths.setdefault(piece[0], set()).add(len(piece))
    self._lengths = {
        c: tuple(sorted(n, reverse=True)) for c, n in lengths.items()
    }

  @property
  def vocab_size(self) -> int:
    return VOCAB_SIZE

  @property
  def eos(self) -> int:
    return self.special[IM_END]

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; never a special, whatever the text spells."""
    ids = []
    at = 0
    while at < len(text):
      for length in self._lengths.get(text[at], ()):
        piece = self._ids.get(text[at : at + length])
        if piece is not None:
          ids.append(piece)
          at += length
          break
      else:
        # surrogatepass: Python strings may hold lone surrogates.
        data = text[at].encode("utf-8", "surrogatepass")
        ids.extend(self._byte0 + b for b in data)
        at += 1
    return ids

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids`; specials and unused ids are left out.

    Bytes that are no UTF-8 (a model may write them) become U+FFFD.
    """
    data = bytearray()
    for i in map(int, ids):
      if self._byte0 <= i < self._piece0:
        data.append(i - self._byte0)
      elif self._piece0 <= i < self._piece0 + len(self._pieces):
        data += self._pieces[i - self._piece0].encode("utf-8", "surrogatepass")
    try:
      return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
      return data.decode("utf-8", "replace")

  def fingerprint(self) -> str:
    text = "\0".join(["tiny-1", *SPECIALS, *self._pieces])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

  def __eq__(self, other: object) -> bool:
    return (
        isinstance(other, TinyTokenizer) and self._pieces == other._pieces
    )

  def __hash__(self) -> int:
    return hash(tuple(self._pieces))


def _pieces(words: Iterable[str], room: int) -> list[str]:
  """World words first (sorted), open text while there is room."""
  wanted: dict[str, None] = {}

  def add(piece: str) -> None:
    # A single ASCII character has a byte id already.
    if len(piece.encode("utf-8", "surrogatepass")) > 1:
      wanted.setdefault(piece)

  for word in sorted(set(words)):
    add(word)
    # Digits stay single tokens: " 7" and "7" must not be two names of seven.
    if word.isascii() and word[:1].isalpha():
      add(" " + word)
  if len(wanted) > room:
    raise ValueError(
        f"The world's words make {len(wanted)} pieces but only {room} fit; "
        "raise VOCAB_SIZE in emma_jax/data/tokenizer.py."
    )
  add("user\n")
  add("assistant\n")
  for word in _OPEN_WORDS:
    add(" " + word)
  for fragment in _FRAGMENTS:
    add(fragment)
  return list(wanted)[:room]


class QwenTokenizer:
  """Qwen3's own tokenizer, from its tokenizer.json (package `tokenizers`).

  Text is NFC-normalised by the file's rules, so only NFC text survives a round
  trip unchanged.
  """

  def __init__(self, path: str):
    self._path = path
    self.special = {}
    for name in SPECIALS:
      token = self._model.token_to_id(name)
      if token is None:
        raise ValueError(f"{path} has no {name}: not a Qwen3 tokenizer.json.")
      self.special[name] = token

  @functools.cached_property
  def _model(self) -> Any:
    try:
      import tokenizers  # optional: only the full-size models need it
    except ImportError as e:
      raise ImportError(
          "Qwen3's tokenizer needs the package `tokenizers`; "
          "pip install tokenizers."
      ) from e
    model = tokenizers.Tokenizer.from_file(self._path)
    # Users may type "<|im_end|>": split it like any other text.
    model.encode_special_tokens = True
    return model

  def __getstate__(self) -> dict[str, Any]:
    return {"_path": self._path, "special": self.special}

  @property
  def vocab_size(self) -> int:
    return self._model.get_vocab_size(with_added_tokens=True)

  @property
  def eos(self) -> int:
    return self.special[IM_END]

  def encode(self, text: str) -> list[int]:
    return self._model.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    return self._model.decode(list(map(int, ids)), skip_special_tokens=True)

  def fingerprint(self) -> str:
    with open(self._path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
