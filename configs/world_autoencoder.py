"""The embedded world's autoencoder; its weights ship inside the package.

  python -m emma_jax.cli.train --config configs/world_autoencoder.py \\
      --workdir runs/autoencoder
  python -m emma_jax.cli.pack autoencoder --workdir runs/autoencoder \\
      --out emma_jax/assets/world_autoencoder.safetensors
"""

import ml_collections

from configs import defaults, models


def get_config() -> ml_collections.ConfigDict:
  """One stage, from random weights."""
  c = defaults.get_config()
  c.name = "world_autoencoder"
  c.model = models.autoencoder_only()
  c.data.sources = dict(pictures="world:autoencoder:train")
  c.data.text_dropout = 0.99  # prompts play no part here
  c.train.log_every = 100
  c.train.save_every = 1000
  c.train.evaluate = False
  c.stages = ml_collections.ConfigDict(
    dict(
      autoencoder=dict(
        objective="autoencoder",
        steps=8000,
        samples_per_batch=8,  # 32 learns far slower per second
        row_samples=0.0,
        measure_rows=False,
        stage_samples=0,
        warmup_samples=0,
        half_life=0,
        batch_samples=0,
        rate_factor=1.0,
        accumulation=1,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=500,  # without it 1e-3 stalls at the mean picture
        final_ratio=0.01,
        lr_multipliers=((".*", 1.0),),
        ema_decay=0.999,
        mixture=((0.0, dict(pictures=1.0)),),
        mixture_unit="samples",
        mixture_even_buckets=False,
        # The latent norm is measured when the weights are packed.
        policy=(("autoencoder/latent/.*", "frozen"), (".*", "train")),
        load=((".*", "random"),),
        next_stage_weights="ema",
        l1_weight=1.0,
        l2_weight=1.0,
        rows=8,
        und_tokens=32,
        und_pictures=0,
        und_patches=0,
        references=0,
        targets=1,
      )
    )
  )
  return c
