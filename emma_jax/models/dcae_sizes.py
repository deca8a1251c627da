"""Published sizes of DC-AE."""

import dataclasses

from emma_jax.models.dcae import DcaeConfig

_TYPES = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
_CHANNELS = (128, 256, 512, 512, 1024, 1024)
_SCALES = ((), (), (), (5,), (5,), (5,))

# mit-han-lab/dc-ae-f32c32-sana-1.0 and -1.1; scaling factor 0.41407.
SANA_F32C32 = DcaeConfig(
  in_channels=3,
  latent_channels=32,
  attention_head_dim=32,
  encoder_block_types=_TYPES,
  encoder_block_out_channels=_CHANNELS,
  encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
  encoder_qkv_multiscales=_SCALES,
  downsample_block_type="conv",
  encoder_out_shortcut=True,
  decoder_block_types=_TYPES,
  decoder_block_out_channels=_CHANNELS,
  decoder_layers_per_block=(3,) * 6,
  decoder_qkv_multiscales=_SCALES,
  decoder_norm_types=("rms_norm",) * 6,
  decoder_act_fns=("silu",) * 6,
  upsample_block_type="interpolate",
  decoder_in_shortcut=True,
  decoder_conv_act_fn="relu",
  residual_gain=1.0,
)

# mit-han-lab/dc-ae-f32c32-in-1.0 (scaling factor 0.3189) and -mix-1.0 (0.4552).
IN_F32C32 = DcaeConfig(
  in_channels=3,
  latent_channels=32,
  attention_head_dim=32,
  encoder_block_types=_TYPES,
  encoder_block_out_channels=_CHANNELS,
  encoder_layers_per_block=(0, 4, 8, 2, 2, 2),
  encoder_qkv_multiscales=((),) * 6,
  downsample_block_type="pixel_unshuffle",
  encoder_out_shortcut=True,
  decoder_block_types=_TYPES,
  decoder_block_out_channels=_CHANNELS,
  decoder_layers_per_block=(0, 5, 10, 2, 2, 2),
  decoder_qkv_multiscales=((),) * 6,
  decoder_norm_types=("batch_norm",) * 3 + ("rms_norm",) * 3,
  decoder_act_fns=("relu",) * 3 + ("silu",) * 3,
  upsample_block_type="pixel_shuffle",
  decoder_in_shortcut=True,
  decoder_conv_act_fn="relu",
  residual_gain=1.0,
)

# dc-ai/dc-ae-lite-f32c32: the encoder of sana, a smaller decoder; 0.41407.
LITE_F32C32 = dataclasses.replace(
  SANA_F32C32,
  decoder_block_types=("ResBlock",) * 6,
  decoder_layers_per_block=(0, 3, 5, 4, 4, 4),
  decoder_qkv_multiscales=((),) * 6,
  upsample_block_type="pixel_shuffle",
  decoder_conv_act_fn="silu",
)

# Name -> (sizes, scaling factor).
PUBLISHED = {
  "dc-ae-f32c32-sana-1.0": (SANA_F32C32, 0.41407),
  "dc-ae-f32c32-sana-1.1": (SANA_F32C32, 0.41407),
  "dc-ae-f32c32-in-1.0": (IN_F32C32, 0.3189),
  "dc-ae-f32c32-mix-1.0": (IN_F32C32, 0.4552),
  "dc-ae-lite-f32c32": (LITE_F32C32, 0.41407),
}
