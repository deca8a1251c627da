"""A model that draws, edits, answers and reconstructs.

`build.session` makes one of weights: `session.load("reference")`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from emma_jax.data.pictures.preprocess import restore
from emma_jax.models.emma import Emma
from emma_jax.sampling import answers, canvases, context
from emma_jax.sampling.answers import Answer, Conversation
from emma_jax.sampling.canvases import Canvas
from emma_jax.sampling.requests import Requests
from emma_jax.sampling.runner import Pixels, Progress, Runner
from emma_jax.sampling.talk import Talk
from emma_jax.structs import Drawing, RawPicture, Record, Understanding


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Session:
  """A model ready to sample. What a None stands for is in `defaults`.

  Requests of any length run in chunks of static sizes. A result depends on its
  own inputs, the seed and its place in the request; what else is in the request
  changes it by rounding only, and where the runner fills its programs (`fill`)
  not at all. `streams`, a number per sample, stand for the places: so a sample
  is the same in whatever request it comes.

  config: all sections of the run's config, for whoever asks; nothing here does.
  name: what to call the weights.
  step: how long they were trained.
  defaults: guidance, steps and the like, the config's section `sample`.
  """

  config: Mapping[str, Any]
  name: str
  step: int
  defaults: Mapping[str, Any]
  requests: Requests
  runner: Runner

  @property
  def emma(self) -> Emma:
    """The module; SampleError where there is an autoencoder alone."""
    return self.runner.model

  @property
  def params(self) -> dict:
    """The weights, nested dicts of arrays on the device."""
    return self.runner.params

  def draw(
    self,
    prompts: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    guidance: float | None = None,
    **sampling: Any,
  ) -> list[Pixels]:
    """Pictures of exactly `size` (rows, columns); None: as trained.

    They are drawn in the trained size whose shape is nearest: its centre of the
    shape asked for is resized. `sampling`: see `paint`.
    """
    return self.paint(self.to_draw(prompts, size, guidance), **sampling)

  def edit(
    self,
    pictures: Sequence[RawPicture | Sequence[RawPicture]],
    instructions: Sequence[str],
    *,
    text_guidance: float | None = None,
    image_guidance: float | None = None,
    **sampling: Any,
  ) -> list[Pixels]:
    """Each picture after its instruction, in exactly the picture's size.

    It is edited as training saw it, in the nearest bucket. In place of a
    picture may stand a sequence of them: the sources of one edit, in the order
    in which its instruction counts them. The result has exactly the size of the
    first, and the image guidance is that of all of them. `sampling`: see
    `draw`.
    """
    prepared = self.to_edit(
      pictures, instructions, text_guidance, image_guidance
    )
    return self.paint(prepared, **sampling)

  def to_draw(
    self, prompts: Sequence[str], size=None, guidance=None
  ) -> list[Canvas]:
    """The `Canvas`es that `draw` computes, prepared on the host."""
    context.listed(prompts=prompts)
    weight = self._given("text_guidance", guidance)
    return canvases.drawings(self.requests, prompts, size, weight)

  def to_edit(
    self, pictures, instructions, text_guidance=None, image_guidance=None
  ) -> list[Canvas]:
    """What `edit` computes, prepared on the host; arguments as there."""
    context.listed(pictures=pictures, instructions=instructions)
    context.same_length(pictures=pictures, instructions=instructions)
    return canvases.edits(
      self.requests,
      pictures,
      instructions,
      self._given("edit_text_guidance", text_guidance),
      self._given("edit_image_guidance", image_guidance),
    )

  def paint(
    self,
    prepared: Sequence[Canvas],
    *,
    steps: int | None = None,
    shift: float | None = None,
    seed: context.Seeds = 0,
    streams: Sequence[int] | None = None,
    on_progress: Progress | None = None,
  ) -> list[Pixels]:
    """The pictures of prepared canvases; for streams see the class.

    `seed`: of all, or a sequence with one for each. `on_progress(done, total)`:
    told of evaluations of the model while they are computed; of results that
    need several programs each counts as an equal part.
    """
    return canvases.paint(
      self.runner,
      prepared,
      context.checked_streams(streams, len(prepared)),
      steps=context.checked_steps(self._counted("steps", steps)),
      shift=self._given("shift", shift),
      seed=seed,
      on_progress=on_progress,
    )

  def check(self, record: Record) -> None:
    """Prepares a record as `ask`, `draw` or `edit` would, and lets it go.

    Raises:
      SampleError, BadRecord: it is sound to train on, perhaps, but cannot be
        asked: pictures behind the first question, or that fit nowhere.
    """
    if isinstance(record, Understanding):
      questions = tuple(question for question, _ in record.turns)
      self.to_answer([record.pictures], [questions])
    elif isinstance(record, Drawing):
      self.to_draw([record.prompt])
    else:
      self.to_edit([record.sources], [record.instruction])

  def check_picture(self, record: Drawing) -> None:
    """Prepares a record's picture as `reconstruct` would; BadRecord."""
    if record.picture is not None:
      self.requests.fit([record.picture], "und")

  def reconstruct(self, pictures: Sequence[RawPicture]) -> list[Pixels]:
    """Pictures through the autoencoder and back, in their exact sizes."""
    context.listed(pictures=pictures)
    fitted = self.requests.fit(pictures, "und")
    made = self.runner.reconstruct([f.pixels_YXC for f in fitted])
    return list(map(restore, fitted, made))

  def ask(
    self,
    pictures: Sequence[Sequence[RawPicture]],
    turns: Sequence[Sequence[str]],
    **options: Any,
  ) -> list[list[str]]:
    """The texts of `answer`, which see."""
    found = self.answer(pictures, turns, **options)
    return [[answer.text for answer in answers] for answers in found]

  def answer(
    self,
    pictures: Sequence[Sequence[RawPicture]],
    turns: Sequence[Sequence[str]],
    **sampling: Any,
  ) -> list[list[Answer]]:
    """Answers to each conversation's questions, one after the other.

    At native size (`config.data.native`) every picture has its own.

    Args:
      pictures: per conversation, those of its first question (or none).
      turns: per conversation, the questions; earlier answers are remembered.
      sampling: how, see `reply`.
    """
    return self.reply(self.to_answer(pictures, turns), **sampling)

  def to_answer(self, pictures, turns) -> list[Conversation]:
    """What `answer` computes, prepared on the host; arguments as there."""
    context.listed(pictures=pictures, turns=turns)
    for shown, asked in zip(pictures, turns):
      context.listed(pictures=shown, turns=asked)
    return answers.conversations(self.requests, self.runner, pictures, turns)

  def reply(
    self,
    asked: Sequence[Conversation],
    *,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    streams: Sequence[int] | None = None,
    on_progress: Progress | None = None,
  ) -> list[list[Answer]]:
    """The answers of prepared conversations.

    Args:
      asked: by `to_answer`.
      max_tokens: longest answer; a longer one is cut.
      temperature: 0 takes the likeliest token.
      top_p: share of the probability that is drawn from.
      seed: of the draws at a temperature above 0.
      streams: see the class.
      on_progress: told how many conversations of all are answered.
    """
    limit = self._counted("max_tokens", max_tokens)
    most = self.requests.max_context
    options = context.answer_options(limit, most, temperature, top_p)
    streams = context.checked_streams(streams, len(asked))
    return answers.answer(
      self.requests, self.runner, asked, options, seed, streams, on_progress
    )

  def talk(
    self,
    *,
    pictures: int = 1,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
  ) -> Talk:
    """A conversation that goes on; `pictures`: see `Talk`, others `reply`."""
    limit = self._counted("max_tokens", max_tokens)
    most = self.requests.max_context
    return Talk(
      self.requests,
      self.runner,
      options=context.answer_options(limit, most, temperature, top_p),
      seed=seed,
      pictures=pictures,
    )

  def _given(self, key: str, value: float | None) -> float:
    """`value`, or the default where it is None; finite."""
    return context.number(key, self.defaults[key] if value is None else value)

  def _counted(self, key: str, value: int | None) -> int:
    """The same of a whole number."""
    value = self.defaults[key] if value is None else value
    return int(context.number(key, value, whole=True))
