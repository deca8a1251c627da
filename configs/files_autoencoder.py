"""The tiny autoencoder on a user's own pictures, from the world's weights.

  python -m emma_jax.cli.train --config configs/files_autoencoder.py \\
      --workdir runs/my_autoencoder \\
      --config.data.sources.pictures=jsonl:my_data/t2i_train.jsonl
  python -m emma_jax.cli.pack autoencoder --workdir runs/my_autoencoder \\
      --out runs/my_autoencoder.safetensors

The file has the caption format: a line is {"image": PATH, "caption": TEXT}.
"""

import ml_collections

from configs import world_autoencoder


def get_config() -> ml_collections.ConfigDict:
  """One stage, of half the world autoencoder's steps."""
  c = world_autoencoder.get_config()
  c.name = "files_autoencoder"
  c.data.sources.pictures = "jsonl:data/t2i_train.jsonl"
  stage = c.stages.autoencoder
  stage.steps = 4000
  stage.load = ((".*", "weights:world_autoencoder"),)
  return c
