#!/usr/bin/env bash
# The tiny EMMA on pictures of five shapes, as the full size trains: records
# with lengths, latents made beforehand, planned batches, buckets, native sizes.
#   bash launch/shapes.sh [--python python3.12] [--config.seed=1 ...]
# The same command goes on after an interruption.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"

folders=()
for task in understanding stem drawing editing; do
  "$python" -m emma_jax.cli.data convert \
    "python:emma_jax.world.rows:${task}_shapes" --out "data/shapes/$task"
  folders+=("data/shapes/$task")
done
"$python" -m emma_jax.cli.data encode-latents "${folders[@]}" \
  --config configs/tiny.py:shapes --weights world_autoencoder --dtype float32
exec "$python" -m emma_jax.cli.train --config configs/tiny.py:shapes \
  --workdir runs/shapes "$@"
