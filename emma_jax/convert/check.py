"""Compares an import with tensors that somebody dumped from torch.

A reference is an .npz file with the inputs and any of the outputs below, in the
layout of `transformers` and `diffusers` (pictures are (P, C, Y, X)):

  family   inputs                                    outputs
  qwen3    input_ids (B, L); optional position_ids,  logits, hidden_states.0,
           attention_mask (B, L) of 0 and 1          hidden_states.1, ...
  siglip2  pixel_values (P, 3, Y, X) in [-1, 1]      last_hidden_state,
                                                     pooler_output,
                                                     hidden_states.0, ...
  dcae     pixel_values and / or latent              latent (of encode, without
                                                     the scaling factor),
                                                     sample (of decode)

`launch/dump_reference.py` makes such a file, where torch is; by hand it takes a
few lines, for instance

  out = model(input_ids, output_hidden_states=True)
  numpy.savez("reference.npz", input_ids=input_ids, logits=out.logits,
              **{f"hidden_states.{i}": x
                 for i, x in enumerate(out.hidden_states)})
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.convert import casting, dcae, qwen3, siglip
from emma_jax.convert.arrays import Arrays

Reference = Arrays | Mapping[str, np.ndarray]
_MOST = 1 << 31  # numbers in an output: 8 GB of float32


class ReferenceError(ValueError):
  """A reference file without an input, or without anything to compare."""


@dataclasses.dataclass(frozen=True)
class Compared:
  """One tensor: the greatest difference over the reference's maximum.

  Infinite where either side has a value that is not finite; `note` says so.
  """

  name: str
  shape: tuple[int, ...]
  error: float
  note: str = ""


def check(
  family: str,
  folder: str | os.PathLike,
  reference: Reference,
  say: Callable[[str], object] = print,
) -> list[Compared]:
  """Our float32 outputs beside the reference's.

  Padded places of a text (attention_mask 0) are undefined and left out.

  Args:
    family: one of FAMILIES.
    folder: of the weights.
    reference: name -> array, of `arrays.Arrays` or in memory.
    say: is told which defaults were taken where config.json is silent.

  Raises:
    ReferenceError: an unknown family, arrays that are missing, that do not fit
      the model, or with nothing to compare.
    ValueError: what is wrong with the folder, see the families.
  """
  if family not in FAMILIES:
    raise ReferenceError(f"{family=}: choose one of {tuple(FAMILIES)}.")
  with jax.default_matmul_precision("highest"):
    ours, told = FAMILIES[family](folder, reference)
  if told:
    say(told)
  names = [name for name in ours if name in reference]
  if not names:
    raise ReferenceError(
      f"The reference holds {sorted(reference)}, and nothing of"
      f" {list(ours)} to compare with."
    )
  keep = None
  if family == "qwen3" and "attention_mask" in reference:
    keep = reference["attention_mask"].astype(bool)
    if not keep.any():
      raise ReferenceError("attention_mask is 0 everywhere: nothing counts.")
  return [_compare(name, ours[name], reference, keep) for name in names]


def _compare(name: str, ours: Any, reference: Reference, keep) -> Compared:
  ours, shape = np.asarray(ours, np.float32), _shape(reference, name)
  if ours.shape != shape:
    raise ReferenceError(
      f"{name}: the reference has the shape {shape}, the import gives"
      f" {ours.shape}."
    )
  theirs = np.asarray(_floating(reference, name), np.float32)
  if keep is not None:
    ours, theirs = ours[keep], theirs[keep]
  if not theirs.size:
    raise ReferenceError(f"{name} of shape {shape} holds nothing to compare.")
  for side, x in (("the reference", theirs), ("the import", ours)):
    count, _ = casting.not_finite(x)
    if count:  # a maximum would drop NaN
      note = f"{count:,} of {x.size:,} values of {side} are not finite"
      return Compared(name, shape, math.inf, note)
  scale = max(float(np.abs(theirs).max()), 1e-30)
  error = float(np.abs(ours - theirs).max()) / scale
  return Compared(name, shape, error)


# ------------------------------------------------------------------- inputs


def _shape(reference: Reference, name: str) -> tuple[int, ...]:
  """An array's shape, before it is read."""
  if name not in reference:
    raise ReferenceError(
      f"The reference lacks the input {name!r}; it holds {sorted(reference)}."
    )
  if isinstance(reference, Arrays):
    return reference.shapes[name]
  return np.shape(reference[name])


def _floating(reference: Reference, name: str) -> np.ndarray:
  x = np.asarray(reference[name])
  if x.dtype.kind not in "fiub" and not casting.is_floating(x.dtype):
    raise ReferenceError(f"{name} is of {x.dtype}; dump it as float32.")
  return x


