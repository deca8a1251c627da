"""The autoencoder's decoder on own pictures, before `emma-train finetune`.

An encoder that stays as it is leaves a model's latents what they were, so the
decoder alone may learn what own pictures look like, as Stable Diffusion's
fine-tuned decoders do (stabilityai/sd-vae-ft-mse). `emma-train finetune
--decoder` brings model, sources and sizes.
"""

import ml_collections

from configs import world_autoencoder


def get_config() -> ml_collections.ConfigDict:
  """One stage; rate and losses are the world autoencoder's."""
  c = world_autoencoder.get_config()
  c.name = "finetune_decoder"
  c.data.sources = ml_collections.ConfigDict()
  c.train.gradient_shares_every = 0
  c.train.log_every = 50
  stage = c.stages.autoencoder
  stage.steps = 400
  stage.warmup_steps = 20
  stage.ema_decay = 0.98
  stage.policy = (("autoencoder/decoder/.*", "train"), (".*", "frozen"))
  return c
