"""Like files.py, from the shipped reference model: said here, never implied.

  python -m emma_jax.cli.train --config configs/files_from_reference.py \\
      --workdir runs/mine [the overrides of files.py]
"""

import ml_collections

from configs import files


def get_config() -> ml_collections.ConfigDict:
  """The stages of files.py; the first one loads the reference's weights."""
  c = files.get_config()
  c.name = "files_from_reference"
  c.stages["2_finetuning"].load = (
    ("autoencoder/.*", "weights:{autoencoder}"),
    (".*", "weights:reference"),
  )
  return c
