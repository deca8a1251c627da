"""Model sizes; one code path, from tiny to 4B."""

import ml_collections


def tiny() -> ml_collections.ConfigDict:
  """An EMMA for the embedded world: 96x96 pictures, 3x3 tokens, two cores."""
  return ml_collections.ConfigDict(
    dict(
      kind="emma",
      dtype="float32",  # faster than bfloat16 on CPUs
      llm=dict(
        vocab_size=1024,
        width=128,
        mlp_width=384,
        num_layers=4,
        num_shallow=2,  # N = M [D]
        num_heads=4,
        num_kv_heads=4,  # 4 x 32 values: room for a whole token's latent
        head_dim=32,
        rope_theta=10000.0,
        norm_eps=1e-6,
        tie_embeddings=False,
        embed_std=1.0,  # from scratch; irrelevant to imported weights
        residual_gain=0.35,  # about 1 / sqrt(2 * layers)
        shallow_shared=("qk",),  # [P]
        deep_shared=(),  # [P]
        final_norm_shared=False,  # [D]
        scan_unroll=1,  # of the layers; 1 compiles fastest
        remat="none",  # none, full, dots or names:A,B; see partition.py
        attention="auto",  # plain, chunked, kernel or cudnn; auto by length
      ),
      vision=dict(
        encoder=dict(
          width=96,
          mlp_width=256,
          num_layers=4,
          num_heads=4,
          patch_size=16,
          native_grid=6,
          norm_eps=1e-6,
          num_channels=3,
          position_resize="bicubic",
          scan_unroll=1,
          remat="none",
          attention="auto",
        ),
        experts=True,
        extra_experts=(),  # further ones, by name; see experts.py
        num_expert_layers=1,  # [D 3 of 27]
        router_width=32,  # [D]
        router_threshold=0.5,  # [D] above: STEM
      ),
      autoencoder=tiny_autoencoder(),
      # Frequencies from 1 to 10 radians a cell: the places of a 3x3 grid get
      # nearly orthogonal codes, and an edit soon finds what to copy. At 10,000
      # neighbours are 0.9 alike.
      fusion=fusion(position_base=0.1),
    )
  )


def emma_4b() -> ml_collections.ConfigDict:
  """EMMA of the paper: Qwen3-4B, SigLIP2 so400m at 512 pixels, DC-AE f32c32."""
  return ml_collections.ConfigDict(
    dict(
      kind="emma",
      dtype="bfloat16",
      llm=dict(
        vocab_size=151936,
        width=2560,
        mlp_width=9728,
        num_layers=36,
        num_shallow=18,  # N [D]
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        rope_theta=1e6,
        norm_eps=1e-6,
        tie_embeddings=True,
        embed_std=0.02,
        residual_gain=1.0,
        shallow_shared=("qk",),  # [P]
        deep_shared=(),  # [P]
        final_norm_shared=False,  # [D]
        scan_unroll=1,
        remat="full",  # targets.py has one for each machine
        attention="auto",
      ),
      vision=dict(
        encoder=dict(
          width=1152,
          mlp_width=4304,
          num_layers=27,
          num_heads=16,
          patch_size=16,
          native_grid=32,
          norm_eps=1e-6,
          num_channels=3,
          position_resize="bicubic",
          scan_unroll=1,
          remat="none",
          attention="auto",
        ),
        experts=True,
        extra_experts=(),  # further ones, by name; see experts.py
        num_expert_layers=3,  # [D]
        router_width=256,  # [D]
        router_threshold=0.5,  # [D]
      ),
      autoencoder=dcae_sana(),
      fusion=fusion(),
    )
  )


def emma_1_7b() -> ml_collections.ConfigDict:
  """The same recipe around Qwen3-1.7B."""
  m = emma_4b()
  m.llm.update(
    width=2048, mlp_width=6144, num_layers=28, num_shallow=14, num_heads=16
  )
  return m


def emma_0_6b() -> ml_collections.ConfigDict:
  """The same recipe around Qwen3-0.6B."""
  m = emma_1_7b()
  m.llm.update(width=1024, mlp_width=3072)
  return m


def dcae_sana() -> ml_collections.ConfigDict:
  """DC-AE f32c32 of SANA, versions 1.0 and 1.1."""
  types = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
  channels = (128, 256, 512, 512, 1024, 1024)
  scales = ((), (), (), (5,), (5,), (5,))
  return ml_collections.ConfigDict(
    dict(
      kind="dcae",
      in_channels=3,
      latent_channels=32,
      attention_head_dim=32,
      encoder_block_types=types,
      encoder_block_out_channels=channels,
      encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
      encoder_qkv_multiscales=scales,
      downsample_block_type="conv",
      encoder_out_shortcut=True,
      decoder_block_types=types,
      decoder_block_out_channels=channels,
      decoder_layers_per_block=(3,) * 6,
      decoder_qkv_multiscales=scales,
      decoder_norm_types=("rms_norm",) * 6,
      decoder_act_fns=("silu",) * 6,
      upsample_block_type="interpolate",
      decoder_in_shortcut=True,
      decoder_conv_act_fn="relu",
      residual_gain=1.0,
    )
  )


def fusion(**changes) -> ml_collections.ConfigDict:
  """Channel-wise fusion [P] and the [D] details of the adapters."""
  return ml_collections.ConfigDict(
    dict(
      mode="channel",  # [P]; "token" is the comparison
      reference_branch="gen",  # [D]; or "und"
      position_base=10000.0,  # [D] fixed 2D sin-cos
      position_scale=1.0,
      time_channels=256,  # [D] sinusoids of the time
      time_scale=1000.0,
      norm_eps=1e-6,
    )
    | changes
  )


def tiny_autoencoder() -> ml_collections.ConfigDict:
  """A 32x DC-AE below 1M parameters, of the published block kinds."""
  return ml_collections.ConfigDict(
    dict(
      kind="dcae",
      in_channels=3,
      latent_channels=32,
      attention_head_dim=32,
      encoder_block_types=("ResBlock",) * 4 + ("EfficientViTBlock",) * 2,
      encoder_block_out_channels=(8, 16, 32, 64, 64, 64),
      encoder_layers_per_block=(0, 1, 1, 1, 1, 1),
      encoder_qkv_multiscales=((), (), (), (), (), ()),
      downsample_block_type="pixel_unshuffle",
      encoder_out_shortcut=True,
      decoder_block_types=("ResBlock",) * 4 + ("EfficientViTBlock",) * 2,
      decoder_block_out_channels=(8, 16, 32, 64, 64, 64),
      decoder_layers_per_block=(0, 1, 1, 1, 1, 1),
      decoder_qkv_multiscales=((), (), (), (), (), ()),
      decoder_norm_types=("rms_norm",) * 6,
      decoder_act_fns=("silu",) * 6,
      upsample_block_type="pixel_shuffle",
      decoder_in_shortcut=True,
      decoder_conv_act_fn="relu",
      residual_gain=0.1,  # 1 learns several times slower from scratch
    )
  )


def autoencoder_only() -> ml_collections.ConfigDict:
  """The tiny autoencoder by itself, to be trained."""
  return ml_collections.ConfigDict(
    dict(kind="autoencoder", dtype="float32", autoencoder=tiny_autoencoder())
  )
