"""transformers' SiglipVisionModel and Siglip2VisionModel (NaFlex).

Also the folders the numbers were computed from, without torch: `CONFIGS` are
as published, `tensors` is what lies in the safetensors.
"""

from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from tests.convert import published
from tests.goldens import store

KEPT = 6
# mlp as wide as the model: a kernel that is not transposed has the right shape.
_SIZES = dict(
  hidden_size=24,
  intermediate_size=24,
  num_hidden_layers=2,
  num_attention_heads=2,
  layer_norm_eps=0.01,
)
CONFIGS = {
  "patch16": dict(
    _SIZES, model_type="siglip_vision_model", patch_size=16, image_size=48
  ),
  # 47 = 3 * 14 + 5 leaves pixels over. As in a whole model's config.json.
  "patch14": dict(
    model_type="siglip",
    vision_config=dict(
      _SIZES,
      model_type="siglip_vision_model",
      patch_size=14,
      image_size=47,
      num_hidden_layers=3,
    ),
  ),
  "naflex": dict(
    _SIZES, model_type="siglip2_vision_model", patch_size=4, num_patches=25
  ),
}
# transformers 4 wrote the first, 5 writes the second.
PREFIX = {"patch16": "vision_model.", "patch14": "vision_model.", "naflex": ""}
# Rows and columns of pixels: of the training, and interpolated.
PICTURES = {
  "patch16": {"native": (48, 48), "interpolated": (80, 32)},
  "patch14": {"native": (47, 47), "interpolated": (45, 99)},
}
GRIDS = ((3, 8), (5, 2))  # of patches, in rows of 26: two aspect ratios
ROW = 26


def vision(kind: str) -> dict[str, Any]:
  return CONFIGS[kind].get("vision_config", CONFIGS[kind])


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
  """Name -> shape of the published tensors, without the prefix."""
  c = vision(kind)
  D, F, P = c["hidden_size"], c["intermediate_size"], c["patch_size"]
  norm = lambda name: {f"{name}.weight": (D,), f"{name}.bias": (D,)}
  linear = lambda name, out, into: {
    f"{name}.weight": (out, into),
    f"{name}.bias": (out,),
  }
  flexible = "num_patches" in c
  count = c["num_patches"] if flexible else (c["image_size"] // P) ** 2
  patch = (D, 3 * P * P) if flexible else (D, 3, P, P)
  out = {
    "embeddings.patch_embedding.weight": patch,
    "embeddings.patch_embedding.bias": (D,),
    "embeddings.position_embedding.weight": (count, D),
  }
  for i in range(c["num_hidden_layers"]):
    at = f"encoder.layers.{i}"
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
      out |= linear(f"{at}.self_attn.{name}", D, D)
    out |= norm(f"{at}.layer_norm1") | norm(f"{at}.layer_norm2")
    out |= linear(f"{at}.mlp.fc1", F, D) | linear(f"{at}.mlp.fc2", D, F)
  return (
    out
    | norm("post_layernorm")
    | norm("head.layernorm")
    | {
      "head.probe": (1, 1, D),
      "head.attention.in_proj_weight": (3 * D, D),
      "head.attention.in_proj_bias": (3 * D,),
    }
    | linear("head.attention.out_proj", D, D)
    | linear("head.mlp.fc1", F, D)
    | linear("head.mlp.fc2", D, F)
  )


def tensors(kind: str) -> published.Tensors:
  prefix = PREFIX[kind]
  return {
    prefix + name: _weight(name, shape) for name, shape in shapes(kind).items()
  }


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  x = published.weight(name, shape)
  if "position_embedding" in name:  # as large as what comes from the pixels
    return store.noise(name, shape)
  # Sharp attention, so that query and key count.
  sharp = name.endswith(("q_proj.weight", "k_proj.weight", "in_proj_weight"))
  return x * np.float32(2) if sharp else x


def write(folder: Path, kind: str) -> Path:
  return published.write(folder, CONFIGS[kind], tensors(kind))


def pixels(name: str, size: tuple[int, int]) -> np.ndarray:
  """(1, Y, X, 3) in [-1, 1]."""
  return store.noise(f"siglip {name}", (1, *size, 3))


def flexible_pixels() -> list[np.ndarray]:
  """A picture (Y, X, 3) per grid."""
  side = CONFIGS["naflex"]["patch_size"]
  return [
    pixels(f"naflex {i}", (side * h, side * w))[0]
    for i, (h, w) in enumerate(GRIDS)
  ]


# ------------------------------------------------------------- with torch


def cases() -> dict[str, dict[str, np.ndarray]]:
  import torch

  out = {}
  with torch.no_grad():
    for kind, sizes in PICTURES.items():
      model = reference(kind)
      for name, size in sizes.items():
        x = pixels(f"{kind} {name}", size).transpose(0, 3, 1, 2)
        out[f"{kind} {name}"] = outputs(
          model(
            torch.from_numpy(np.ascontiguousarray(x)),
            interpolate_pos_encoding=name != "native",
            output_hidden_states=True,
          )
        )
    out |= flexible()
  return out


def reference(kind: str):
  """The published folder, as transformers reads it."""
  import transformers

  cls = (
    transformers.Siglip2VisionModel
    if kind == "naflex"
    else transformers.SiglipVisionModel
  )
  with tempfile.TemporaryDirectory() as folder:
    model, info = cls.from_pretrained(
      write(Path(folder), kind),
      attn_implementation="eager",
      dtype="float32",
      output_loading_info=True,
    )
  assert not any(info.values()), info
  return model.eval()


def flexible() -> dict[str, dict[str, np.ndarray]]:
  """A case per picture of one padded batch; padding is undefined."""
  import torch

  side = CONFIGS["naflex"]["patch_size"]
  rows = np.full((len(GRIDS), ROW, 3 * side * side), 0.7, np.float32)
  used = np.zeros((len(GRIDS), ROW), np.int64)
  for i, (picture, (h, w)) in enumerate(zip(flexible_pixels(), GRIDS)):
    cut = picture.reshape(h, side, w, side, 3).transpose(0, 2, 1, 3, 4)
    rows[i, : h * w] = cut.reshape(h * w, -1)
    used[i, : h * w] = 1
  made = outputs(
    reference("naflex")(
      pixel_values=torch.from_numpy(rows),
      pixel_attention_mask=torch.from_numpy(used),
      spatial_shapes=torch.tensor(GRIDS),
      output_hidden_states=True,
    )
  )
  return {
    f"naflex {h}x{w}": {
      k: x[i : i + 1, : h * w] if x.ndim == 3 else x[i : i + 1]
      for k, x in made.items()
    }
    for i, (h, w) in enumerate(GRIDS)
  }


def outputs(out) -> dict[str, np.ndarray]:
  named = {"patches": out.last_hidden_state, "pooled": out.pooler_output}
  named |= {f"state.{i}": x for i, x in enumerate(out.hidden_states)}
  return {k: x.numpy() for k, x in named.items()}
