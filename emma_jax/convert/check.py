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

Dumping them takes a few lines, for instance

  out = model(input_ids, output_hidden_states=True)
  numpy.savez("reference.npz", input_ids=input_ids, logits=out.logits,
              **{f"hidden_states.{i}": x
                 for i, x in enumerate(out.hidden_states)})
"""

from collections.abc import Callable, Mapping
import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.convert import dcae, qwen3, siglip

Arrays = Mapping[str, np.ndarray]


class ReferenceError(ValueError):
  """A reference file without an input, or without anything to compare."""


@dataclasses.dataclass(frozen=True)
class Compared:
  """One tensor: the greatest difference over the reference's maximum."""

  name: str
  shape: tuple[int, ...]
  error: float


def check(
  family: str, folder: str | os.PathLike, reference: Arrays
) -> list[Compared]:
  """Our float32 outputs beside the reference's.

  Padded places of a text (attention_mask 0) are undefined and left out.

  Raises:
    ReferenceError: an unknown family, or arrays that are missing.
  """
  if family not in FAMILIES:
    raise ReferenceError(f"{family=}: choose one of {tuple(FAMILIES)}.")
  with jax.default_matmul_precision("highest"):
    ours = FAMILIES[family](folder, reference)
  names = [name for name in ours if name in reference]
  if not names:
    raise ReferenceError(
      f"The reference holds {sorted(reference)}, and nothing of"
      f" {list(ours)} to compare with."
    )
  keep = None
  if family == "qwen3" and "attention_mask" in reference:
    keep = reference["attention_mask"].astype(bool)
  return [_compare(name, ours[name], reference[name], keep) for name in names]


def _compare(name: str, ours, theirs: np.ndarray, keep) -> Compared:
  ours = np.asarray(ours, np.float32)
  theirs = np.asarray(theirs, np.float32)
  if ours.shape != theirs.shape:
    raise ReferenceError(
      f"{name}: the reference has the shape {theirs.shape}, the import gives"
      f" {ours.shape}."
    )
  if keep is not None:
    ours, theirs = ours[keep], theirs[keep]
  scale = max(float(np.abs(theirs).max()), 1e-30)
  error = float(np.abs(ours - theirs).max()) / scale
  return Compared(name, theirs.shape, error)


def _need(reference: Arrays, name: str) -> np.ndarray:
  if name not in reference:
    raise ReferenceError(
      f"The reference lacks the input {name!r}; it holds {sorted(reference)}."
    )
  return np.asarray(reference[name])


def _qwen3(folder, reference: Arrays) -> dict[str, jax.Array]:
  module, params = qwen3.load(folder)
  tokens_BL = _need(reference, "input_ids").astype(np.int32)
  mask_BL = np.asarray(
    reference.get("attention_mask", np.ones_like(tokens_BL)), np.int32
  )
  position_BL = np.asarray(
    reference.get("position_ids", np.maximum(mask_BL.cumsum(1) - 1, 0)),
    np.int32,
  )
  apply = jax.jit(lambda p, *x: module.apply({"params": p}, *x))
  logits, hidden = apply(params, tokens_BL, position_BL, mask_BL)
  return {"logits": logits} | _numbered(hidden)


def _siglip2(folder, reference: Arrays) -> dict[str, jax.Array]:
  module, params = siglip.load(folder)
  pixels = _need(reference, "pixel_values")
  if pixels.ndim != 4:
    raise ReferenceError(
      f"pixel_values of shape {pixels.shape}: give whole pictures (N, 3, Y,"
      " X); of NaFlex checkpoints, those the processor would cut up."
    )
  apply = jax.jit(lambda p, x: module.apply({"params": p}, x))
  out = apply(params, jnp.asarray(pixels.transpose(0, 2, 3, 1), jnp.float32))
  made = {"last_hidden_state": out.patches_PTD} | _numbered(out.states_ZPTD)
  if out.pooled_PD is not None:
    made["pooler_output"] = out.pooled_PD
  return made


def _dcae(folder, reference: Arrays) -> dict[str, jax.Array]:
  module, params = dcae.load(folder)
  out = {}

  def run(method: str, x: np.ndarray) -> jax.Array:
    apply = jax.jit(lambda p, x: module.apply({"params": p}, x, method=method))
    y = apply(params, jnp.asarray(x.transpose(0, 2, 3, 1), jnp.float32))
    return y.transpose(0, 3, 1, 2)

  if "sample" in reference:
    out["sample"] = run("decode", _need(reference, "latent"))
  if "pixel_values" in reference:
    out["latent"] = run("encode", reference["pixel_values"])
  elif not out:
    _need(reference, "pixel_values")
  return out


def _numbered(states) -> dict[str, jax.Array]:
  return {f"hidden_states.{i}": x for i, x in enumerate(states)}


FAMILIES: dict[str, Callable[..., dict[str, jax.Array]]] = {
  "qwen3": _qwen3,
  "siglip2": _siglip2,
  "dcae": _dcae,
}
