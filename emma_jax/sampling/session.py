"""A model that draws, edits, answers and reconstructs.

`build.session` makes one of weights: `session.load("reference")`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from emma_jax.data.pictures.preprocess import covering, restore
from emma_jax.models.emma import Emma
from emma_jax.sampling import context, image
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.fitting import sources_of
from emma_jax.sampling.requests import Requests, places_by
from emma_jax.sampling.runner import Pixels, Runner
from emma_jax.structs import RawPicture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Session:
  """A model ready to sample. What a None stands for is in `defaults`.

  Requests of any length run in chunks of static sizes. A result depends on its
  own inputs, the seed and its place in the request; what else is in the request
  changes it by rounding only. `streams`, a number per sample, stand for the
  places: so a sample is the same in whatever request it comes.

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
    steps: int | None = None,
    shift: float | None = None,
    guidance: float | None = None,
    seed: int = 0,
    streams: Sequence[int] | None = None,
  ) -> list[Pixels]:
    """Pictures of exactly `size` (rows, columns); None: as trained.

    They are drawn in the trained size whose shape is nearest: its centre of the
    shape asked for is resized. `streams`: see the class.
    """
    streams = context.checked_streams(streams, len(prompts))
    size = self.requests.size if size is None else size
    if min(size) < 1:
      raise SampleError(f"{size=} must be positive.")
    full = self.requests.drawn_size(*size)
    contexts = image.drawing_contexts(self._given("text_guidance", guidance))
    samples = self.requests.drawings(prompts, contexts)
    drawn = self._pictures(
      contexts, samples, full, full, streams, steps, shift, seed
    )
    return [covering(picture, size) for picture in drawn]

  def edit(
    self,
    pictures: Sequence[RawPicture | Sequence[RawPicture]],
    instructions: Sequence[str],
    *,
    steps: int | None = None,
    shift: float | None = None,
    text_guidance: float | None = None,
    image_guidance: float | None = None,
    seed: int = 0,
    streams: Sequence[int] | None = None,
  ) -> list[Pixels]:
    """Each picture after its instruction, in exactly the picture's size.

    It is edited as training saw it, in the nearest bucket. In place of a
    picture may stand a sequence of them: the sources of one edit, in the order
    in which its instruction counts them. The result has exactly the size of the
    first, and the image guidance is that of all of them.
    `streams`: see the class.
    """
    context.same_length(pictures=pictures, instructions=instructions)
    streams = context.checked_streams(streams, len(instructions))
    contexts = image.editing_contexts(
      self._given("edit_text_guidance", text_guidance),
      self._given("edit_image_guidance", image_guidance),
    )
    sources = self.requests.fit_sources(sources_of(pictures))
    fitted = [first for first, *_ in sources]
    out: dict[int, Pixels] = {}
    groups = places_by(map(self.requests.edit_sizes, fitted))
    for (full, size), members in groups.items():
      samples = self.requests.edits(sources, instructions, contexts, members)
      of_members = [streams[i] for i in members]
      made = self._pictures(
        contexts, samples, full, size, of_members, steps, shift, seed
      )
      for i, picture in zip(members, made):
        out[i] = restore(fitted[i], picture)
    return [out[i] for i in range(len(fitted))]

  def reconstruct(self, pictures: Sequence[RawPicture]) -> list[Pixels]:
    """Pictures through the autoencoder and back, in their exact sizes."""
    fitted = self.requests.fit(pictures, "und")
    made = self.runner.reconstruct([f.pixels_YXC for f in fitted])
    return list(map(restore, fitted, made))

  def _pictures(
    self, contexts, samples, full, size, streams, steps, shift, seed
  ) -> list[Pixels]:
    """Pictures of `size` for samples[context][n], noise by streams[n].

    `full`: of the references.
    """
    steps = int(self._given("steps", steps))
    shift = self._given("shift", shift)
    every = [s for of_context in samples for s in of_context]
    layout = self.requests.layout(every, full) if every else self.requests.row
    given = dict(size=size, steps=steps, shift=shift, seed=seed)
    return self.runner.pictures(contexts, samples, layout, streams, **given)

  def ask(
    self,
    pictures: Sequence[Sequence[RawPicture]],
    turns: Sequence[Sequence[str]],
    *,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    streams: Sequence[int] | None = None,
  ) -> list[list[str]]:
    """Answers to each conversation's questions, one after the other.

    At native size (`config.data.native`) every picture has its own.

    Args:
      pictures: per conversation, those of its first question (or none).
      turns: per conversation, the questions; earlier answers are remembered.
      max_tokens: longest answer; a longer one is cut.
      temperature: 0 takes the likeliest token.
      top_p: share of the probability that is drawn from.
      seed: of the draws at a temperature above 0.
      streams: see the class.
    """
    context.same_length(pictures=pictures, turns=turns)
    streams = context.checked_streams(streams, len(turns))
    limit = int(self._given("max_tokens", max_tokens))
    options = context.answer_options(limit, temperature, top_p)
    fitted = self.requests.fit_all(pictures)
    shown: Sequence[Sequence[RawPicture]] = fitted
    if self.requests.framing.understanding.native:
      # Only SigLIP2 takes many sizes in one program.
      shown = self.runner.with_latents(fitted)
    questions = [
      self.requests.question(i, *given)
      for i, given in enumerate(zip(shown, turns))
    ]
    tokenizer = self.requests.tokenizer
    out: list[list[str]] = [[] for _ in questions]
    for members in self.requests.computed_together(questions):
      found = self.runner.answers(
        questions,
        self.requests.further_turns(members, turns),
        members,
        self.requests.layout_of(questions, members),
        tokenizer.eos,
        seed,
        streams,
        options,
      )
      for i, answers in found:
        out[i] = [tokenizer.decode(ids) for ids in answers[: len(turns[i])]]
    return out

  def _given(self, key: str, value: float | None) -> float:
    """`value`, or the default where it is None; finite."""
    value = self.defaults[key] if value is None else value
    if not math.isfinite(value):
      raise SampleError(f"{key}={value} must be a finite number.")
    return value