def _integers(
  reference: Reference, name: str, shape: tuple[int, ...], below: int
) -> np.ndarray:
  """An input of whole numbers from 0, of a shape that is known."""
  found = _shape(reference, name)
  if found != shape:
    raise ReferenceError(f"{name} of shape {found} must be of {shape}.")
  x = np.asarray(reference[name])
  if x.dtype.kind not in "iub":
    raise ReferenceError(f"{name} is of {x.dtype}; dump it as integers.")
  if x.size and not 0 <= int(x.min()) <= int(x.max()) < below:
    raise ReferenceError(
      f"{name} holds {x.min()} to {x.max()}; the model takes 0 to {below - 1}."
    )
  return x.astype(np.int32)


def _pictures(
  reference: Reference, name: str, channels: int, multiple: int, most: int
) -> np.ndarray:
  """(P, C, Y, X) -> (P, Y, X, C), of sides and channels the model takes."""
  shape = _shape(reference, name)
  if len(shape) != 4:
    raise ReferenceError(
      f"{name} of shape {shape}: give whole pictures (N, {channels}, Y, X); of"
      " NaFlex checkpoints, those the processor would cut up."
    )
  wrong = shape[1] != channels or 0 in shape
  if wrong or any(side % multiple or side > most for side in shape[2:]):
    raise ReferenceError(
      f"{name} of shape {shape}: the model takes pictures of {channels}"
      f" channels whose sides are multiples of {multiple}, at most {most}."
    )
  if math.prod(shape) > _MOST:
    raise ReferenceError(f"{name} of shape {shape} is too large; give fewer.")
  x = _floating(reference, name)
  if not casting.is_finite(x):
    raise ReferenceError(f"{name} holds values that are not finite.")
  return np.asarray(x, np.float32).transpose(0, 2, 3, 1)


# ----------------------------------------------------------------- families


def _qwen3(folder, reference: Reference) -> tuple[dict[str, jax.Array], str]:
  opened = qwen3.open_folder(folder)
  vocabulary = opened.config.vocab_size
  shape = _shape(reference, "input_ids")
  if len(shape) != 2 or 0 in shape or math.prod(shape) * vocabulary > _MOST:
    raise ReferenceError(
      f"input_ids of shape {shape}: give rows of tokens (B, L), no more than"
      f" {_MOST // vocabulary:,} of them."
    )
  tokens_BL = _integers(reference, "input_ids", shape, vocabulary)
  mask_BL = np.ones_like(tokens_BL)
  if "attention_mask" in reference:
    mask_BL = _integers(reference, "attention_mask", shape, 2)
  position_BL = np.maximum(mask_BL.cumsum(1) - 1, 0).astype(np.int32)
  if "position_ids" in reference:
    position_BL = _integers(reference, "position_ids", shape, 1 << 24)
  module, params = qwen3.built(opened)
  apply = jax.jit(lambda p, *x: module.apply({"params": p}, *x))
  logits, hidden = apply(params, tokens_BL, position_BL, mask_BL)
  return {"logits": logits} | _numbered(hidden), opened.told


def _siglip2(folder, reference: Reference) -> tuple[dict[str, jax.Array], str]:
  opened = siglip.open_folder(folder)
  c = opened.config.encoder
  pixels = _pictures(reference, "pixel_values", c.num_channels, 1, 1 << 14)
  if min(pixels.shape[1:3]) < c.patch_size:
    raise ReferenceError(
      f"pixel_values of shape {_shape(reference, 'pixel_values')} are smaller"
      f" than a patch of {c.patch_size} pixels."
    )
  module, params = siglip.built(opened)
  apply = jax.jit(lambda p, x: module.apply({"params": p}, x))
  out = apply(params, jnp.asarray(pixels))
  made = {"last_hidden_state": out.patches_PTD} | _numbered(out.states_ZPTD)
  if out.pooled_PD is not None:
    made["pooler_output"] = out.pooled_PD
  return made, opened.told


def _dcae(folder, reference: Reference) -> tuple[dict[str, jax.Array], str]:
  opened = dcae.open_folder(folder)
  c = opened.config
  made = {}
  if "sample" in reference:
    made["sample"] = (
      "decode",
      _pictures(reference, "latent", c.latent_channels, 1, 1 << 10),
    )
  if "pixel_values" in reference or not made:
    pixels = _pictures(
      reference, "pixel_values", c.in_channels, c.factor, 1 << 14
    )
    made["latent"] = ("encode", pixels)
  module, params = dcae.built(opened)

  def run(method: str, x: np.ndarray) -> jax.Array:
    apply = jax.jit(lambda p, x: module.apply({"params": p}, x, method=method))
    return apply(params, jnp.asarray(x)).transpose(0, 3, 1, 2)

  return {name: run(*given) for name, given in made.items()}, opened.told


def _numbered(states) -> dict[str, jax.Array]:
  return {f"hidden_states.{i}": x for i, x in enumerate(states)}


FAMILIES: dict[str, Callable[..., tuple[dict[str, jax.Array], str]]] = {
  "qwen3": _qwen3,
  "siglip2": _siglip2,
  "dcae": _dcae,
}
