"""A model for scripts and notebooks: one thing or lists, pictures of Pillow.

  >>> import emma_jax
  >>> model = emma_jax.load("reference")          # doctest: +SKIP
  >>> model.draw("a red star")                    # doctest: +SKIP
  >>> model.ask("scene.png", "how many circles?") # doctest: +SKIP

The same as the commands `emma-sample draw`, `edit` and `ask`, bit for bit: a
picture is a function of the weights, the request, its seed and its place.
"""

from collections.abc import Iterable, Mapping, Sequence
import os
from typing import Any
import warnings

import jax
from PIL import Image

from emma_jax import programs, sharding
from emma_jax.api import inputs, process
from emma_jax.api.chat import Chat
from emma_jax.build import prompts
from emma_jax.build import session as build_session
from emma_jax.sampling.context import SampleError, checked_batch
from emma_jax.sampling.prompt_statistics import PromptStatistics
from emma_jax.sampling.runner import Progress
from emma_jax.sampling.session import Session

Picture = Image.Image


class UnlikeTraining(UserWarning):
  """A text is outside of what the weights have seen; see `Model.draw`.

  `warnings.simplefilter("ignore", emma_jax.UnlikeTraining)` keeps it silent.
  """


def load(
  name: str | os.PathLike = "reference",
  *,
  dtype: str = "float32",
  batch: int = 32,
  cache: bool = True,
  mesh: Mapping[str, int] | None = None,
) -> "Model":
  """A model of weights, ready to draw, edit and answer.

  Args:
    name: "reference" (shipped), the working folder of a training, a weight
      file, or a folder that `emma-convert export emma` wrote.
    dtype: "bfloat16" takes half the memory.
    batch: requests computed at once; a power of two.
    cache: compiled programs stay in the user's cache folder (see `programs`),
      so that the next process begins at once.
    mesh: over all devices: {} splits the weights, {"data": 2} makes two copies
      of them and splits each; see `sharding.MeshConfig.using`. None: on the
      first device.

  Raises:
    CheckpointError: nothing is there, or it is damaged.
    SampleError: a dtype, batch or mesh that cannot be.
  """
  if not isinstance(name, (str, os.PathLike)):
    raise SampleError(
      f"name={name!r} is no name; give reference, a folder or a file."
    )
  process.check()
  checked_batch(batch)  # now: weights may take minutes
  try:
    split = None if mesh is None else sharding.MeshConfig.using(mesh)
  except (TypeError, ValueError) as error:
    raise SampleError(f"{mesh=}: {error}") from error
  if cache:
    programs.use()
  name = os.fspath(name)
  session = build_session.load(name, batch=batch, dtype=dtype, mesh=split)
  return Model(session, prompts.statistics_of(name))


