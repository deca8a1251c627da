#!/usr/bin/env bash
# Runs the tests in an environment of their own:
#   bash launch/test.sh [--python python3.12] [pytest arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A GPU's sums differ from run to run and the tolerances are for the CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
# 2 processes: compilation, most of the time, uses one core. loadfile: a file's
# tests share what they compiled. `-n 0` stays in one process, for a debugger.
exec "$python" -m pytest -n 2 --dist loadfile "$@"
