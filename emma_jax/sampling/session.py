"""Weights and all that is needed to draw, edit, answer and reconstruct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build import sections
from emma_jax.data.pictures import images
from emma_jax.data.transforms import IMAGE_MARK, Sample, further_turn
from emma_jax.models.dcae import Autoencoder
from emma_jax.models.emma import PIXELS_PER_TOKEN, Emma, token_grid
from emma_jax.sampling import context, image, latents, source, text
from emma_jax.sampling.context import SampleError, static_size
from emma_jax.structs import (
  Drawing,
  Editing,
  RawPicture,
  Understanding,
  WithLatent,
)

Pixels = np.ndarray  # uint8 (Y, X, 3)
# Encoded at once at native size: four pictures of 1024 x 1024.
_PIXELS = 2**22


class Session:
  """A model ready to sample. What a None stands for is in `config["sample"]`.

  Requests of any length run in chunks of static sizes. A result depends on its
  own inputs, the seed and its place in the request; what else is in the request
  changes it by rounding only.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    params: dict,
    name: str,
    step: int,
    route: str | None = None,
    batch: int = 32,
  ):
    """Takes weights that are in memory.

    Args:
      config: all sections of a run's config.
      params: nested dicts of arrays.
      name: what to call the weights.
      step: how long they were trained.
      route: the expert understanding pictures take, "versatile" unless given
        (an untrained router would choose at random).
      batch: samples computed at once; a power of two.
    """
    if batch < 1 or static_size(batch) != batch:
      raise SampleError(f"{batch=} must be a power of two.")
    self.config = sections.plain(config)
    self.params = jax.tree.map(jnp.asarray, params)
    self.name, self.step, self.batch = name, step, batch
    self.route = route or "versatile"
    self.defaults = self.config["sample"]
    model, data = self.config["model"], self.config["data"]
    self.autoencoder = Autoencoder(build_model.dcae_config(model))
    self.preprocess = build_data.preprocess(data)
    # What is drawn and edited: a model that was trained on native pictures saw
    # those in questions alone.
    self.frame = self.preprocess
    if source.trained_native(self.config):
      self.frame = dataclasses.replace(self.preprocess, native=False)
    self.tokenizer = build_data.tokenizer(data, model)
    self.to_sample = dataclasses.replace(
      build_data.to_sample(data, training=False), frame=self.frame
    )
    self._emma = None
    if model["kind"] == "emma":
      self._emma = Emma(build_model.emma_config(model))

  @classmethod
  def load(
    cls,
    name: str,
    *,
    route: str | None = None,
    change: source.Change | None = None,
    batch: int = 32,
  ) -> Session:
    """From "reference" (shipped), a weight file or a training's folder.

    `route` and `change` override the trained router and config; for errors and
    folders see `source.read`.
    """
    found = source.read(name, change)
    return cls(
      found.config,
      found.params,
      found.name,
      found.step,
      route or found.route,
      batch,
    )

  @property
  def emma(self) -> Emma:
    if self._emma is None:
      raise SampleError(
        f"{self.name} is an autoencoder, which can only reconstruct; name "
        "weights of an EMMA."
      )
    return self._emma

  # ------------------------------------------------------------ pictures out

  def draw(
    self,
    prompts: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    shift: float | None = None,
    guidance: float | None = None,
    seed: int = 0,
  ) -> list[Pixels]:
    """Pictures of exactly `size` (rows, columns); None: as trained."""
    data = self.config["data"]
    size = (data["height"], data["width"]) if size is None else tuple(size)
    if min(size) < 1:
      raise SampleError(f"{size=} must be positive.")
    full = tuple(
      math.ceil(n / PIXELS_PER_TOKEN) * PIXELS_PER_TOKEN for n in size
    )
    contexts = image.drawing_contexts(self._given("text_guidance", guidance))
    samples = [
      [self.to_sample(Drawing(prompt=p), drop_text=not c.text) for p in prompts]
      for c in contexts
    ]
    drawn = self._generate(
      contexts, samples, full, range(len(prompts)), steps, shift, seed
    )
    return [picture[: size[0], : size[1]] for picture in drawn]

  def edit(
    self,
    pictures: Sequence[RawPicture],
    instructions: Sequence[str],
    *,
    steps: int | None = None,
    shift: float | None = None,
    text_guidance: float | None = None,
    image_guidance: float | None = None,
    seed: int = 0,
  ) -> list[Pixels]:
    """Each picture after its instruction, in exactly the picture's size."""
    context.same_length(pictures=pictures, instructions=instructions)
    contexts = image.editing_contexts(
      self._given("edit_text_guidance", text_guidance),
      self._given("edit_image_guidance", image_guidance),
    )
    fitted = self._fit(pictures, self.frame)
    out: list[Pixels] = [None] * len(fitted)
    for size, members in _by_size(fitted).items():
      samples = [
        [
          self.to_sample(
            Editing(
              source=fitted[i].pixels_YXC,
              instruction=instructions[i],
              id=f"picture {i}",
            ),
            drop_text=not c.text,
            drop_reference=not c.reference,
          )
          for i in members
        ]
        for c in contexts
      ]
      made = self._generate(
        contexts, samples, size, members, steps, shift, seed
      )
      for i, picture in zip(members, made):
        out[i] = images.restore(fitted[i], picture)
    return out

  def reconstruct(self, pictures: Sequence[RawPicture]) -> list[Pixels]:
    """Pictures through the autoencoder and back, in their exact sizes."""
    fitted = self._fit(pictures, self.preprocess)
    out: list[Pixels] = [None] * len(fitted)
    for members in _by_size(fitted).values():
      for chunk, rows in self._chunks(members):
        pixels_BYXC = np.stack(
          [fitted[i].pixels_YXC for i in _filled(chunk, rows)]
        )
        made = np.asarray(
          image.reconstruct(
            self.autoencoder,
            self.params["autoencoder"],
            pixels_BYXC,
            self.config["model"]["dtype"],
          )
        )
        for i, picture in zip(chunk, made):
          out[i] = images.restore(fitted[i], picture)
    return out

  def _generate(
    self,
    contexts: Sequence[image.Context],
    samples: Sequence[Sequence[Sample]],
    size: tuple[int, int],
    indices: Sequence[int],
    steps: int | None,
    shift: float | None,
    seed: int,
  ) -> list[Pixels]:
    """Pictures of `size` for samples[context][n], noise by indices[n]."""
    steps = int(self._given("steps", steps))
    shift = self._given("shift", shift)
    if steps < 1 or shift <= 0:
      raise SampleError(f"{steps=} and {shift=} must be positive.")
    if not indices:
      return []
    emma, grid = self.emma, token_grid(*size)
    layout = context.row_layout(
      [s for of_context in samples for s in of_context], self.config, size
    )
    times_S = image.padded_times(steps, shift)
    weights_K = np.array([c.weight for c in contexts], np.float32)
    out: list[Pixels] = []
    for chunk, rows in self._chunks(range(len(indices))):
      places = _filled(chunk, rows)
      batch = context.one_per_row(
        [of_context[n] for of_context in samples for n in places],
        len(contexts) * rows,
        layout,
      )
      _, cache = context.prefill(emma, self.params, batch, "versatile")
      keys_B = context.keys(
        context.checked_seed(seed), [indices[n] for n in places]
      )
      latents_BTC = image.sample_latents(
        emma, self.params, cache, weights_K, keys_B, times_S, steps, grid
      )
      pictures = image.decode(emma, self.params, latents_BTC, grid)
      out += list(np.asarray(pictures)[: len(chunk)])
    return out

  # ------------------------------------------------------------ text out

  def ask(
    self,
    pictures: Sequence[Sequence[RawPicture]],
    turns: Sequence[Sequence[str]],
    *,
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
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
    """
    context.same_length(pictures=pictures, turns=turns)
    limit = int(self._given("max_tokens", max_tokens))
    if limit < 1 or temperature < 0 or not 0 < top_p <= 1:
      raise SampleError(
        f"max_tokens={limit} must be positive, {temperature=} not negative, "
        f"{top_p=} in (0, 1]."
      )
    data = self.config["data"]
    size = data["height"], data["width"]
    prefixes, groups = [], {}
    for i, (shown, questions) in enumerate(zip(self._seen(pictures), turns)):
      prefix = self._prefix(i, shown, questions)
      prefixes.append(prefix)
      alike = None  # native ones are computed with others as large
      if self.preprocess.native:
        alike = context.row_layout([prefix], self.config, size)
      groups.setdefault(alike, []).append(i)
    out: list[list[str]] = [[] for _ in prefixes]
    options = dict(
      temperature=np.float32(temperature),
      top_p=np.float32(top_p),
      limit=np.int32(limit),
      room=static_size(limit, 16),
    )
    for members in groups.values():
      layout = context.row_layout(
        [prefixes[i] for i in members], self.config, size
      )
      blocks = self._further_turns(members, turns)
      for chunk, rows in self._chunks(members):
        places = _filled(chunk, rows)
        batch = context.one_per_row([prefixes[i] for i in places], rows, layout)
        said = self._converse(
          batch,
          [(t[places], count[places]) for t, count in blocks],
          context.keys(context.checked_seed(seed), places),
          options,
        )
        for i, answers in zip(chunk, said):
          out[i] = answers[: len(turns[i])]
    return out

  def _seen(
    self, pictures: Sequence[Sequence[RawPicture]]
  ) -> list[list[RawPicture]]:
    """Each conversation's pictures as the model sees them.

    Those of native sizes with their latents: only SigLIP2 takes many sizes in
    one program.
    """
    fitted = [
      [f.pixels_YXC for f in self._fit(shown, self.preprocess)]
      for shown in pictures
    ]
    if not self.preprocess.native:
      return fitted
    made = iter(
      latents.encode_all(
        self.emma,
        self.params["autoencoder"],
        [p for shown in fitted for p in shown],
        _PIXELS,
      )
    )
    return [[WithLatent(p, next(made)) for p in shown] for shown in fitted]

  def _prefix(
    self, i: int, shown: Sequence[RawPicture], questions: Sequence[str]
  ) -> Sample:
    """A conversation up to its first answer."""
    if not questions:
      raise SampleError(f"Conversation {i} has no question; give one.")
    for question in questions[1:]:
      if IMAGE_MARK in question:
        raise SampleError(
          f"Conversation {i}: {question!r} marks a picture, but pictures "
          "belong to the first question; mark them there."
        )
    record = Understanding(
      pictures=tuple(shown),
      turns=((questions[0], None),),
      id=f"conversation {i}",
    )
    return self.to_sample(record)

  def _further_turns(
    self, members: Sequence[int], turns: Sequence[Sequence[str]]
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per turn after the first: tokens (all conversations, Q) and counts."""
    blocks = []
    for turn in range(1, max(len(turns[i]) for i in members)):
      # An answer's cache lacks its <|im_end|>; see `text.answer`.
      said = {
        i: (self.tokenizer.eos, *further_turn(self.tokenizer, turns[i][turn]))
        for i in members
        if turn < len(turns[i])
      }
      width = static_size(max(map(len, said.values())), 16)
      tokens = np.zeros((len(turns), width), np.int32)
      count = np.zeros(len(turns), np.int32)
      for i, ids in said.items():
        tokens[i, : len(ids)], count[i] = ids, len(ids)
      blocks.append((tokens, count))
    return blocks

  def _converse(self, batch, blocks, keys_B, options) -> list[list[str]]:
    """Answers per row and turn; blocks: tokens and counts of later turns."""
    emma, params, eos = self.emma, self.params, self.tokenizer.eos
    room = (1 + len(blocks)) * options["room"]
    room += sum(tokens.shape[1] for tokens, _ in blocks)
    dialogue = text.start(emma, params, batch, self.route, room)
    active_B = np.ones(len(batch.tokens_BU), bool)
    said: list[list[str]] = [[] for _ in active_B]
    for turn in range(1 + len(blocks)):
      if turn:
        tokens_BQ, count_B = blocks[turn - 1]
        dialogue = text.say(emma, params, dialogue, tokens_BQ, count_B)
        active_B = count_B > 0
      answers_BA, dialogue = text.answer(
        emma, params, dialogue, active_B, keys_B, eos=np.int32(eos), **options
      )
      for row, ids in zip(said, np.asarray(answers_BA).tolist()):
        end = ids.index(eos) if eos in ids else len(ids)
        row.append(self.tokenizer.decode(ids[:end]))
    return said

  # ------------------------------------------------------------ pieces

  def _given(self, key: str, value: float | None) -> float:
    """`value`, or the config's where it is None; finite."""
    value = self.defaults[key] if value is None else value
    if not math.isfinite(value):
      raise SampleError(f"{key}={value} must be a finite number.")
    return value

  def _fit(
    self, pictures: Sequence[RawPicture], preprocess: images.Preprocess
  ) -> list[images.Fitted]:
    limit = self.config["data"]["max_pixels"]
    out = []
    for i, raw in enumerate(pictures):
      where = raw if isinstance(raw, str) else f"picture {i}"
      out.append(preprocess.read(raw, where, limit))
    return out

  def _chunks(self, items: Sequence[int]):
    """(items of a chunk, rows to compute it with); see `static_size`."""
    for start in range(0, len(items), self.batch):
      chunk = list(items[start : start + self.batch])
      yield chunk, static_size(len(chunk))


def _filled(chunk: list[int], rows: int) -> list[int]:
  """Up to `rows` items, the last one repeated; its results are not kept."""
  return chunk + chunk[-1:] * (rows - len(chunk))


def _by_size(fitted: Sequence[images.Fitted]) -> dict:
  """(height, width) -> places of the pictures of that size."""
  groups: dict[tuple[int, int], list[int]] = {}
  for i, f in enumerate(fitted):
    groups.setdefault(f.pixels_YXC.shape[:2], []).append(i)
  return groups