class Model:
  """Draws, edits, answers and chats; see `load`.

  session: what computes it, with everything that the methods here leave out.
  known: what texts it was trained on; those unlike them get a warning.
  """

  def __init__(self, session: Session, known: PromptStatistics | None = None):
    process.check()
    self.session, self.known = session, known

  @property
  def name(self) -> str:
    """What the weights were called."""
    return self.session.name

  @property
  def step(self) -> int:
    """How long they were trained."""
    return self.session.step

  @property
  def parameters(self) -> int:
    """How many numbers the weights are."""
    return sum(x.size for x in jax.tree.leaves(self.session.params))

  @property
  def size(self) -> tuple[int, int]:
    """(rows, columns) of a picture as trained."""
    return self.session.requests.size

  @property
  def tasks(self) -> tuple[str, ...]:
    """Methods that the training prepared it for."""
    if self.session.runner.emma is None:
      return ("reconstruct",)
    stages = self.session.config.get("stages", {}).values()
    shown = {
      "draw": ("targets",),
      "edit": ("references",),
      "ask": ("und_pictures", "und_patches"),
    }
    found = tuple(
      task
      for task, keys in shown.items()
      if any(stage.get(key) for stage in stages for key in keys)
    )
    return found or tuple(shown)  # weights from elsewhere name no stages

  def __repr__(self) -> str:
    height, width = self.size
    return (
      f"<emma_jax.Model {self.name}: step {self.step:,}, "
      f"{_millions(self.parameters)} parameters, pictures of {height}x{width}, "
      f"{', '.join(self.tasks)}>"
    )

  def draw(
    self,
    prompt: str | Sequence[str],
    *,
    size: int | tuple[int, int] | None = None,
    seed: int | Iterable[int] = 0,
    guidance: float | None = None,
    steps: int | None = None,
    shift: float | None = None,
    on_progress: Progress | None = None,
  ) -> Any:
    """A picture of a prompt, or a list of them for a list.

    Args:
      prompt: what to draw; "" draws anything.
      size: (rows, columns) or one number; None: as trained.
      seed: of the noise. A list of seeds gives a list of pictures, one for each
        of them; with one seed the pictures of a list still differ by place.
      guidance: how much the prompt counts; 1: no guidance.
      steps: evaluations of the model.
      shift: above 1 spends more of them near the noise.
      on_progress: called with (evaluations done, of how many).

    A prompt that is unlike all that it was trained on is drawn all the same,
    with a warning (`UnlikeTraining`) that says how far outside it is.

    Raises:
      SampleError: what cannot be drawn; the message says why.
    """
    self._check("draw", "drawing")
    texts = inputs.texts(prompt, "prompt")
    (asked,), how, many = _with_seeds(seed, prompt=texts)
    prepared = self.session.to_draw(asked, inputs.size(size), guidance)
    self._note("drawing", texts[0])
    made = self.session.paint(
      prepared, steps=steps, shift=shift, on_progress=on_progress, **how
    )
    return _given([Image.fromarray(x) for x in made], many)

  def edit(
    self,
    picture: Any,
    instruction: str | Sequence[str],
    *,
    seed: int | Iterable[int] = 0,
    text_guidance: float | None = None,
    image_guidance: float | None = None,
    steps: int | None = None,
    shift: float | None = None,
    on_progress: Progress | None = None,
  ) -> Any:
    """A picture after an instruction, in exactly its size; lists give lists.

    Args:
      picture: a PIL image, a uint8 array (also of JAX or torch), a file, its
        name or its bytes; a tuple of them for an edit of several, of which the
        first gives the size.
      instruction: what to change.
      text_guidance, image_guidance: how much instruction and picture count.
      seed, steps, shift, on_progress: see `draw`.

    Raises:
      SampleError: what cannot be edited; the message says why.
      BadRecord: a picture that cannot be read.
    """
    self._check("edit", "editing")
    (sources, asked), how, many = _with_seeds(
      seed,
      picture=inputs.pictures(picture),
      instruction=inputs.texts(instruction, "instruction"),
    )
    _check_words("instruction", asked)
    prepared = self.session.to_edit(
      sources, asked, text_guidance, image_guidance
    )
    self._note("editing", asked)
    made = self.session.paint(
      prepared, steps=steps, shift=shift, on_progress=on_progress, **how
    )
    return _given([Image.fromarray(x) for x in made], many)

  def ask(
    self,
    picture: Any,
    question: str | Sequence[str],
    *,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    on_progress: Progress | None = None,
  ) -> Any:
    """The answer to a question about a picture; lists give lists.

    Each question is for itself; `chat` remembers.

    Args:
      picture: see `edit`; a tuple for a question about several, None for one
        about none. A picture beside a list of questions counts for all.
      question: what to ask.
      max_tokens: longest answer.
      temperature: 0 takes the likeliest token.
      top_p: share of the probability that is drawn from.
      seed: of the draws at a temperature above 0.
      on_progress: called with (questions answered, of how many).
    """
    self._check("ask", "answering")
    shown, many = inputs.pictures(picture, none=True)
    asked, several = inputs.texts(question, "question")
    _check_words("question", asked)
    seen, turns = inputs.equally_many(
      picture=(shown, many), question=(asked, several)
    )
    self._note("understanding", asked)
    made = self.session.ask(
      seen,
      [[one] for one in turns],
      max_tokens=max_tokens,
      temperature=temperature,
      top_p=top_p,
      seed=seed,
      on_progress=on_progress,
    )
    return _given([answer for (answer,) in made], many or several)

  def reconstruct(self, picture: Any) -> Any:
    """Pictures through the autoencoder and back, in their exact sizes."""
    process.check()
    found, many = inputs.pictures(picture)
    if any(len(one) != 1 for one in found):
      raise SampleError("A tuple of pictures cannot be one; give a list.")
    made = self.session.reconstruct([one for (one,) in found])
    return _given([Image.fromarray(x) for x in made], many)

  def chat(
    self,
    *,
    pictures: int = 1,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
  ) -> Chat:
    """A conversation, pictures in and out; see `Chat`.

    Args:
      pictures: so many of the latest are seen, with what was said since.
      max_tokens, temperature, top_p, seed: see `ask`.
    """
    self._check("chat", "answering")
    talk = self.session.talk(
      pictures=pictures,
      max_tokens=max_tokens,
      temperature=temperature,
      top_p=top_p,
      seed=seed,
    )
    return Chat(self, talk)

  def _check(self, method: str, doing: str) -> None:
    process.check()
    if self.session.runner.emma is None:
      raise SampleError(
        f"{self.name} is an autoencoder: it has no {method}. For {doing} load "
        "weights of an EMMA, such as reference."
      )

  def _note(self, task: str, texts: Sequence[str]) -> None:
    if self.known is None:
      return
    tokenizer = self.session.requests.tokenizer
    for note in self.known.notes(self.name, task, texts, tokenizer):
      # Of the caller of draw, edit or ask.
      warnings.warn(note.removeprefix("note: "), UnlikeTraining, stacklevel=3)


def _with_seeds(
  seed: int | Iterable[int], **given: tuple[Sequence[Any], bool]
) -> tuple[list[list[Any]], dict[str, Any], bool]:
  """(each request, seed and streams of `Session.paint`, whether many)."""
  many = any(more for _, more in given.values())
  seeds = inputs.seeds(seed)
  if seeds is None:
    return inputs.equally_many(**given), {"seed": seed}, many
  *requests, each = inputs.equally_many(**given, seed=(seeds, True))
  # Every seed's first picture: what `seed=n` alone would give.
  return requests, {"seed": each, "streams": [0] * len(each)}, True


def _check_words(name: str, found: Sequence[str]) -> None:
  """An empty prompt draws without guidance; other empty text is a slip."""
  if not all(text.strip() for text in found):
    raise SampleError(f"The {name} is empty; say something.")


def _given(made: Sequence[Any], many: bool) -> Any:
  """A list where a list was given, else its only entry."""
  return list(made) if many else made[0]


def _millions(count: int) -> str:
  """
  >>> _millions(3_123_456), _millions(4_012_000_000), _millions(512)
  ('3.1M', '4.01B', '512')
  """
  if count >= 10**9:
    return f"{count / 10**9:.2f}B"
  return f"{count / 10**6:.1f}M" if count >= 10**5 else f"{count:,}"
