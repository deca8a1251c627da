"""From samples to a cached context, packed by the same code as in training.

Shapes are rounded up to a few static sizes, since each new one compiles.
"""

from collections.abc import Sequence
import dataclasses
import math
import numbers
from typing import Any
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import programs, ranges, seeds
from emma_jax.data.batching.packing import pack
from emma_jax.data.batching.row_layout import PATCHES_PER_CELL, Layout
from emma_jax.data.transforms import Picture, Sample
from emma_jax.models import partition
from emma_jax.models.emma import Emma
from emma_jax.structs import Batch, KvCache, TokenIds


class SampleError(ValueError):
  """A request that cannot be fulfilled; the message has value and remedy."""


def static_size(n: int, unit: int = 1) -> int:
  """The smallest `unit * 2**k` that holds n.

  >>> [static_size(n, 32) for n in (1, 32, 33, 65)]
  [32, 32, 64, 128]
  """
  size = unit
  while size < n:
    size *= 2
  return size


def padded_size(n: int, unit: int) -> int:
  """The smallest of `unit` times 2**k, or 1.25, 1.5, 1.75 of it, for n.

  Whole units all of them. Above 4 units less than a fifth is padding.

  >>> [padded_size(n, 32) for n in (1, 33, 65, 129, 257, 1088)]
  [32, 64, 96, 160, 320, 1280]
  """
  units = -(-n // unit)
  step = max(1, static_size(units) // 8)
  return unit * max(1, -(-units // step) * step)


def same_length(**lists: Sequence) -> None:
  """Raises SampleError unless all lists are equally long."""
  if len({len(x) for x in lists.values()}) > 1:
    counts = ", ".join(f"{len(x)} {name}" for name, x in lists.items())
    raise SampleError(f"{counts}: give one for each.")


def listed(**given: Any) -> None:
  """Raises SampleError for one text or picture where several are taken.

  Python would go on with its letters, or its rows.
  """
  for name, value in given.items():
    one = isinstance(value, (str, bytes)) or not hasattr(value, "__getitem__")
    if getattr(value, "dtype", np.dtype(object)).kind in "buif":
      one = value.ndim < 4  # an array of several pictures is a list of them
    if one:
      kind = type(value).__name__
      what = f"{kind} {value[:40]!r}" if isinstance(value, str) else kind
      raise SampleError(
        f"{name} is one {what}, where a list is taken: write [...] around it."
      )


def number(name: str, value: Any, whole: bool = False) -> float:
  """A finite number, also of NumPy; SampleError for what is none.

  `whole`: of something that is counted; 2.0 counts as 2.
  """
  if getattr(value, "shape", None) == ():  # an array's or a tensor's
    value = value.item()
  real = isinstance(value, (numbers.Real, np.floating, np.integer))
  if isinstance(value, bool) or not real:
    raise SampleError(f"{name}={value!r} must be a number.")
  if not math.isfinite(value):
    raise SampleError(f"{name}={value} must be a finite number.")
  if not whole:
    return value
  if value != int(value):
    raise SampleError(f"{name}={value} must be a whole number.")
  return int(value)


def checked_batch(batch: int) -> None:
  """Raises SampleError for what is no power of two."""
  if number("batch", batch) < 1 or static_size(batch) != batch:
    raise SampleError(f"{batch=} must be a power of two.")


def checked_seed(seed: int) -> int:
  """The seed; SampleError for one out of `seeds.RANGE`."""
  try:
    return seeds.checked(seed)
  except ValueError as error:
    raise SampleError(str(error)) from error


# Evaluations of the model for a picture. Beyond some hundred, Euler's error is
# below what 8 bits show.
MAX_STEPS = 1000


def checked_steps(steps: int) -> int:
  """The number of steps; SampleError for one that cannot be."""
  if not 1 <= steps <= MAX_STEPS:
    raise SampleError(f"{steps=} must be in 1..{MAX_STEPS}.")
  return steps


def answer_options(
  limit: int, most: int, temperature: float, top_p: float
) -> dict[str, Any]:
  """What `text.answer` takes; SampleError for numbers that cannot be.

  `limit`: of an answer's tokens; `most`: of those, sample.max_context.
  """
  temperature = number("temperature", temperature)
  top_p = number("top_p", top_p)
  if limit > most:
    raise SampleError(
      f"max_tokens={limit} is more than sample.max_context={most}, which "
      "question and answer are to fit into."
    )
  warmth, share = ranges.TEMPERATURE, ranges.TOP_P
  if limit < 1 or temperature not in warmth or top_p not in share:
    raise SampleError(
      f"max_tokens={limit} must be positive, {temperature=} {warmth}, "
      f"{top_p=} {share}."
    )
  return dict(
    temperature=np.float32(temperature),
    top_p=np.float32(top_p),
    limit=np.int32(limit),
    room=static_size(limit, 16),
  )


def row_layout(
  samples: Sequence[Sample], row: Layout, size: tuple[int, int]
) -> Layout:
  """`row`, with room for any one of the samples; pictures are of `size`.

  Understanding pictures that bring latents along have sizes of their own.
  """
  height, width = size
  layout = dataclasses.replace(row, height=height, width=width)
  for channels in _latent_channels(samples):
    layout = dataclasses.replace(
      layout,
      und_patches=PATCHES_PER_CELL,
      und_pictures=1,
      latent_channels=channels,
    )
  needs = [layout.row_cost(sample) for sample in samples]
  most: dict[str, Any]
  most = {name: max(need[name] for need in needs) for name in needs[0]}
  most["und_tokens"] = padded_size(most["und_tokens"], 32)
  if most["und_patches"]:
    most["und_patches"] = padded_size(most["und_patches"], 64)
  return dataclasses.replace(layout, **most)


def _latent_channels(samples: Sequence[Sample]) -> set[int]:
  """Of latents that pictures bring along; empty where none do."""
  return {
    part.latent_TC.shape[1]
    for sample in samples
    for part in sample.parts
    if isinstance(part, Picture) and part.latent_TC is not None
  }


def one_per_row(samples: Sequence[Sample], rows: int, layout: Layout) -> Batch:
  """A batch of `rows` rows; those without a sample repeat the last one."""
  batches = []
  for sample in samples:
    batch, info = pack([sample], layout)
    if info.dropped:
      raise SampleError(f"{sample.id or 'A sample'}: {info.dropped[0].reason}.")
    batches.append(batch)
  batches += batches[-1:] * (rows - len(batches))
  return jax.tree.map(lambda *x: np.concatenate(x), *batches)


@programs.kept("emma", "route")
def prefill(
  emma: Emma, params: dict, batch: Batch, route: str
) -> tuple[jax.Array, KvCache]:
  """Und hidden states (B, U, D), and the keys and values of the whole batch."""
  variables = {"params": params}
  static = batch.und_pixels_BNYXC.shape[1] + batch.ref_pixels_BRYXC.shape[1]
  if batch.patches is None and not static:
    nothing = _empty_cache(emma, batch.tokens_BU.shape[0])
    made: Any = emma.apply(
      variables, batch.tokens_BU, batch.und_ids, nothing, method=Emma.extend
    )
    return made[0], by_rows(made[1])
  latents = emma.apply(variables, batch, method=Emma.latents)
  out: Any = emma.apply(
    variables, batch, latents, None, None, route, return_kv=True
  )
  return out.hidden_BUD, by_rows(out.cache)


def by_rows(cache: KvCache) -> KvCache:
  """The cache, split by rows alone where a mesh computes it."""
  put = lambda x, axis: partition.constrain(
    x, *("rows" if a == axis else None for a in range(x.ndim))
  )
  return KvCache(
    key_ZBSKE=put(cache.key_ZBSKE, 1),
    value_ZBSKE=put(cache.value_ZBSKE, 1),
    ids=jax.tree.map(lambda x: put(x, 0), cache.ids),
  )


def _empty_cache(emma: Emma, rows: int) -> KvCache:
  """What comes before a text without pictures."""
  c = emma.config.llm
  kv = jnp.zeros(
    (c.num_layers, rows, 0, c.num_kv_heads, c.head_dim), emma.config.dtype
  )
  none = jnp.zeros((rows, 0), jnp.int32)
  ids = TokenIds(
    segment=none, order=none, last_visible=none, noise_group=none, position=none
  )
  return KvCache(key_ZBSKE=kv, value_ZBSKE=kv, ids=ids)


def used(cache: KvCache) -> jax.Array:
  """Tokens a row holds (B,): order and position of its next one."""
  return (cache.ids.segment > 0).sum(axis=1, dtype=np.int32)


# One for all samples of a request, or one for each.
Seeds = int | Sequence[int]


def keys(seed: Seeds, task: str, streams: Sequence[int]) -> jax.Array:
  """A random key per sample: of its seed, its task and its stream's number.

  So no two of them share noise: neither a drawing and an edit of one number,
  nor sample n of a seed and sample n - 1 of the next.
  """
  named = zlib.crc32(task.encode())
  numbers = np.asarray(streams, np.uint32)
  each = np.array(seed_of_each(seed, len(streams)), np.uint32)
  return _keys(each, np.uint32(named), numbers)


@programs.kept()
def _keys(seeds: jax.Array, named: jax.Array, numbers: jax.Array) -> jax.Array:
  def one(seed: jax.Array, number: jax.Array) -> jax.Array:
    root = jax.random.fold_in(jax.random.key(seed), named)
    return jax.random.fold_in(root, number)

  return jax.vmap(one)(seeds, numbers)


def seed_of_each(seed: Seeds, count: int) -> list[int]:
  """A seed per sample; SampleError for another number of them, or bad ones."""
  if isinstance(seed, (str, float)) or not np.ndim(seed):
    return [checked_seed(seed)] * count  # type: ignore[arg-type]
  found = [checked_seed(one) for one in seed]  # type: ignore[union-attr]
  if len(found) != count:
    raise SampleError(f"{len(found)} seeds for {count} samples: one for each.")
  return found


def checked_streams(streams: Sequence[int] | None, count: int) -> Sequence[int]:
  """A number per sample, of its noise; None: its place in the request.

  Raises:
    SampleError: another number of them, or numbers that are no uint32.
  """
  if streams is None:
    return range(count)
  if len(streams) != count:
    raise SampleError(
      f"{len(streams)} streams for {count} samples: give one for each."
    )
  wrong = [n for n in streams if int(n) != n or not 0 <= n < 2**32]
  if wrong:
    raise SampleError(
      f"The stream {wrong[0]} is not in 0..{2**32 - 1}: it is the number that "
      "a sample's noise is drawn by, such as a checksum of its name."
    )
  return list(streams)
