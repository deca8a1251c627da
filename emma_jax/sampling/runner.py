"""Weights on the devices, and requests computed in chunks of static sizes."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import ranges, rules
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Sample
from emma_jax.exits import NotFinite
from emma_jax.models.emma import Emma, token_grid
from emma_jax.sampling import context, image, latents, text
from emma_jax.sampling.context import SampleError, static_size
from emma_jax.sampling.placement import Placement
from emma_jax.sampling.requests import places_by
from emma_jax.structs import KvCache, WithLatent

Pixels = np.ndarray  # uint8 (Y, X, 3)
# (evaluations of the model that are done, those there are).
Progress = Callable[[int, int], object]
# In how many parts the ODE is walked where someone is told.
_PARTS = 50
# Encoded at once at native size: four pictures of 1024 x 1024.
_PIXELS = 2**22


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Runner:
  """A model and its weights.

  emma: None for an autoencoder alone, which can only reconstruct.
  params: nested dicts of arrays.
  dtype: that the autoencoder alone computes in.
  route: the expert that pictures in questions take.
  batch: samples computed at once; a power of two.
  fill: every program has `batch` rows, those without a sample repeat one.
    Slower for the last few, and a result is the same bit for bit whatever it
    is computed with: other numbers of rows may round otherwise.
  name: of the weights, in errors.
  place: where weights and rows lie. Every program has a multiple of its parts
    of rows: where fewer are asked for, the others repeat one, as devices that
    have none would wait.
  """

  emma: Emma | None
  autoencoder: nn.Module
  params: dict
  dtype: str
  route: str
  batch: int
  fill: bool
  name: str
  place: Placement

  def __post_init__(self):
    context.checked_batch(self.batch)
    if self.fill:
      self.place.check_rows(self.batch)

  @property
  def model(self) -> Emma:
    """The EMMA; SampleError where there is an autoencoder alone."""
    if self.emma is None:
      raise SampleError(
        f"{self.name} is an autoencoder, which can only reconstruct; name "
        "weights of an EMMA."
      )
    return self.emma

  def pictures(
    self,
    contexts: Sequence[image.Context],
    samples: Sequence[Sequence[Sample]],
    layout: Layout,
    streams: Sequence[int],
    *,
    size: tuple[int, int],
    steps: int,
    shift: float,
    seed: context.Seeds,
    task: str,
    on_progress: Progress | None = None,
  ) -> list[Pixels]:
    """Pictures of `size`, multiples of 32 pixels, for samples[context][n].

    The noise is of the seed, the task and streams[n]. References have the
    layout's size. `on_progress` is told how many of all evaluations of the
    model are done.

    Raises:
      NotFinite: a picture that holds numbers that are none.
    """
    if steps < 1 or shift not in ranges.SHIFT:
      raise SampleError(f"{steps=} must be positive, {shift=} {ranges.SHIFT}.")
    if not streams:
      return []
    emma, grid = self.model, token_grid(*size)
    times_L = image.padded_times(steps, shift)
    weights_A = np.array([c.weight for c in contexts], np.float32)
    out: list[Pixels] = []
    seeds = context.seed_of_each(seed, len(streams))
    chunks = list(self._chunks(range(len(streams))))
    for i, (chunk, rows) in enumerate(chunks):
      places = _filled(chunk, rows)
      batch = context.one_per_row(
        [of_context[n] for of_context in samples for n in places],
        len(contexts) * rows,
        layout,
      )
      keys_B = self.place.keys(
        [seeds[n] for n in places], task, [streams[n] for n in places]
      )
      done = None
      if on_progress is not None:
        done = functools.partial(_told, on_progress, i, len(chunks), steps)
      with self.place.program():
        _, cache = context.prefill(
          emma, self.params, self.place.rows(batch), "versatile"
        )
        latents_BTC = self._integrated(
          cache, weights_A, keys_B, times_L, steps, grid, done
        )
        made, finite_B = image.decode(emma, self.params, latents_BTC, grid)
      self.check_finite(finite_B, f"A picture ({task})")
      out += list(self.place.host(made)[: len(chunk)])
    return out

  def _integrated(
    self,
    cache: KvCache,
    weights_A: np.ndarray,
    keys_B: jax.Array,
    times_L: np.ndarray,
    steps: int,
    grid: tuple[int, int],
    done: Callable[[int], None] | None,
  ) -> jax.Array:
    """The whole ODE, at once, or in parts where someone is told."""
    emma, params = self.model, self.params
    part = steps if done is None else -(-steps // _PARTS)
    x_BTC = image.sample_latents(
      emma, params, cache, weights_A, keys_B, times_L, part, grid
    )
    at = part
    while done is not None:
      x_BTC.block_until_ready()
      done(at)
      if at == steps:
        break
      start, at = at, min(at + part, steps)
      x_BTC = image.continue_latents(
        emma, params, cache, weights_A, x_BTC, times_L, start, at, grid
      )
    return x_BTC

  def reconstruct(self, pictures: Sequence[Pixels]) -> list[Pixels]:
    """Fitted pictures of any sizes through the autoencoder and back."""
    out: dict[int, Pixels] = {}
    for places in places_by(p.shape for p in pictures).values():
      for chunk, rows in self._chunks(places):
        stacked = np.stack([pictures[i] for i in _filled(chunk, rows)])
        with self.place.program():
          made, finite_B = image.reconstruct(
            self.autoencoder,
            self.params["autoencoder"],
            self.place.rows(stacked),
            self.dtype,
          )
        self.check_finite(finite_B, "A picture from the autoencoder")
        out |= dict(zip(chunk, self.place.host(made)))
    return [out[i] for i in range(len(pictures))]

  def with_latents(
    self, shown: Sequence[Sequence[Pixels]]
  ) -> list[list[WithLatent]]:
    """Fitted pictures of any sizes, by conversation, with their latents."""
    weights, every = self.params["autoencoder"], [p for x in shown for p in x]
    # One by one where nothing may depend on what comes along.
    at_once = 1 if self.fill else _PIXELS
    made = iter(
      latents.encode_all(self.model, weights, every, at_once, self.place)
    )
    return [[WithLatent(p, next(made)) for p in x] for x in shown]

  def answers(
    self,
    questions: Sequence[Sample],
    further: Sequence[tuple[np.ndarray, np.ndarray]],
    places: Sequence[int],
    layout: Layout,
    eos: int,
    seed: int,
    streams: Sequence[int],
    options: dict[str, Any],
  ) -> Iterator[tuple[int, list[list[int]]]]:
    """(place, tokens of each answer) of the conversations at `places`.

    Args:
      questions: of all conversations, up to their first answer.
      further: per later turn, tokens and counts of all conversations.
      places: conversations computed here, all in `layout`.
      layout: of one row.
      eos: the token that ends an answer.
      seed: of the draws, with the stream.
      streams: of all conversations.
      options: temperature, top_p, limit, allowed_V and room of `text.answer`.
    """
    for chunk, rows in self._chunks(places):
      filled = _filled(chunk, rows)
      batch = context.one_per_row([questions[i] for i in filled], rows, layout)
      blocks = [(tokens[filled], count[filled]) for tokens, count in further]
      keys_B = self.place.keys(
        seed, "understanding", [streams[i] for i in filled]
      )
      with self.place.program():
        found = self._converse(batch, blocks, keys_B, eos, options)
      yield from zip(chunk, found)

  def _converse(
    self, batch, blocks, keys_B, eos: int, options: dict[str, Any]
  ) -> list[list[list[int]]]:
    """Tokens per row and turn; blocks: tokens and counts of later turns."""
    emma, params, place = self.model, self.params, self.place
    room = (1 + len(blocks)) * options["room"]
    room += sum(tokens.shape[1] for tokens, _ in blocks)
    dialogue = text.start(emma, params, place.rows(batch), self.route, room)
    active_B = np.ones(len(batch.tokens_BU), bool)
    out: list[list[list[int]]] = [[] for _ in active_B]
    for turn in range(1 + len(blocks)):
      if turn:
        tokens_BL, count_B = blocks[turn - 1]
        dialogue = text.say(
          emma, params, dialogue, *place.rows((tokens_BL, count_B))
        )
        active_B = count_B > 0
      answers_BL, finite_B, dialogue = text.answer(
        emma,
        params,
        dialogue,
        place.rows(active_B),
        keys_B,
        eos=np.int32(eos),
        **options,
      )
      self.check_finite(finite_B, "An answer")
      for row, ids in zip(out, place.host(answers_BL).tolist()):
        row.append(ids[: ids.index(eos)] if eos in ids else ids)
    return out

  def check_finite(self, finite_B: Any, what: str) -> None:
    """Raises NotFinite unless all rows are finite."""
    if self.place.host(finite_B).all():
      return
    finite = jax.jit(lambda x: jnp.isfinite(x).all())
    wrong = [
      path
      for path, x in rules.flatten(self.params).items()
      if not self.place.host(finite(x))
    ]
    cause = (
      "The weights are finite, so the request takes them too far: a guidance "
      "that is too large, or a dtype too small."
    )
    if wrong:
      cause = (
        f"{len(wrong)} of the weights are not, {', '.join(wrong[:3])} first: "
        "take an earlier checkpoint, or convert them again."
      )
    raise NotFinite(
      f"{what} by {self.name} holds NaN or infinite numbers. {cause}"
    )

  def _chunks(self, items: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """(items of a chunk, rows to compute it with); see `static_size`."""
    most = self.place.whole_rows(self.batch)
    for start in range(0, len(items), most):
      chunk = list(items[start : start + most])
      rows = most if self.fill else static_size(len(chunk))
      yield chunk, min(self.place.whole_rows(rows), most)


def _told(
  on_progress: Progress, chunk: int, chunks: int, steps: int, at: int
) -> None:
  on_progress(chunk * steps + at, chunks * steps)


def _filled(chunk: list[int], rows: int) -> list[int]:
  """Up to `rows` items, the last one repeated; its results are not kept."""
  return chunk + chunk[-1:] * (rows - len(chunk))
