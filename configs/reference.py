"""The reference tiny model that ships with the package: tiny.py, for longer.

  python -m emma_jax.cli.train --config configs/reference.py \\
      --workdir runs/reference
  python -m emma_jax.cli.pack model --workdir runs/reference \\
      --out emma_jax/assets/reference.safetensors
"""

import ml_collections

from configs import tiny


def get_config() -> ml_collections.ConfigDict:
  c = tiny.get_config(scale=7.0)
  c.name = "reference"
  c.data.seed = 1  # not the demo's samples
  c.train.log_every = 50
  c.train.save_every = 250
  c.evaluate.reference = False
  c.evaluate.samples = 500
  c.evaluate.held_out_samples = 200
  return c
