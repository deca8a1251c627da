"""Tiny random SigLIP models of transformers, and how far ours is from them.

Every weight is random and the embeddings are small, so that no default value
and no epsilon hides a mistake.
"""

from collections.abc import Mapping
import dataclasses

import jax
import numpy as np
import torch
import transformers

from emma_jax.models import naflex, siglip2_vision

TOLERANCE = 5e-6  # of the reference's maximum
SIZES = dict(
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=2,
  num_attention_heads=2,
)
WORDS = dict(
  vocab_size=11,
  hidden_size=24,
  intermediate_size=8,
  num_hidden_layers=1,
  num_attention_heads=2,
  max_position_embeddings=4,
)


def randomise(
  model: torch.nn.Module, seed: int, offset: float = 0.0, spread: float = 0.2
) -> None:
  """Gives every weight a random value.

  offset: what is added to every channel of the embeddings, which shows
    variances computed in one pass.
  spread: size of the embeddings; small ones show the epsilon.
  """
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, x in model.named_parameters():
      noise = torch.randn(x.shape, generator=generator)
      if x.ndim > 1 and name != "head.probe":
        noise = noise * x[0].numel() ** -0.5
      if "norm" in name and name.endswith("weight"):
        noise = 1 + 0.3 * noise
      elif "embedding" in name:
        noise = spread * noise + (offset if name.endswith("bias") else 0.0)
      elif x.ndim == 1:
        noise = 0.3 * noise
      x.copy_(noise)


def fixed(
  patch_size: int = 14,
  image_size: int = 47,
  seed: int = 0,
  offset: float = 0.0,
  spread: float = 0.2,
  **changes,
) -> torch.nn.Module:
  """A fixed-resolution model; 47 = 3 * 14 + 5 leaves pixels over."""
  config = transformers.SiglipVisionConfig(
    **SIZES | changes, **dict(patch_size=patch_size, image_size=image_size)
  )
  config._attn_implementation = "eager"
  model = transformers.SiglipVisionModel(config).eval()
  randomise(model, seed, offset, spread)
  return model


def flexible(seed: int = 1, **changes) -> torch.nn.Module:
  """A NaFlex model with 5 x 5 positions and patches of 4 pixels."""
  config = transformers.Siglip2VisionConfig(
    **SIZES | changes, **dict(patch_size=4, num_patches=25)
  )
  config._attn_implementation = "eager"
  model = transformers.Siglip2VisionModel(config).eval()
  randomise(model, seed)
  return model


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, shape).astype(np.float32)


def outputs(out) -> dict[str, np.ndarray]:
  """Their output under the names of ours."""
  named = {"patches": out.last_hidden_state, "pooled": out.pooler_output}
  named |= {f"state {i}": x for i, x in enumerate(out.hidden_states)}
  return {
    k: x.detach().float().numpy() for k, x in named.items() if x is not None
  }


def of_fixed(model, pixels_PYXC: np.ndarray) -> dict[str, np.ndarray]:
  with torch.no_grad():
    return outputs(
      model(
        torch.from_numpy(pixels_PYXC.transpose(0, 3, 1, 2)),
        interpolate_pos_encoding=True,
        output_hidden_states=True,
      )
    )


def of_flexible(
  model, patches_PTC: np.ndarray, grids_P2: np.ndarray
) -> dict[str, np.ndarray]:
  """Padded batch, one picture per row."""
  used = grids_P2.prod(1)[:, None] > np.arange(patches_PTC.shape[1])
  with torch.no_grad():
    return outputs(
      model(
        pixel_values=torch.from_numpy(patches_PTC),
        pixel_attention_mask=torch.from_numpy(used.astype(np.int64)),
        spatial_shapes=torch.from_numpy(grids_P2.astype(np.int64)),
        output_hidden_states=True,
      )
    )


def named(out: siglip2_vision.VisionOutput) -> dict[str, np.ndarray]:
  """Our output with the names of `outputs`."""
  return {
    "patches": np.asarray(out.patches_PTD, np.float32),
    **(
      {}
      if out.pooled_PD is None
      else {"pooled": np.asarray(out.pooled_PD, np.float32)}
    ),
    **{
      f"state {i}": np.asarray(x, np.float32)
      for i, x in enumerate(out.states_ZPTD)
    },
  }


def errors(
  ours: Mapping[str, np.ndarray],
  theirs: Mapping[str, np.ndarray],
  valid_PT: np.ndarray | None = None,
) -> dict[str, float]:
  """Largest difference of each output, of the reference's maximum.

  valid_PT: slots to compare; padding is undefined in the reference.
  """
  assert set(ours) == set(theirs)
  out = {}
  for name, b in theirs.items():
    a = ours[name]
    assert a.shape == b.shape, name
    if valid_PT is not None and a.ndim == 3:
      a, b = a[valid_PT], b[valid_PT]
    worst = float(np.abs(a - b).max() / np.abs(b).max())
    out[name] = worst if np.isfinite(worst) else np.inf  # `max` drops NaN
  return out


@dataclasses.dataclass(frozen=True)
class Padded:
  """Pictures of several sizes, one per row; the reference's layout."""

  grids_P2: np.ndarray
  patches_PTC: np.ndarray

  @classmethod
  def of(cls, grids, length: int, patch_size: int = 4) -> "Padded":
    rows = [
      naflex.pack(
        [pixels(patch_size * h, patch_size * w, 3, seed=i)],
        patch_size,
        length,
        1,
      )[0]
      for i, (h, w) in enumerate(grids)
    ]
    # Padding is not zero, so that looking at it shows.
    rows = [
      np.where(np.arange(length)[:, None] < h * w, x, 0.7)
      for x, (h, w) in zip(rows, grids)
    ]
    return cls(np.array(grids, np.int32), np.stack(rows).astype(np.float32))

  @property
  def valid_PT(self) -> np.ndarray:
    length = self.patches_PTC.shape[1]
    return self.grids_P2.prod(1)[:, None] > np.arange(length)


_apply = jax.jit(
  lambda module, params, *inputs: module.apply({"params": params}, *inputs),
  static_argnums=0,
)


def run(module, params, *inputs) -> siglip2_vision.VisionOutput:
  """Compiled once per module and shape, in float32."""
  with jax.default_matmul_precision("highest"):
    return _apply(module, params, *inputs)


def run_padded(module, params, batch: Padded) -> dict[str, np.ndarray]:
  """`naflex.PackedVision` on the reference's layout."""
  packed = naflex.PackedVision(module.config)
  out = run(packed, params, batch.patches_PTC, batch.grids_P2[:, None])
  if out.pooled_PD is not None:
    out = out._replace(pooled_PD=out.pooled_PD[:, 0])
  return named(out)


def show(found: Mapping[str, float]) -> float:
  """Prints every error; the largest."""
  for name, error in found.items():
    print(f"  {name}: {error:.1e} of the maximum")
  return max(found.values())
