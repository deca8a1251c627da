"""A conversation with a model, pictures in and out."""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

from PIL import Image

from emma_jax import seeds
from emma_jax.api import inputs, process
from emma_jax.data.pictures.images import BadRecord, load_picture
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.talk import Talk


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Turn:
  """What one of the two said or showed."""

  role: str  # "user" or "model"
  text: str = ""
  picture: Image.Image | None = None


class Chat:
  """Ask, draw and edit about what was said and shown before.

    chat = model.chat()
    chat.draw("a red star")
    chat.say("what colour is the star?")
    chat.edit("make the star blue")

  The model sees the latest picture, given or made (`pictures` of `Model.chat`
  raises how many), and what was said since it came; a question is added to the
  cache of what it has read. The n-th picture that is made takes the chat's seed
  + n, from 0, unless it is given one: so a chat repeats itself.

  What raises, or is interrupted, leaves the chat as it was; a picture is kept
  as it was shown, whatever becomes of its file.

  history: all turns, also those out of the model's sight.
  """

  def __init__(self, model: Any, talk: Talk):
    self._model, self._talk = model, talk
    self._picture: Any = None  # the latest
    self._made = 0
    self.history: list[Turn] = []

  @property
  def picture(self) -> Image.Image | None:
    """The latest picture, given or made."""
    shown = [turn.picture for turn in self.history if turn.picture]
    return shown[-1] if shown else None

  @property
  def tokens_read(self) -> int:
    """Tokens that were read so far: what the cache holds is not read again."""
    return self._talk.read

  def show(self, picture: Any) -> None:
    """A picture comes in; raises BadRecord for one that cannot be read."""
    with self._whole():
      self._show("user", inputs.picture(picture), picture)

  def say(self, text: str, picture: Any = None) -> str:
    """The answer to a question, perhaps about a new picture."""
    if not isinstance(text, str):
      raise SampleError(
        f"A chat takes one question at a time, not a {type(text).__name__}."
      )
    with self._whole():
      if picture is not None:
        self.show(picture)
      answer = self._talk.say(text)
    self.history += [
      Turn(role="user", text=text),
      Turn(role="model", text=answer.text),
    ]
    return answer.text

  def draw(self, prompt: str, **options: Any) -> Image.Image:
    """A new picture, which is seen from now on; `options`: `Model.draw`'s."""
    _check_one("draws", prompt, options)
    made = self._model.draw(prompt, **({"seed": self._seed()} | options))
    return self._keep(prompt, made)

  def edit(self, instruction: str, **options: Any) -> Image.Image:
    """The latest picture, changed; `options`: those of `Model.edit`."""
    if self._picture is None:
      raise SampleError(
        "There is no picture to edit yet: show or draw one first."
      )
    _check_one("edits", instruction, options)
    options = {"seed": self._seed()} | options
    made = self._model.edit(self._picture, instruction, **options)
    return self._keep(instruction, made)

  def _keep(self, text: str, made: Image.Image) -> Image.Image:
    with self._whole():
      self._made += 1
      self.history.append(Turn(role="user", text=text))
      self._show("model", inputs.picture(made), made)
    return made

  def _seed(self) -> int:
    return (self._talk.seed + self._made) % seeds.LIMIT

  @contextlib.contextmanager
  def _whole(self) -> Iterator[None]:
    """All that happens within, or nothing of it."""
    process.check()
    before = self._picture, self._made, [*self.history]
    talk = self._talk.state()
    try:
      yield
    except BaseException:
      self._picture, self._made, self.history[:] = before
      self._talk.restore(talk)
      raise

  def _show(self, role: str, raw: Any, picture: Any) -> None:
    name, raw = raw, inputs.kept(raw)
    try:
      self._talk.show(raw)
    except BadRecord as error:
      if isinstance(name, str):
        raise BadRecord(name, error.reason) from error
      raise
    self._picture = raw
    if not isinstance(picture, Image.Image):
      picture = Image.fromarray(load_picture(raw))
    self.history.append(Turn(role=role, picture=picture))

  def __repr__(self) -> str:
    lines = [f"<emma_jax.Chat with {self._model.name}>"]
    for turn in self.history:
      said = turn.text
      if turn.picture is not None:
        said = f"[picture of {turn.picture.height}x{turn.picture.width}]"
      lines.append(f"{turn.role}: {said}")
    return "\n".join(lines)


def _check_one(does: str, text: Any, options: dict[str, Any]) -> None:
  if not isinstance(text, str):
    raise SampleError(f"A chat {does} one picture at a time; give a text.")
  if inputs.seeds(options.get("seed")) is not None:
    raise SampleError(f"A chat {does} one picture at a time; give one seed.")
