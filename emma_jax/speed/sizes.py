"""The shapes that are measured: those of published weights, and tiny ones."""

from collections.abc import Mapping
import copy
import dataclasses
from typing import Any

from emma_jax.build import sections
from emma_jax.convert import dcae, qwen3
from emma_jax.models import siglip2
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.qwen3 import Qwen3Config
from emma_jax.models.siglip2_vision import SiglipVisionConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """What the rows run: models, and how much they are given.

  prompt, answer: tokens that are read at once, then written one by one.
  side: pixels of the autoencoder's square picture; the vision tower's has its
    native size.
  """

  llm: Qwen3Config
  prompt: int
  answer: int
  vision: SiglipVisionConfig
  dcae: DcaeConfig
  side: int

  @property
  def vision_side(self) -> int:
    """Pixels of a side of the vision tower's square picture."""
    encoder = self.vision.encoder
    return encoder.native_grid * encoder.patch_size


_BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3

# dc-ae-f32c32-sana-1.0 and 1.1.
SANA = dcae.config_from_hf(
  dict(
    _class_name="AutoencoderDC",
    scaling_factor=0.41407,
    encoder_block_types=_BLOCKS,
    decoder_block_types=_BLOCKS,
    downsample_block_type="Conv",
    upsample_block_type="interpolate",
    decoder_norm_types="rms_norm",
    decoder_act_fns="silu",
  )
)

FULL = Sizes(
  llm=qwen3.QWEN3_0_6B,
  prompt=512,
  answer=32,
  vision=SiglipVisionConfig(encoder=siglip2.SO400M_PATCH16_512),
  dcae=SANA,
  side=512,
)

# To try the commands themselves in seconds.
MICRO = Sizes(
  llm=dataclasses.replace(
    qwen3.QWEN3_0_6B,
    vocab_size=64,
    width=16,
    mlp_width=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
  ),
  prompt=16,
  answer=4,
  vision=SiglipVisionConfig(
    encoder=dataclasses.replace(
      siglip2.SO400M_PATCH16_512,
      width=16,
      mlp_width=32,
      num_layers=2,
      num_heads=2,
      native_grid=2,
    )
  ),
  dcae=dataclasses.replace(
    SANA,
    attention_head_dim=8,
    latent_channels=4,
    encoder_block_out_channels=(8,) * 6,
    encoder_layers_per_block=(1,) * 6,
    decoder_block_out_channels=(8,) * 6,
    decoder_layers_per_block=(1,) * 6,
  ),
  side=64,
)

BY_NAME = {"full": FULL, "micro": MICRO}


def micro(config: Mapping[str, Any]) -> dict[str, Any]:
  """A run's whole config with every size cut down, and nothing else changed:
  the same code, to be tried on a CPU."""
  out = copy.deepcopy(sections.plain(config))
  model = out["model"]
  model["dtype"] = "float32"  # XLA compiles it in half the time on a CPU
  model["llm"] |= dict(
    vocab_size=256,
    width=32,
    mlp_width=48,
    num_layers=2,
    num_shallow=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
  )
  model["vision"]["encoder"] |= dict(
    width=16, mlp_width=24, num_layers=2, num_heads=2, native_grid=3
  )
  model["vision"] |= dict(num_expert_layers=1, router_width=8)
  model["autoencoder"] |= dict(latent_channels=8, attention_head_dim=8)
  for side in ("encoder", "decoder"):
    model["autoencoder"] |= {
      f"{side}_block_out_channels": [8] * 6,
      f"{side}_layers_per_block": [1] * 6,
    }
  model["fusion"] |= dict(time_channels=16)
  out["train"]["frozen_dtype"] = "float32"
  out["data"] |= dict(height=64, width=64, buckets=())
  out["sample"] |= dict(steps=5)
  for stage in out["stages"].values():
    stage |= dict(rows=1, und_tokens=512, accumulation=1)
  return out
