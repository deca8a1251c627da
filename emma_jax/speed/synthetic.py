"""Random samples and weights in the shapes of a real run: no file is read."""

from collections.abc import Mapping
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import optimizer as optim
from emma_jax import rules
from emma_jax.data.batching import pack_info, packing
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.models import masks
from emma_jax.structs import Batch

_HEAD = 4  # tokens of the chat layout before a picture or a prompt
_PIECES = 4  # of text in a sample, at most
_FEW = 1_000_003  # random numbers; a prime, so that no two rows are alike
_QUERIES_AT_ONCE = 1024  # of a mask, when its pairs are counted


def batch(
  layout: Layout, vocab_size: int, seed: int = 0
) -> tuple[Batch, pack_info.PackInfo]:
  """A batch that fills every picture's place, and most of the text's.

  Each reference has an edit, other targets a drawing, understanding pictures a
  question each. Their texts share what the pictures leave of the Und buffer,
  each 70% to 100% of an equal share.
  """
  rng = np.random.default_rng(seed)
  tasks = ["understanding"] * layout.und_pictures
  tasks += ["editing"] * layout.references
  tasks += ["drawing"] * (layout.targets - layout.references)
  if layout.references > layout.targets or not tasks:
    raise ValueError(
      f"{layout} has no pictures, or references without a target; give it some."
    )
  pictures = layout.und_pictures
  if layout.reference_branch == "und":
    pictures += layout.references
  free = layout.und_tokens - pictures * layout.clean_cost
  share = free // len(tasks)
  if share < _HEAD + _PIECES:
    raise ValueError(
      f"{layout} leaves {share} tokens for the text of a sample;"
      f" {_HEAD + _PIECES} are the least: raise und_tokens."
    )
  samples = []
  for _ in range(layout.rows):
    for task in tasks:
      words = int(share * rng.uniform(0.7, 1.0)) - _HEAD
      samples.append(
        _sample(task, max(words, _PIECES), layout, vocab_size, rng)
      )
  made, info = packing.pack(samples, layout)
  if info.dropped:
    raise AssertionError(f"Samples made to fit do not: {info.dropped[0]}.")
  return made, info


def text(
  count: int, vocab_size: int, rng: np.random.Generator, loss: bool = False
) -> Text:
  """`count` random tokens."""
  return Text(tuple(rng.integers(0, vocab_size, count).tolist()), loss)


def picture(role: Any, layout: Layout, rng: np.random.Generator) -> Picture:
  """Random pixels of the layout's size."""
  shape = (layout.height, layout.width, 3)
  return Picture(rng.integers(0, 256, shape, dtype=np.uint8), role)


def _sample(
  task: str,
  words: int,
  layout: Layout,
  vocab_size: int,
  rng: np.random.Generator,
) -> Sample:
  say = lambda n, loss=False: text(n, vocab_size, rng, loss)
  show = lambda role: picture(role, layout, rng)
  parts: tuple[Text | Picture, ...]
  if task == "understanding":
    asked = words // 3
    parts = (say(_HEAD), show("und"), say(asked), say(words - asked, True))
  elif task == "editing":
    parts = (say(_HEAD), show("ref"), say(words), show("target"))
  else:
    parts = (say(_HEAD + words), show("target"))
  return Sample(task, parts)


def live_share(made: Batch) -> float:
  """Share of all pairs of slots of a row that may attend."""
  ids = jax.tree.map(
    lambda *x: np.concatenate(x, 1), made.und_ids, made.gen_ids
  )
  rows, slots = ids.segment.shape
  part = lambda *at: jax.tree.map(lambda x: x[at], ids)
  seen = 0
  for row in range(rows):
    for start in range(0, slots, _QUERIES_AT_ONCE):
      query = part(row, slice(start, start + _QUERIES_AT_ONCE), None)
      seen += int(masks.rule(query, part(row, None)).sum())
  return seen / (rows * slots**2)


# ------------------------------------------------------------------ weights


def weights(
  shapes: Mapping[str, Any], matrix_dtype: Any = None
) -> dict[str, jax.Array]:
  """Random weights by path, to be made on the device, under `jax.jit`.

  Matrices are normal of deviation 0.02, scales 1, other vectors 0. Not the
  models' own initialisation, nor numbers of each weight's own: both take long
  to compile. A million numbers, repeated, do for what is measured.

  Args:
    shapes: path -> shape and dtype.
    matrix_dtype: what matrices become; None: their own.
  """
  few = 0.02 * jax.random.normal(jax.random.key(0), (_FEW,))
  out = {}
  for path, x in shapes.items():
    if not optim.decays(path, x):
      scales = path.endswith(("scale", "norm", "var"))
      out[path] = jnp.full(x.shape, float(scales), x.dtype)
      continue
    size = math.prod(x.shape)
    many = jnp.broadcast_to(
      few.astype(matrix_dtype or x.dtype), (-(-size // _FEW), _FEW)
    )
    out[path] = many.reshape(-1)[:size].reshape(x.shape)
  return rules.unflatten(out)
