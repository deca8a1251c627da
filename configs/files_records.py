"""A tiny EMMA on record folders: batches planned from lengths, three sizes.

What `emma-data convert` made of a user's files. Rows are filled by a plan that
is made before anything is read, so shares hold exactly, and pictures are drawn
in the size whose aspect ratio is nearest.

  python -m emma_jax.cli.train --config configs/files_records.py \\
      --workdir runs/mine \\
      --config.data.sources.understanding=records:data/und \\
      --config.data.sources.drawing=records:data/t2i \\
      --config.data.sources.editing=records:data/edit
"""

import ml_collections

from configs import files


def get_config() -> ml_collections.ConfigDict:
  """The stages of files.py, batches planned from lengths in three sizes."""
  c = files.get_config()
  c.name = "files_records"
  c.data.sources = dict(
    understanding="records:data/und",
    drawing="records:data/t2i",
    editing="records:data/edit",
  )
  c.data.buckets = ((96, 96), (64, 128), (128, 64))
  for section in c.stages.values():
    section.samples_per_batch = 0
  return c
