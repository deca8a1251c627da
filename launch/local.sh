#!/usr/bin/env bash
# Trains on this machine, all its GPUs or TPU chips, restarted when it dies:
#   bash launch/local.sh [--dry-run] [--chip h100] [--processes 1] -- \
#       --config configs/tiny.py --workdir runs/tiny
# One process drives all chips; several only serve to try out many hosts.
# Ctrl-C saves and leaves. Exit codes: python -m emma_jax.supervise --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
chip="" processes=1 max_restarts=10
options "$@"
need rest
python=python
if [ -z "$dry" ]; then source launch/lib.sh; fi  # the environment
# The compiler's flags for the chip; reasons: emma_jax.xla_flags CHIP --explain
if [ -n "$chip" ]; then
  if [ -n "$dry" ]; then run eval "\$($python -m emma_jax.xla_flags $chip)"
  else eval "$("$python" -m emma_jax.xla_flags "$chip")"; fi
fi
run exec "$python" -m emma_jax.supervise --processes "$processes" \
  --max_restarts "$max_restarts" -- "$python" -m emma_jax.cli.train "${rest[@]}"
